"""The version of the library, readable without importing torch."""

__version__ = "2.0.0.dev0"
