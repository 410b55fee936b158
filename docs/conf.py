"""Sphinx's configuration; ``make docs`` builds with every warning an error."""

import re
from pathlib import Path

project = "tidewire"
author = "The tidewire developers"
copyright = author
source = Path(__file__).parent.parent / "pkg" / "tidewire" / "_version.py"
release = version = re.search(r'"(.+)"', source.read_text().split("__version__", 1)[1])[1]

extensions = []
exclude_patterns = ["_build", "examples"]
default_role = "literal"
nitpicky = True
html_theme = "alabaster"
html_theme_options = {
    "description": "asyncio's event loop and transports in C",
    "fixed_sidebar": True,
    "page_width": "64em",
}
html_static_path = []
html_copy_source = False
