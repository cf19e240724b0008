"""What is shown of a run: arrays, charts, the page, the terminal, the command."""

import io
import math
import os
import re
import runpy
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from vivit.monitor import Observation
from vivit.monitor.__main__ import main
from vivit.monitor.charts import CHARTS
from vivit.monitor.curves import OTHERS, Curves
from vivit.monitor.files import write
from vivit.monitor.log import append
from vivit.monitor.page import page
from vivit.monitor.summary import headline, rows
from vivit.monitor.terminal import course, follow, view

QUANTITIES = {
    "loss": 0.5,
    "accuracy": 0.9,
    "eigenvalues": [4.0, 1.0, 0.25],
    "gradient_norm": 2.0,
    "gradient_overlap": 0.75,
    "slope_noise": [0.1, None, 0.2],
    "curvature_noise": [1.0, 2.0, 3.0],
    "damping": [0.1, 1.0, 10.0],
    "step_bound": 0.5,
    "step_best": 0.4,
    "trace": 5.5,
    "spectrum": [4.0, 1.0, 0.25, 1e-3],
    "size": 40,
    "layer_traces": {"0": 0.75, "<b>&": 0.25},
    "layer_gradients": {"0": 0.5, "<b>&": 0.5},
}
NOTHING = {
    name: None if isinstance(value, float) else type(value)() for name, value in QUANTITIES.items()
} | {"size": 40}
MARKUP = "</p><script>alert(1)</script>[bold]"


def seen(step, error="", rate=0.1, **changes):
    values = QUANTITIES | changes
    return Observation(step, "2026-01-02T03:04:05+00:00", 10.0, 0.5, 0.05, 0, rate, values, error)


RUNS = {
    "one": [seen(0)],
    "several": [seen(0), seen(10, loss=0.25), seen(20, loss=0.2)],
    "gaps": [
        replace(seen(0), quantities=QUANTITIES),
        replace(seen(10, MARKUP), quantities={"loss": None}),
        replace(seen(20, MARKUP, None), quantities=NOTHING),
        seen(30, eigenvalues=[2.0], slope_noise=[None]),
    ],
    "loss alone": [replace(seen(0, rate=None), quantities={"loss": 0.5})],
    "nothing": [replace(seen(0, MARKUP, None), quantities={"loss": None})],
}

each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())


def test_arrays():
    curves = Curves(RUNS["gaps"])
    assert curves.steps.tolist() == [0, 10, 20, 30]
    assert np.isnan(curves.numbers("loss")).tolist() == [False, True, True, False]
    values = curves.directions("eigenvalues")
    assert values.shape == (4, 3)
    assert values[0].tolist() == [4, 1, 0.25]
    assert (values[3, 0], np.isnan(values).sum()) == (2, 8)
    assert [len(x) for x in curves.spectra()] == [4, 0, 0, 4]
    assert curves.has("spectrum")
    assert not curves.has("nothing")


def test_layers_with_the_least_are_put_together():
    shares = {"a": 0.125, "b": 0.5, "c": 0.25, "d": 0.125}
    curves = Curves([seen(0, layer_traces=shares), seen(1, layer_traces=shares)])
    few = curves.layers("layer_traces", 3)
    assert {name: x.tolist() for name, x in few.items()} == {
        "b": [0.5, 0.5],
        "c": [0.25, 0.25],
        OTHERS: [0.25, 0.25],
    }
    assert [*curves.layers("layer_traces", 4)] == ["a", "b", "c", "d"]


def drawn(title, observations):
    (chart,) = [chart for chart in CHARTS if chart.title == title]
    axis = Figure().subplots()
    chart.draw(axis, Curves(observations))
    return axis


def lines(axis):
    return {line.get_label(): line.get_ydata().tolist() for line in axis.get_lines()}


def test_charts_show_the_numbers():
    run = RUNS["several"]
    loss = drawn("Loss and accuracy", run)
    assert lines(loss) == {"loss": [0.5, 0.25, 0.2]}
    assert lines(loss.figure.axes[1]) == {"accuracy": [0.9] * 3}
    eigenvalues = lines(drawn("Leading eigenvalues", run))
    assert [eigenvalues[x] for x in ("first direction", "last")] == [[4.0] * 3, [0.25] * 3]
    assert eigenvalues["2 / rate"] == [20.0] * 3
    steps = lines(drawn("Step sizes", run))
    assert [steps[x][0] for x in steps] == [0.5, 0.4, 0.1]
    assert lines(drawn("Trace", run)) == {"trace": [5.5] * 3}


def test_the_spectrum_is_a_histogram_for_each_step():
    mesh = drawn("Spectrum", RUNS["gaps"]).collections[0]
    density = mesh.get_array().filled(0)
    assert density.sum(axis=0).tolist() == [4 / 40, 0, 0, 4 / 40]


def test_layers_are_stacked_to_one():
    axis = drawn("Curvature by layer", RUNS["several"])
    tops = [area.get_paths()[0].vertices[:, 1].max() for area in axis.collections]
    assert tops == [0.75, 1]


