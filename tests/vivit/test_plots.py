"""What figures show, read from what was drawn, and what they refuse."""

import builtins
import importlib
import sys

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vivit import plots
from vivit.errors import InputError

VALUES = [3.0, 0.0, 100.0, -1e-9, 0.5]
RATIOS = [0.1, 10.0, float("nan")]
PLANE = np.add.outer(np.arange(3.0), np.arange(3.0))

DRAWN = {
    "eigenvalues": (plots.eigenvalues, (VALUES,), {}),
    "spectral_density": (plots.spectral_density, (VALUES, 10), {}),
    "gradient_curvature": (plots.gradient_curvature, ([-1.0, 2.0], [3.0, 4.0]), {}),
    "signal_to_noise": (plots.signal_to_noise, ([1.0, 2.0, 3.0], RATIOS, RATIOS), {}),
    "landscape": (plots.landscape, ([-1, 0, 1], [1.0, 0.5, 2.0]), {"model": [1.0, 0.5, 1.5]}),
    "plane": (plots.landscape, ([-1, 0, 1], PLANE), {"model": PLANE}),
    "gram": (plots.gram, (np.eye(6),), {"columns": 2}),
}

each = pytest.mark.parametrize("name", DRAWN)


def axis_of_a_figure():
    return Figure().subplots()


def drawn(name, axis, **others):
    function, arguments, options = DRAWN[name]
    return function(*arguments, axis, **options | others)


@each
def test_an_axis_is_returned_with_both_sides_named(name):
    axis = axis_of_a_figure()
    assert drawn(name, axis) is axis
    assert axis.get_xlabel()
    assert axis.get_ylabel()
    axis.figure.canvas.draw()


@each
def test_without_an_axis_there_is_a_new_figure(name):
    pyplot.switch_backend("agg")
    before = pyplot.get_fignums()
    axis = drawn(name, None)
    assert len(pyplot.get_fignums()) == len(before) + 1
    pyplot.close(axis.figure)


@each
def test_tensors_are_drawn_as_arrays_are(name):
    """Such as those that require gradients."""
    function, arguments, options = DRAWN[name]
    as_tensors = [
        x
        if isinstance(x, int)
        else torch.tensor(np.array(x), dtype=torch.float64).requires_grad_()
        for x in arguments
    ]
    axes = axis_of_a_figure(), axis_of_a_figure()
    function(*arguments, axes[0], **options)
    function(*as_tensors, axes[1], **options)
    pictures = []
    for axis in axes:
        canvas = FigureCanvasAgg(axis.figure)
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba()))
    assert np.array_equal(*pictures)


def test_eigenvalues_are_ordered_by_size_and_positive():
    (line,) = plots.eigenvalues(VALUES, axis_of_a_figure()).lines
    assert line.get_ydata().tolist() == [100.0, 3.0, 0.5]
    assert line.get_xdata().tolist() == [1, 2, 3]


@pytest.mark.parametrize("outline", [False, True])
def test_a_density_counts_all_eigenvalues(outline):
    """Zeros and what is negative in the first bin, what is too large in the last."""
    axis = axis_of_a_figure()
    plots.spectral_density(VALUES, 10, axis, edges=[0.1, 1, 10, 50], outline=outline)
    if outline:
        heights = axis.patches[0].get_xy()[:, 1]
        assert heights.max() == pytest.approx(0.8)
    else:
        assert [p.get_height() for p in axis.patches] == pytest.approx([0.8, 0.1, 0.1])


def test_a_single_eigenvalue_can_be_seen():
    axis = plots.spectral_density([1.0], 1000, axis_of_a_figure())
    bottom, top = np.log(axis.get_ylim())
    assert (np.log(1 / 1000) - bottom) / (top - bottom) > 0.1


def test_bins_end_at_the_largest_eigenvalue():
    axis = plots.spectral_density(VALUES, 10, axis_of_a_figure())
    assert len(axis.patches) == 29
    first, last = axis.patches[0], axis.patches[-1]
    assert first.get_x() == pytest.approx(1e-4)
    assert last.get_x() + last.get_width() == pytest.approx(100)
    assert last.get_height() == pytest.approx(0.1)


def offsets(axis):
    return [x.get_offsets().data.tolist() for x in axis.collections]


