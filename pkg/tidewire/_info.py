"""``python -m tidewire info``: versions, settings and flags."""

import argparse
import json
import os
import platform
import sys
from typing import Any

import tidewire
from tidewire import _absent, _settings


def openssl() -> str:
    """OpenSSL's version, or why Python has none."""
    try:
        import ssl
    except ImportError as error:
        return f"none, since Python's ssl module is missing ({error})"
    return ssl.OPENSSL_VERSION


def extension() -> dict[str, Any]:
    """The C extension's own information, or why it is missing."""
    if _absent.reason:
        return {"extension": f"none: {_absent.reason}"}
    from tidewire import _core

    return {
        "tls": ": ".join(_core.tls_backend()),
        **_core.build_info(),
        "extension": _core.__file__,
    }


def collect() -> dict[str, Any]:
    """Versions, settings and flags, in the order in which they are shown."""
    return {
        "tidewire": tidewire.__version__,
        "package": os.path.dirname(os.path.abspath(tidewire.__file__)),
        "python": f"{platform.python_implementation()} {sys.version}".replace("\n", ""),
        "platform": platform.platform(),
        "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        "openssl": openssl(),
        **extension(),
        **{name.removeprefix("TIDEWIRE_").lower() + "_setting": _settings.describe(name)
           for name in _settings.SETTINGS},
        "not_read": ", ".join(_settings.others()) or "no other variable TIDEWIRE_...",
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tidewire info")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    info = collect()
    if arguments.json:
        print(json.dumps(info, indent=4))
        return 0
    width = max(map(len, info)) + 2
    for key, value in info.items():
        print(f"{key:{width}}{value}")
    return 0
