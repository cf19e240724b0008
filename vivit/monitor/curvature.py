"""The curvature at one moment, and what follows from it: what several need is made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from vivit.backprop.called import Forward
from vivit.data import Target
from vivit.ggn import GGN
from vivit.losses.known import reduction_of
from vivit.monitor.numbers import number, numbers
from vivit.monitor.quantities import Quantity
from vivit.options import Approximation, Subset
from vivit.parameters import Selector, group_by_name
from vivit.quantities.diagnostics import signal_to_noise
from vivit.quantities.directional import DirectionalDerivatives
from vivit.quantities.newton import BootstrapDamping
from vivit.quantities.solvers import FullGram
from vivit.ranks import NO_GROUP

Values = dict[str, Any]
"""Numbers, lists of them, or numbers by layer; None where there is no finite number."""


@dataclass(frozen=True)
class Setting:
    """What is looked at, and how.

    Attributes:
        model: The model.
        loss_func: The loss, as `GGN` takes it.
        batch: Held-out samples, in any form that `GGN` takes.
        quantities: What to compute.
        k: Leading directions; fewer, where there are not as many.
        params: The parameters that count: see `GGN`, as for the next two.
        approximation: Of the loss Hessian.
        subset: Samples that carry the curvature.
        forward: Calls the model.
        target: Gives the targets of the batch.
        samples: What counts as one.
        mixing: Whether they may depend on each other.
        process_group: Of those that have other samples.
    """

    model: nn.Module
    loss_func: Any
    batch: Any
    quantities: tuple[Quantity, ...]
    k: int
    params: Iterable[Selector] | None
    approximation: Approximation
    subset: Subset | None
    forward: Forward | None = None
    target: Target | None = None
    samples: str = "sequence"
    mixing: str = "refuse"
    process_group: Any = NO_GROUP


class Curvature:
    """The curvature at one moment; everything is computed once, when it is asked for."""

    def __init__(self, setting: Setting) -> None:
        """Make the one forward pass.

        Args:
            setting: What is looked at.
        """
        self._setting = setting
        self._ggn = GGN(
            setting.model,
            setting.loss_func,
            setting.batch,
            setting.params,
            setting.approximation,
            setting.subset,
            forward=setting.forward,
            target=setting.target,
            samples=setting.samples,
            mixing=setting.mixing,
            process_group=setting.process_group,
        )

    @cached_property
    def derivatives(self) -> DirectionalDerivatives:
        """Of each sample of all ranks along the leading eigenvectors, the first of them first.

        The one eigendecomposition with vectors. Where the whole spectrum is asked for, too, the
        Gram matrix that it needs serves both.
        """
        (size, _), columns = self._ggn.shape, self._ggn.num_columns
        k = min(self._setting.k, size, columns)
        method = FullGram() if Quantity.SPECTRUM in self._setting.quantities else None
        found = self._ggn.directional_derivatives(k, method=method)
        rows = self._ggn.ranks.rows
        gammas, lambdas = (rows(x, "derivatives") for x in (found.gammas, found.lambdas))
        return DirectionalDerivatives(gammas.flip(1), lambdas.flip(1))

    @cached_property
    def eigenvalues(self) -> Tensor:
        """The leading ones, in descending order: means of the curvatures of the samples."""
        return self._total(self.derivatives.lambdas)

    @cached_property
    def spectrum(self) -> Tensor:
        """All that are not zero but for rounding errors, in descending order."""
        values = self._ggn.eigvalsh().flip(0)
        rank = self._ggn.num_columns * torch.finfo(values.dtype).eps
        return values[values > rank * values[:1]]

    @cached_property
    def gradient(self) -> dict[str, Tensor]:
        """Of the held-out loss."""
        return self._ggn.gradient()

    @cached_property
    def square_norms(self) -> dict[str, Tensor]:
        """Of the gradient by each parameter."""
        return {name: g.double().square().sum() for name, g in self.gradient.items()}

    @property
    def square_norm(self) -> Tensor:
        """Of the whole gradient."""
        return torch.stack([*self.square_norms.values()]).sum()

    @property
    def slopes(self) -> Tensor:
        """Of the held-out loss, along the leading eigenvectors."""
        return self._total(self.derivatives.gammas)

    @cached_property
    def traces(self) -> dict[str, Tensor]:
        """Of the diagonal block of each parameter."""
        return self._ggn.traces()

    @property
    def size(self) -> int:
        """``D``, the number of parameters that count."""
        return self._ggn.shape[0]

    def along_gradient(self) -> Tensor:
        """``g^T G g``."""
        product = self._ggn @ self.gradient
        assert isinstance(product, dict)
        parts = [(product[name].double() * g.double()).sum() for name, g in self.gradient.items()]
        return torch.stack(parts).sum()

    def _total(self, of_samples: Tensor) -> Tensor:
        """What derivatives ``[N, K]`` of single samples are for the loss."""
        mean = of_samples.double().mean(dim=0)
        return mean * len(self.derivatives.gammas) if self._is_sum else mean

    @property
    def _is_sum(self) -> bool:
        return reduction_of(self._setting.loss_func) == "sum"


def _eigenvalues(at: Curvature) -> Values:
    return {"eigenvalues": numbers(at.eigenvalues)}


def _gradient(at: Curvature) -> Values:
    overlap = at.slopes.square().sum() / at.square_norm
    return {
        "gradient_norm": number(at.square_norm.sqrt()),
        "gradient_overlap": number(overlap.clamp(max=1.0)),
    }


def _noise(at: Curvature) -> Values:
    if not len(at.eigenvalues):
        return {"slope_noise": [], "curvature_noise": []}
    return {
        "slope_noise": numbers(signal_to_noise(at.derivatives.gammas)),
        "curvature_noise": numbers(signal_to_noise(at.derivatives.lambdas)),
    }


def _damping(at: Curvature) -> Values:
    if not len(at.eigenvalues):
        return {"damping": []}
    return {"damping": numbers(BootstrapDamping()(at.eigenvalues, at.derivatives))}


def _step_size(at: Curvature) -> Values:
    best = at.square_norm / at.along_gradient()
    bound = number(2 / at.eigenvalues[0]) if len(at.eigenvalues) else None
    return {"step_bound": bound, "step_best": number(best)}


def _trace(at: Curvature) -> Values:
    return {"trace": number(sum(at.traces.values(), torch.zeros((), dtype=torch.float64)))}


def _spectrum(at: Curvature) -> Values:
    return {"spectrum": numbers(at.spectrum), "size": at.size}


def _layers(at: Curvature) -> Values:
    return {
        "layer_traces": _shares(at.traces),
        "layer_gradients": _shares(at.square_norms),
    }


def _shares(parts: Mapping[str, Tensor]) -> dict[str, float | None]:
    """Shares of the layers in the sum over all parameters."""
    sizes = {name: float(part) for name, part in parts.items()}
    whole, groups = sum(sizes.values()), group_by_name(sizes, "layer")
    if not whole:
        return dict.fromkeys(groups)
    return {
        layer: number(sum(sizes[name] for name in names) / whole)
        for layer, names in groups.items()
    }


COMPUTED: dict[Quantity, Callable[[Curvature], Values]] = {
    Quantity.EIGENVALUES: _eigenvalues,
    Quantity.GRADIENT: _gradient,
    Quantity.NOISE: _noise,
    Quantity.DAMPING: _damping,
    Quantity.STEP_SIZE: _step_size,
    Quantity.TRACE: _trace,
    Quantity.SPECTRUM: _spectrum,
    Quantity.LAYERS: _layers,
}
"""How each quantity is computed."""


def observe(setting: Setting, into: Values) -> None:
    """Compute what is asked for.

    Args:
        setting: What is looked at.
        into: Receives the values, those of each quantity as soon as they are known.
    """
    if not setting.quantities:
        return
    at = Curvature(setting)
    for quantity in setting.quantities:
        into |= COMPUTED[quantity](at)
