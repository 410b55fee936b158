"""Runs at the start of each Python process that a program of ``python -m tidewire`` starts.

It may be any version of Python, so this file uses only what every version understands.
"""

import os
import sys

_folder = os.path.dirname(os.path.abspath(__file__))


def _start():
    if sys.version_info < (3, 11) or sys.implementation.name != "cpython":
        return
    import _tidewire_hooks  # type: ignore[import-not-found]

    if _tidewire_hooks.is_built():
        _tidewire_hooks.install()


def _chain():
    """Import the sitecustomize that this one hides."""
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as exc:
        if ours is not None:
            sys.modules["sitecustomize"] = ours
        if getattr(exc, "name", "sitecustomize") != "sitecustomize":
            raise


try:
    _start()
finally:
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != _folder]
_chain()
