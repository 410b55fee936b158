"""What ``python -m tidewire`` understands; each command lives in a module of its own."""

import sys

USAGE = """\
usage: python -m tidewire SCRIPT [ARGS...]       run a program on tidewire
       python -m tidewire -m MODULE [ARGS...]    run a module on tidewire
       python -m tidewire info [--json]          print versions and build flags
       python -m tidewire bench [OPTIONS]        compare event loops on this machine
       python -m tidewire --version
"""


def main(argv: list[str]) -> int:
    """Run one command; the result is for sys.exit()."""
    match argv:
        case ["-h" | "--help"]:
            print(USAGE, end="")
            return 0
        case ["-V" | "--version"]:
            from tidewire import __version__

            print("tidewire", __version__)
            return 0
        case ["info", *rest]:
            from tidewire import _info

            return _info.main(rest)
        case ["bench", *rest]:
            from tidewire import _bench

            return int(_bench.main(rest))
        case ["-m", module, *rest]:
            from tidewire import _program

            return _program.run_module(module, rest)
        case [script, *rest] if not script.startswith("-"):
            from tidewire import _program

            return _program.run_script(script, rest)
    print(USAGE, end="", file=sys.stderr)
    return 2
