"""The prior precision with the largest marginal likelihood."""

from __future__ import annotations

import math

import scipy

from vivit.errors import InputError
from vivit.laplace.decomposition import Decomposition

MARGIN = 1e-9
"""Of the logarithms of bounds that rounding errors may make as large as the root."""


def best_precision(decomposition: Decomposition, square_norm: float) -> float:
    """Where ``p |theta|^2`` is the effective number of parameters.

    That is where the gradient of the log marginal likelihood by ``p`` vanishes (MacKay, "Bayesian
    interpolation", 1992). One side grows with ``p``, the other falls, so there is one such ``p``,
    which is found between two bounds.

    Args:
        decomposition: Of the curvature.
        square_norm: ``|theta|^2``.

    Returns:
        ``p``, to a relative accuracy of 1e-10.

    Raises:
        InputError: There is none: all parameters or all curvatures are zero.
    """
    largest = decomposition.largest
    if not square_norm or not largest:
        what, then = ("curvatures", "falls") if square_norm else ("parameters", "grows")
        raise InputError(
            f"There is no best prior precision: all {what} are zero, so that the marginal "
            f"likelihood {then} with it without end."
        )

    def excess(log_p: float) -> float:
        effective = decomposition.effective_dimension(math.exp(log_p))
        return log_p + math.log(square_norm) - math.log(effective)

    lowest = min(largest, 0.5 / square_norm)  # where the effective number is at least 1/2
    highest = len(decomposition.values) / square_norm
    low, high = math.log(lowest) - MARGIN, math.log(highest) + MARGIN
    root: float = scipy.optimize.brentq(excess, low, high, xtol=1e-11)
    return math.exp(root)
