"""The page on performance has the figures of the records."""

import json
import re
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from benchmarks.problems import PROBLEMS
from benchmarks.profiling.tables import short
from benchmarks.records.record import Quantity, RecordStore
from reports.sections.limit import PHASES
from reports.words import units

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "bench_results" / "published"
CHECK = ROOT / "bench_results" / "check"
PAGE = (ROOT / "docs" / "performance.md").read_text()


def said_on_the_page(sentence):
    """Wherever its lines break."""
    return sentence in " ".join(PAGE.split())


def counts(name):
    """Of each network, in the order of the records."""
    records = RecordStore(PUBLISHED / name).read()
    found = {}
    for record in records:
        assert record.parameters["as_gpu"]
        assert not record.environment["dirty"]
        found.setdefault(record.problem, {})[record.quantity] = record.samples[0]
    return found


def table():
    before, now = counts("counts_before.jsonl"), counts("counts.jsonl")
    rows = []
    for problem, figures in now.items():
        cells = [
            f"{int(before[problem][Quantity.CALLS]):,} → {int(figures[Quantity.CALLS]):,}",
            " → ".join(short(x[Quantity.TRAFFIC], "B") for x in (before[problem], figures)),
            f"{int(before[problem][Quantity.WAITS])} → {int(figures[Quantity.WAITS])}",
        ]
        rows.append(f"| {PROBLEMS[problem].label.name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def profiles(name):
    """Of each network, the records of its runs and of its limits."""
    found = {}
    for record in RecordStore(PUBLISHED / name).read():
        assert not record.environment["dirty"]
        found.setdefault(record.problem, {}).setdefault(record.quantity, []).append(record)
    return {problem: (of[Quantity.TIME], of[Quantity.LIMIT]) for problem, of in found.items()}


def times():
    """A row for each network: medians of all profiles of it."""
    rows = []
    for problem, (runs, limits) in profiles("profiles.jsonl").items():
        taken = median(sample for record in runs for sample in record.samples)
        least = median(record.samples[0] for record in limits)
        shares = (least / taken, _in_turn(problem, limits) / taken)
        cells = [units.seconds(taken), units.seconds(least)]
        cells += [units.significant(share, 2) for share in shares]
        cells += [_phase(name, runs, limits) for name in PHASES if name != "eigensolver"]
        rows.append(f"| {PROBLEMS[problem].label.name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _in_turn(problem, limits):
    """Seconds that all products take, and then all that is read and written."""
    counted = {
        record.quantity: record.samples[0]
        for record in RecordStore(PUBLISHED / "profiles.jsonl").read()
        if record.problem == problem
    }
    return median(
        counted[Quantity.FLOPS] / record.details["flops"]
        + counted[Quantity.TRAFFIC] / record.details["bandwidth"]
        for record in limits
    )


def _phase(name, runs, limits):
    taken, least = (median(record.details[name] for record in x) for x in (runs, limits))
    return f"{units.seconds(taken, 2)} ({units.seconds(least, 2)})"


def test_times():
    """So is this one, of the profiles of a CPU."""
    assert times() in PAGE


def test_times_before():
    """The sentence has what was printed, and what each profile of now has in its turn."""
    printed = (PUBLISHED / "profiles_before.md").read_text()
    before = {}
    for problem, taken in re.findall(r"^\| `(\w+)` \| ([\d,.]+) ms", printed, re.MULTILINE):
        before.setdefault(problem, []).append(float(taken.replace(",", "")) / 1000)
    for problem, (runs, _) in profiles("profiles.jsonl").items():
        for times in (before[problem], [median(record.samples) for record in runs]):
            taken = " and ".join(f"{x:.2f}" if x < 10 else f"{x:.1f}" for x in times)
            assert said_on_the_page(f"{taken} s")


def test_counts():
    """The table is what this function makes of the committed records."""
    assert table() in PAGE


def test_what_is_left_of_the_traffic():
    """The sentence on ResNet-32 has the phases that move most."""
    (record,) = (
        record
        for record in RecordStore(PUBLISHED / "counts.jsonl").read()
        if (record.problem, record.quantity) == ("cifar10_resnet32", Quantity.TRAFFIC)
    )
    whole, phases = record.samples[0] / 1e9, {k: x / 1e9 for k, x in record.details.items()}
    assert said_on_the_page(
        f"its {whole:.1f} GB: backward passes move {phases['backward']:.1f}, contractions "
        f"{phases['contraction']:.1f}, columns {phases['columns']:.1f}"
    )


@pytest.mark.parametrize(
    ("name", "when"),
    [
        ("counts_before", "before ({})"),
        ("counts", "now ({})"),
        ("profiles", "--batch-size 128 --threads 2` at {}"),
    ],
)
def test_the_records_are_of_the_commit_that_the_page_names(name, when):
    records = RecordStore(PUBLISHED / f"{name}.jsonl").read()
    (commit,) = {record.environment["commit"] for record in records}
    assert when.format(commit[:7]) in PAGE
    assert {record.parameters["data"] for record in records} == {"synthetic"}


def figures(name):
    """Those of a committed check."""
    return json.loads((CHECK / f"{name}.json").read_text())["figures"]


def by_quantity(name):
    """Those of time and those of tensors."""
    found = {"time": [], "tensors": []}
    for figure in figures(name):
        found[figure["quantity"]].append(figure)
    return found.values()


def ratios(found, *verdicts):
    """From the smallest to the largest, as the page has it."""
    of_verdict = [figure["ratio"] for figure in found if figure["verdict"] in verdicts]
    return f"{min(of_verdict):.2f} to {max(of_verdict):.2f}"


def test_no_time_is_worse():
    """Than before samples were known from the graph; the sentence counts verdicts."""
    times, tensors = by_quantity("6b79a4e-whole")
    assert Counter(x["verdict"] for x in times) == {
        "improvement": 14,
        "unchanged": 4,
        "undecided": 12,
    }
    better = ratios(times, "improvement")
    assert said_on_the_page(f"fourteen are better, at {better} of what they were")
    rest = ratios(times, "unchanged", "undecided")
    assert said_on_the_page(f"sixteen are unchanged or undecided, with medians of {rest}")
    assert Counter(x["verdict"] for x in tensors) == {
        "improvement": 1,
        "unchanged": 23,
        "regression": 6,
    }
    more = [(x["head"] - x["base"]) / 2**20 for x in tensors if x["verdict"] == "regression"]
    assert said_on_the_page(
        f"and six {ratios(tensors, 'regression')} of it, by {min(more):.2f} to {max(more):.1f} MiB"
    )


def test_most_times_of_small_networks_are_as_before():
    """The Gram engine, but for directions in double precision."""
    times, tensors = by_quantity("6b79a4e-digits")
    worse = [x for x in times if x["verdict"] == "regression"]
    assert len(times) - len(worse) == 9
    (pair,) = (x for x in worse if x["computed"] == "eigenpairs")
    derivatives = sorted(x["ratio"] for x in worse if x is not pair)
    assert {x["computed"] for x in worse if x is not pair} == {"directional_derivatives"}
    first, last = derivatives
    assert said_on_the_page(f"along ten directions, {first:.2f} and {last:.2f} times as long")
    lost = 1000 * (pair["head"] - pair["base"])
    assert said_on_the_page(f"32 samples, {pair['ratio']:.2f} times or {lost:.2f} ms")
    rest = ratios(times, "unchanged", "undecided")
    assert said_on_the_page(f"nine are unchanged or undecided, with medians of {rest}")
    assert Counter(x["verdict"] for x in tensors) == {"regression": 6, "improvement": 6}
    more = [(x["head"] - x["base"]) / 2**20 for x in tensors if x["verdict"] == "regression"]
    assert said_on_the_page(
        f"the memory, six cases take {ratios(tensors, 'improvement')}, and six "
        f"{ratios(tensors, 'regression')}, which is {min(more):.1f} to {max(more):.1f} MiB"
    )
