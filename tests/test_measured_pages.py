"""Pages with figures show those of the records; run this file to write their tables anew."""

import re
from functools import partial
from pathlib import Path

import measured_tables as tables
import pytest
from marked_tables import marked, names_in, renewed

from benchmarks.records.record import Quantity, RecordStore

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TABLES = {
    ROOT / "README.md": {"highlights": tables.highlights, "batches": tables.batches},
    DOCS / "benchmarks.md": {
        "quick": tables.quick,
        "targets": tables.targets,
        "critical": tables.critical,
        "laptop": tables.laptop,
        "laptop-critical": tables.laptop_critical,
        "transformers": partial(tables.beside, tables.MATRIX_FREE),
    },
    DOCS / "developing.md": {"over-commits": tables.over_commits},
    DOCS / "migration.md": {"drop-in": tables.drop_in},
    DOCS / "curvatures.md": {"family": partial(tables.beside, tables.FAMILY)},
}
"""Of each page, what its tables are made by."""

PAIRS_OF_3C3D = "| CIFAR-10 3c3d | 10 leading eigenpairs |"
"""How rows of the targets begin."""

EACH = [(page, name) for page, of_page in TABLES.items() for name in of_page]


@pytest.mark.parametrize(("page", "name"), EACH, ids=lambda x: getattr(x, "stem", x))
def test_tables_are_those_of_the_records(page, name):
    assert marked(name, TABLES[page][name]()) in page.read_text()


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.stem)
def test_every_marked_table_is_held(page):
    assert names_in(page.read_text()) == [*TABLES[page]]


@pytest.mark.parametrize("records", [tables.ENGINE, tables.CRITICAL], ids=lambda path: path.stem)
def test_where_the_figures_of_the_readme_were_measured(records):
    said = " ".join((ROOT / "README.md").read_text().split())
    _, told, after = said.partition(f"{tables.where(records)} (")
    assert told
    assert f"[`{records.name}`]" in after.partition(". ")[0]


def test_residuals_of_allcnnc():
    """The sentence below the table of targets."""
    found = {r.method: r.samples[0] for r in RecordStore(tables.ENGINE).read() if _is_large(r)}
    said = " ".join((DOCS / "benchmarks.md").read_text().split())
    assert f"with residuals of {found['gram']:.1e}; those of *Lanczos* are" in said
    assert f"*Lanczos* are {found['lanczos']:.1e}." in said


def test_time_of_the_targets_beside_the_laptop_run():
    """The sentence above the tables of the laptop run repeats a cell of the targets."""
    said = " ".join((DOCS / "benchmarks.md").read_text().split())
    (time,) = re.findall(r"the ten pairs of 3c3d took (\S+ m?s) when the \[targets\]", said)
    rows = [row for row in tables.targets().splitlines() if PAIRS_OF_3C3D in row]
    assert rows
    assert all(f"| {time} |" in row for row in rows)


def _is_large(record):
    size = record.problem, record.parameters["batch_size"]
    return record.quantity is Quantity.ACCURACY and size == ("cifar100_allcnnc", 64)


@pytest.mark.parametrize("records", tables.RECORDS, ids=lambda path: path.stem)
def test_figures_are_of_one_clean_commit(records):
    environments = [r.environment for r in RecordStore(records).read()]
    assert {e["dirty"] for e in environments} == {False}
    assert len({e["commit"] for e in environments}) == 1


def write() -> None:
    for page, of_page in TABLES.items():
        made = {name: make() for name, make in of_page.items()}
        page.write_text(renewed(page.read_text(), made))


if __name__ == "__main__":
    write()
