"""The one place where the version stands (pyproject.toml reads it too)."""

__version__ = "0.1.0"
