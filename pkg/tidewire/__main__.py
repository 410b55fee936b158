"""The command ``python -m tidewire``."""

import sys

from tidewire import _absent, _cli

if __name__ == "__main__":
    # Without the extension, these still work.
    if _absent.reason and sys.argv[1:2] not in (
            [], ["info"], ["-h"], ["--help"], ["-V"], ["--version"]):
        sys.exit(f"tidewire: {_absent.reason}")
    sys.exit(_cli.main(sys.argv[1:]))
