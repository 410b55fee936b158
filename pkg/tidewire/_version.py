"""The one place where the version stands (pyproject.toml reads it too)."""

__version__ = "0.2.0"
