"""The latest values and their course in a few numbers, for the terminal and the head of a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vivit.monitor.curves import Curves
from vivit.monitor.observation import Observation

Number = Callable[[Observation], "float | None"]


def _of(name: str) -> Number:
    return lambda x: x.quantities.get(name)


def _first(name: str) -> Number:
    return lambda x: (x.quantities.get(name) or [None])[0]


def _last(name: str) -> Number:
    return lambda x: (x.quantities.get(name) or [None])[-1]


def _median(name: str) -> Number:
    def median(x: Observation) -> float | None:
        found = [v for v in x.quantities.get(name) or [] if v is not None]
        return float(np.median(found)) if found else None

    return median


NUMBERS: dict[str, Number] = {
    "loss": _of("loss"),
    "accuracy": _of("accuracy"),
    "largest eigenvalue": _first("eigenvalues"),
    "least of the leading": _last("eigenvalues"),
    "trace": _of("trace"),
    "gradient norm": _of("gradient_norm"),
    "gradient overlap": _of("gradient_overlap"),
    "slope SNR, median": _median("slope_noise"),
    "curvature SNR, median": _median("curvature_noise"),
    "damping, median": _median("damping"),
    "step bound 2 / λ": _of("step_bound"),
    "best step": _of("step_best"),
    "learning rate": lambda x: x.learning_rate,
    "seconds": lambda x: x.seconds,
    "share of time": lambda x: x.share,
}
"""What is summed up, by its name for people."""


@dataclass(frozen=True)
class Row:
    """One number over steps.

    Attributes:
        name: For people.
        values: Shape ``[S]``, NaN where there is none.
    """

    name: str
    values: np.ndarray

    @property
    def latest(self) -> str:
        """Of the last observation."""
        return text(self.values[-1])

    @property
    def range(self) -> str:
        """From the least to the largest."""
        return f"{text(np.nanmin(self.values))} to {text(np.nanmax(self.values))}"


def text(value: float) -> str:
    """A number with three digits; a dash for none."""
    return f"{value:.3g}" if np.isfinite(value) else "–"  # noqa: RUF001


def rows(curves: Curves) -> list[Row]:
    """Those numbers that any observation has.

    Args:
        curves: What was seen.
    """
    found = [Row(name, curves.each(number)) for name, number in NUMBERS.items()]
    return [row for row in found if np.isfinite(row.values).any()]


def headline(curves: Curves) -> str:
    """How far the run is, and what watching it costs."""
    first, last = curves.observations[0], curves.observations[-1]
    count, failed = len(curves.observations), sum(bool(x.error) for x in curves.observations)
    parts = [
        f"{count} observation{'s' * (count != 1)}",
        f"steps {first.step} to {last.step}",
        f"last {last.time}",
        f"{last.share:.1%} of the time",
    ]
    if failed:
        parts.append(f"{failed} with an error")
    return ", ".join(parts)
