"""Figures that compare methods."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.records.record import Quantity
from reports.figures.comparison import comparison
from reports.figures.style import Palette
from reports.words import labels


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


def test_unknown_names_have_labels_colors_and_markers():
    names = ["gram", "brand_new", "another_one"]
    palette = Palette.of(names)
    colors, markers = palette.colors, palette.markers
    assert labels.method_label("brand_new") == "brand new"
    assert labels.task_label("brand_new", 3) == "brand new, k = 3"
    assert len({colors[name] for name in names}) == len({markers[name] for name in names}) == 3


def test_colors_do_not_depend_on_what_was_measured():
    assert Palette.of(["gram"]).colors["gradient"] == Palette.of([]).colors["gradient"]
