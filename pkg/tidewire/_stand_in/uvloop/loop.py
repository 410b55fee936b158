"""uvloop's extension module, of which programs know the class of the loop."""

from tidewire import Loop

__all__ = ["Loop"]
