"""Records as the harness writes them, made for the tests of the reports."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.records.record import Quantity, Record, RecordStore, Status
from reports import sections
from reports.sources import environments
from reports.sources.frame import to_frame
from reports.sources.records import Measurements, latest
from reports.sources.sources import Sources

MACHINE = {"cpu": "Test CPU", "cores": 2, "memory_bytes": 8 * 1024**3, "gpu": None, "os": "Linux"}
MakeRecord = Callable[..., Record]


@pytest.fixture
def make() -> MakeRecord:
    """Make one record; parameters are overridden by name."""

    def make_record(
        method="gram",
        quantity="time",
        samples=(1.0,),
        status="ok",
        reason="",
        suite="eigenvalues",
        problem="digits_mlp",
        commit="abc123",
        time="2026-01-01T00:00:00+00:00",
        **parameters,
    ):
        defaults = {
            "batch_size": 32,
            "device": "cpu",
            "dtype": "float32",
            "k": None,
            "seed": 0,
            "threads": 2,
            "repeats": 3,
            "data": "real",
        }
        outcome = Status(status)
        return Record(
            suite=suite,
            problem=problem,
            method=method,
            quantity=Quantity(quantity),
            parameters=defaults | parameters,
            status=outcome,
            samples=list(samples) if outcome is Status.OK else [],
            unit=Quantity(quantity).unit,
            reason=reason,
            details={"num_parameters": 1000},
            environment={
                "commit": commit,
                "dirty": False,
                "machine": MACHINE,
                "versions": {"python": "3.11.7", "torch": "2.13.0"},
                "command": "python -m benchmarks run --profile quick",
            },
            time=time,
        )

    return make_record


@pytest.fixture
def tabulate():
    """Records -> frame, as it is done after reading them."""

    def tabulate_records(*records):
        chosen = latest(records)
        return to_frame(chosen, environments.distinct(chosen))

    return tabulate_records


@pytest.fixture
def suite_tables():
    """Frame -> tables of the sections that are about suites, as on the page."""

    def make_tables(frame):
        found, names = Sources(Measurements(frame)), sections.ABOUT_ALL
        others = {section.name for section in sections.sections(names)}
        return [
            table
            for section in sections.comparison()
            if section.name not in others and len(section.needs(found))
            for table in section.tables(found)
        ]

    return make_tables


@pytest.fixture
def plots():
    """Frame -> figures of the page, by name."""

    def make_plots(frame):
        found = Sources(Measurements(frame))
        return {
            plot.name: plot
            for section in sections.comparison()
            if len(section.needs(found))
            for plot in section.figures(found)
        }

    return make_plots


@pytest.fixture
def records(make) -> list[Record]:
    """Two problems, three methods, failures, an unknown method and a reference spectrum."""
    synthetic = {"problem": "cifar10_3c3d", "data": "synthetic"}
    return [
        make("gram", "time", [2.0, 1.0, 3.0]),
        make("naive_gram", "time", [8.0, 9.0, 7.0]),
        make("gradient", "time", [0.1, 0.1, 0.1]),
        make("gram", "memory", [100.0 * 2**20]),
        make("naive_gram", "memory", [250.0 * 2**20]),
        make("gram", "accuracy", [1e-7]),
        make("naive_gram", "accuracy", [2e-7]),
        make("gradient", "accuracy", [0.0]),
        make("gram", "time", [4.0], **synthetic),
        make("naive_gram", "time", status="oom", reason="<script>alert(1)</script>", **synthetic),
        make("gram", "time", [1.0], suite="leading", k=10),
        make("power_iteration", "time", status="timeout", reason="600 s", suite="leading", k=10),
        make("new_method", "time", [0.5], suite="new_suite", problem="new_problem"),
        make(
            "reference",
            "spectrum",
            [0.0, 1e-3, 1e-2, 0.1, 1.0],
            suite="reference",
            dtype="float64",
        ),
    ]


@pytest.fixture
def store(tmp_path):
    """Write records to a file below a fresh folder, which is returned."""

    def write(records) -> Path:
        folder = tmp_path / "records"
        RecordStore(folder / "run" / "measured.jsonl").append(records)
        return folder

    return write
