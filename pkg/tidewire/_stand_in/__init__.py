"""Modules under other names: see tidewire.as_uvloop()."""
