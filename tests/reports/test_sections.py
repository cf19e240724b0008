"""Every section: it says what it answers, and is left out where nothing was measured of it."""

import pytest
from copies import ROOT, Copy

from benchmarks.records.record import RecordStore
from benchmarks.records.tasks import Computed, Task
from reports.pages import PAGES
from reports.sources.sources import Sources
from reports.words.labels import slug

MEASURED = ROOT / "bench_results"
BOTH = Sources()
"""The page of experiments takes a part of it; all others take it as it is."""

ORDERED = sorted(PAGES, key=lambda page: page.part(BOTH) is BOTH)
ALL = {section.name: section for page in ORDERED for section in page.sections}
"""Of those on several pages, the ones that are about all sources."""

PARTS = {section.name: page.part for page in ORDERED for section in page.sections}
"""What of all sources a section is made from."""

PAIRS = {"suite": "leading", "k": 10, "computed": "eigenpairs"}
PUBLISHED = {**PAIRS, "problem": "cifar10_3c3d", "batch_size": 128}
SEARCHED = {"quantity": "critical_batch_size", "budget": 2**30, **Task().parameters}
MEAN_ERROR = {"details": {"mean_error": 1e-3}}
SPECTRUM = {"quantity": "spectrum", "suite": "spectral-density", "samples": [0.1, 3.0]}
TRAINED = {"suite": "training-overlap", "optimizer": "sgd", "learning_rate": 0.1}
DERIVATIVES = TRAINED | {
    "suite": "training-derivatives",
    "quantity": "derivatives",
    "epoch": 3.0,
    "samples": [0.5, 2.0],
    "details": {
        "outputs": 1,
        "slopes": [0.1, 0.2],
        "slope_signal_to_noise": [0.1, None],
        "curvature_signal_to_noise": [1.0, 2.0],
        "squared_gradient": 0.05,
    },
}
LINE = {
    "suite": "loss-landscape",
    "method": "direction",
    "quantity": "loss",
    "epoch": 3.0,
    "index": 1,
    "samples": [2.0, 1.0, 2.0],
    "details": {
        "steps": [-1.0, 0.0, 1.0],
        "slopes": [0.0],
        "curvatures": [2.0],
        "test_loss": [2.0, 1.0, 2.0],
        "train_accuracy": [0.5, 1.0, 0.5],
        "test_accuracy": [0.5, 1.0, 0.5],
    },
}
BATCHES = {
    "suite": "gradient-curvature-variance",
    "quantity": "curvature",
    "epoch": 3.0,
    "details": {"slope_variances": [1.0], "curvature_variances": [1.0]},
}
LOSSES = ("mean_loss", "median_loss", "lower_quartile", "upper_quartile")
NOISY = {
    "suite": "noisy-quadratic",
    "method": "bootstrap",
    "quantity": "distance",
    "details": {**{name: [2.0, 1.0] for name in LOSSES}, "dampings_by_step": [[1.0, 0.1]]},
}
SECOND_ORDER = TRAINED | {
    "suite": "second-order-training",
    "method": "sgd",
    "quantity": "test_accuracy",
    "details": {
        "is_accuracy": True,
        "train_loss": [2.0, 1.0],
        "seconds": [0.0, 0.1],
        "steps_per_epoch": 5,
        "diverged": None,
    },
}
PROFILE = {"suite": "profile", "details": {"backward": 0.1}, **Task(Computed.GRAM).parameters}
COMPARED = [
    {"method": method, "quantity": quantity, "samples": [1e-6]}
    for method in ("gram", "original")
    for quantity in ("time", "accuracy")
]
RECORDS = {
    "answer": [{}],
    "choice": COMPARED,
    "basis": [{}],
    "headline": [{}],
    "glossary": [{}],
    "eigenvalues": [{}],
    "leading": [PAIRS],
    "tolerance": [{"suite": "tolerance"}],
    "derivatives": [{"suite": "derivatives"}],
    "newton": [{"suite": "newton"}],
    "density": [{"suite": "density"}],
    "preconditioned": [{"suite": "preconditioned"}],
    "family": [{"suite": "family", **Task(Computed.NTK).parameters}],
    "limit": [PROFILE | {"quantity": "time"}, PROFILE | {"quantity": "limit", "samples": [0.5]}],
    "targets": [{"suite": "engine", "problem": "cifar10_3c3d", **Task().parameters}],
    "drop-in": [{"suite": "drop_in", "method": "drop_in"}],
    "critical": [{"suite": "critical", "quantity": "critical_batch_size", "budget": 2**30}],
    "scaling": [{"suite": "scaling_batch", "classes": 10, "width": 16}],
    "others": [{"suite": "never_heard_of"}],
    "paper": [PUBLISHED],
    "time": [{}],
    "memory": [{"quantity": "memory"}],
    "accuracy": [{"quantity": "accuracy"}],
    "spectra": [{"suite": "reference", "method": "reference", "quantity": "spectrum"}],
    "failures": [{"status": "error"}],
    "environments": [{}],
    "spectral-density": [
        {"quantity": "spectrum", "suite": "spectral-density", **Task().parameters}
    ],
    **{
        f"critical-batch-{what}": [SEARCHED | {"suite": f"critical-batch-{what}"}]
        for what in ("eigenvalues", "eigenpair", "newton")
    },
    "runtime-eigenpairs": [PUBLISHED | {"suite": "runtime-eigenpairs"}],
    "power-tolerance": [
        PUBLISHED | {"suite": "power-tolerance"},
        PUBLISHED | {"suite": "power-tolerance", "quantity": "accuracy", **MEAN_ERROR},
    ],
    "gram-power": [PUBLISHED | {"suite": "gram-power"}],
    "linear-gram": [{"suite": "linear-gram"}],
    "training-overlap": [TRAINED | {"method": "hessian", "quantity": "overlap", "epoch": 1.0}],
    "training-derivatives": [DERIVATIVES],
    "learning-rate-grid": [
        TRAINED
        | {"suite": "learning-rate-grid", "quantity": "test_accuracy"}
        | {"details": {"is_accuracy": True}}
    ],
    "noisy-quadratic": [NOISY],
    "lanczos-spectrum": [{"suite": "lanczos-spectrum", "quantity": "spectrum", "epoch": 3.0}],
    "loss-landscape": [LINE],
    "gradient-curvature-variance": [BATCHES, BATCHES | {"method": "mini_batch"}],
    "kfac-step": [{"suite": "kfac-step", "method": "kfac_expand"}],
    "second-order-training": [SECOND_ORDER],
}
"""Parameters of records that make a section appear."""

