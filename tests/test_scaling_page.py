"""The page on scaling has the tables of the command and the figures of the records."""

import re
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from benchmarks import scaling_cost
from benchmarks.records.record import Quantity, RecordStore, Status
from benchmarks.scaling_cost import (
    Machine,
    Share,
    block_bytes,
    cost_of,
    main,
    most_ranks,
    parcel_bytes,
)
from vivit.gram.plan import LayerPlan
from vivit.gram.spread import spread_bytes
from vivit.memory import human_bytes

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "scaling.md").read_text()
RECORDS = ROOT / "bench_results" / "published" / "ranks.jsonl"

SHARE = Share(samples=4, columns=12, parcel_bytes=1000, held_bytes=2000, flops=3e6, pass_flops=5e6)
MACHINE = Machine(flops=1e6, solver_flops=1e3, memory=10_000, bandwidth=1e4, link=1e3)
LARGE = replace(MACHINE, memory=100_000)


def measured():
    """A row for each method and cell whose time is in the records."""
    times, memory, facts = {}, {}, {}
    for record in RecordStore(RECORDS).read():
        if record.status is not Status.OK or record.method in ("reference", "gradient"):
            continue
        computed, size = record.parameters["computed"], record.parameters["batch_size"]
        key = (record.problem, computed.replace("_", " "), size, record.method)
        if record.quantity is Quantity.TIME:
            times[key] = median(record.samples)
        elif record.quantity is Quantity.MEMORY:
            memory[key] = median(record.samples)
        elif "share_of_flops" in record.details:
            facts[key] = record.details
    return "\n".join((*HEAD, *(row(key, times, memory, facts.get(key)) for key in times)))


HEAD = (
    "| problem | computed | N | by | time | to one process | memory | share of flops | sent |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


def row(key, times, memory, facts):
    problem, computed, size, method = key
    shares, sent = ("-", "-") if facts is None else shown(facts)
    alone = times[(problem, computed, size, "gram")]
    peak = human_bytes(int(memory[key])) if key in memory else "-"
    name = "two processes" if method == "ranks" else "one process"
    cells = [f"`{problem}`", computed, f"{size}", name, f"{times[key]:.3g} s"]
    cells += [f"{times[key] / alone:.2f}", peak, shares, sent]
    return f"| {' | '.join(cells)} |"


def shown(facts):
    shares = " and ".join(f"{share:.2f}" for share in facts["share_of_flops"])
    return shares, " and ".join(human_bytes(sent) for sent in facts["sent_bytes"])


def test_figures_of_two_processes():
    """The table is what this function makes of the committed records."""
    assert measured() in PAGE
    for record in RecordStore(RECORDS).read():
        assert not record.environment["dirty"]
        if "sent_bytes" in record.details:
            assert record.details["sent_bytes"] == record.details["planned_sent_bytes"]


def test_simulated_tables(capsys):
    """They are what the command prints."""
    main([])
    for table in capsys.readouterr().out.strip().split("\n\n"):
        assert table in PAGE


def test_rates_on_the_page_are_those_of_the_command():
    machine = Machine()
    (assumed,) = re.findall(r"\| assumed \|.*?\n\n", PAGE, re.DOTALL)
    found = [float(x) for x in re.findall(r"\d\.?\d*e\d+", assumed)]
    assert found == [machine.flops, machine.solver_flops, machine.bandwidth, machine.link]
    assert f"{machine.memory / 1e9:.0f} GB" in assumed
    assert f"{scaling_cost.PRODUCTS} products" in assumed
    assert f"{scaling_cost.SAMPLES} samples" in PAGE


def test_one_rank_sends_nothing():
    cost = cost_of(SHARE, 1, MACHINE)
    assert (cost.ring_bytes, cost.sum_bytes, cost.network) == (0, 0, 0)
    assert cost.computing == 5 + 3
    assert cost.spectrum == pytest.approx(4 / 3 * 12**3 / 1e3)


def test_whole_matrix():
    """Two ranks, by hand: 24 columns, 2304 bytes; the matrix and a copy fit into 8000."""
    cost = cost_of(SHARE, 2, MACHINE)
    assert (cost.columns, cost.matrix_bytes, cost.fits) == (24, 2304, True)
    assert (cost.ring_bytes, cost.sum_bytes) == (500, 2304)
    assert cost.network == pytest.approx(2.804)
    assert cost.computing == 5 + 2 * 3


def test_blocks():
    """Ten ranks: 57600 bytes do not fit twice; six blocks and 200 vectors do not fit either."""
    cost = cost_of(SHARE, 10, LARGE)
    assert (cost.matrix_bytes, cost.fits, cost.blocks_fit) == (57600, False, False)
    assert (cost.ring_bytes, cost.sum_bytes) == (4500, 0)
    per_product = 2 * 6 * 576 / 1e4 + 1.8 * 120 * 4 / 1e3
    assert cost.spectrum == pytest.approx(100 * per_product)
    assert cost_of(SHARE, 10, replace(LARGE, memory=102_000)).blocks_fit


@pytest.mark.parametrize("ranks", range(1, 8))
def test_bytes_of_blocks_are_those_of_the_library(ranks):
    assert block_bytes(SHARE, ranks) == spread_bytes([SHARE.columns] * ranks, 4)


def test_how_far_it_fits():
    """8000 bytes: two matrices up to 2 ranks; 98000: up to 9, as blocks, which vectors bound."""
    assert most_ranks(SHARE, MACHINE) == (2, 2)
    wide = replace(SHARE, columns=1000)
    whole, blocks = most_ranks(wide, replace(MACHINE, memory=40_002_000))
    assert (whole, blocks) == (2, 12)
    for count, fits in ((blocks, True), (blocks + 2, False)):
        assert cost_of(wide, count, replace(MACHINE, memory=40_002_000)).blocks_fit is fits
    assert cost_of(SHARE, 2, MACHINE).fits
    assert not cost_of(SHARE, 3, MACHINE).fits
    assert most_ranks(SHARE, Machine(memory=1000)) == (0, 0)


@pytest.mark.parametrize(("kept", "size"), [("columns", 7), ("dense", 7), ("factors", 10)])
def test_parcels(kept, size):
    """Inputs travel with cotangents, not with columns."""
    layer = LayerPlan(("weight",), kept, None, 0.0, 7, 0, 0, input_bytes=3)
    assert parcel_bytes(layer) == size


def test_what_does_not_fit_has_no_time(capsys):
    words = ["--problem", "cifar10_3c3d", "--ranks", "1", "--samples", "2", "--memory", "1e3"]
    main(words)
    (row,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("| `")][:1]
    assert "nowhere" in row
    assert row.endswith("| - |")
