"""The axes of what is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.records.record import Quantity
from reports.words import units


@dataclass(frozen=True)
class Scale:
    """The logarithmic axis of a quantity.

    Attributes:
        title: What stands at the axis.
        tick: A value at a tick.
        text: A value in a sentence.
        base: Of the logarithm.
    """

    title: str
    tick: Callable[[float, int | None], str]
    text: Callable[[float], str]
    base: int


SCALES = {
    Quantity.TIME: Scale("time", units.tick_seconds, units.seconds, 10),
    Quantity.MEMORY: Scale("peak memory", units.tick_size, units.size, 2),
    Quantity.ACCURACY: Scale("relative error", lambda value, _: f"{value:.0e}", units.error, 10),
}


def label_ticks(panel: Axes, scale: Scale) -> None:
    """Label both axes of a logarithmic panel by plain numbers, without minor ticks.

    Args:
        panel: The panel.
        scale: Of its vertical axis.
    """
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_major_locator(LogLocator(base=scale.base, numticks=8))
    panel.yaxis.set_major_formatter(FuncFormatter(scale.tick))
    for side in (panel.xaxis, panel.yaxis):
        hide_minor_ticks(side)


def label_times(panel: Axes) -> None:
    """The same for a vertical axis of times, which may span less than a decade.

    Args:
        panel: The panel.
    """
    label_ticks(panel, SCALES[Quantity.TIME])
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=10))


def hide_minor_ticks(side: Axis) -> None:
    """Leave only the ticks that have labels."""
    side.set_minor_locator(NullLocator())
    side.set_minor_formatter(NullFormatter())
