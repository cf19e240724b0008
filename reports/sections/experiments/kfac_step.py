"""Steps of K-FAC and damped Newton steps over the batch size: time, memory, angle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.experiments.kfac_step import METHODS
from benchmarks.methods.damped_newton import LEADING
from benchmarks.records.record import Quantity
from reports.figures.plot import Plot
from reports.figures.scales import hide_minor_ticks
from reports.figures.style import COLORS
from reports.sections.base import Words
from reports.sections.experiments.base import ExperimentSection, problem_titles
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import labels, units
from vivit.plots import styled

EXACT, SHORT, EXPAND = METHODS[0], METHODS[1], "kfac_expand"

HOW_TO_READ = (
    "Over the batch size. Left: time of one step in units of the time of a gradient; all were "
    "measured in turns. Middle: peak memory above what is there before. Right: angle to the exact "
    "damped Newton step, whose own is zero. At 90 degrees, a step has nothing in common with it."
)
SHOWS = "Time, memory and angle over the batch size."
CAPTION = (
    "Medians. All are steps of the weights of convolutions and linear layers, which are what "
    "K-FAC knows, with the same damping of 1e-3; of the gradient, time and memory are those of "
    "all parameters. The angle is that to the exact step."
)


class KfacStepSection(ExperimentSection):
    """A table, and a figure for each problem."""

    def answers(self, sources: Sources) -> list[Words]:
        """At the largest batch."""
        points = []
        for title, rows in self._problems(sources):
            size = max(rows["batch_size"])
            at = rows[rows["batch_size"] == size]
            cost = {m: _value(at, m, Quantity.TIME) for m in (EXACT, SHORT, EXPAND)}
            angle = {m: _value(at, m, Quantity.ANGLE) for m in (SHORT, EXPAND, "gradient")}
            if None in (*cost.values(), *angle.values()):
                continue
            times = {m: units.seconds(value or 0.0) for m, value in cost.items()}
            degrees = {m: f"{value:.0f}" for m, value in angle.items()}
            points.append(
                f"{title}, batch of {size}: the exact damped Newton step takes {times[EXACT]}, a "
                f"step of K-FAC expand {times[EXPAND]}, {degrees[EXPAND]} degrees away from it; "
                f"the gradient is {degrees['gradient']} degrees away, a Newton step along "
                f"{LEADING} eigenvectors ({times[SHORT]}) {degrees[SHORT]}."
            )
        return self.in_short(points)

    def tables(self, sources: Sources) -> list[Table]:
        """A row for each batch size and step."""
        shown, raw = [], []
        for title, rows in self._problems(sources):
            for size in sorted({*rows["batch_size"]}):
                at = rows[rows["batch_size"] == size]
                for method in METHODS:
                    time, memory, angle = (
                        _value(at, method, q)
                        for q in (Quantity.TIME, Quantity.MEMORY, Quantity.ANGLE)
                    )
                    shown.append(
                        {
                            "Problem": title,
                            "Batch": str(size),
                            "Step": labels.short_method_label(method),
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
    """A median."""
    found = rows[(rows["method"] == method) & (rows["quantity"] == quantity.value)]
    return None if found.empty else float(found["value"].iloc[0])


def _in_gradients(rows: pd.DataFrame, method: str) -> float | None:
    """Time of a step over that of a gradient."""
    own, gradient = (_value(rows, m, Quantity.TIME) for m in (method, "gradient"))
    return None if own is None or gradient is None else own / gradient


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
        figure = Figure(figsize=(11.0, 4.4), layout="constrained")
        time, memory, angle = figure.subplots(1, 3)
        for method in METHODS:
            found = [
                [_in_gradients(at, method) for at in lines.values()],
                [_value(at, method, Quantity.MEMORY) for at in lines.values()],
                [_value(at, method, Quantity.ANGLE) for at in lines.values()],
            ]
            for axis, values in zip((time, memory, angle), found, strict=True):
                known = [float("nan") if value is None else value for value in values]
                label = labels.short_method_label(method)
                axis.plot(sizes, known, "o-", color=COLORS[method], label=label)
        figure.legend(
            *time.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False
        )
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


SECTION = KfacStepSection("kfac-step")
