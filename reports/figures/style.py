"""What figures of methods have in common: colours, symbols, legends, empty panels.

The style itself is that of `vivit.plots`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmarks.methods import METHODS
from reports.words.labels import OURS, REFERENCE, YARDSTICK, sorted_methods
from vivit.plots.style import COLORBLIND

COLORS = {
    OURS: COLORBLIND[0],
    "drop_in": "#1f3b73",
    "naive_gram": COLORBLIND[1],
    "power_iteration": COLORBLIND[2],
    "gram_power_iteration": "#e3a15c",
    "lanczos": COLORBLIND[4],
    "lobpcg": COLORBLIND[5],
    "sketched_eigh": "#8c564b",
    "quadrature": COLORBLIND[8],
    "kfac_expand": COLORBLIND[9],
    "kfac_reduce": "#2e7d6b",
    "ntk_jacobian": COLORBLIND[1],
    "ntk_products": COLORBLIND[2],
    "per_sample_gradients": COLORBLIND[3],
    "conjugate_gradients": COLORBLIND[4],
    "diagonal_trace": COLORBLIND[5],
    "curvlinops_trace": COLORBLIND[8],
    "skerch_trace": "#8c564b",
    "matrix_free_product": COLORBLIND[2],
    "eigenthings": COLORBLIND[3],
    "eigenthings_differences": "#e3a15c",
    "damped_newton": COLORBLIND[0],
    "damped_newton_leading": COLORBLIND[4],
    "original": COLORBLIND[3],
    "original_lean": COLORBLIND[6],
    YARDSTICK: "#6b6b6b",
    "backpropagation": "#a0a0a0",
    "matrix_product": "#c8c8c8",
    "matrix_memory": "#8a8a8a",
    REFERENCE: "#000000",
}
"""Of methods, the same in every report; any other method gets a spare one."""

SPARE = (COLORBLIND[8], COLORBLIND[9], COLORBLIND[5])
MARKERS = "osD^vPX*<>phdH8"


@dataclass(frozen=True)
class Palette:
    """Colour and marker per method, shared by all figures of a report."""

    colors: dict[str, str]
    markers: dict[str, str]

    @classmethod
    def of(cls, methods: Iterable[str]) -> Palette:
        """Assign colours, safe for colour-blind readers, and markers, so that none is needed.

        Args:
            methods: All methods of the report, not only those of one figure.

        Returns:
            The palette.
        """
        ordered = sorted_methods(methods)
        others = [name for name in ordered if name not in COLORS]
        spare = {name: SPARE[i % len(SPARE)] for i, name in enumerate(others)}
        foreign = (name for name in ordered if name not in METHODS)
        markers = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(METHODS)}
        markers |= {name: MARKERS[-1 - i % len(MARKERS)] for i, name in enumerate(foreign)}
        return cls(COLORS | spare, markers)


def palette_of(frame: pd.DataFrame) -> Palette:
    """The palette of a report.

    Args:
        frame: All measurements.

    Returns:
        Colours and markers of their methods.
    """
    return Palette.of(frame["method"].unique())


def legend_below(panel: Axes, handles: Sequence[Line2D], columns: int = 1) -> None:
    """Explain the lines of a panel below it.

    Args:
        panel: The panel.
        handles: The lines; each has a label.
        columns: Of the legend.
    """
    panel.legend(
        handles=handles,
        fontsize="small",
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.15),
        ncols=columns,
    )


def say_not_measured(panel: Axes) -> None:
    """Tell an empty panel from a broken one."""
    panel.text(0.5, 0.5, "not measured", transform=panel.transAxes, ha="center", color="0.4")
