"""A torchvision whose operators are of another build of torch, out of the way of others."""

import sys


def hide_if_broken():
    """Let transformers do without it, instead of failing as it does."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        sys.modules["torchvision"] = None
