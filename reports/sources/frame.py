"""Records -> one tidy frame, a row per measurement."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.records.record import Quantity, Record, Status
from benchmarks.records.settings import FIELD
from reports.sources import environments
from reports.sources.environments import Environment
from reports.words import labels

COMPARED = (Quantity.TIME.value, Quantity.MEMORY.value, Quantity.ACCURACY.value)
"""Quantities that methods are compared by."""

KEPT_APART = (*COMPARED, Quantity.CRITICAL.value, Quantity.PROBE.value)
"""What must not be mixed with the same of another setting."""

TASK = {
    "computed": "",
    "approximation": "exact",
    "subset": "whole",
    "grouping": "network",
}
"""Parameters that say what was computed, with what older records mean that lack them."""

KNOWN_PARAMETERS = (
    *("batch_size", "device", "dtype", "k", "seed", "threads", "data", "repeats"),
    *TASK,
    *("classes", "width"),
    *("budget", "largest", "resolution", "attempt"),
    FIELD,
)
WHOLE = ("batch_size", "k", "threads", "classes", "width", "budget")
"""Parameters that are whole numbers, if they are there."""

SETTING = ("environment", "device", "dtype", "threads", "seed", "other")
"""Columns that hold what measurements must share before any comparison makes sense."""

COLUMNS = (
    *("suite", "problem", "method", "quantity", "status", "reason", "samples", "value"),
    *WHOLE,
    *TASK,
    *("task", "device", "dtype", "seed", "data", "other", "parameters", "details", "environment"),
    *("situation", "cell"),
)
"""Of the frame, before `setting` is added."""


def cell(record: Record) -> str:
    """Identifies what may be divided by each other: equal in all but method and quantity.

    Args:
        record: The record.

    Returns:
        Its environment and its situation.
    """
    return f"{environments.fingerprint(record)} {situation(record)}"


def situation(record: Record) -> str:
    """What was to be done, wherever it was measured: equal in all but method and quantity.

    The settings of a method are a part of the method.

    Args:
        record: The record.

    Returns:
        Suite, problem and all parameters but the number of repeats, as canonical JSON.
    """
    others = ("repeats", FIELD)
    parameters = {name: v for name, v in record.parameters.items() if name not in others}
    return json.dumps([record.suite, record.problem, parameters], sort_keys=True)


def to_frame(records: Sequence[Record], known: dict[str, Environment]) -> pd.DataFrame:
    """Tabulate records.

    Args:
        records: The records, each measurement once.
        known: Fingerprint -> environment.

    Returns:
        One row per record in the order of the report. Besides the record's own fields: `value`
        (the median; NaN unless ok), the parameters as columns,
        `other` (parameters not known here), `cell`, and `setting`, which names what differs
        between groups of measurements that must not be compared.
    """
    places = {environment.label: place for place, environment in enumerate(known.values())}
    rows = sorted((_row(r, known) for r in records), key=lambda row: _order(row, places))
    frame = pd.DataFrame(rows, columns=[*COLUMNS]).astype(dict.fromkeys(WHOLE, "Int64"))
    return frame.assign(setting=_settings(frame))


def compared(frame: pd.DataFrame, suites: Collection[str]) -> pd.DataFrame:
    """Measurements of suites in which methods can be compared.

    Args:
        frame: All measurements.
        suites: Names of the suites.

    Returns:
        Times, memory and accuracies, without those of a suite and setting that has nothing else
        than accuracies.
    """
    rows = frame[frame["suite"].isin(suites) & frame["quantity"].isin(COMPARED)]
    has_cost = rows["quantity"] != Quantity.ACCURACY.value
    return rows[has_cost.groupby([rows["suite"], rows["setting"]]).transform("any").astype(bool)]


def groups(frame: pd.DataFrame, *names: str) -> list[pd.DataFrame]:
    """Measurements that must not be mixed, apart from each other.

    Args:
        frame: Measurements.
        *names: Columns besides the setting in which those of a group agree.

    Returns:
        The groups, in the order in which they come.
    """
    return [group for _, group in frame.groupby([*names, "setting"], sort=False)]


def setting_of(frame: pd.DataFrame) -> str:
    """The setting that measurements share.

    Args:
        frame: At least one measurement.

    Returns:
        Its name; empty where the report has a single one.
    """
    return str(frame["setting"].iloc[0])


def failures(frame: pd.DataFrame) -> pd.DataFrame:
    """What was tried and gave no result; a probe that runs out of memory is a result."""
    probed = frame["quantity"] == Quantity.PROBE.value
    fine = (frame["status"] == Status.OK.value) | (
        probed & (frame["status"] == Status.OUT_OF_MEMORY.value)
    )
    return frame[~fine]


def varying(frame: pd.DataFrame) -> list[str]:
    """Columns of the setting in which the comparable measurements differ."""
    compared = frame[frame["quantity"].isin(KEPT_APART)]
    return [name for name in SETTING if compared[name].nunique(dropna=False) > 1]


def _row(record: Record, known: dict[str, Environment]) -> dict[str, Any]:
    samples = _numbers(record.samples)
    status, reason = record.status.value, str(record.reason)
    if record.status is Status.OK and not samples:
        status, reason = Status.ERROR.value, "the record says ok but has no finite samples"
    parameters = record.parameters
    return {
        "suite": record.suite,
        "problem": record.problem,
        "method": record.text,
        "quantity": record.quantity.value,
        "status": status,
        "reason": reason,
        "samples": samples if status == Status.OK.value else [],
        "value": float(np.median(samples)) if status == Status.OK.value else math.nan,
        **{name: _integer(parameters.get(name)) for name in WHOLE},
        **{name: str(parameters.get(name) or default) for name, default in TASK.items()},
        "task": labels.task_label(record.suite, _integer(parameters.get("k")), parameters),
        "device": str(parameters.get("device") or ""),
        "dtype": str(parameters.get("dtype") or ""),
        "seed": str(parameters.get("seed", "")),
        "data": str(parameters.get("data") or ""),
        "other": _others(parameters),
        "parameters": parameters,
        "details": record.details,
        "environment": known[environments.fingerprint(record)].label,
        "situation": situation(record),
        "cell": cell(record),
    }


def _numbers(samples: Any) -> list[float]:
    """The samples, or none at all if any is not a finite number."""
    if not isinstance(samples, list):
        return []
    usable = all(isinstance(s, (int, float)) and math.isfinite(s) for s in samples)
    return [float(sample) for sample in samples] if usable else []


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _order(row: dict[str, Any], places: dict[str, int]) -> tuple[Any, ...]:
    return (
        labels.suite_rank(row["suite"]),
        places[row["environment"]],
        row["device"],
        row["dtype"],
        labels.problem_rank(row["problem"])[0],
        _or_zero(row["classes"]),
        _or_zero(row["width"]),
        row["problem"],
        row["data"],
        _or_zero(row["batch_size"]),
        _or_zero(row["budget"]),
        labels.rank(row["computed"], labels.ORDER_OF_COMPUTED),
        _or_zero(row["k"]),
        *(row[name] != TASK[name] for name in ("approximation", "subset", "grouping")),
        _or_zero(row["threads"]),
        row["seed"],
        row["other"],
        labels.method_rank(row["method"]),
    )


def _others(parameters: Mapping[str, Any]) -> str:
    """Parameters that are not known here; of flags, those that are set."""
    return ", ".join(
        name.replace("_", " ") if value is True else f"{name} = {value}"
        for name, value in sorted(parameters.items())
        if name not in KNOWN_PARAMETERS and value is not False
    )


def _or_zero(value: int | None) -> int:
    return 0 if value is None else value


def _settings(frame: pd.DataFrame) -> list[str]:
    names = varying(frame)
    if not names:
        return [""] * len(frame)
    rows = zip(*(frame[name] for name in names), strict=True)
    return [", ".join(filter(None, map(_setting_part, names, values))) for values in rows]


def _setting_part(name: str, value: Any) -> str:
    """In words; empty where there are no further parameters, which is nothing to be told."""
    if name == "other":
        return str(value)
    text = "not recorded" if pd.isna(value) or value == "" else str(value)
    threads = f"{text} thread" if text == "1" else f"{text} threads"
    wording = {"threads": threads, "seed": f"seed {text}"}
    return wording.get(name, text)
