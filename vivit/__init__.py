"""Exact curvature access through the low-rank structure of the GGN."""

from typing import TYPE_CHECKING, Any

from vivit.blocks import BlockDiagonal, block_diagonal
from vivit.check import Check, check
from vivit.errors import (
    ConvergenceError,
    InputError,
    InsufficientMemoryError,
    RankError,
    StaleError,
    UnsupportedError,
    VivitError,
)
from vivit.fisher import EmpiricalFisher
from vivit.ggn import GGN
from vivit.gram.plan import Plan
from vivit.laplace import LaplacePosterior, Predictive
from vivit.monitor import Monitor
from vivit.ntk import ntk
from vivit.operators import FactorOperator, GramOperator
from vivit.options import Exact, MonteCarlo
from vivit.presets import causal_lm
from vivit.quantities import diagnostics
from vivit.quantities.conjugate_gradients import ConjugateGradients
from vivit.quantities.directional import DirectionalDerivatives
from vivit.quantities.eigen_pairs import EigenPairs
from vivit.quantities.lanczos import Lanczos
from vivit.quantities.newton import BootstrapDamping
from vivit.quantities.solve import InverseOperator
from vivit.quantities.solvers import FullGram, SpreadGram
from vivit.version import __version__

if TYPE_CHECKING:
    from vivit.drop_in.computations import (
        DirectionalDampedNewtonComputation as DirectionalDampedNewtonComputation,
    )
    from vivit.drop_in.computations import (
        DirectionalDerivativesComputation as DirectionalDerivativesComputation,
    )
    from vivit.drop_in.computations import (
        EighComputation as EighComputation,
    )
    from vivit.drop_in.computations import (
        EigvalshComputation as EigvalshComputation,
    )

__all__ = [
    "GGN",
    "BlockDiagonal",
    "BootstrapDamping",
    "Check",
    "ConjugateGradients",
    "ConvergenceError",
    "DirectionalDerivatives",
    "EigenPairs",
    "EmpiricalFisher",
    "Exact",
    "FactorOperator",
    "FullGram",
    "GramOperator",
    "InputError",
    "InsufficientMemoryError",
    "InverseOperator",
    "Lanczos",
    "LaplacePosterior",
    "Monitor",
    "MonteCarlo",
    "Plan",
    "Predictive",
    "RankError",
    "SpreadGram",
    "StaleError",
    "UnsupportedError",
    "VivitError",
    "__version__",
    "block_diagonal",
    "causal_lm",
    "check",
    "diagnostics",
    "ntk",
]

_ON_BACKPACK = (
    "DirectionalDampedNewtonComputation",
    "DirectionalDerivativesComputation",
    "EighComputation",
    "EigvalshComputation",
)
"""Not in ``__all__``: a star import must not need BackPACK."""


def __getattr__(name: str) -> Any:
    """The computations on BackPACK, which is imported when it is needed."""
    if name not in _ON_BACKPACK:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import backpack  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(
            f"vivit.{name} runs inside BackPACK, which is not installed: "
            "install vivit with the extra backpack, or use vivit.GGN, which needs none of it."
        ) from error
    from vivit.drop_in import computations

    return getattr(computations, name)
