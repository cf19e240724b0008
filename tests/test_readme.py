"""The README is true: its example runs as written, its figures are those of the records."""

import re
from pathlib import Path
from statistics import median

import pandas as pd
import pytest

from benchmarks.records.record import Quantity, RecordStore, Status
from reports.sections.critical import critical_table
from reports.sections.drop_in import drop_in_table
from reports.sections.targets import target_table
from reports.sources.sources import Sources
from reports.words import labels, units

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
RECORDS = ROOT / "bench_results" / "published" / "quick.jsonl"
ENGINE, CRITICAL = RECORDS.with_name("engine.jsonl"), RECORDS.with_name("critical.jsonl")
ALLCNNC, DROP_IN = RECORDS.with_name("allcnnc.jsonl"), RECORDS.with_name("drop_in.jsonl")
SYNTHETIC = " (synthetic data)"
LAPTOP, FAMILY = RECORDS.with_name("laptop.jsonl"), RECORDS.with_name("family.jsonl")
MATRIX_FREE = RECORDS.with_name("matrix_free.jsonl")


def test_example(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_figures():
    """The table is what this function makes of the committed records: paste it after a new run."""
    assert figures() in README


def test_targets():
    """The second table is that of the report, of other committed records."""
    assert targets() in README


def test_leading_pairs_of_allcnnc():
    """The sentence below the second table."""
    records = {
        (r.method, r.quantity): r.samples[0]
        for r in RecordStore(ALLCNNC).read()
        if r.parameters["batch_size"] == 64
    }
    ours, theirs = (records[method, Quantity.TIME] for method in ("gram", "lanczos"))
    own, other = (records[method, Quantity.ACCURACY] for method in ("gram", "lanczos"))
    said = " ".join(README.split())
    assert f"they take {ours:.1f} s with residuals of {own:.1e};" in said
    assert f"takes {theirs:.1f} s ({theirs / ours:.2f}x) with residuals of {other:.1e}." in said


def test_critical_batch_sizes():
    """So is the third."""
    assert criticals() in README


def test_drop_in_computations():
    """The table of the page on migration."""
    assert drop_in() in (ROOT / "docs" / "migration.md").read_text()


def test_the_laptop_run():
    """The tables of the page on measuring."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert others() in page
    searched = critical_table(Sources.find([LAPTOP]).frame).shown
    assert markdown(searched.drop(columns="Target")) in page


@pytest.mark.parametrize(
    "records",
    [RECORDS, ENGINE, CRITICAL, ALLCNNC, DROP_IN, LAPTOP, FAMILY, MATRIX_FREE],
    ids=lambda path: path.stem,
)
def test_figures_are_of_one_clean_commit(records):
    environments = [r.environment for r in RecordStore(records).read()]
    assert {e["dirty"] for e in environments} == {False}
    assert len({e["commit"] for e in environments}) == 1


def test_the_family():
    """The table of the page on matrices of low rank."""
    assert beside(FAMILY) in (ROOT / "docs" / "curvatures.md").read_text()


def test_transformers():
    """The last table of the page on measuring."""
    assert beside(MATRIX_FREE) in (ROOT / "docs" / "benchmarks.md").read_text()


def targets() -> str:
    """The report's table of targets; that data is synthetic is said below it."""
    frame = Sources.find([ENGINE]).frame
    return markdown(target_table(frame[frame["suite"] == "engine"]).shown)


def criticals() -> str:
    """The report's table of critical batch sizes."""
    return markdown(critical_table(Sources.find([CRITICAL]).frame).shown)


def others() -> str:
    """What one would use instead, from the laptop run: medians, relative to vivit's."""
    frame = Sources.find([LAPTOP]).frame
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
    frame = Sources.find([records]).frame
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
    frame = Sources.find([DROP_IN]).frame
    shown = drop_in_table(frame[frame["suite"] == "drop_in"]).shown
    assert set(shown["Problem"]) == {"CIFAR-10 3c3d (synthetic data)"}
    assert set(shown["Batch"]) == {"128"}
    return rows_of(shown.drop(columns=["Problem", "Batch"]))


def markdown(shown) -> str:
    """A table of synthetic problems, which need not say so in every row."""
    assert shown["Problem"].str.endswith(SYNTHETIC).all()
    shown["Problem"] = shown["Problem"].str.removesuffix(SYNTHETIC)
    return rows_of(shown)


def rows_of(shown) -> str:
    rows = [list(shown.columns), ["---"] * len(shown.columns), *shown.values.tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def figures() -> str:
    """Ratios of medians (time) and of peaks (memory) to the exact Gram matrix of vivit."""
    rows = [
        "| problem | computed | time | memory | error | against | time | memory | error |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    measured = {}
    for r in RecordStore(RECORDS).read():
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
