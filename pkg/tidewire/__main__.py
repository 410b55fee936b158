"""The command ``python -m tidewire``."""

import sys

from tidewire import _cli

if __name__ == "__main__":
    sys.exit(_cli.main(sys.argv[1:]))
