"""For a build that counts: os._exit() writes the counters, too."""
import ctypes
import os
import sys

_exit = os._exit


def write_and_exit(status):
    core = sys.modules.get("tidewire._core")
    if core is not None:
        ctypes.CDLL(core.__file__).tw_trace_dump()
    _exit(status)


os._exit = write_and_exit