@pytest.mark.parametrize(
    ("leading", "others", "filled"),
    [(None, [], [[2, 5], [3, 1]]), (1, [[2, 5]], [[3, 1]]), (0, [[2, 5], [3, 1]], [])],
)
def test_directions_of_largest_curvature_are_filled(leading, others, filled):
    """In any order; where curvature or slope vanishes, there is no symbol."""
    axis = axis_of_a_figure()
    curvatures, slopes = [3, 2, 0, 1], [-1, 5, 7, 0]
    plots.gradient_curvature(slopes, curvatures, axis, leading=leading)
    assert [sorted(x) for x in offsets(axis)] == [others, filled]


def test_ratios_of_slope_and_curvature():
    axis = axis_of_a_figure()
    plots.signal_to_noise([1, 2, 3], [4, 5, float("nan")], [6, 0, 7], axis)
    assert offsets(axis) == [[], [[1, 4], [2, 5]], [], [[1, 6], [3, 7]]]
    assert [x.get_label() for x in axis.collections][1::2] == ["slope", "curvature"]
    assert axis.lines[0].get_ydata() == [1.0, 1.0]


def test_the_loss_along_a_direction_and_its_model():
    axis = drawn("landscape", axis_of_a_figure(), label="first")
    loss, model = axis.lines
    assert loss.get_ydata().tolist() == [1.0, 0.5, 2.0]
    assert loss.get_label() == "first"
    assert model.get_ydata().tolist() == [1.0, 0.5, 1.5]
    assert model.get_linestyle() == "--"


def test_rows_of_a_plane_lie_along_the_first_direction(monkeypatch):
    """What grows along the first direction grows to the right."""
    axis = axis_of_a_figure()
    seen = []
    monkeypatch.setattr(axis, "contourf", lambda x, y, z, **options: seen.append(z))
    plots.landscape([-1, 0, 1], np.outer([0, 1, 2], np.ones(3)), axis)
    assert seen[0][0].tolist() == [0, 1, 2]


def test_a_flat_plane_is_drawn():
    plots.landscape([-1, 0, 1], np.ones((3, 3)), axis_of_a_figure()).figure.canvas.draw()


def test_a_matrix_shows_absolute_values_and_samples():
    axis = plots.gram([[-2.0, 0.0], [0.0, 1.0]], axis_of_a_figure(), columns=1)
    (image,) = axis.images
    assert image.get_array().tolist() == [[2.0, 2e-4], [2e-4, 1.0]]
    assert len(axis.lines) == 2  # one edge between two samples, across and down
    assert not plots.gram(np.eye(66), axis_of_a_figure(), columns=2).lines
    plots.gram(np.zeros((2, 2)), axis_of_a_figure()).figure.canvas.draw()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.eigenvalues([[1.0]]), r"values must have 1 dimension and not .* \[1, 1\]"),
        (lambda: plots.eigenvalues([]), r"not be empty, got shape \[0\]"),
        (lambda: plots.eigenvalues([-1.0]), "none is positive"),
        (lambda: plots.spectral_density([1.0, 2.0], 1), "size 1 has .* at most, got 2: size is"),
        (
            lambda: plots.gradient_curvature([1.0], [1.0, 2.0]),
            r"slopes and curvatures must have the same shape, got \[1\] and \[2\]",
        ),
        (lambda: plots.gradient_curvature([1.0], [1.0], leading=-1), "directions, got -1"),
        (
            lambda: plots.signal_to_noise([1.0], [1.0], [1.0, 2.0]),
            "of_curvatures and curvatures must have the same shape",
        ),
        (lambda: plots.landscape([0, 1], [1.0]), r"T = 2 as distances, got \[1\]"),
        (lambda: plots.landscape([0, 1], np.ones((2, 3))), r"got \[2, 3\]"),
        (lambda: plots.landscape([0], 1.0), "losses must have 1 or 2 dimensions"),
        (lambda: plots.landscape([0], [1.0], model=[[1.0]]), "model and losses must have"),
        (lambda: plots.gram(np.ones((2, 3))), r"is square, got shape \[2, 3\]"),
        (lambda: plots.gram(np.eye(4), columns=3), "columns must divide the size 4 .* got 3"),
    ],
)
def test_refusals(draw, message):
    """Before a figure is made."""
    before = pyplot.get_fignums()
    with pytest.raises(InputError, match=message):
        draw()
    assert pyplot.get_fignums() == before


def test_without_seaborn_the_message_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def importing(name, *arguments, **options):
        if name == "seaborn":
            raise ModuleNotFoundError("no", name="seaborn")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", importing)
    monkeypatch.delitem(sys.modules, "vivit.plots")
    with pytest.raises(ImportError, match=r"seaborn is not installed: .* the extra plots"):
        importlib.import_module("vivit.plots")
