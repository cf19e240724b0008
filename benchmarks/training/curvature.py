"""Steps that know the curvature of their mini-batch: damped, in a space of few dimensions.

All are made in the mode in which the network is. What mixes samples, as BatchNorm does in
training mode, has no curvature of single samples, and is refused by vivit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmarks.problems.problem import Instance
from benchmarks.records.names import Choice
from benchmarks.training.krylov import damped_solution
from benchmarks.training.steps import DivergedError
from vivit import GGN, BootstrapDamping, InputError

SEEDS = 2**62
"""Of what is drawn for a step; one of them is drawn from torch's generator."""


class Directions(Choice):
    """Eigenvectors of the mini-batch's GGN in whose span a Newton step is made."""

    LEADING = "leading"
    """As many as the network has outputs, that is, classes. What the gradient has outside of
    their span is left out of the step."""
    ALL = "all"
    """All whose eigenvalue is not a rounding error: the gradient lies in their span."""

    def number(self, ggn: GGN, batch: Instance) -> int | None:
        """How many they are.

        Args:
            ggn: The curvature.
            batch: Its network and samples.

        Returns:
            A number; None for all.
        """
        if self is Directions.ALL:
            return None
        with torch.no_grad():
            outputs = batch.model(batch.first(1).inputs)[0].numel()
        return int(min(outputs, ggn.num_columns, ggn.shape[0]))


class Curvature(ABC):
    """A kind of step, with its settings.

    Attributes:
        value: Its name in records.
        label: Its name in reports.
    """

    value: ClassVar[str]
    label: ClassVar[str]

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What decides a step besides the learning rate, as plain JSON types."""

    @abstractmethod
    def direction(self, ggn: GGN, batch: Instance, seed: int) -> dict[str, Tensor]:
        """The step, of learning rate 1.

        Args:
            ggn: The curvature of the mini-batch.
            batch: Its network and samples.
            seed: Of what is drawn for this step.

        Returns:
            What to add to each parameter, by its name.
        """

    def of(self, model: nn.Module, learning_rate: float) -> CurvatureSteps:
        """What makes the steps.

        Args:
            model: The network.
            learning_rate: Constant throughout.

        Returns:
            The steps, before the first.
        """
        return CurvatureSteps(self, model, learning_rate)


@dataclass(frozen=True)
class Newton(Curvature):
    """``sum_k -gamma_k / (lambda_k + damping) e_k`` (Dangel et al. 2022, equation 8).

    Attributes:
        damping: The same for all directions.
        directions: In whose span the step is made.
    """

    damping: float
    directions: Directions

    value = "newton"
    label = "Newton (constant damping)"

    @property
    def settings(self) -> dict[str, Any]:
        """Damping and directions."""
        return {"damping": self.damping, "directions": self.directions.value}

    def direction(self, ggn: GGN, batch: Instance, seed: int) -> dict[str, Tensor]:
        """The step; nothing is drawn."""
        return ggn.newton_step(self.damping, k=self.directions.number(ggn, batch))


@dataclass(frozen=True)
class BootstrapNewton(Curvature):
    """The same, with a damping for each direction, chosen from the noise of the mini-batch.

    Attributes:
        directions: In whose span the step is made.
    """

    directions: Directions

    value = "bootstrap_newton"
    label = "Newton (bootstrap damping)"

    @property
    def settings(self) -> dict[str, Any]:
        """The directions."""
        return {"directions": self.directions.value}

    def direction(self, ggn: GGN, batch: Instance, seed: int) -> dict[str, Tensor]:
        """The step; resamples are drawn anew."""
        damping = BootstrapDamping(seed=seed)
        return ggn.newton_step(damping, k=self.directions.number(ggn, batch))


class Start(Choice):
    """First vector of a Lanczos iteration."""

    RANDOM = "random"
    """As published."""
    GRADIENT = "gradient"
    """All of the gradient lies in the space then."""


@dataclass(frozen=True)
class LanczosNewton(Curvature):
    """A damped solution in the space of a Lanczos iteration, gradient descent outside of it.

    Source: the optimizer of the Deep Curvature Suite (Granziol et al. 2019), on the GGN.

    Attributes:
        damping: Positive; one over it is the learning rate outside of the space.
        iterations: Products with the GGN, and dimensions of the space.
        start: First vector.
    """

    damping: float
    iterations: int
    start: Start

    value = "lanczos_newton"
    label = "Lanczos Gauss-Newton"

    @property
    def settings(self) -> dict[str, Any]:
        """Damping, iterations, first vector."""
        return asdict(self) | {"start": self.start.value}

    def direction(self, ggn: GGN, batch: Instance, seed: int) -> dict[str, Tensor]:
        """The step; a random first vector is drawn anew."""
        gradient = first = ggn.flatten(ggn.gradient())
        if self.start is Start.RANDOM:
            generator = torch.Generator().manual_seed(seed)
            first = torch.randn(len(gradient), generator=generator).to(gradient)

        def multiply(v: Tensor) -> Tensor:
            product = ggn @ v
            assert isinstance(product, Tensor)
            if not product.isfinite().all():
                raise DivergedError("A product with the curvature is not finite.")
            return product

        solution = damped_solution(multiply, gradient, first, self.iterations, self.damping)
        return ggn.unflatten(-solution)


CURVATURES: tuple[type[Curvature], ...] = (Newton, BootstrapNewton, LanczosNewton)


class CurvatureSteps:
    """Adds a step to the parameters that depends on them and on the mini-batch alone.

    So there is no state but that of torch's generator, from which each step draws a seed: of
    dropout masks and of what the step itself draws.
    """

    def __init__(self, kind: Curvature, model: nn.Module, learning_rate: float) -> None:
        """Make no step yet.

        Args:
            kind: What the steps are.
            model: The network.
            learning_rate: Factor of each step.
        """
        self._kind, self._rate = kind, learning_rate
        self._parameters = dict(model.named_parameters())

    def step(self, batch: Instance) -> None:
        """Make a step."""
        seed, device = int(torch.randint(SEEDS, ())), batch.like.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)  # a GGN leaves the generator as it was
            found = self._direction(batch, seed)
        if not all(x.isfinite().all() for x in found.values()):
            raise DivergedError("A step is not finite.")
        with torch.no_grad():
            for name, x in found.items():
                self._parameters[name].add_(x, alpha=self._rate)

    def _direction(self, batch: Instance, seed: int) -> dict[str, Tensor]:
        try:
            ggn = GGN(batch.model, batch.loss_func, (batch.inputs, batch.targets))
            return self._kind.direction(ggn, batch, seed)
        except InputError as error:
            if _is_finite(batch):
                raise
            raise DivergedError("The loss or its gradient is not finite.") from error

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Nothing to be done."""


def _is_finite(batch: Instance) -> bool:
    """Whether the loss and the squares of its derivatives are finite."""
    loss = batch.loss_func(batch.model(batch.inputs), batch.targets)
    parameters = [p for p in batch.model.parameters() if p.requires_grad]
    gradient = torch.autograd.grad(loss, parameters, allow_unused=True)
    squares = sum(float(g.square().sum()) for g in gradient if g is not None)
    return bool(torch.isfinite(loss.detach() + squares))
