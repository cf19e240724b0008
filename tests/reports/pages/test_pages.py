"""The report as a whole: files, content, self-containedness."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from benchmarks.records.record import Quantity
from reports.cli import main
from reports.figures import plot as figures
from reports.figures.comparison import Palette, comparison
from reports.pages import files
from reports.sections import spectra


class Page(HTMLParser):
    """Collects the tables, links and images of a page."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.links, self.sources, self.tags = {}, [], [], []
        self._rows, self._cell = [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        self.links += [attributes["href"]] if "href" in attributes else []
        self.sources += [attributes["src"]] if "src" in attributes else []
        if tag == "table":
            self._rows = self.tables[attributes["id"]] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._rows[-1].append(self._cell)
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data


@pytest.fixture
def folder(store, records, tmp_path, capsys):
    output = tmp_path / "html"
    assert main(["--input", str(store(records)), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output / "index.html")
    return output


def test_report(folder):
    text = (folder / "index.html").read_text()
    page = Page(text)
    _check_is_self_contained(text, page)
    _check_files_exist(folder, page)
    _check_csv_equals_page(folder, page)
    _check_content(text)


def _check_is_self_contained(text, page):
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not any(re.match(r"[a-z]+:|//", link) for link in page.links)
    assert not re.search(r"url\(|@import", text)
    assert "script" not in page.tags
    assert "link" not in page.tags


def _check_files_exist(folder, page):
    files_linked = {link for link in page.links if not link.startswith("#")}
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    assert files_linked == written - {"index.html"}
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png", ".pdf"}
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        "time",
        "memory",
        "accuracy",
        "spectra",
    }


def _check_csv_equals_page(folder, page):
    assert {"table-time", "table-ratios-eigenvalues", "table-failures"} <= set(page.tables)
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
    assert "python -m benchmarks run --profile quick" in text
    assert "2026-01-01" in text


def test_mixed_environments_are_announced(store, make, tmp_path):
    folder = store([make(commit="aaa", batch_size=1), make(commit="bbb", batch_size=1)])
    main(["--input", str(folder), "--output", str(tmp_path / "html")])
    text = (tmp_path / "html" / "index.html").read_text()
    assert "These measurements mix 2 environments" in text
    assert "aaa" in text
    assert "bbb" in text


def test_failed_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    files.write(path, b"old")
    monkeypatch.setattr("pathlib.Path.replace", _refuse)
    with pytest.raises(OSError, match="no space"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def _refuse(*_):
    raise OSError("no space")


@pytest.mark.parametrize(
    "samples", [[0.0], [1.0], [1e-9, 1e3]], ids=["zero", "one sample", "wide range"]
)
def test_comparison_draws_any_range(make, tabulate, samples):
    frame = tabulate(make("gram", "accuracy", samples), make("gradient", "accuracy", status="oom"))
    figure = comparison(frame, Quantity.ACCURACY, Palette.of(["gram", "gradient"]))
    words = [text.get_text() for text in figure.axes[0].texts]
    assert isinstance(figure, Figure)
    assert "gradient: out of memory" in words
    assert ("vivit: exactly 0" in words) == (samples == [0.0])


def test_every_sample_is_drawn(make, tabulate):
    frame = tabulate(make(samples=[1.0, 2.0, 4.0]), make("gradient", samples=[0.5]))
    axes = comparison(frame, Quantity.TIME, Palette.of(["gram", "gradient"])).axes[0]
    drawn = np.concatenate([points.get_offsets()[:, 0] for points in axes.collections])
    assert sorted(drawn.tolist()) == pytest.approx([0.5, 1.0, 2.0, 4.0])


def test_spectrum_by_hand(make, tabulate):
    record = make("reference", "spectrum", [-1e-17, 1e-16, 0.5, 2.0], suite="reference")
    values = spectra.eigenvalues(tabulate(record))
    assert values["eigenvalue"].tolist() == [2.0, 0.5]
    assert values["rank"].tolist() == [1, 2]
    assert values["weight"].tolist() == [1e-3, 1e-3]


@pytest.mark.parametrize(("samples", "count"), [([0.0], 0), ([1.0], 1), ([1e-3, 1.0], 1)])
def test_small_spectra(make, tabulate, samples, count):
    frame = tabulate(make("reference", "spectrum", samples, suite="reference"), make())
    drawn = [plot.draw() for plot in figures.plots(frame) if plot.name == "spectra"]
    assert len(drawn) == count


def test_every_plot_has_caption_and_alternative_text(records, tabulate):
    for plot in figures.plots(tabulate(*records)):
        assert plot.caption
        assert plot.alt.startswith(plot.title)


def test_a_problem_gets_the_height_that_it_needs(make, tabulate):
    """The legend of many methods stays within the figure."""
    methods = ("gram", "naive_gram", "original", "original_lean", "lanczos", "power_iteration")
    rows = [make(method, batch_size=b) for method in methods for b in (1, 2, 3)]
    rows.append(make(problem="digits_cnn"))
    frame = tabulate(*rows)
    figure = comparison(frame, Quantity.TIME, Palette.of(list(methods)))
    figure.draw_without_rendering()
    high, low = (axes.get_position().height for axes in figure.axes)
    assert high > 3 * low
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1
