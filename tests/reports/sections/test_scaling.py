"""Scaling: curves, exponents and the figure."""

import math

import numpy as np
import pytest

from benchmarks.grid.profiles import PROFILES
from reports.figures.style import Palette
from reports.sections import scaling
from reports.sections.scaling import draw

SIZES = (16, 32, 64, 128)


@pytest.fixture
def frame(make, tabulate):
    """Ours is quadratic in N, the original cubic, lean at large sizes; Lanczos failed once."""
    common = {"suite": "scaling_batch", "problem": "cnn_c10_w16", "classes": 10, "width": 16}
    rows = []
    for size in SIZES:
        for method, value in (
            ("gram", size**2 * 1e-4),
            ("original", size**3 * 1e-4),
            ("original_lean", 0.5 * size**3 * 1e-4 if size > 16 else 10.0),
        ):
            rows.append(make(method, samples=[value], batch_size=size, **common))
            memory = [2.0**20 * size]
            rows.append(make(method, "memory", memory, batch_size=size, **common))
        status = "oom" if size == 64 else "ok"
        rows.append(make("lanczos", status=status, batch_size=size, k=10, **common))
    wide = {**common, "suite": "scaling_width", "width": 32}
    rows.append(make("gram", samples=[1.0], **wide))
    return tabulate(*rows)


def test_the_better_setting_counts_at_each_size(frame):
    points = scaling.series(frame, scaling.AXES[0], scaling.Quantity.TIME)
    found = points[points["method"] == scaling.BETTER]
    assert found["size"].tolist() == list(SIZES)
    expected = [16**3 * 1e-4, *(0.5 * size**3 * 1e-4 for size in SIZES[1:])]
    assert found["value"].tolist() == pytest.approx(expected)
    assert points.loc[points["method"] == "lanczos", "size"].tolist() == [16, 32, 128]


def test_exponents_by_hand(frame, suite_tables):
    sizes = np.array([1.0, 2.0, 4.0, 8.0])
    assert scaling.exponent(sizes, np.array([99.0, 4.0, 16.0, 64.0])) == pytest.approx(2.0)
    assert math.isnan(scaling.exponent(sizes[:1], sizes[:1]))
    (table,) = suite_tables(frame)
    shown = table.shown.set_index("Method")
    assert list(shown.index) == ["vivit", "original (better setting)", "Lanczos, 10 leading"]
    assert shown.loc["vivit", "Time over N"] == "N^2.0"
    assert shown.loc["original (better setting)", "Time over N"] == "N^3.0"
    assert shown.loc["vivit", "Memory over N"] == "N^1.0"
    assert "Time over W" not in shown  # of a single width


def test_figure(frame):
    figure = draw(frame, Palette.of(list(frame["method"])))
    assert len(figure.axes) == 4  # time and memory over batch size and width
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "vivit: $N^{2.0}$" in texts
    assert "original (better setting): $N^{3.0}$" in texts
    assert {ax.get_xscale() for ax in figure.axes[:3]} == {"log"}
    assert figure.axes[3].texts[0].get_text() == "not measured"  # memory over width


def test_a_quantity_that_was_not_measured_has_no_panels(frame):
    times = frame[frame["quantity"] == "time"]
    figure = draw(times, Palette.of(list(times["method"])))
    assert len(figure.axes) == 2


@pytest.mark.parametrize(("value", "text"), [(-0.04, "0.0"), (1.96, "2.0"), (-0.5, "-0.5")])
def test_zero_has_no_sign(value, text):
    assert scaling.rounded(value) == text


def test_scaling_has_a_figure_of_its_own(frame, plots):
    names = plots(frame)
    assert set(names) == {"scaling"}
    assert "vivit, time over N: 2.0" in names["scaling"].alt


def test_one_size_varies_at_a_time():
    for axis in scaling.AXES:
        cells = [c for c in PROFILES["scaling"].comparisons() if c.suite == axis.suite]
        varied = {
            column: {c.parameters[column] for c in cells}
            for column in ("batch_size", "classes", "width")
        }
        assert len(varied.pop(axis.column)) >= 4
        assert all(len(values) == 1 for values in varied.values())
