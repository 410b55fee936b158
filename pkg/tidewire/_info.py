"""``python -m tidewire info``: what is running here."""

import argparse
import json
import platform
import ssl
import sys
from typing import Any

import tidewire
from tidewire import _core


def collect() -> dict[str, Any]:
    """Versions and flags, in the order in which they are shown."""
    return {
        "tidewire": tidewire.__version__,
        "python": f"{platform.python_implementation()} {sys.version}".replace("\n", ""),
        "platform": platform.platform(),
        "openssl": ssl.OPENSSL_VERSION,
        "tls": ": ".join(_core.tls_backend()),
        **_core.build_info(),
        "extension": _core.__file__,
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tidewire info")
    parser.add_argument("--json", action="store_true", help="print JSON")
    info = collect()
    if parser.parse_args(argv).json:
        print(json.dumps(info, indent=4))
        return 0
    width = max(map(len, info)) + 2
    for key, value in info.items():
        print(f"{key:{width}}{value}")
    return 0
