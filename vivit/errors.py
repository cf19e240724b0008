"""Exceptions of the library: one base, each also the fitting built-in."""

import errno
import os

import torch

ALLOCATION_FAILED = ("can't allocate memory", "std::bad_alloc", "ALLOC_FAILED", "out of memory")
"""What torch and its libraries say when an allocation fails, where they have no type for it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of torch's or any other, is about memory that ran out.

    Args:
        error: The exception.

    Returns:
        True if whoever looks for another reason of a failure should let it pass.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, (OSError, ImportError)):  # such as of a module that is imported then
        return os.strerror(errno.ENOMEM) in str(error)
    return isinstance(error, RuntimeError) and any(x in str(error) for x in ALLOCATION_FAILED)


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


class RankError(VivitError, RuntimeError):
    """Another process is gone, late, or does something else: the message says which, and where."""
