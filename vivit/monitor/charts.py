"""Curves over the steps of a training, in the style of `vivit.plots`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from vivit.monitor.curves import Curves
from vivit.plots.style import COLORBLIND

FEW = 60
"""Observations up to which each has a symbol."""

LAYERS = 8
"""Layers that are told apart."""

BINS = 48
DECADES = 8
"""Of the spectrum over time; what is smaller than the largest by more is not drawn."""


@dataclass(frozen=True)
class Chart:
    """A figure over steps.

    Attributes:
        title: What it shows.
        words: How to read it.
        names: Quantities; it is drawn if there is one of them, or where none is named.
        draw: Draws it on an axis.
    """

    title: str
    words: str
    names: tuple[str, ...]
    draw: Callable[[Axes, Curves], None]


def line(axis: Axes, curves: Curves, values: np.ndarray, color: str, label: str) -> None:
    """Draw one curve."""
    marker = "." if len(values) <= FEW else ""
    axis.plot(curves.steps, values, color=color, label=label, marker=marker, linewidth=1.4)


def by_direction(axis: Axes, curves: Curves, name: str, ylabel: str) -> None:
    """Draw a curve for each leading direction, from dark (the first) to light."""
    values = curves.directions(name)
    count = values.shape[1]
    colors = sns.color_palette("viridis", count)
    marker = "." if len(values) <= FEW else ""
    for k in range(count):
        label = {0: "first direction", count - 1: "last"}.get(k) if count > 1 else None
        color = colors[k]
        axis.plot(curves.steps, values[:, k], color=color, label=label, marker=marker, lw=1.2)
    log_if_positive(axis, values)
    axis.set_ylabel(ylabel)
    if count > 1:
        legend_above(axis)


def legend_above(axis: Axes) -> None:
    """A legend that covers no curve."""
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize="small", frameon=False)


def log_if_positive(axis: Axes, values: np.ndarray) -> None:
    """Make the vertical axis logarithmic where that shows more."""
    found = values[np.isfinite(values)]
    if len(found) and found.min() > 0 and found.max() > 4 * found.min():
        axis.set_yscale("log")


def _loss(axis: Axes, curves: Curves) -> None:
    loss = curves.numbers("loss")
    line(axis, curves, loss, COLORBLIND[0], "loss")
    log_if_positive(axis, loss)
    axis.set_ylabel("loss", color=COLORBLIND[0])
    if curves.has("accuracy"):
        _second_axis(axis, curves, curves.numbers("accuracy"), "accuracy")


def _second_axis(axis: Axes, curves: Curves, share: np.ndarray, label: str) -> None:
    right = axis.twinx()
    line(right, curves, share, COLORBLIND[1], label)
    right.set_ylim(-0.02, 1.02)
    right.grid(visible=False)
    right.set_ylabel(label, color=COLORBLIND[1])


def _eigenvalues(axis: Axes, curves: Curves) -> None:
    by_direction(axis, curves, "eigenvalues", "eigenvalue")
    rates = curves.each(lambda x: x.learning_rate)
    if np.isfinite(rates).any():
        bound = 2 / np.where(rates > 0, rates, np.nan)
        axis.plot(curves.steps, bound, color="black", ls="--", lw=1.2, label="2 / rate")
        log_if_positive(axis, np.concatenate([bound, curves.directions("eigenvalues").ravel()]))
        legend_above(axis)


def _trace(axis: Axes, curves: Curves) -> None:
    values = curves.numbers("trace")
    line(axis, curves, values, COLORBLIND[0], "trace")
    log_if_positive(axis, values)
    axis.set_ylabel("trace")


def _spectrum(axis: Axes, curves: Curves) -> None:
    spectra, steps = curves.spectra(), curves.steps
    largest = max(float(x.max()) for x in spectra if len(x))
    smallest = min(float(x.min()) for x in spectra if len(x))
    low = max(smallest, largest * 10.0**-DECADES)
    edges = np.geomspace(low * 0.9, largest * 1.1, BINS + 1)
    counts = np.array([np.histogram(x, edges)[0] for x in spectra], dtype=float)
    sizes = np.nan_to_num(curves.numbers("size"), nan=1.0)
    density = np.ma.masked_equal(counts / sizes[:, None], 0)
    mesh = axis.pcolormesh(
        _between(steps),
        edges,
        density.T,
        norm=LogNorm(density.min(), max(density.max(), density.min() * 1.01)),
        cmap="viridis",
        rasterized=True,
    )
    axis.set_yscale("log")
    axis.set_ylabel("eigenvalue")
    axis.figure.colorbar(mesh, ax=axis, label="share of all")


def _between(steps: np.ndarray) -> np.ndarray:
    """Edges of columns around each step."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])


def _gradient(axis: Axes, curves: Curves) -> None:
    norms = curves.numbers("gradient_norm")
    line(axis, curves, norms, COLORBLIND[0], "norm")
    log_if_positive(axis, norms)
    axis.set_ylabel("gradient norm", color=COLORBLIND[0])
    _second_axis(axis, curves, curves.numbers("gradient_overlap"), "share in leading space")


