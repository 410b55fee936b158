"""The error messages for a C extension that cannot be imported.

This file must stay importable by every Python 3, however old.
"""

import importlib.machinery
import os
import re
import sys

#: Why ``python -m tidewire`` works without the extension, if it does: a sentence.
reason = ""


def check_python():
    # type: () -> None
    """Refuse a Python for which there is no tidewire."""
    if sys.implementation.name != "cpython" or sys.version_info < (3, 11):
        raise ImportError(
            "tidewire needs CPython 3.11 or newer, and this is "
            + this_python() + ": run the program with another Python", name="tidewire")


def this_python():
    # type: () -> str
    """Such as "CPython 3.10.13 (/usr/bin/python3.10)"."""
    import platform

    return "%s %s (%s)" % (
        platform.python_implementation(), platform.python_version(), sys.executable)


def explain(error):
    # type: (ImportError) -> str
    """One sentence that says what is missing and what to do; empty if this error is another."""
    folder = os.path.dirname(os.path.abspath(__file__))
    ours = importlib.machinery.EXTENSION_SUFFIXES
    found = sorted(name for name in os.listdir(folder) if re.match(r"_core\..*(so|pyd)$", name))
    if any("_core" + suffix in found for suffix in ours):
        return explain_loading(str(error))
    install = "run %s -m pip install " % (sys.executable or "python")
    setup = os.path.join(os.path.dirname(os.path.dirname(folder)), "setup.py")
    if os.path.exists(setup):
        install += "--editable " + os.path.dirname(setup)
    else:
        install += "--force-reinstall tidewire"
    if found:
        return ("tidewire's C extension in %s is built for another Python (%s), and this one "
                "needs _core%s: %s" % (folder, ", ".join(found), ours[0], install))
    return "tidewire's C extension is missing in %s (_core%s): %s" % (folder, ours[0], install)


def explain_loading(text):
    # type: (str) -> str
    """The same for an extension that exists; text is the dynamic linker's error."""
    if re.search(r"libuv|symbol:? uv_", text):
        return ("tidewire's C extension cannot load libuv (%s): install or repair it (apt-get "
                "install --reinstall libuv1, dnf reinstall libuv, apk fix libuv), or install a "
                "wheel of tidewire, which has it built in" % text)
    if re.search(r"\.so|ELF|symbol|GLIBC", text):
        return ("tidewire's C extension cannot be loaded (%s): install tidewire on this machine, "
                "with %s -m pip install --force-reinstall tidewire" % (text, sys.executable))
    return ""


def is_command():
    # type: () -> bool
    """Is this ``python -m tidewire``?  The package is imported before its __main__."""
    argv = getattr(sys, "argv", [])
    if argv[:1] != ["-m"] or len(argv) > len(sys.orig_argv):
        return False
    return re.fullmatch(r"(-\w*m)?tidewire", sys.orig_argv[-len(argv)]) is not None
