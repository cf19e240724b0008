"""Tables of the pages on what was measured, made of the committed records."""

from functools import cache
from pathlib import Path
from statistics import median

import pandas as pd
from marked_tables import rows_of

from benchmarks.grid.targets import ORIGINAL
from benchmarks.records.record import Quantity, RecordStore, Status
from reports.sections.critical import critical_table
from reports.sections.drop_in import drop_in_table
from reports.sections.targets import target_table
from reports.sources import asv
from reports.sources.environments import processor
from reports.sources.sources import Sources
from reports.words import labels, units
from reports.words.benchmarks import name_of

PUBLISHED = Path(__file__).resolve().parents[1] / "bench_results" / "published"
NAMES = "quick engine critical drop_in laptop family matrix_free"
QUICK, ENGINE, CRITICAL, DROP_IN, LAPTOP, FAMILY, MATRIX_FREE = RECORDS = [
    PUBLISHED / f"{name}.jsonl" for name in NAMES.split()
]
OVER_COMMITS = PUBLISHED.parent / "asv"
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


HIGHLIGHTS = {
    ("CIFAR-10 3c3d", "all eigenvalues", "original"),
    ("CIFAR-10 ResNet-32", "all eigenvalues", "original"),
    ("CIFAR-10 3c3d", "10 leading eigenpairs", "Lanczos"),
    ("Fashion-MNIST 2c2d", "10 leading eigenpairs", "power iteration"),
    ("CIFAR-10 3c3d", "damped Newton step", "original"),
}
"""Rows of the table of targets that the README shows, all of the same batch size."""


def highlights() -> str:
    """A few ratios of the table of targets, whether they reach these or not."""
    frame = frame_of(ENGINE)
    table = target_table(frame[frame["suite"] == "engine"])
    shown = without_synthetic(table.shown)
    shown["Time"] = [units.factor(ratio) for ratio in table.raw["time ratio"]]
    shown["Memory"] = [units.factor(ratio) for ratio in table.raw["memory ratio"]]
    what = shown[["Problem", "Computed", "Against"]].agg(tuple, axis=1)
    shown = shown[what.isin(HIGHLIGHTS)]
    assert len(shown) == len(HIGHLIGHTS)
    assert set(shown["Batch"]) == {"128"}
    columns = ["Problem", "Computed", "Against", "Time", "Memory", "vivit: time", "vivit: memory"]
    return rows_of(shown[columns].rename(columns={"Time": "its time", "Memory": "its memory"}))


def batches() -> str:
    """The largest batches of vivit and of the original, in the better of its settings."""
    shown = critical_table(frame_of(CRITICAL)).shown
    shown = shown[shown["Method"].isin(map(labels.method_label, (labels.OURS, *ORIGINAL)))]
    rows = []
    for task, of_task in shown.groupby("Computed", sort=False):
        sizes = of_task["Largest batch that fits"].map(int)
        is_ours = of_task["Method"] == labels.method_label(labels.OURS)
        ours, theirs = int(sizes[is_ours].max()), int(sizes[~is_ours].max())
        ratio = units.factor(ours / theirs)
        rows.append({"Computed": task, "vivit": ours, "original": theirs, "ratio": ratio})
    return rows_of(pd.DataFrame(rows))


def where(records: Path) -> str:
    """On what, and with which code, all of a file was measured."""
    found = RecordStore(records).read()
    (threads,) = {r.parameters["threads"] for r in found}
    machines = environments(found, "machine")
    (machine,) = {f"{x['cores']} cores of an {processor(x)}" for x in machines}
    (torch,) = {x["torch"].partition("+")[0] for x in environments(found, "versions")}
    (commit,) = {x[:7] for x in environments(found, "commit")}
    return f"{threads} threads on {machine}, torch {torch}, at commit {commit}"


def environments(records, name) -> list:
    return [record.environment[name] for record in records]


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


def over_commits() -> str:
    """Times of asv's benchmarks relative to those at the first commit: least and most."""
    frame = Sources.find([OVER_COMMITS]).results.frame
    frame = frame[(frame["kind"] == "time") & (frame["outcome"] == asv.OK)].sort_values("order")
    small = frame["point"].str.startswith("digits")
    frame = frame.assign(networks=small.map({True: "digits", False: "larger"}))
    rows = []
    for (networks, benchmark), group in frame.groupby(["networks", "benchmark"]):
        values = group.pivot_table(index="point", columns="commit", values="value", sort=False)
        assert not values.isna().any(axis=None)
        ratios = values.div(values.iloc[:, 0], axis=0)
        ends = zip(ratios.min(), ratios.max(), strict=True)
        cells = ["1", *(f"{low:.2f} to {high:.2f}" for low, high in [*ends][1:])]
        commits = [str(commit)[:7] for commit in ratios]
        what = name_of(str(benchmark), "time").removeprefix("Time of ")
        found = {"networks": networks, "time of": what, "points": len(values)}
        rows.append({**found, **dict(zip(commits, cells, strict=True))})
    return rows_of(pd.DataFrame(rows))


def markdown(shown) -> str:
    """A table of synthetic problems, which need not say so in every row."""
    return rows_of(without_synthetic(shown))


def without_synthetic(shown) -> pd.DataFrame:
    assert shown["Problem"].str.endswith(SYNTHETIC).all()
    return shown.assign(Problem=shown["Problem"].str.removesuffix(SYNTHETIC))


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
