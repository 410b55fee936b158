"""The version of uvloop whose functions the stand-in has."""

__version__ = "0.23.0"
