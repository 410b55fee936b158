"""The cases, a module per family of loads."""
