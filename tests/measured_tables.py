"""Tables of the pages on what was measured, made of the committed records."""

from functools import cache
from pathlib import Path
from statistics import median

import pandas as pd
from marked_tables import rows_of

from benchmarks.records.record import Quantity, RecordStore, Status
from reports.sections.critical import critical_table
from reports.sections.drop_in import drop_in_table
from reports.sections.targets import target_table
from reports.sources.sources import Sources
from reports.words import labels, units

PUBLISHED = Path(__file__).resolve().parents[1] / "bench_results" / "published"
NAMES = "quick engine critical allcnnc drop_in laptop family matrix_free"
QUICK, ENGINE, CRITICAL, ALLCNNC, DROP_IN, LAPTOP, FAMILY, MATRIX_FREE = RECORDS = [
    PUBLISHED / f"{name}.jsonl" for name in NAMES.split()
]
SYNTHETIC = " (synthetic data)"


@cache
def frame_of(records: Path) -> pd.DataFrame:
    """All measurements of a file."""
    return Sources.find([records]).frame


def targets() -> str:
    """The report's table of targets; that data is synthetic is said below it."""
    frame = frame_of(ENGINE)
    return markdown(target_table(frame[frame["suite"] == "engine"]).shown)


def critical() -> str:
    """The report's table of critical batch sizes."""
    return markdown(critical_table(frame_of(CRITICAL)).shown)


def laptop() -> str:
    """What one would use instead, from the laptop run: medians, relative to vivit's."""
    frame = frame_of(LAPTOP)
    frame = frame[frame["suite"].isin(["leading", "density", "preconditioned"])]
    rows = [
        {
            "Problem": labels.problem_label(problem, data),
            "Computed": task,
            "Batch": size,
            "Method": labels.method_label(method),
            **compared(group, group.loc[group["method"] == method]),
        }
        for (_, problem, data, task, size), group in frame.groupby(
            ["suite", "problem", "data", "task", "batch_size"], sort=False
        )
        for method in labels.sorted_methods(group["method"])
    ]
    return markdown(pd.DataFrame(rows))


def beside(records: Path) -> str:
    """A row for each method of others: medians, relative to vivit's."""
    frame = frame_of(records)
    frame = frame[~frame["method"].isin([labels.YARDSTICK, labels.REFERENCE])]
    rows = []
    for (_, task, problem, data, size), group in frame.groupby(
        ["computed", "task", "problem", "data", "batch_size"], sort=False
    ):
        own = compared(group, group.loc[group["method"] == labels.OURS])
        for method in labels.sorted_methods(set(group["method"]) - {labels.OURS}):
            found = compared(group, group.loc[group["method"] == method])
            rows.append(
                {
                    "Result": task,
                    "Network": labels.problem_label(problem, data).removesuffix(SYNTHETIC),
                    "Batch": size,
                    **{f"vivit: {name.lower()}": own[name] for name in ("Time", "Memory")},
                    "Against": labels.short_method_label(method),
                    "time": found["to vivit's"],
                    "memory": found["to vivit's memory"],
                    "errors": f"{own['Error']}, {found['Error']}",
                }
            )
    return rows_of(pd.DataFrame(rows))


def compared(group, of_method) -> dict[str, str]:
    """Time and memory of a method, and relative to vivit's where it computes the same."""
    values = of_method.set_index("quantity")["value"]
    ours = group[group["method"] == labels.OURS].set_index("quantity")["value"]
    if values.isna().any():
        return dict.fromkeys(("Time", "to vivit's", "Memory", "to vivit's memory"), "failed") | {
            "Error": "—"
        }
    ratios = {
        q: f"{values[q] / ours[q]:.3g}x" if q in ours and q in values else "—"
        for q in ("time", "memory")
    }
    return {
        "Time": units.seconds(values["time"]),
        "to vivit's": ratios["time"],
        "Memory": units.size(values["memory"]) if "memory" in values else "—",
        "to vivit's memory": ratios["memory"],
        "Error": units.error(values["accuracy"]),
    }


def drop_in() -> str:
    """The report's table of the drop-in computations, all of the same problem and batch size."""
    frame = frame_of(DROP_IN)
    shown = drop_in_table(frame[frame["suite"] == "drop_in"]).shown
    assert set(shown["Problem"]) == {"CIFAR-10 3c3d (synthetic data)"}
    assert set(shown["Batch"]) == {"128"}
    return rows_of(shown.drop(columns=["Problem", "Batch"]))


def markdown(shown) -> str:
    """A table of synthetic problems, which need not say so in every row."""
    assert shown["Problem"].str.endswith(SYNTHETIC).all()
    shown["Problem"] = shown["Problem"].str.removesuffix(SYNTHETIC)
    return rows_of(shown)


def laptop_critical() -> str:
    """Critical batch sizes of the laptop run, which has no targets."""
    return markdown(critical_table(frame_of(LAPTOP)).shown.drop(columns="Target"))


def quick() -> str:
    """Ratios of medians (time) and of peaks (memory) to the exact Gram matrix of vivit."""
    rows = [
        "| problem | computed | time | memory | error | against | time | memory | error |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    measured = {}
    for r in RecordStore(QUICK).read():
        cell = r.suite, r.problem, r.parameters["batch_size"], r.parameters.get("k")
        measured[cell, r.method, r.quantity] = r
    for cell in dict.fromkeys(cell for cell, _, _ in measured):
        suite, problem, batch_size, k = cell
        baseline = {"eigenvalues": "naive_gram", "leading": "power_iteration"}.get(suite)
        if baseline is None or batch_size != 128:
            continue
        name = baseline.replace("_", " ").replace("gram", "Gram matrix")
        own = [measured[cell, "gram", q] for q in (Quantity.TIME, Quantity.MEMORY)]
        theirs = [measured[cell, baseline, q] for q in (Quantity.TIME, Quantity.MEMORY)]
        ratios = [ratio(a, b) for a, b in zip(own, theirs, strict=True)]
        task = "all eigenvalues" if k is None else f"{k} leading pair{'s' * (k > 1)}"
        seconds, size = median(own[0].samples), max(own[1].samples) / 2**20
        errors = [
            error(measured[cell, method, Quantity.ACCURACY]) for method in ("gram", baseline)
        ]
        ours = [f"`{problem}`", task, f"{seconds:.2g} s", f"{size:.0f} MiB", errors[0]]
        cells = [*ours, name, *ratios, errors[1]]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def error(record) -> str:
    return f"{record.samples[0]:.0e}" if record.status is Status.OK else "-"


def ratio(own, theirs) -> str:
    if theirs.status is not Status.OK:
        return {"oom": "out of memory", "timeout": "timed out"}.get(theirs.status.value, "failed")
    summary = max if own.quantity is Quantity.MEMORY else median
    factor = summary(theirs.samples) / summary(own.samples)
    word = "more" if own.quantity is Quantity.MEMORY else "slower"
    return f"{factor:.1f}x {word}" if factor >= 1 else f"{factor:.2f}x"
