"""Which figures a report has, with their captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.records.record import Quantity, Status
from reports.figures.comparison import Palette, comparison
from reports.figures.critical import critical
from reports.figures.scaling import scaling
from reports.sections.scaling import FITTED, exponents, name_of, rounded
from reports.sections.scaling import SUITES as SCALING_SUITES
from reports.sections.spectra import ROUND_OFF, spectra
from reports.sources.records import TASK
from reports.tables.table import slug
from reports.words import labels, units

HOW_TO_READ = {
    Quantity.TIME: (
        "Further left is faster. Each thin tick is one repeat, the symbol their median; the axis "
        "is logarithmic and shared by the panels of a problem."
    ),
    Quantity.MEMORY: (
        "Further left needs less memory. The symbol is the median of the measured peaks, each "
        "thin tick one of them; the axis is logarithmic and shared by the panels of a problem."
    ),
    Quantity.ACCURACY: (
        "Further left is more accurate; single precision allows about 1e-07. A method far to the "
        "right computes something less exact in the time shown above. For the gradient the error "
        "is relative to its norm."
    ),
}
SPECTRA = (
    "Left: the eigenvalues of the GGN in descending order, both axes logarithmic; a step "
    "after the first few separates the outliers from the bulk. Right: how the same eigenvalues "
    f"are distributed; each counts 1/D, and those below {ROUND_OFF:.0e} of the largest, "
    "numerically zero, are left out of both panels."
)
SCALING = (
    "Lower is better; a straight line is a power law, and its exponent, fitted to the "
    f"{FITTED} largest sizes, stands in the legend. One size varies in each column of panels, the "
    "others stay. All eigenvalues, but for Lanczos, which computes the 10 leading eigenpairs."
)


CRITICAL = (
    "Further right is better. Each symbol is a batch size that was tried in a process of its own; "
    "both axes are logarithmic. The budget limits what a process may allocate. Memory is what is "
    "resident at the peak, with Python and its libraries, so it may exceed or stay below the "
    "budget by some of what these share with other processes or reserve in vain."
)


@dataclass(frozen=True)
class Plot:
    """A figure on the page.

    Attributes:
        name: Stem of its files.
        title: Heading.
        caption: How to read it.
        alt: What it shows, in words.
        draw: Makes the figure.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]


def plots(frame: pd.DataFrame) -> list[Plot]:
    """The figures of a report.

    Args:
        frame: All measurements.

    Returns:
        A figure per quantity and setting, then the scaling, then the spectra per environment.
    """
    palette = Palette.of(list(frame["method"]))
    comparisons = [
        plot for quantity in HOW_TO_READ for plot in _comparisons(frame, quantity, palette)
    ]
    others = (_critical(frame, palette), _scaling(frame, palette), _spectra(frame))
    return comparisons + [plot for plots in others for plot in plots]


def _comparisons(frame: pd.DataFrame, quantity: Quantity, palette: Palette) -> Iterator[Plot]:
    rows = frame[(frame["quantity"] == quantity.value) & (frame["method"] != labels.REFERENCE)]
    rows = rows[~rows["suite"].isin(SCALING_SUITES)]
    entry = labels.QUANTITIES[quantity.value]
    for setting, group in rows.groupby("setting", sort=False):
        title = f"{entry.short} by method" + (f": {setting}" if setting else "")
        yield Plot(
            name=slug(f"{quantity.value} {setting}"),
            title=title,
            caption=HOW_TO_READ[quantity],
            alt=f"{title}. {_in_words(group, quantity)}",
            draw=lambda group=group: comparison(group, quantity, palette),  # type: ignore[misc]
        )


def _in_words(rows: pd.DataFrame, quantity: Quantity) -> str:
    """Range of each method, for readers who cannot see the figure."""
    text = {
        Quantity.TIME: units.seconds,
        Quantity.MEMORY: units.size,
        Quantity.ACCURACY: units.error,
    }[quantity]
    parts = []
    for method, group in rows.groupby("method", sort=False):
        values = group["value"].dropna()
        label = labels.method_label(str(method))
        done = f"{text(values.min())} to {text(values.max())}" if len(values) else "no result"
        parts.append(f"{label}: {done}")
    return "; ".join(parts) + "."


def _critical(frame: pd.DataFrame, palette: Palette) -> Iterator[Plot]:
    found = frame[frame["quantity"].isin([Quantity.PROBE.value, Quantity.CRITICAL.value])]
    for setting, group in found.groupby("setting", sort=False):
        if not (group["quantity"] == Quantity.PROBE.value).any():
            continue
        title = "Critical batch sizes" + (f": {setting}" if setting else "")
        sizes = [
            f"{labels.method_label(row['method'])}, {row['task']}: {row['value']:g}"
            for _, row in group[group["quantity"] == Quantity.CRITICAL.value].iterrows()
            if row["status"] == Status.OK.value
        ]
        yield Plot(
            name=slug(f"critical {setting}"),
            title=title,
            caption=CRITICAL,
            alt=f"{title}: peak memory over batch size; largest that fits: {'; '.join(sizes)}.",
            draw=lambda group=group: critical(group, palette),  # type: ignore[misc]
        )


def _scaling(frame: pd.DataFrame, palette: Palette) -> Iterator[Plot]:
    rows = frame[frame["suite"].isin(SCALING_SUITES) & (frame["status"] == Status.OK.value)]
    for setting, group in rows.groupby("setting", sort=False):
        title = "Scaling" + (f": {setting}" if setting else "")
        fitted = [
            f"{name_of(row['method'])}, {row['quantity']} over {row['symbol']}: "
            f"{rounded(row['exponent'])}"
            for _, row in exponents(group).dropna().iterrows()
        ]
        yield Plot(
            name=slug(f"scaling {setting}"),
            title=title,
            caption=SCALING,
            alt=f"{title}: time and memory over size; exponents: {'; '.join(fitted)}.",
            draw=lambda group=group: scaling(group, palette),  # type: ignore[misc]
        )


def _spectra(frame: pd.DataFrame) -> Iterator[Plot]:
    rows = frame[
        (frame["quantity"] == Quantity.SPECTRUM.value) & (frame["status"] == Status.OK.value)
    ]
    rows = rows[rows["samples"].map(max, na_action="ignore") > 0]
    plain = ["approximation", "subset", "grouping"]
    rows = rows[(rows[plain] == [TASK[name] for name in plain]).all(axis=1)]
    several = frame["environment"].nunique() > 1
    for environment, group in rows.groupby("environment", sort=False):
        setting = str(environment) if several else ""
        title = "Spectra" + (f": {setting}" if setting else "")
        problems = [
            f"{labels.problem_label(row['problem'], row['data'])}, batch {row['batch_size']}: "
            f"largest eigenvalue {max(row['samples']):.2e}"
            for _, row in group.iterrows()
        ]
        yield Plot(
            name=slug(f"spectra {setting}"),
            title=title,
            caption=SPECTRA,
            alt=f"{title}: sorted eigenvalues and density. {'; '.join(problems)}.",
            draw=lambda group=group: spectra(group),  # type: ignore[misc]
        )