OTHER = {"suite": "reference", "method": "reference", "quantity": "step"}
"""Those of a record that only sections about all records show."""

ALWAYS = {"answer", "basis", "glossary", "failures", "environments"}
FOLDERS = {"changes": "asv", "over-commits": "asv", "machines": "asv", "runs": "pytest"}
"""Folders of committed results that make a section appear."""


@pytest.fixture
def find(make, tmp_path):
    """Sources of records with some parameters."""

    def find_sources(*parameters) -> Sources:
        path = tmp_path / "records.jsonl"
        path.unlink(missing_ok=True)
        RecordStore(path).append([make(**names) for names in parameters])
        return Sources.find([path])

    return find_sources


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.file)
def test_sections_say_what_they_answer(page):
    names = [section.name for section in page.sections]
    assert len(set(names)) == len(names)
    for section in page.sections:
        assert section.name == slug(section.name)
        assert section.title
        assert section.question.endswith("?")
        assert type(section).__doc__


def test_no_section_is_on_two_pages():
    """But for what stands on the page of experiments for these alone."""
    names = [(page.part(BOTH), s.name) for page in PAGES for s in page.sections]
    own = [name for part, name in names if part is BOTH]
    assert sorted(own) == sorted({*own})


def test_no_suite_has_two_sections():
    suites = [suite for section in ALL.values() for suite in section.suites]
    assert len(set(suites)) == len(suites)


def test_every_section_is_tried_below():
    assert {*RECORDS, *FOLDERS} == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_without_anything_every_section_is_left_out(name):
    assert not len(ALL[name].needs(PARTS[name](Sources())))


@pytest.mark.parametrize("name", RECORDS)
def test_sections_appear_with_their_records_and_not_with_others(name, find):
    section, part = ALL[name], PARTS[name]
    found = part(find(*RECORDS[name]))
    assert len(section.needs(found))
    plots = section.figures(found)
    assert [*section.words(found), *section.tables(found), *plots]
    assert all(plot.draw().axes for plot in plots)
    assert bool(len(section.needs(part(find(OTHER))))) == (name in ALWAYS)


@pytest.mark.parametrize("name", FOLDERS)
def test_sections_appear_with_their_files_and_not_with_records(name, find):
    section = ALL[name]
    found = Sources.find([MEASURED / FOLDERS[name]])
    assert len(section.needs(found))
    assert [*section.words(found), *section.tables(found), *section.figures(found)]
    assert not len(section.needs(find({})))


def test_the_headline_leads_to_the_sections_that_answer(make, find):
    found = find({}, {"method": "naive_gram", "samples": [2.0]}, PAIRS)
    said = ALL["headline"].words(found)
    assert [words.anchor for words in said] == ["eigenvalues", "leading"]
    assert "naive Gram (BackPACK, V stored): time 2.00x faster (1 case)" in said[0].points[0]


def test_suites_without_a_section_share_one(find):
    found = find({"suite": "b"}, {"suite": "a"}, {})
    titles = [table.title for table in ALL["others"].tables(found)]
    assert titles == ["A", "B"]


NEW = """
from benchmarks.records.record import Quantity
from reports.sections.base import Section
from reports.tables.table import Table, identity


class Topic(Section):
    name = "topic"
    title = "A new topic"
    question = "Does one file do?"

    def needs(self, sources):
        return sources.frame[sources.frame["suite"] == "asked"]

    def tables(self, sources):
        rows = self.needs(sources).reset_index(drop=True)
        shown = identity(rows).assign(Answer="it does")
        return [Table("answers", "Answers", "What it is.", shown, rows[["value"]])]


SECTION = Topic()
"""


def test_a_section_is_one_file_and_one_line(make, tmp_path, read_page):
    """Nothing else is touched: neither page nor template, figures or labels."""
    copy = Copy(tmp_path)
    copy.add("reports/sections/topic.py", NEW)
    copy.insert("reports/sections/__init__.py", "ABOUT_SPEED = (\n", '    "topic",\n')
    RecordStore(tmp_path / "records.jsonl").append([make(suite="asked"), make()])
    copy.run("reports", "--input", "records.jsonl", "--output", "html")
    page = read_page(tmp_path / "html" / "speed.html")
    text = (tmp_path / "html" / "speed.html").read_text()
    assert "topic" in page.sections
    assert "<h2>A new topic</h2>" in text
    assert "Does one file do?" in text
    assert page.tables["table-answers"][1][-1] == "it does"
    assert "it does,1.0" in (tmp_path / "html" / "csv" / "answers.csv").read_text()