class Outside(HTMLParser):
    """What a page would ask for, its tags and its text."""

    def __init__(self, text):
        super().__init__()
        self.asked, self.tags, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.asked += [v for k, v in attributes if k in ("src", "href") and v[:5] != "data:"]

    def handle_data(self, data):
        self.text.append(data)


@each_run
def test_page(run):
    text = page(MARKUP, run)
    found = Outside(text)
    assert not found.asked
    assert not {"script", "link", "b"} & {*found.tags}
    assert f"Curvature of {MARKUP}" in found.text
    shown = [x for x in found.text if x in {chart.title for chart in CHARTS}]
    assert shown[-1] == "Cost"
    assert len(shown) == (len(CHARTS) if "eigenvalues" in run[0].quantities else len(shown))
    assert "url(http" not in text


def test_page_lists_errors():
    run = [seen(step, f"Error <{step}>") for step in range(8)]
    text = page("run", run)
    assert "Step 0: Error &lt;0&gt;" in text
    assert "Step 4" in text
    assert "Step 5" not in text
    assert "and 3 more" in text


@each_run
def test_view(run):
    console = Console(file=io.StringIO(), width=100)
    console.print(view(MARKUP, run))
    shown = console.file.getvalue()
    assert MARKUP in shown
    assert "5.0% of the time" in shown
    assert ("with an error" in shown) == any(x.error for x in run)


def test_summary():
    found = {row.name: (row.latest, row.range) for row in rows(Curves(RUNS["several"]))}
    assert found["loss"] == ("0.2", "0.2 to 0.5")
    assert found["largest eigenvalue"][0] == "4"
    assert found["least of the leading"][0] == "0.25"
    assert found["slope SNR, median"][0] == "0.15"
    lacking = rows(Curves([seen(0), replace(seen(1), quantities={"loss": None})]))
    assert lacking[0].latest == "–"  # noqa: RUF001
    assert headline(Curves([seen(3)])).startswith("1 observation, steps 3 to 3")


@pytest.mark.parametrize(
    ("values", "blocks"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([1, 10, 100], "▁▅█"),
        ([3, 3], "▅▅"),
        ([1, math.nan, 2], "▁ █"),
        ([math.nan], " "),
        ([*range(-8, 8)], "▁▂▃▄▅▆▇█"),
    ],
)
def test_course(values, blocks):
    assert course(np.array(values, dtype=float), width=8) == blocks


def test_follow(tmp_path):
    path = tmp_path / "run.jsonl"
    console = Console(file=io.StringIO(), width=100, height=50, force_terminal=True)
    events = iter(
        [
            lambda: append(path, seen(0)),
            lambda: append(path, seen(10, loss=0.125)),
            lambda: os.truncate(path, path.stat().st_size - 1),
        ]
    )

    def wait(seconds):
        event = next(events, None)
        if event is None:
            raise KeyboardInterrupt
        event()

    follow(path, console, wait)
    shown = console.file.getvalue()
    assert "2 observations, steps 0 to 10" in shown
    assert "0.125" in shown
    assert "1 observation, steps 0 to 0" in shown.rpartition("0.125")[2]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "run.jsonl"
    for observation in RUNS["several"]:
        append(path, observation)
    return path


def test_command(log, capsys, monkeypatch):
    assert main([str(log)]) == 0
    assert "3 observations" in capsys.readouterr().out
    assert main([str(log), "--html"]) == 0
    made = log.with_suffix(".html")
    assert capsys.readouterr().out == f"Page: {made}\n"
    other = log.parent / "new" / "other.html"
    assert main([str(log), "--html", str(other)]) == 0
    assert made.read_text() == other.read_text()  # the same bytes for the same curves
    assert "3 observations" in made.read_text()
    monkeypatch.setattr("vivit.monitor.terminal.follow", lambda path: print("follows", path))
    capsys.readouterr()
    assert main([str(log), "--follow"]) == 0
    assert capsys.readouterr().out == f"follows {log}\n"


def test_module(log, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["monitor", str(log)])
    monkeypatch.delitem(sys.modules, "vivit.monitor.__main__")
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("vivit.monitor", run_name="__main__")
    assert "3 observations" in capsys.readouterr().out


def test_what_the_command_refuses(log, capsys):
    log.with_name("empty.jsonl").touch()
    log.with_name("other.jsonl").write_text("{}\n")
    for name, message in {
        "empty.jsonl": "has no observation yet",
        "other.jsonl": "line 1: not an observation",
        "none.jsonl": "cannot be read",
    }.items():
        assert main([str(log.with_name(name)), "--html"]) == 2
        assert re.search(message, capsys.readouterr().err)
    with pytest.raises(SystemExit):
        main([str(log), "--html", "--follow"])


@pytest.mark.parametrize(
    ("options", "module"), [(["--html"], "matplotlib"), (["--html"], "seaborn"), ([], "rich")]
)
def test_what_is_not_installed(log, capsys, monkeypatch, options, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert main([str(log), *options]) == 2
    assert f"needs {module}, which is not installed: install vivit with the extra monitor" in (
        capsys.readouterr().err
    )


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(path, target):
        raise OSError("full")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="full"):
        write(tmp_path / "page.html", "text")
    assert not [*tmp_path.iterdir()]
