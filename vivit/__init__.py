"""Exact curvature access through the low-rank structure of the GGN."""

from vivit.blocks import BlockDiagonal, block_diagonal
from vivit.errors import InputError, StaleError, UnsupportedError, VivitError
from vivit.ggn import GGN, EigenPairs
from vivit.version import __version__

__all__ = [
    "GGN",
    "BlockDiagonal",
    "EigenPairs",
    "InputError",
    "StaleError",
    "UnsupportedError",
    "VivitError",
    "__version__",
    "block_diagonal",
]
