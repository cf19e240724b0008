"""A step of K-FAC beside the damped Newton step: time, memory, and where each of them points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.experiments.base import Computation, Job, Measurement, Request, Scale, attempt, ok
from benchmarks.grid.suites import Cell as Point
from benchmarks.methods import find_method
from benchmarks.methods.kfac import DAMPING, known_parameters
from benchmarks.problems.own import find_problem
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity
from benchmarks.records.tasks import Computed, Task
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer

PROBLEMS = {
    Scale.SMOKE: "cnn_c5_w16",
    Scale.QUICK: "cifar10_wrn16_4",
    Scale.PAPER: "cifar10_wrn16_4",
}

SIZES = {Scale.SMOKE: (4,), Scale.QUICK: (1, 2, 4, 8, 16), Scale.PAPER: (8, 16, 32, 64, 128)}

METHODS = ("damped_newton", "damped_newton_leading", "kfac_expand", "kfac_reduce", "gradient")
"""All give a step of the same parameters with the same damping; the first is the exact one."""


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
        "of 1 to 16 instead of 8 to 128."
    )
    with_memory = True

    def points(self, scale: Scale) -> Sequence[Point]:
        """A comparison at each batch size."""
        most = 2 if scale is Scale.SMOKE else None
        return [
            Point(self.name, PROBLEMS[scale], size, Task(Computed.PRECONDITIONED), METHODS[:most])
            for size in SIZES[scale]
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
        parameters = request.parameters(problem) | {"batch_size": size, "damping": DAMPING}
        cells = {
            method: self.cell(found.name, method, Quantity.ANGLE, parameters)
            for method in METHODS[1:]
        }

        def run() -> Mapping[Cell, Answer]:
            instance = found.make(
                size, request.device, torch.float32, request.seed, request.data_root
            )
            return angles(instance, cells)

        title = f"{self.name}: {found.name}, N = {size}, angles"
        return Job(title, tuple(cells.values()), run)


def angles(instance: Instance, cells: Mapping[str, Cell]) -> Mapping[Cell, Answer]:
    """Angles of steps to the exact damped step, on the parameters that K-FAC knows.

    Args:
        instance: The problem.
        cells: By method; the gradient stands for a step of gradient descent.

    Returns:
        In degrees; a method may fail by itself.
    """
    exact = _step(instance, METHODS[0])
    found: dict[Cell, Answer] = {}
    for cell in cells.values():
        found |= attempt([cell], partial(_angle_of, cell, instance, exact))
    return found


def _angle_of(cell: Cell, instance: Instance, exact: Tensor) -> Mapping[Cell, Answer]:
    if cell.method == "gradient":
        return {cell: ok([angle(descent(instance), exact)])}
    return {cell: ok([angle(_step(instance, cell.method), exact)])}


def _step(instance: Instance, method: str) -> Tensor:
    return find_method(method).prepare(instance, Task(Computed.PRECONDITIONED))().values


def descent(instance: Instance) -> Tensor:
    """Minus the gradient of the parameters that K-FAC knows.

    Args:
        instance: The problem.

    Returns:
        Shape ``[D']``.
    """
    loss = instance.loss_func(instance.model(instance.inputs), instance.targets)
    gradient = torch.autograd.grad(loss, [*known_parameters(instance.model).values()])
    return -torch.cat([g.flatten() for g in gradient])


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
