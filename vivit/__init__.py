"""Exact curvature access through the low-rank structure of the GGN."""

from vivit import diagnostics
from vivit.blocks import BlockDiagonal, block_diagonal
from vivit.directional import DirectionalDerivatives
from vivit.errors import (
    ConvergenceError,
    InputError,
    InsufficientMemoryError,
    StaleError,
    UnsupportedError,
    VivitError,
)
from vivit.ggn import GGN, EigenPairs
from vivit.newton import BootstrapDamping
from vivit.operators import FactorOperator, GramOperator
from vivit.options import Exact, MonteCarlo
from vivit.plan import Plan
from vivit.solvers import FullGram, Lanczos
from vivit.version import __version__

__all__ = [
    "GGN",
    "BlockDiagonal",
    "BootstrapDamping",
    "ConvergenceError",
    "DirectionalDerivatives",
    "EigenPairs",
    "Exact",
    "FactorOperator",
    "FullGram",
    "GramOperator",
    "InputError",
    "InsufficientMemoryError",
    "Lanczos",
    "MonteCarlo",
    "Plan",
    "StaleError",
    "UnsupportedError",
    "VivitError",
    "__version__",
    "block_diagonal",
    "diagnostics",
]
