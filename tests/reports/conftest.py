"""Records as the harness writes them, made for the tests of the reports."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.records.record import Quantity, Record, RecordStore, Status
from reports import sections
from reports.sources import environments
from reports.sources.frame import to_frame
from reports.sources.records import Measurements, latest
from reports.sources.sources import Sources

MACHINE = {"cpu": "Test CPU", "cores": 2, "memory_bytes": 8 * 1024**3, "gpu": None, "os": "Linux"}
PARAMETERS = {
    "batch_size": 32,
    "device": "cpu",
    "dtype": "float32",
    "k": None,
    "seed": 0,
    "threads": 2,
    "repeats": 3,
    "data": "real",
}
VOID = {"meta", "img"}
"""Tags that have no end."""

HEADING = re.compile(r"h[1-6]")
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
        details=(),
        **parameters,
    ):
        outcome = Status(status)
        return Record(
            suite=suite,
            problem=problem,
            method=method,
            quantity=Quantity(quantity),
            parameters=PARAMETERS | parameters,
            status=outcome,
            samples=list(samples) if outcome is Status.OK else [],
            unit=Quantity(quantity).unit,
            reason=reason,
            details={"num_parameters": 1000} | dict(details),
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
def sources(tabulate):
    """Records -> what sections are given."""
    return lambda *records: Sources(Measurements(tabulate(*records)))


@pytest.fixture
def suite_tables():
    """Frame -> tables of the sections that are about suites, as on the page."""

    def make_tables(frame):
        found = Sources(Measurements(frame))
        return [
            table
            for section in sections.comparison()
            if (section.suites or section.name == "others") and len(section.needs(found))
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


class Page(HTMLParser):
    """What stands on a page; its tags have to match."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.links, self.sources, self.tags = {}, [], [], []
        self.ids, self.headings, self.sections, self.navigation = [], [], [], []
        self.current = []
        self._rows, self._cell, self._open = [], None, []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        self._open += [] if tag in VOID else [tag]
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.headings += [tag] if HEADING.fullmatch(tag) else []
        self.sections += [attributes["id"]] if tag == "section" and "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        self.navigation += [attributes["href"]] if tag == "a" and "nav" in self._open else []
        self.current += [attributes["href"]] if "aria-current" in attributes else []
        self.sources += [attributes["src"]] if "src" in attributes else []
        if tag == "table":
            self._rows = self.tables[attributes["id"]] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag in ("td", "th"):
            self._rows[-1].append(self._cell)
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data


@pytest.fixture
def read_page():
    """Parse a page, whose headings, anchors and links have to be in order."""

    def read(path: Path) -> Page:
        page = Page(path.read_text())
        assert len(set(page.ids)) == len(page.ids)
        levels = [int(tag[1]) for tag in page.headings]
        assert levels[0] == 1
        assert 1 not in levels[1:]
        assert all(b - a <= 1 for a, b in pairwise(levels))
        anchors = [link for link in page.links if link.startswith("#")]
        assert {link[1:] for link in anchors} <= set(page.ids)
        inner = [link[1:] for link in page.navigation if link[0] == "#"]
        assert inner == (page.sections if len(page.sections) > 1 else [])
        for link in set(page.links) - set(anchors):
            file, _, anchor = link.partition("#")
            assert (path.parent / file).stat().st_size > 0
            assert not anchor or anchor in Page((path.parent / file).read_text()).ids
        return page

    return read
