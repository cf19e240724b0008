"""When a reference counts: its error in double precision, by another computation, is small."""

from __future__ import annotations

LARGEST_RESIDUAL = 1e-9
"""Relative error: of an eigenpair, relative to the largest eigenvalue."""


def require(error: float, what: str, largest: float = LARGEST_RESIDUAL) -> None:
    """Refuse a reference that its check contradicts.

    Args:
        error: Relative residual; NaN is refused.
        what: Of the reference, in words.
        largest: That counts.

    Raises:
        ArithmeticError: It is larger.
    """
    if not error <= largest:
        raise ArithmeticError(
            f"The reference's {what} has a relative residual of {error:.1e}, expected at most "
            f"{largest:.0e}."
        )
