"""Published measurements of the same problems and tasks, beside what the records say."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

from benchmarks.grid.targets import ORIGINAL
from benchmarks.records.record import Quantity, Status
from reports.sources import records as loading
from reports.tables.table import Table, identity
from reports.words import labels, units
from reports.words.labels import OURS

FOLDER = Path(__file__).resolve().parents[2] / "bench_results" / "paper"
LARGEST_SEARCHED = 2**15
CAPTION = (
    "What the paper reports (ViViT: Curvature access through the generalized Gauss-Newton's "
    "low-rank structure, TMLR 2022) of the same problem, batch size and task, on other machines: "
    "CPU is a Core i7-8700K with 31.3 GiB of memory, GPU an RTX 2080 Ti with 11264 MB. Its times "
    "are the minima of its repeats, ours are medians. Its critical batch sizes are for all of "
    "these memories, ours for the budget in the row: to be read beside each other, not divided."
)

PUBLISHED_QUANTITIES = {
    "eigenvalues": "evals",
    "eigenpairs": "evecs",
    "newton_step": "newton_step",
}
GROUPINGS = {"network": "one_group", "layer": "layerwise_group"}
VARIANTS = {
    ("exact", "whole"): "full_batch_exact",
    ("monte_carlo", "whole"): "full_batch_mc",
    ("exact", "eighth"): "frac_batch_exact",
    ("monte_carlo", "eighth"): "frac_batch_mc",
}
DEVICES = {"cpu": "Published: CPU", "cuda": "Published: GPU"}


def paper_table(frame: pd.DataFrame) -> Table:
    """Published figures beside ours.

    Args:
        frame: All measurements.

    Returns:
        One row for each of our measurements that has a published counterpart; maybe none.
    """
    wanted = frame["quantity"].isin([Quantity.TIME.value, Quantity.CRITICAL.value])
    fine = wanted & (frame["status"] == Status.OK.value)
    ours = frame[fine & (frame["method"] == OURS)]
    found = [_published(row) for _, row in ours.iterrows()]
    kept = [bool(figures) for figures in found]
    ours, found = ours[kept].reset_index(drop=True), [figures for figures in found if figures]
    shown = identity(ours, loading.varying(frame))
    shown["Quantity"] = [labels.QUANTITIES[q].label for q in ours["quantity"]]
    shown["Budget"] = [
        units.NOTHING if pd.isna(b) else units.size(float(b)) for b in ours["budget"]
    ]
    shown["vivit here"] = [_text(row["quantity"], row["value"]) for _, row in ours.iterrows()]
    shown["original here"] = [_original(frame[fine], row) for _, row in ours.iterrows()]
    for device, title in DEVICES.items():
        shown[title] = [
            _text(row["quantity"], figures[device]) if device in figures else units.NOTHING
            for (_, row), figures in zip(ours.iterrows(), found, strict=True)
        ]
    raw = pd.DataFrame({name: [figures.get(name) for figures in found] for name in DEVICES})
    title = "Beside the published figures"
    return Table("published", title, CAPTION, shown, raw, ("vivit here", *shown.columns[-3:]))


def _published(row: pd.Series) -> dict[str, float]:
    """By device, what the paper reports of a measurement."""
    variant = VARIANTS.get((row["approximation"], row["subset"]))
    grouping = GROUPINGS.get(row["grouping"])
    if row["quantity"] == Quantity.CRITICAL.value:
        table, value = _read("critical_batch_size.csv"), "n_crit"
        same = (table["approximation"] == variant) & (
            table["quantity"] == PUBLISHED_QUANTITIES.get(row["computed"])
        )
        if row["computed"] == "eigenpairs":
            same &= row["k"] == 1
    else:
        if row["computed"] != "eigenpairs":
            return {}
        table, value = _read("runtime_eigenpairs.csv"), "min_s"
        same = (table["method"] == variant) & (table["k"] == row["k"])
        same &= table["batch_size"] == row["batch_size"]
    same &= (table["problem"] == row["problem"]) & (table["grouping"] == grouping)
    return dict(zip(table.loc[same, "device"], table.loc[same, value], strict=True))


@cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / name)


def _original(frame: pd.DataFrame, row: pd.Series) -> str:
    """The better of the original's settings, of the same cell."""
    same = (frame["cell"] == row["cell"]) & (frame["quantity"] == row["quantity"])
    values = frame.loc[same & frame["method"].isin(ORIGINAL), "value"]
    if not len(values):
        return units.NOTHING
    is_time = row["quantity"] == Quantity.TIME.value
    return _text(row["quantity"], values.min() if is_time else values.max())


def _text(quantity: str, value: float) -> str:
    if quantity == Quantity.TIME.value:
        return units.seconds(float(value))
    return f"> {LARGEST_SEARCHED}" if value > LARGEST_SEARCHED else f"{int(value)}"
