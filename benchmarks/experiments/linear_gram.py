"""The Gram matrix of linear layers without their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.experiments.base import PACES, Measurement, Scale
from benchmarks.grid.suites import Cell as Point
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task

METHODS = ("gradient", "backpropagation", "naive_gram", "gram")
"""Each does what the one before does, and more; the last one has a shorter way."""


class LinearGram(Measurement):
    """What is added to a gradient, step by step."""

    name = "linear-gram"
    label = Label("Gram matrix of linear layers")
    description = "what does the Gram matrix cost beyond a gradient, with and without V?"
    published = (
        "MLP 1024-512-256-128-64-32-10 with square loss on normal data, batch of 128, 20 repeats"
    )
    scaled = "Nothing."
    on_own = False
    paces = PACES | {Scale.QUICK: replace(PACES[Scale.QUICK], repeats=20)}
    with_memory = True

    def points(self, scale: Scale) -> Sequence[Point]:
        """One comparison."""
        size = 8 if scale is Scale.SMOKE else 128
        return [Point(self.name, "mlp_linear", size, Task(Computed.GRAM), METHODS)]


EXPERIMENT = LinearGram()
