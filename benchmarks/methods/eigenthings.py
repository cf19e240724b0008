"""Baselines: hessian-eigenthings' products and leading pairs, exact and by differences."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure.accuracy import Outcome
from benchmarks.measure.vectors import fixed_vector
from benchmarks.methods.base import Method, NotApplicableError, refuse_others
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


@dataclass(frozen=True)
class Settings:
    """Of leading pairs.

    Attributes:
        tolerance: Residual of a pair, relative to its eigenvalue, at which it is done.
    """

    tolerance: float = 1e-3


@dataclass(frozen=True)
class DifferenceSettings(Settings):
    """Of finite differences.

    Attributes:
        step: Along a vector of length one; its own choice in single precision.
    """

    step: float = 5e-3


class Eigenthings(Method):
    """A product, or its Lanczos iteration, with one of its operators.

    It says whether pairs have converged, but cannot go on: another run has twice as many
    iterations, from twice the number of pairs, its own choice. All are orthogonalised again.
    """

    tolerance = 1e-2
    settings: Settings

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Draw the vector."""
        refuse_others(self, task, (Computed.PRODUCT, Computed.PAIRS))
        self.refuse_losses(instance)
        if task.computed is Computed.PAIRS:
            return lambda: _leading(self.operator(instance), task.k or 0, self.settings.tolerance)
        vector = fixed_vector(instance.num_parameters).to(instance.like)
        length = vector.norm()
        return lambda: Outcome(length * (self.operator(instance) @ (vector / length)))

    def refuse_losses(self, instance: Instance) -> None:
        """Refuse losses of which the operator is another matrix; none by default.

        Args:
            instance: The problem.

        Raises:
            NotApplicableError: The loss is one of them.
        """

    @abstractmethod
    def operator(self, instance: Instance) -> Any:
        """Its operator.

        Args:
            instance: The problem.

        Returns:
            The GGN.
        """


class ExactEigenthings(Eigenthings):
    """Its operator of the GGN: a product forward through the network, and one backward.

    Products come with their graphs, and Lanczos vectors with those of all before them, which would
    hold gigabytes; they are cut off here.
    """

    name = "eigenthings"
    label = Label("hessian-eigenthings")
    description = "hessian-eigenthings' GGN: exact products, and its Lanczos iteration with them"
    settings = Settings()

    def operator(self, instance: Instance) -> Any:
        """Without graphs."""
        import hessian_eigenthings as package  # here: the environment of peers has none

        ggn = package.GGNOperator(
            instance.model,
            instance.batches,
            package.supervised_forward,
            package.supervised_loss_of_output(instance.loss_func),
        )

        def product(v: Tensor) -> Tensor:
            return ggn.matvec(v).detach()

        return package.LambdaOperator(product, ggn.size, ggn.device, ggn.dtype)


class DifferenceEigenthings(Eigenthings):
    """Its central differences of gradients, which it has for Hessians alone.

    With the network's own predictions as targets, the Hessian is the GGN: what it has beyond the
    GGN is a sum over the slopes of the loss by the outputs, which are then zero. A step is along
    the vector as it is, so that of a long vector would be far too long: vectors have length one.
    """

    name = "eigenthings_differences"
    label = Label("hessian-eigenthings, finite differences", "finite differences")
    description = (
        "hessian-eigenthings' central differences of gradients, for the Hessian at the network's "
        "own predictions, which is the GGN"
    )
    tolerance = 5e-2
    """Of an approximation: a step over the kink of a ReLU is wrong by a percent. Its error stands
    beside its time."""
    settings: DifferenceSettings = DifferenceSettings()

    def refuse_losses(self, instance: Instance) -> None:
        """Refuse all but those whose slopes are zero at the network's own predictions."""
        loss = instance.loss_func
        plain = isinstance(loss, nn.CrossEntropyLoss) and (
            loss.weight is None
            and loss.label_smoothing == 0
            and not (instance.targets == loss.ignore_index).any()
        )
        if not plain and not isinstance(loss, nn.MSELoss):
            raise NotApplicableError(
                f"{self.name} takes the square loss, and cross-entropy without weights, label "
                "smoothing and targets to ignore: only there is the Hessian at the network's own "
                f"predictions the GGN. Got {loss}."
            )

    def operator(self, instance: Instance) -> Any:
        """At the network's own predictions, which one more forward pass gives."""
        import hessian_eigenthings as package

        return package.HessianOperator(
            instance.model,
            [(instance.inputs, _predictions(instance))],
            package.supervised_loss(instance.loss_func),
            method="finite_difference",
            fd_eps=self.settings.step,
        )


def _predictions(instance: Instance) -> Tensor:
    """Outputs, or probabilities of classes, as targets."""
    with torch.no_grad():
        outputs = instance.model(instance.inputs)
    return outputs if isinstance(instance.loss_func, nn.MSELoss) else outputs.softmax(dim=1)


def _leading(operator: Any, k: int, tolerance: float) -> Outcome:
    """Leading pairs, from runs of more and more iterations."""
    from hessian_eigenthings import lanczos

    steps, products, done = 2 * k, 0, False
    while not done:
        steps = min(steps, operator.size)
        found = lanczos(
            operator,
            k=k,
            max_iter=steps,
            tol=tolerance,
            reorthogonalize=True,
            which="LA",
            seed=0,
        )
        products += found.iterations
        done = steps == operator.size or bool(found.converged.all())
        steps *= 2
    vectors = found.eigenvectors.flip(0)
    return Outcome(found.eigenvalues.flip(0), (vectors,), details={"products": products})
