"""Observations as arrays over steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vivit.monitor.observation import Observation

OTHERS = "all others"


@dataclass(frozen=True)
class Curves:
    """What a run has shown so far; NaN stands for what is lacking.

    Attributes:
        observations: In ascending order of their steps.
    """

    observations: Sequence[Observation]

    @property
    def steps(self) -> np.ndarray:
        """Shape ``[S]``."""
        return np.array([x.step for x in self.observations], dtype=float)

    def has(self, name: str) -> bool:
        """Whether any observation has something of this name."""
        return any(x.quantities.get(name) not in (None, [], {}) for x in self.observations)

    def numbers(self, name: str) -> np.ndarray:
        """A quantity that is a number, shape ``[S]``."""
        return self.each(lambda x: x.quantities.get(name))

    def each(self, number: Callable[[Observation], float | None]) -> np.ndarray:
        """A number of each observation, shape ``[S]``."""
        return np.array([_or_nan(number(x)) for x in self.observations], dtype=float)

    def directions(self, name: str) -> np.ndarray:
        """A quantity that has a number for each leading direction, shape ``[S, K]``."""
        rows: list[list[Any]] = [x.quantities.get(name) or [] for x in self.observations]
        count = max(map(len, rows), default=0)
        found = np.full((len(rows), count), np.nan)
        for i, row in enumerate(rows):
            found[i, : len(row)] = [_or_nan(value) for value in row]
        return found

    def layers(self, name: str, most: int) -> dict[str, np.ndarray]:
        """A quantity that has a number for each layer.

        Args:
            name: The quantity.
            most: Layers to tell apart; those with the least in sum are put together.

        Returns:
            Shape ``[S]`` for each layer, in the order of the model.
        """
        rows = [x.quantities.get(name) or {} for x in self.observations]
        names = list(dict.fromkeys(layer for row in rows for layer in row))
        found = {n: np.array([_or_nan(row.get(n)) for row in rows]) for n in names}
        if len(names) <= most:
            return found
        by_size = sorted(names, key=lambda n: -np.nansum(found[n]))
        rest = by_size[most - 1 :]
        kept = {n: found[n] for n in names if n not in rest}
        return kept | {OTHERS: np.sum([found[n] for n in rest], axis=0)}

    def spectra(self) -> list[np.ndarray]:
        """All positive eigenvalues of each observation."""
        rows = [x.quantities.get("spectrum") or [] for x in self.observations]
        return [np.array([v for v in row if v is not None and v > 0]) for row in rows]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
