"""Exceptions of the library: one base, each also the fitting built-in."""


class VivitError(Exception):
    """Base of every exception that the library raises itself."""


class InputError(VivitError, ValueError):
    """An argument has the wrong value: the message says which, and what is expected."""


class UnsupportedError(VivitError, NotImplementedError):
    """A model, loss or option that cannot be handled correctly, and so is refused."""


class InsufficientMemoryError(VivitError, MemoryError):
    """A quantity needs more memory than there is: the message says what would fit."""


class ConvergenceError(VivitError, RuntimeError):
    """An iteration did not find what it was to find: the message says how far it got."""


class StaleError(VivitError, RuntimeError):
    """The model's parameters changed after the curvature was set up."""
