"""A step of K-FAC beside the damped Newton step: time, memory, and where each of them points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from curvlinops import KFACType
from torch import Tensor

from benchmarks.experiments.base import Computation, Job, Measurement, Request, Scale, attempt, ok
from benchmarks.grid.suites import Cell as Point
from benchmarks.methods.kfac import DAMPING, kfac_step, known_parameters
from benchmarks.problems.own import find_problem
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity
from benchmarks.records.tasks import Computed, Task
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer
from vivit import GGN

PROBLEMS = {
    Scale.SMOKE: "cnn_c5_w16",
    Scale.QUICK: "cifar10_wrn16_4",
    Scale.PAPER: "cifar10_wrn16_4",
}

SIZES = {Scale.SMOKE: (4,), Scale.QUICK: (2, 4, 8, 16, 32), Scale.PAPER: (8, 16, 32, 64, 128)}

LEADING = 10
"""Directions of a short Newton step."""

KFAC = {"kfac_expand": KFACType.EXPAND, "kfac_reduce": KFACType.REDUCE}

MEASURED = {
    Computed.PRECONDITIONED: (*KFAC, "gradient"),
    Computed.NEWTON_STEP: ("gram", "gradient"),
}
"""A gradient in each of them is what both can be compared by."""


class KfacStep(Measurement, Computation):
    """Costs by the harness; angles, which depend on nothing but the matrices, by jobs."""

    name = "kfac-step"
    label = Label("a step of K-FAC")
    description = "what does a step of K-FAC cost, and how close is it to the exact damped step?"
    published = (
        "Eschenhagen et al. (2023): time of a preconditioned step of K-FAC expand and reduce for "
        "a Wide ResNet on CIFAR-10, five batch sizes (neither sizes nor variant are known to us)"
    )
    scaled = (
        "Wide ResNet 16-4, untrained, on noise of CIFAR-10's shape without --data-root; batches "
        "of 2 to 32 instead of 8 to 128."
    )
    with_memory = True

    def points(self, scale: Scale) -> Sequence[Point]:
        """Both kinds of steps at each batch size."""
        most = 1 if scale is Scale.SMOKE else None
        return [
            Point(self.name, PROBLEMS[scale], size, Task(computed), methods[:most])
            for size in SIZES[scale]
            for computed, methods in MEASURED.items()
        ]

    def jobs(self, request: Request) -> list[Job]:
        """Angles at each batch size."""
        return [
            self._job(request, problem, size)
            for problem in request.problems or (PROBLEMS[request.scale],)
            for size in SIZES[request.scale]
        ]

    def _job(self, request: Request, problem: str, size: int) -> Job:
        found = find_problem(problem)
        settings = {"batch_size": size, "damping": DAMPING, "leading": LEADING}
        parameters = request.parameters(problem) | settings
        methods = ("gram", *KFAC, "gradient")
        cells = {m: self.cell(found.name, m, Quantity.ANGLE, parameters) for m in methods}

        def run() -> Mapping[Cell, Answer]:
            instance = found.make(
                size, request.device, torch.float32, request.seed, request.data_root
            )
            return angles(instance, cells)

        title = f"{self.name}: {found.name}, N = {size}, angles"
        return Job(title, tuple(cells.values()), run)


def angles(instance: Instance, cells: Mapping[str, Cell]) -> Mapping[Cell, Answer]:
    """Angles of steps to the exact damped step, on the parameters that K-FAC knows.

    The exact step is the Newton step along all eigenvectors: the gradient has no part outside of
    them, for that of a sample's loss lies in the range of its Hessian.

    Args:
        instance: The problem.
        cells: By method.

    Returns:
        In degrees; K-FAC may fail by itself.
    """
    names = [*known_parameters(instance.model)]
    batch = instance.inputs, instance.targets
    ggn = GGN(instance.model, instance.loss_func, batch, params=names)
    exact = ggn.flatten(ggn.newton_step(DAMPING))
    short = ggn.flatten(ggn.newton_step(DAMPING, k=min(LEADING, ggn.num_columns)))
    gradient = ggn.flatten(ggn.gradient())
    found = {
        cells["gram"]: ok([angle(short, exact)]),
        cells["gradient"]: ok([angle(-gradient, exact)]),
    }
    for method, kind in KFAC.items():
        cell = cells[method]
        found |= attempt([cell], partial(_of_kfac, cell, instance, kind, exact))
    return found


def _of_kfac(cell: Cell, instance: Instance, kind: str, exact: Tensor) -> Mapping[Cell, Answer]:
    return {cell: ok([angle(kfac_step(instance, kind), exact)])}


def angle(first: Tensor, second: Tensor) -> float:
    """Between two vectors.

    Args:
        first: Shape ``[D]``.
        second: Shape ``[D]``.

    Returns:
        Degrees, from 0 to 180.
    """
    a, b = first.double(), second.double()
    a, b = a / a.norm(), b / b.norm()
    return math.degrees(2 * math.atan2(float((a - b).norm()), float((a + b).norm())))


EXPERIMENT = KfacStep()
