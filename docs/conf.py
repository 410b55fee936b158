"""Sphinx's configuration; ``make docs`` builds with every warning an error."""

import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import python_inventory  # noqa: E402

project = "tidewire"
author = "The tidewire developers"
copyright = author
source = Path(__file__).parent.parent / "pkg" / "tidewire" / "_version.py"
release = version = re.search(r'"(.+)"', source.read_text().split("__version__", 1)[1])[1]

extensions = ["sphinx.ext.intersphinx", "sphinx_copybutton"]
# The names of Python's documentation that these pages link to: tools/python_inventory.py.
intersphinx_mapping = {"python": ("https://docs.python.org/3", "python.inv")}
PYTHON_NAMES = python_inventory.shortened(
    python_inventory.read(Path(__file__).parent / "python.inv"))
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
exclude_patterns = ["_build", "examples"]
default_role = "name"
nitpicky = True
html_theme = "furo"
html_title = f"tidewire {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False


def name_role(role, rawtext, text, lineno, inliner, options=None, content=None):
    """Our default role: a link to Python's documentation if that has the name, else literal."""
    code = nodes.literal(rawtext, text, classes=["name"])
    name = text.removesuffix("()")
    target = PYTHON_NAMES.get(name)
    # `transport` alone is a word: short are the names of functions and classes.
    if not target or target != name and name == text and name[0].islower():
        return [code], []
    link = addnodes.pending_xref(
        rawtext, code, refdomain="py", reftype="obj", reftarget=target, refexplicit=True)
    return [link], []


def setup(app):
    app.add_role("name", name_role)
