"""Figures that compare methods."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.records.record import Quantity
from reports.figures.comparison import HIGHEST, WIDTH, comparison, comparisons
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


def test_what_is_too_high_for_a_figure_goes_on_in_another(make, tabulate):
    """Each panel is in one figure, in the order of the report; none is higher than it may be."""
    names = [f"problem_{letter}" for letter in "dbca"]
    frame = tabulate(*(make(problem=name, batch_size=b) for name in names for b in range(1, 15)))
    plots = comparisons(frame, frame, Quantity.TIME, "How to read it.")
    figures = [plot.draw() for plot in plots]
    titles = [axes.get_title().split("\n")[0] for figure in figures for axes in figure.axes]
    assert titles == list(dict.fromkeys(labels.problem_labels(frame)))
    assert [len(figure.axes) for figure in figures] == [2, 2]
    assert all(figure.get_size_inches()[1] < HIGHEST for figure in figures)
    assert [plot.title for plot in plots] == ["Time by method (1 of 2)", "Time by method (2 of 2)"]
    assert len({plot.name for plot in plots}) == 2


def test_a_panel_that_is_too_high_has_a_figure_of_its_own(make, tabulate):
    rows = [make(problem="digits_cnn", batch_size=b) for b in range(1, 60)]
    frame = tabulate(make(), *rows, make(problem="cifar10_3c3d"))
    plots = comparisons(frame, frame, Quantity.TIME, "How to read it.")
    assert [len(plot.draw().axes) for plot in plots] == [1, 1, 1]


def test_a_problem_has_the_same_axis_in_all_its_figures(make, tabulate):
    """Its fast results in one, its slow ones in another."""
    suites = [("eigenvalues", 1e-3), ("leading", 1.0), ("newton", 1e2)]
    rows = [
        make(suite=suite, batch_size=b, samples=[seconds])
        for suite, seconds in suites
        for b in range(1, 30)
    ]
    frame = tabulate(*rows)
    figures = [p.draw() for p in comparisons(frame, frame, Quantity.TIME, "How to read it.")]
    panels = [axes for figure in figures for axes in figure.axes if axes.get_visible()]
    assert len(figures) == 2
    assert len(panels) == 3
    (low, high), *others = [axes.get_xlim() for axes in panels]
    assert low < 1e-3
    assert high > 1e2
    assert others == [(low, high)] * 2


def test_a_panel_has_room_for_its_own_methods_alone(make, tabulate):
    """Not for those of the problem's other panels."""
    others = ("gram", "naive_gram", "original", "original_lean", "lanczos", "power_iteration")
    rows = [make(method, suite="leading", k=1) for method in others]
    frame = tabulate(make("gram"), make("gradient"), *rows, make("gram", suite="newton"))
    figure = comparison(frame, Quantity.TIME, Palette.of(list(others)))
    places = {}
    for axes in figure.axes:
        if axes.get_visible():
            drawn = [y for points in axes.collections for _, y in points.get_offsets()]
            places[axes.get_title().split("\n")[1]] = max(drawn) - min(drawn)
    assert len(places) == 3
    assert places[labels.suite_label("newton")] == 0
    assert places[labels.suite_label("eigenvalues")] == pytest.approx(WIDTH / 2)
    assert places[labels.suite_label("leading")] == pytest.approx(WIDTH * 5 / 6)


@pytest.mark.parametrize("count", [1, 2, 13])
def test_legends_stay_within_the_figure(make, tabulate, count):
    """However long the names are."""
    names = [f"{'a_very_long_name_of_a_method_' * 2}{i}" for i in range(count)]
    frame = tabulate(*map(make, names), *(make(name, suite="newton") for name in names))
    figure = comparison(frame, Quantity.TIME, Palette.of(names))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().x0 >= 0
    assert legend.get_window_extent().x1 <= figure.bbox.x1
    assert len(legend.get_texts()) == count


def test_unknown_names_have_labels_colors_and_markers():
    names = ["gram", "brand_new", "another_one"]
    palette = Palette.of(names)
    colors, markers = palette.colors, palette.markers
    assert labels.method_label("brand_new") == "brand new"
    assert labels.task_label("brand_new", 3) == "brand new, k = 3"
    assert len({colors[name] for name in names}) == len({markers[name] for name in names}) == 3


def test_colors_do_not_depend_on_what_was_measured():
    assert Palette.of(["gram"]).colors["gradient"] == Palette.of([]).colors["gradient"]
