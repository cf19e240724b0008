"""docs/experiments.md shows the committed records; run this file to write its tables anew."""

import re
from functools import cache
from pathlib import Path

import pytest
from marked_tables import marked, names_in, renewed, rows_of

from benchmarks.experiments import EXPERIMENTS
from benchmarks.experiments.base import Request, Scale
from benchmarks.records.record import RecordStore
from reports.pages import EXPERIMENTS_PAGE
from reports.sections import published
from reports.sources.sources import Sources

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "experiments.md"
FIGURES = PAGE.with_name("figures")
RECORDS = ROOT / "bench_results" / "published" / "experiments"
DPI = 70


@cache
def found() -> Sources:
    return Sources.find([RECORDS]).of_experiments


def section_of(name):
    return next(s for s in published() if s.name == name)


def table_of(name) -> str:
    (table,) = section_of(name).tables(found())
    return rows_of(table.shown)


@pytest.mark.parametrize("name", names_in(PAGE.read_text()))
def test_tables_are_those_of_the_records(name):
    assert marked(name, table_of(name)) in PAGE.read_text()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_on_the_page_with_its_command(name):
    text = PAGE.read_text()
    assert f"`{name}`" in text or f"python -m benchmarks experiment {name}`" in text


def test_figures_are_those_of_the_report():
    linked = re.findall(r"\]\(figures/(\S+)\.png\)", PAGE.read_text())
    plots = {
        plot.name
        for section in EXPERIMENTS_PAGE.sections
        if len(section.needs(found()))
        for plot in section.figures(found())
    }
    assert {*linked} <= plots


def test_every_figure_is_on_a_page():
    docs = PAGE.parent
    pages = [page.read_text() for page in (docs.parent / "README.md", *docs.glob("*.md"))]
    link = re.compile(r"\]\((?:docs/)?figures/(\S+)\.png\)")
    linked = {name for text in pages for name in link.findall(text)}
    assert linked == {file.stem for file in FIGURES.glob("*.png")}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_records_are_of_one_clean_commit(name):
    records = RecordStore(RECORDS / f"{name}.jsonl").read()
    environments = [record.environment for record in records]
    assert {e["dirty"] for e in environments} == {False}
    assert len({e["commit"] for e in environments}) == 1


@pytest.mark.parametrize(
    "name", ["learning-rate-grid", "training-derivatives", "training-overlap"]
)
def test_records_of_trainings_are_those_that_the_command_would_make(name):
    """With the same keys, so that what is published counts as done."""
    records = {record.key for record in RecordStore(RECORDS / f"{name}.jsonl").read()}
    jobs = EXPERIMENTS[name].jobs(Request(Scale.QUICK, Path("unused")))
    assert {cell.key for job in jobs for cell in job.cells} == records


def write() -> None:
    text = PAGE.read_text()
    text = renewed(text, {name: table_of(name) for name in names_in(text)})
    PAGE.write_text(text)
    FIGURES.mkdir(exist_ok=True)
    linked = re.findall(r"\]\(figures/(\S+)\.png\)", text)
    for section in EXPERIMENTS_PAGE.sections:
        for plot in section.figures(found()):
            if plot.name in linked:
                plot.draw().savefig(FIGURES / f"{plot.name}.png", dpi=DPI)


if __name__ == "__main__":
    write()
