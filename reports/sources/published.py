"""Measurements that the paper reports, of the same problems and tasks as ours."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

from benchmarks.records.record import Quantity

FOLDER = Path(__file__).resolve().parents[2] / "bench_results" / "paper"
LARGEST_SEARCHED = 2**15
"""Batch sizes above this were not tried."""

DEVICES = {"cpu": "Published: CPU", "cuda": "Published: GPU"}
"""Devices, and what their figures are called."""

COMPUTED = {
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


def published(row: pd.Series) -> dict[str, float]:
    """What the paper reports of a measurement.

    Args:
        row: A run time or a critical batch size.

    Returns:
        Seconds or samples by device; empty if it reports nothing.
    """
    if row["quantity"] == Quantity.CRITICAL.value:
        return _critical_batch_size(row)
    return _run_time(row) if row["computed"] == "eigenpairs" else {}


def run_times() -> pd.DataFrame:
    """Seconds for the k leading pairs, by problem, device, grouping and method."""
    return _read("runtime_eigenpairs.csv")


def tolerance_study(study: str) -> pd.DataFrame:
    """Power iteration on 3c3d with the published card.

    Args:
        study: ``"tol"``: on the GGN to several tolerances, and other methods once; ``"gram_tol"``:
            on the Gram matrix for k = 1, ..., 10.

    Returns:
        Seconds, and the eigenvalues that came out, ascending.
    """
    table = _read("power_iteration_tolerance.csv")
    return table[table["study"] == study]


def learning_rates() -> pd.DataFrame:
    """The best learning rate of each optimizer on ResNet-32, and its test accuracy."""
    return _read("learning_rates.csv")


def _critical_batch_size(row: pd.Series) -> dict[str, float]:
    table = _read("critical_batch_size.csv")
    same = _same_network(table, row) & (table["approximation"] == _variant(row))
    same &= table["quantity"] == COMPUTED.get(row["computed"])
    if row["computed"] == "eigenpairs":
        same &= row["k"] == 1
    return _by_device(table[same], "n_crit")


def _run_time(row: pd.Series) -> dict[str, float]:
    table = _read("runtime_eigenpairs.csv")
    same = _same_network(table, row) & (table["method"] == _variant(row))
    same &= (table["k"] == row["k"]) & (table["batch_size"] == row["batch_size"])
    return _by_device(table[same], "min_s")


def _same_network(table: pd.DataFrame, row: pd.Series) -> pd.Series:
    grouping = GROUPINGS.get(row["grouping"])
    return (table["problem"] == row["problem"]) & (table["grouping"] == grouping)


def _variant(row: pd.Series) -> str | None:
    return VARIANTS.get((row["approximation"], row["subset"]))


def _by_device(table: pd.DataFrame, value: str) -> dict[str, float]:
    return dict(zip(table["device"], table[value], strict=True))


@cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / name)
