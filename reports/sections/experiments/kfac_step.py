"""Steps of K-FAC and damped Newton steps over the batch size: time, memory, angle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.experiments.kfac_step import LEADING
from benchmarks.records.record import Quantity
from reports.figures.plot import Plot
from reports.figures.scales import hide_minor_ticks
from reports.figures.style import COLORS
from reports.sections.base import Words
from reports.sections.experiments.base import ExperimentSection, problem_titles
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import units
from vivit.plots import styled

STEPS = {
    "kfac_expand": "K-FAC expand",
    "kfac_reduce": "K-FAC reduce",
    "gram": "damped Newton (vivit)",
    "gradient": "gradient",
}
ANGLES = STEPS | {"gram": f"Newton along {LEADING}"}
"""The angle of the whole Newton step, which the others are compared with, is zero."""

HOW_TO_READ = (
    "Over the batch size. Left: time of one step in units of the time of a gradient, which was "
    "measured in turns with it. Middle: peak memory above what is there before. Right: angle to "
    "the exact damped step of the parameters that K-FAC knows; of Newton steps that along the "
    f"{LEADING} leading eigenvectors, for that along all is the exact step. At 90 degrees, a step "
    "has nothing in common with the exact one."
)
SHOWS = "Time, memory and angle over the batch size."
CAPTION = (
    "Medians. The angle is that to the exact damped step (damping 1e-3, as K-FAC's), of the "
    f"weights of convolutions and linear layers; of Newton steps along {LEADING} eigenvectors."
)


class KfacStepSection(ExperimentSection):
    """A table, and a figure for each problem."""

    def answers(self, sources: Sources) -> list[Words]:
        """At the largest batch."""
        points = []
        for title, rows in self._problems(sources):
            size = max(rows["batch_size"])
            at = rows[rows["batch_size"] == size]
            cost = {method: _value(at, method, Quantity.TIME) for method in STEPS}
            angle = {method: _value(at, method, Quantity.ANGLE) for method in STEPS}
            if any(cost[m] is None or angle[m] is None for m in STEPS):
                continue
            expand, newton = (units.seconds(cost[m] or 0.0) for m in ("kfac_expand", "gram"))
            degrees = {m: f"{angle[m]:.0f}" for m in STEPS}
            points.append(
                f"{title}, batch of {size}: a step of K-FAC expand takes {expand}, the exact "
                f"damped Newton step {newton}. To the exact step, K-FAC has an angle of "
                f"{degrees['kfac_expand']} degrees, the gradient of {degrees['gradient']}, a "
                f"Newton step along {LEADING} eigenvectors of {degrees['gram']}."
            )
        return self.in_short(points)

    def tables(self, sources: Sources) -> list[Table]:
        """A row for each batch size and step."""
        shown, raw = [], []
        for title, rows in self._problems(sources):
            for size in sorted({*rows["batch_size"]}):
                at = rows[rows["batch_size"] == size]
                for method in STEPS:
                    time, memory, angle = (
                        _value(at, method, q)
                        for q in (Quantity.TIME, Quantity.MEMORY, Quantity.ANGLE)
                    )
                    shown.append(
                        {
                            "Problem": title,
                            "Batch": str(size),
                            "Step": STEPS[method],
                            "Time": _text(time, units.seconds),
                            "Gradients": _text(_in_gradients(at, method), units.factor),
                            "Memory": _text(memory, units.size),
                            "Angle": _text(angle, lambda degrees: f"{degrees:.1f}°"),
                        }
                    )
                    raw.append({"seconds": time, "bytes": memory, "degrees": angle})
        return self.table(CAPTION, shown, raw, 3)

    def figures(self, sources: Sources) -> list[Plot]:
        """Three panels for each problem."""
        return [
            self.plot(title, HOW_TO_READ, SHOWS, partial(draw, rows))
            for title, rows in self._problems(sources)
        ]

    def _problems(self, sources: Sources) -> list[tuple[str, pd.DataFrame]]:
        rows = self.of(sources, Quantity.TIME, Quantity.MEMORY, Quantity.ANGLE)
        titles = problem_titles(rows)
        return [(titles[str(p)], group) for p, group in rows.groupby("problem", sort=False)]


def _text(value: float | None, text: Callable[[float], str]) -> str:
    return units.NOTHING if value is None else text(value)


def _value(rows: pd.DataFrame, method: str, quantity: Quantity) -> float | None:
    """A median; of the gradient, which is measured with each kind of step, the smallest."""
    found = rows[(rows["method"] == method) & (rows["quantity"] == quantity.value)]
    return None if found.empty else float(found["value"].min())


def _in_gradients(rows: pd.DataFrame, method: str) -> float | None:
    """Time of a step over that of the gradient that was measured in turns with it."""
    times = rows[rows["quantity"] == Quantity.TIME.value]
    own = times[times["method"] == method]
    if own.empty:
        return None
    with_it = times[times["computed"] == own["computed"].iloc[0]]
    gradient = with_it[with_it["method"] == "gradient"]
    return None if gradient.empty else float(own["value"].iloc[0] / gradient["value"].iloc[0])


def draw(rows: pd.DataFrame) -> Figure:
    """Draw time, memory and angle over the batch size.

    Args:
        rows: Of one problem.

    Returns:
        The figure.
    """
    sizes = sorted({int(n) for n in rows["batch_size"]})
    lines = {size: rows[rows["batch_size"] == size] for size in sizes}
    with styled():
        figure = Figure(figsize=(11.0, 4.2), layout="constrained")
        time, memory, angle = figure.subplots(1, 3)
        for method, label in STEPS.items():
            values = [
                [_in_gradients(at, method) for at in lines.values()],
                [_value(at, method, Quantity.MEMORY) for at in lines.values()],
                [_value(at, method, Quantity.ANGLE) for at in lines.values()],
            ]
            names = [label, label, ANGLES[method]]
            for axis, found, name in zip((time, memory, angle), values, names, strict=True):
                known = [float("nan") if value is None else value for value in found]
                axis.plot(sizes, known, "o-", color=COLORS[method], label=name)
        _scales(time, memory, angle, sizes)
    return figure


def _scales(time: Axes, memory: Axes, angle: Axes, sizes: list[int]) -> None:
    time.set_yscale("log")
    time.set_ylabel("time of a step, in gradients (log scale)")
    memory.set_yscale("log", base=2)
    memory.yaxis.set_major_formatter(FuncFormatter(units.tick_size))
    memory.set_ylabel("peak memory (log scale)")
    angle.set_ylim(-2, 95)
    angle.set_ylabel("angle to the exact damped step, degrees")
    for axis in (time, memory, angle):
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, map(str, sizes))
        hide_minor_ticks(axis.xaxis)
        axis.set_xlabel("batch size (log scale)")
        axis.legend(frameon=False, fontsize="small", loc="best")


SECTION = KfacStepSection("kfac-step")