def _slope_noise(axis: Axes, curves: Curves) -> None:
    by_direction(axis, curves, "slope_noise", "mean² / variance")


def _curvature_noise(axis: Axes, curves: Curves) -> None:
    by_direction(axis, curves, "curvature_noise", "mean² / variance")


def _damping(axis: Axes, curves: Curves) -> None:
    by_direction(axis, curves, "damping", "damping")


def _step_size(axis: Axes, curves: Curves) -> None:
    bound, best = curves.numbers("step_bound"), curves.numbers("step_best")
    rates = curves.each(lambda x: x.learning_rate)
    line(axis, curves, bound, COLORBLIND[3], "2 / largest eigenvalue")
    line(axis, curves, best, COLORBLIND[2], "best along the gradient")
    if np.isfinite(rates).any():
        axis.plot(curves.steps, rates, color="black", ls="--", lw=1.2, label="learning rate")
    log_if_positive(axis, np.concatenate([bound, best, rates]))
    axis.set_ylabel("step size")
    legend_above(axis)


def _layer_traces(axis: Axes, curves: Curves) -> None:
    _shares(axis, curves, "layer_traces", "share of the trace")


def _layer_gradients(axis: Axes, curves: Curves) -> None:
    _shares(axis, curves, "layer_gradients", "share of the squared norm")


def _shares(axis: Axes, curves: Curves, name: str, ylabel: str) -> None:
    layers = curves.layers(name, LAYERS)
    colors = sns.color_palette("colorblind", len(layers))
    known = np.isfinite(np.array([*layers.values()])).all(axis=0)
    heights = [values[known] for values in layers.values()]
    axis.stackplot(curves.steps[known], heights, labels=[*layers], colors=colors, lw=0)
    axis.set_ylim(0, 1)
    axis.margins(x=0)
    axis.set_ylabel(ylabel)
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(
        handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small"
    )


def _cost(axis: Axes, curves: Curves) -> None:
    seconds = curves.each(lambda x: x.seconds)
    line(axis, curves, seconds, COLORBLIND[0], "seconds")
    log_if_positive(axis, seconds)
    axis.set_ylabel("seconds of an observation", color=COLORBLIND[0])
    _second_axis(axis, curves, curves.each(lambda x: x.share), "share of the time")


CHARTS = (
    Chart(
        "Loss and accuracy",
        "Of the held-out batch, in evaluation mode; where the loss rises while the accuracy does "
        "not fall, predictions become too certain.",
        ("loss",),
        _loss,
    ),
    Chart(
        "Leading eigenvalues",
        "The steepest curvatures; gradient descent is unstable along directions above the dashed "
        "line, 2 over the learning rate, if it was told.",
        ("eigenvalues",),
        _eigenvalues,
    ),
    Chart(
        "Trace",
        "The sum of all eigenvalues; where it grows while the leading ones do not, more "
        "directions are curved.",
        ("trace",),
        _trace,
    ),
    Chart(
        "Spectrum",
        "Each column is the histogram of the eigenvalues that are not zero; a few that stand "
        "apart at the top are as many directions in which most of the curvature lies.",
        ("spectrum",),
        _spectrum,
    ),
    Chart(
        "Gradient",
        "Norm, and the share of its square in the leading directions; near 1, the gradient lies "
        "in the few steepest directions and bounces there.",
        ("gradient_norm",),
        _gradient,
    ),
    Chart(
        "Signal-to-noise of slopes",
        "Squared mean over variance between samples along each leading direction; below 1 over "
        "the batch size, a mini-batch does not know the sign of the slope.",
        ("slope_noise",),
        _slope_noise,
    ),
    Chart(
        "Signal-to-noise of curvatures",
        "As for slopes; where it is larger, curvature can be trusted on smaller batches than the "
        "slope.",
        ("curvature_noise",),
        _curvature_noise,
    ),
    Chart(
        "Damping",
        "What the bootstrap would add to each eigenvalue before a Newton step; large along "
        "directions whose slope is noise.",
        ("damping",),
        _damping,
    ),
    Chart(
        "Step sizes",
        "A learning rate above 2 over the largest eigenvalue diverges along that direction; the "
        "other curve is the step along the gradient that the quadratic model likes best.",
        ("step_bound", "step_best"),
        _step_size,
    ),
    Chart(
        "Curvature by layer",
        "Shares of the layers in the trace; a layer with much of it limits the learning rate of "
        "all.",
        ("layer_traces",),
        _layer_traces,
    ),
    Chart(
        "Gradient by layer",
        "Shares of the layers in the squared gradient norm; compare them with those in the trace.",
        ("layer_gradients",),
        _layer_gradients,
    ),
    Chart(
        "Cost",
        "Seconds of each observation, and the share of the time so far that all of them took.",
        (),
        _cost,
    ),
)
"""In the order of the page."""
