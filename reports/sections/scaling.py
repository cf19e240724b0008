"""How time and memory grow with batch size, classes and width: series and fitted exponents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.grid.targets import ORIGINAL
from benchmarks.records.record import Quantity, Status
from reports.tables.table import Table, slug
from reports.words import labels

QUANTITIES = (Quantity.TIME, Quantity.MEMORY)
FITTED = 3
"""The exponent is fitted to this many of the largest sizes: small ones show fixed costs."""

BETTER = "original_better"
"""The original in the better of its settings at each size."""


@dataclass(frozen=True)
class Axis:
    """What a suite varies.

    Attributes:
        suite: Name of the suite.
        column: Column of the frame that varies.
        symbol: In formulas.
        title: In words.
    """

    suite: str
    column: str
    symbol: str
    title: str


AXES = (
    Axis("scaling_batch", "batch_size", "N", "batch size N"),
    Axis("scaling_classes", "classes", "C", "classes C"),
    Axis("scaling_width", "width", "W", "width W (channels)"),
)
SUITES = tuple(axis.suite for axis in AXES)


def series(frame: pd.DataFrame, axis: Axis, quantity: Quantity) -> pd.DataFrame:
    """The points of all curves of one panel.

    Args:
        frame: Measurements in one setting.
        axis: What varies.
        quantity: Time or memory.

    Returns:
        Columns `method`, `size` and `value`, by increasing size; of the original the smaller value
        of its settings, as the method `BETTER`.
    """
    rows = frame[
        (frame["suite"] == axis.suite)
        & (frame["quantity"] == quantity.value)
        & (frame["status"] == Status.OK.value)
        & (frame["value"] > 0)
    ]
    points = pd.DataFrame(
        {
            "method": [BETTER if name in ORIGINAL else name for name in rows["method"]],
            "size": rows[axis.column].astype(float).to_numpy(),
            "value": rows["value"].to_numpy(),
        }
    )
    return points.groupby(["method", "size"], as_index=False)["value"].min().sort_values("size")


def exponent(sizes: np.ndarray, values: np.ndarray) -> float:
    """Slope of a curve at its large end, both axes logarithmic.

    Args:
        sizes: Increasing.
        values: Positive.

    Returns:
        Least-squares fit to the last points; NaN if there are fewer than two.
    """
    if len(sizes) < 2:
        return float("nan")
    logs = np.log(sizes[-FITTED:]), np.log(values[-FITTED:])
    return float(np.polyfit(*logs, deg=1)[0])


def exponents(frame: pd.DataFrame) -> pd.DataFrame:
    """The fitted exponents of every curve.

    Args:
        frame: Measurements in one setting.

    Returns:
        Columns `symbol`, `quantity`, `method`, `exponent`, in the order of the report.
    """
    found = []
    for axis in AXES:
        for quantity in QUANTITIES:
            points = series(frame, axis, quantity)
            for method in ordered(points["method"]):
                curve = points[points["method"] == method]
                slope = exponent(curve["size"].to_numpy(), curve["value"].to_numpy())
                found.append((axis.symbol, quantity.value, method, slope))
    return pd.DataFrame(found, columns=["symbol", "quantity", "method", "exponent"])


def scaling_table(frame: pd.DataFrame) -> Table:
    """The fitted exponents, one row per method.

    Args:
        frame: Measurements of the scaling suites in one setting.

    Returns:
        A column for each quantity and size.
    """
    fitted = exponents(frame)
    methods = list(dict.fromkeys(fitted["method"]))
    raw, texts = pd.DataFrame(index=methods), {}
    for axis in AXES:
        for quantity in QUANTITIES:
            name = f"{labels.QUANTITIES[quantity.value].short} over {axis.symbol}"
            rows = fitted[
                (fitted["symbol"] == axis.symbol) & (fitted["quantity"] == quantity.value)
            ]
            raw[name] = rows.set_index("method")["exponent"].reindex(methods)
            texts[name] = [_power(axis.symbol, value) for value in raw[name]]
    setting = str(frame["setting"].iloc[0])
    return Table(
        name=slug(f"scaling {setting}"),
        title="Scaling" + (f": {setting}" if setting else ""),
        caption=(
            f"Exponents fitted to the {FITTED} largest sizes of each curve of the figures below: "
            "“N^2.0” means that twice the size costs four times as much. All eigenvalues, but 10 "
            "leading eigenpairs for Lanczos."
        ),
        shown=pd.DataFrame({"Method": [name_of(m) for m in methods], **texts}),
        raw=raw.reset_index(drop=True).add_prefix("exponent: "),
        measured=tuple(texts),
    )


def ordered(methods: pd.Series) -> list[str]:
    """Methods in the order of the report, the original where its settings are."""
    known = [*labels.METHODS]
    known.insert(known.index(ORIGINAL[0]), BETTER)
    return sorted(set(methods), key=lambda method: labels.rank(method, known))


def name_of(method: str) -> str:
    """What a curve is called."""
    if method == BETTER:
        return "original (better setting)"
    return labels.short_method_label(method) + (", 10 leading" if method == "lanczos" else "")


def rounded(exponent: float) -> str:
    """An exponent with one decimal; zero has no sign."""
    return f"{round(exponent, 1) + 0.0:.1f}"


def _power(symbol: str, exponent: float) -> str:
    if np.isnan(exponent):
        return labels.STATUSES[labels.MISSING]
    return f"{symbol}^{rounded(exponent)}"
