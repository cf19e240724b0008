"""The report as a whole: files, content, self-containedness."""

import re

import pandas as pd
import pytest

from reports.cli import main

PRESENT = [
    "index.html",
    "speed.html",
    "memory.html",
    "accuracy.html",
    "spectra.html",
    "records.html",
    "glossary.html",
]
"""Pages that the records below have something for, in the order of the navigation."""

LARGEST = 4 * 2**20
"""Bytes of a page."""


@pytest.fixture
def folder(store, records, tmp_path, capsys):
    output = tmp_path / "html"
    assert main(["--input", str(store(records)), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output / "index.html")
    return output


def test_report(folder, read_page):
    pages = {path.name: read_page(path) for path in folder.glob("*.html")}
    assert [*pages["index.html"].navigation][: len(PRESENT)] == PRESENT
    for name, page in pages.items():
        _check_is_self_contained((folder / name).read_text(), page)
        assert (folder / name).stat().st_size < LARGEST
        assert page.navigation[: len(PRESENT)] == PRESENT
        assert page.current == [name]
        _check_csv_equals_page(folder, page)
    tables = {name for page in pages.values() for name in page.tables}
    assert {"table-time", "table-ratios-eigenvalues", "table-failures"} <= tables
    _check_files_exist(folder, pages.values())
    _check_content("".join((folder / name).read_text() for name in pages))


def _check_is_self_contained(text, page):
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    assert not any(re.match(r"[a-z]+:|//", link) for link in page.links)
    assert not re.search(r"url\(|@import|https?:", text)
    assert "link" not in page.tags


def _check_files_exist(folder, pages):
    links = {link.partition("#")[0] for page in pages for link in page.links} - {""}
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    assert links == written
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".webp", ".pdf"}
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        "time",
        "memory",
        "accuracy",
        "spectra",
        *(f"answer-{question}" for question in ("time", "memory", "error")),
    }


def _check_csv_equals_page(folder, page):
    for name, (header, *rows) in page.tables.items():
        path = folder / "csv" / f"{name.removeprefix('table-')}.csv"
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert frame.columns[: len(header)].tolist() == header
        assert frame[header].to_numpy().tolist() == rows


def _check_content(text):
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    for expected in ("new method", "new suite", "new problem", "out of memory", "timed out"):
        assert expected in text
    assert "CIFAR-10 3c3d (synthetic data)" in text
    assert not re.search(r"CIFAR-10 3c3d(?! \(synthetic data\))", text)
    assert "These measurements mix" not in text
    assert "environment 1" not in text
    assert "python -m benchmarks run --profile quick" in text
    assert "2026-01-01" in text


def test_pages_do_not_write_over_each_others_files(store, make, tmp_path, read_page):
    """Experiments have failures of their own."""
    records = [make(status="error"), make(suite="linear-gram", status="timeout")]
    output = tmp_path / "html"
    assert main(["--input", str(store(records)), "--output", str(output)]) == 0
    outcomes = {"records.html": "failed", "experiments.html": "timed out"}
    for name, outcome in outcomes.items():
        page = read_page(output / name)
        _check_csv_equals_page(output, page)
        (table,) = (rows for name, rows in page.tables.items() if name.endswith("failures"))
        assert outcome in table[1]


def test_mixed_environments_are_announced_after_the_answer(store, make, tmp_path):
    folder = store([make(commit="aaa", batch_size=1), make(commit="bbb", batch_size=1)])
    main(["--input", str(folder), "--output", str(tmp_path / "html")])
    text = (tmp_path / "html" / "index.html").read_text()
    places = [text.index(part) for part in ('"answer"', "These measurements mix 2", '"basis"')]
    assert places == sorted(places)
    assert "aaa" in text
    assert "bbb" in text


def test_every_plot_has_caption_and_alternative_text(records, tabulate, plots):
    for plot in plots(tabulate(*records)).values():
        assert plot.caption
        assert plot.alt.startswith(plot.title)
