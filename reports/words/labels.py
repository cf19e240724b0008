"""What the records name by identifiers, as people read it.

Names live with what they name: methods, problems, suites and tasks of the harness. What is not
listed there, in older records or those of others, appears under a name made from its identifier.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from benchmarks.experiments import EXPERIMENTS, Experiment
from benchmarks.grid.suites import SUITES, Suite
from benchmarks.methods import METHODS
from benchmarks.problems import PROBLEMS
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity, Status
from benchmarks.records.settings import SEPARATOR
from benchmarks.records.tasks import Approximation, Computed, Grouping, Subset

OURS = "gram"
YARDSTICK = "gradient"
ON_VIVIT = (OURS, "drop_in", "gram_power_iteration", "block_lanczos", "ranks")
"""What runs on vivit itself: no rivals of each other."""

YARDSTICKS = (YARDSTICK, "backpropagation", "matrix_memory", "matrix_product")
"""What is measured beside others, and computes something else."""

REFERENCE = "reference"
"""The method, and the suite, of spectra in double precision that accuracies refer to."""

ASKED: Mapping[str, Suite | Experiment] = {**SUITES, **EXPERIMENTS}
"""The questions that records answer, in the order of reports."""

MISSING = "missing"
"""The outcome of what was not measured."""


@dataclass(frozen=True)
class Entry:
    """How a quantity appears.

    Attributes:
        label: Its name.
        short: Its name where space is scarce.
        description: One line of explanation.
    """

    label: str
    short: str
    description: str


QUANTITIES = {
    Quantity.TIME.value: Entry("Time", "Time", "wall-clock time of one computation"),
    Quantity.MEMORY.value: Entry(
        "Memory",
        "Memory",
        "peak memory during the computation, above what was in use before it started",
    ),
    Quantity.ACCURACY.value: Entry(
        "Accuracy",
        "Relative error",
        "error against the float64 reference, relative to the largest eigenvalue "
        "(of the gradient and of what is no spectrum: relative to its norm)",
    ),
    Quantity.SPECTRUM.value: Entry("Spectrum", "Spectrum", "the GGN's eigenvalues"),
    Quantity.STEP.value: Entry(
        "Step", "Step", "random projections of the damped Newton step, to compare others with"
    ),
    Quantity.DERIVATIVES.value: Entry(
        "Derivatives", "Derivatives", "directional derivatives, to compare others with"
    ),
    Quantity.RESULT.value: Entry(
        "Result",
        "Result",
        "of a task, or random projections of it, to compare others with",
    ),
    Quantity.PROBE.value: Entry(
        "Probe", "Probe", "whether a batch size fits into a budget, in a process of its own"
    ),
    Quantity.CRITICAL.value: Entry(
        "Critical batch size", "Critical batch size", "the largest batch size that fits"
    ),
    Quantity.TEST_ACCURACY.value: Entry(
        "Training", "Training", "test accuracy after each epoch, from before the first on"
    ),
    Quantity.OVERLAP.value: Entry(
        "Overlap",
        "Overlap",
        "of two eigenspaces: 0 if they are orthogonal, 1 if they are the same",
    ),
    Quantity.CURVATURE_ERROR.value: Entry(
        "Curvature error",
        "Curvature error",
        "of directional curvatures on a mini-batch, relative to those on all data",
    ),
    Quantity.SIGNAL_TO_NOISE.value: Entry(
        "Signal-to-noise ratio",
        "Signal-to-noise",
        "squared mean of directional derivatives over their variance between samples",
    ),
    Quantity.DISTANCE.value: Entry(
        "Distance", "Distance", "from the minimum, after the last step"
    ),
    Quantity.LOSS.value: Entry("Loss", "Loss", "along directions from the parameters"),
    Quantity.CURVATURE.value: Entry(
        "Curvature", "Curvature", "along directions, on several mini-batches"
    ),
    Quantity.ANGLE.value: Entry("Angle", "Angle", "to the exact damped step, in degrees"),
}

STATUSES = {
    Status.OUT_OF_MEMORY.value: "out of memory",
    Status.TIMEOUT.value: "timed out",
    Status.SKIPPED.value: "skipped",
    Status.ERROR.value: "failed",
    MISSING: "not measured",
}

DATA = {"real": "", "synthetic": " (synthetic data)"}
VARIANTS: dict[str, type[Approximation | Subset | Grouping]] = {
    "approximation": Approximation,
    "subset": Subset,
    "grouping": Grouping,
}
"""Parameters of a record that change what is computed."""

ORDER_OF_COMPUTED = ("", *(computed.value for computed in Computed))
"""Older records do not say what was computed."""


def method_label(method: str) -> str:
    """Name of a method, and its settings where they are not its own."""
    return ", ".join(part for part in (_method(method).name, _listed(_settings(method))) if part)


def short_method_label(method: str) -> str:
    """The same where space is scarce."""
    return ", ".join(part for part in (_method(method).short, _listed(_settings(method))) if part)


def method_description(method: str) -> str:
    """What a method does, and with which settings, in one line; empty if it is not known."""
    name = _name(method)
    if name == REFERENCE:
        return "all eigenvalues in double precision, the ground truth"
    if name not in METHODS:
        return ""
    own = METHODS[name].settings
    settings = ({} if own is None else asdict(own)) | _settings(method)
    return "; ".join(part for part in (METHODS[name].description, _listed(settings)) if part)


def problem_label(problem: str, data: str) -> str:
    """Name of a problem, saying so if its data is not real.

    Args:
        problem: Identifier of the problem.
        data: ``"real"``, ``"synthetic"``, or empty if not recorded.

    Returns:
        The name.
    """
    unknown = f" ({data} data)" if data else " (data source not recorded)"
    name = PROBLEMS[problem].label.name if problem in PROBLEMS else _readable(problem)
    return name + DATA.get(data, unknown)


def problem_labels(frame: pd.DataFrame) -> list[str]:
    """Names of the problems of some measurements, row by row."""
    pairs = zip(frame["problem"], frame["data"], strict=True)
    return [problem_label(problem, data) for problem, data in pairs]


def suite_label(suite: str) -> str:
    """Name of a suite."""
    if suite == REFERENCE:
        return "float64 reference"
    return ASKED[suite].label.name if suite in ASKED else _readable(suite)


def suite_description(suite: str) -> str:
    """What a suite measures, in one line; empty if it is not known."""
    if suite == REFERENCE:
        return "spectra in double precision that the accuracies refer to"
    return ASKED[suite].description if suite in ASKED else ""


def task_label(suite: str, k: int | None, parameters: Mapping[str, Any] | None = None) -> str:
    """What was computed.

    Args:
        suite: Identifier of the suite.
        k: Number of eigenpairs; None where it has no meaning.
        parameters: Of the record; older ones lack the quantity, which the suite then tells.

    Returns:
        For example "10 leading eigenpairs" or "all eigenvalues, per layer".
    """
    parameters = parameters or {}
    computed = parameters.get("computed")
    variants = [_choice_label(kind, parameters.get(name)) for name, kind in VARIANTS.items()]
    if k is not None and (suite == "leading" or computed == Computed.PAIRS.value):
        base = "leading eigenpair (k = 1)" if k == 1 else f"{k} leading eigenpairs"
    else:
        base = _choice_label(Computed, computed) or suite_label(suite)
        base += "" if k is None else f", k = {k}"
    return ", ".join([base, *(text for text in variants if text)])


def status_label(status: str) -> str:
    """Name of an outcome that is not a success."""
    return STATUSES.get(status, status)


def rank(identifier: str, known: Iterable[str]) -> tuple[int, str]:
    """Sort key: known identifiers in the order given, then all others by name.

    Args:
        identifier: What to sort.
        known: The identifiers with a place of their own.

    Returns:
        The key.
    """
    order = list(known)
    return (order.index(identifier) if identifier in order else len(order), identifier)


def suite_rank(suite: str) -> tuple[int, str]:
    """Sort key of suites: as the harness lists them, the reference, all others by name."""
    return rank(suite, [*ASKED, REFERENCE])


def problem_rank(problem: str) -> tuple[int, str]:
    """Sort key of problems: as the harness lists them, all others by name."""
    return rank(problem, PROBLEMS)


def method_rank(method: str) -> tuple[int, str, list[float], str]:
    """Sort key of methods: as the harness lists them, by settings; the reference; all others."""
    place, name = rank(_name(method), [*METHODS, REFERENCE])
    return place, name, [_value(value) for value in _settings(method).values()], method


def sorted_methods(methods: Iterable[str]) -> list[str]:
    """Methods in the order of the report, each once."""
    return sorted(set(methods), key=method_rank)


def titled(title: str, setting: str) -> str:
    """A heading that names the setting, where there are several."""
    return f"{title}: {setting}" if setting else title


def capitalized(text: str) -> str:
    """Text with a capital first letter, and all others as they are."""
    return text[:1].upper() + text[1:]


def slug(text: str) -> str:
    """Text as part of a file name or of an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def _method(method: str) -> Label:
    name = _name(method)
    if name == REFERENCE:
        return Label("float64 reference", "reference")
    return METHODS[name].label if name in METHODS else Label(_readable(name))


def _name(method: str) -> str:
    """A method without its settings."""
    return method.partition(SEPARATOR)[0]


def _settings(method: str) -> dict[str, str]:
    """Settings as they are written, by name; also of names that no command of ours would take."""
    parts = [part.partition("=") for part in method.partition(SEPARATOR)[2].split(",") if part]
    return {name: value for name, _, value in parts}


def _listed(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{_readable(name)} {value}".strip() for name, value in settings.items())


def _value(setting: str) -> float:
    """The value of a setting, to sort by."""
    try:
        return float(setting)
    except ValueError:
        return math.inf


def _choice_label(kind: type[Computed | Approximation | Subset | Grouping], value: object) -> str:
    """Name of a choice; of another value, if there is one, a name made from it."""
    known = {choice.value: choice.label for choice in kind}
    return known.get(value, _readable(str(value)) if value else "")


def _readable(identifier: str) -> str:
    return identifier.replace("_", " ") or "unnamed"
