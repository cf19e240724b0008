"""How the eigenvalues of the GGN and of its approximations are distributed."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from benchmarks.experiments.base import Computation, Job, Request, Scale, ok
from benchmarks.grid.published import SIZES, variants
from benchmarks.methods.gram import curvature_of
from benchmarks.problems.own import find_problem
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity
from benchmarks.records.tasks import Computed, Task
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer

OTHER_SIZE, SMOKE_SIZE = 128, 32
"""Batch sizes of problems that the paper does not have."""


class SpectralDensity(Computation):
    """All eigenvalues, of four approximations."""

    name = "spectral-density"
    label = Label("spectral density")
    description = "how are the GGN's eigenvalues distributed, and those of its approximations?"
    published = (
        "five networks on one mini-batch (128, All-CNN-C: 64), before training; exact or one "
        "Monte-Carlo sample, all samples or the first eighth"
    )
    scaled = (
        "Nothing but the data, which is noise of the data set's shape without --data-root. "
        "Besides, there is a small CNN trained on real handwritten digits."
    )

    def jobs(self, request: Request) -> list[Job]:
        """One for each problem and approximation."""
        is_small = request.scale is Scale.SMOKE
        other = SMOKE_SIZE if is_small else OTHER_SIZE
        sizes = {"digits_mlp": other} if is_small else {"digits_cnn": other, **SIZES}
        tasks = [Task(Computed.EIGENVALUES, **variant) for variant in variants()]
        return [
            self._job(request, problem, sizes.get(problem, other), task)
            for problem in request.problems or sizes
            for task in tasks
        ]

    def _job(self, request: Request, problem: str, size: int, task: Task) -> Job:
        found = find_problem(problem)
        parameters = {**request.parameters(problem), **task.parameters, "batch_size": size}
        cell = self.cell(found.name, "gram", Quantity.SPECTRUM, parameters)

        def run() -> Mapping[Cell, Answer]:
            instance = found.make(
                size, request.device, torch.float32, request.seed, request.data_root
            )
            values = curvature_of(instance, task).eigvalsh()
            return {cell: ok(values.tolist(), num_parameters=instance.num_parameters)}

        return Job(f"{self.name}: {found.name}, {task.title}", (cell,), run)


EXPERIMENT = SpectralDensity()
