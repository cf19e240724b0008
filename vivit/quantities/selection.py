"""Which eigenpairs are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vivit.errors import InputError
from vivit.quantities.lanczos import Lanczos
from vivit.quantities.solvers import FullGram, Solver

Criterion = Callable[[Tensor], Any]
"""Maps eigenvalues in ascending order to the indices of those to keep."""


@dataclass(frozen=True)
class Selection:
    """Some of the nontrivial eigenpairs, and the way to them: the arguments of `GGN.eigh`.

    Attributes:
        k: Keep the ``k`` largest; None for no such limit.
        criterion: Chooses instead; None for all.
        rank_tolerance: Share of the largest eigenvalue below which one is trivial; None for that
            of rounding errors.
        method: The way to the pairs; None for the cheapest.
    """

    k: int | None
    criterion: Criterion | None
    rank_tolerance: float | None
    method: Solver | None

    @property
    def is_all(self) -> bool:
        """Whether all nontrivial pairs are kept."""
        return self.k is None and self.criterion is None

    def check(self, largest: int) -> None:
        """Refuse what makes no sense.

        Args:
            largest: The largest ``k`` that makes sense, ``min(M, D)``.

        Raises:
            InputError: Both or an impossible ``k`` are given, or a tolerance or method that does
                not fit.
        """
        k, tolerance, method = self.k, self.rank_tolerance, self.method
        if k is not None and self.criterion is not None:
            raise InputError("Give either k or criterion, not both.")
        if k is not None and (not isinstance(k, int) or not 1 <= k <= largest):
            raise InputError(
                f"k must be a whole number between 1 and min(M, D) = {largest}, got {k}."
            )
        if isinstance(method, Lanczos) and (k is None or k >= largest):
            raise InputError(
                f"Lanczos iteration finds the k largest eigenpairs, k < {largest}, got k={k}. "
                "Use method=FullGram()."
            )
        if method is not None and not isinstance(method, (FullGram, Lanczos)):
            raise InputError(
                f"method must be FullGram(), Lanczos() or SpreadGram(), got {method!r}."
            )
        if tolerance is not None and not 0 <= tolerance < 1:
            raise InputError(f"rank_tolerance must be at least 0 and below 1, got {tolerance}.")

    def places(self, values: Tensor) -> Tensor:
        """Choose some eigenpairs.

        Args:
            values: All nontrivial eigenvalues, ascending.

        Returns:
            Places of the chosen ones, counted from the largest, whose place is 0.

        Raises:
            InputError: The criterion does not return indices that fit.
        """
        places = torch.arange(len(values) - 1, -1, -1, device=values.device)
        if self.criterion is None:
            return places if self.k is None else places[max(len(values) - self.k, 0) :]
        index = self.criterion(values) if len(values) else slice(None)
        if isinstance(index, int) or (isinstance(index, Tensor) and index.ndim == 0):
            raise InputError(
                "criterion must return the indices of the eigenvalues to keep (a list, tensor, "
                f"mask or slice), got one number: {index}."
            )
        try:
            return places[index]
        except IndexError as error:
            raise InputError(
                f"criterion chose indices that do not fit {len(values)} eigenvalues: {error}"
            ) from error
