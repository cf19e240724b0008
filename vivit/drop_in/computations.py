"""Curvature during BackPACK's backward pass: the interface of vivit-for-pytorch 1.0.0.

Names, arguments, shapes and scaling are those of the original, so that code written for it runs as
it is. The mathematics is that of `vivit.GGN`; only the cotangents come from BackPACK::

    computation = EigvalshComputation()
    groups = [{"params": list(model.parameters())}]
    hook = computation.get_extension_hook(groups)
    with backpack(computation.get_extension(), extension_hook=hook):
        loss_func(model(X), y).backward()
    values = computation.get_result(groups[0])
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vivit.devices import traits
from vivit.drop_in.captured import LossPass
from vivit.drop_in.directions import (
    chosen_pairs,
    in_order_of_backpack,
    reciprocal_roots,
    unit_vectors,
    weighted_sum,
)
from vivit.drop_in.driver import CotangentExtension
from vivit.drop_in.parameter_groups import (
    Group,
    GroupHook,
    GroupState,
    Wanted,
    check_groups,
)
from vivit.errors import InputError
from vivit.gram.precision import is_double, is_orthonormal, may_gain, orthonormalize
from vivit.gram.spectrum import GramPairs
from vivit.options import Approximation, Exact, MonteCarlo, subset_index

Subsampling = list[int] | None
"""Indices of samples; None for all."""


class _Computation:
    """What all computations share: approximations, checks, and results by group."""

    keys: tuple[str, ...] = ("params",)
    wanted_vectors = False
    wanted_slopes = False

    def __init__(
        self,
        subsampling: Subsampling,
        mc_samples: int,
        verbose: bool,
        seed: int | None,
        subsampling_grad: Subsampling = None,
    ) -> None:
        _check_subsampling(subsampling)
        _check_subsampling(subsampling_grad)
        if not isinstance(mc_samples, int) or mc_samples < 0:
            raise InputError(f"The number of Monte-Carlo samples must be 0 or more: {mc_samples}.")
        self._subsampling, self._subsampling_grad = subsampling, subsampling_grad
        self._mc_samples, self._seed, self._verbose = mc_samples, seed, verbose
        self._savefield = f"_vivit_{id(self)}"
        self._results: dict[int, tuple[Group, Any]] = {}

    def get_extension_hook(self, param_groups: list[Group]) -> Callable[[nn.Module], None]:
        """The hook that sums up the groups' matrices while the backward pass goes on.

        Args:
            param_groups: Parameter groups as of a ``torch.optim.Optimizer``, each of which is a
                block of the GGN.

        Returns:
            For `backpack(..., extension_hook=...)`, and one backward pass.

        Raises:
            InputError: A key is missing, or a parameter is frozen or occurs twice.
        """
        check_groups(param_groups, self.keys)
        for group in param_groups:  # a pass that does not reach its end leaves no old result
            self._results.pop(id(group), None)
        wanted = Wanted(self.wanted_vectors, self.wanted_slopes, self._subsampling_grad)
        return GroupHook(param_groups, self._savefield, wanted, self._finish, self._results.clear)

    def get_result(self, group: Group) -> Any:
        """What was computed for a group.

        Args:
            group: The very dictionary that was given to `get_extension_hook`.

        Returns:
            The result, without gradient.

        Raises:
            KeyError: There is none.
        """
        if id(group) not in self._results:
            raise KeyError(
                "There is no result for this group. Pass the same dictionary as to "
                "get_extension_hook, after a backward pass inside backpack(...) in which all of "
                "its parameters take part, with extend(model) and extend(loss_func) before."
            )
        return self._results[id(group)][1]

    def _extension(self) -> CotangentExtension:
        return CotangentExtension(
            self._savefield, self._approximation, self._subsampling, self._results.clear
        )

    def _approximation(self) -> Approximation:
        if not self._mc_samples:
            return Exact()
        if self._seed is not None:
            return MonteCarlo(self._mc_samples, self._seed)
        drawn = int(torch.randint(2**31, ()))  # as the original, from the global generator
        return MonteCarlo(self._mc_samples, drawn)

    def _finish(self, state: GroupState, loss: LossPass) -> None:
        self._say(f"group {id(state.group)}: {loss.num_columns} columns, all layers came by")
        self._results[id(state.group)] = state.group, self._compute(state, loss)

    def _compute(self, state: GroupState, loss: LossPass) -> Any:
        raise NotImplementedError

    def _say(self, what: str) -> None:
        if self._verbose:
            print(f"{type(self).__name__}: {what}")

    def _num_values(self, loss: LossPass) -> int:
        """``C N``, with the eigenvalues that are zero since the loss Hessian has no full rank."""
        per_sample = self._mc_samples or loss.output[0].numel()
        return per_sample * len(loss.factor)

    def _directions(self, state: GroupState, loss: LossPass, warn_below: float) -> GramPairs:
        assert state.matrix is not None
        pairs, count = state.matrix.finished().pairs(None), self._num_values(loss)
        directions = chosen_pairs(pairs, count, state.group["criterion"], loss.factor.dtype)
        if (directions.values.abs() < warn_below).any():
            warnings.warn(
                f"Some of the eigenvalues that were kept are below {warn_below:g}. Directions and "
                "derivatives are divided by their square roots, so rounding errors are large. "
                "Let the criterion keep fewer.",
                stacklevel=2,
            )
        return directions


class EigvalshComputation(_Computation):
    """All eigenvalues of GGN blocks."""

    def __init__(
        self,
        subsampling: Subsampling = None,
        mc_samples: int = 0,
        verbose: bool = False,
        seed: int | None = None,
    ) -> None:
        """Choose approximations; by default there are none.

        Args:
            subsampling: Indices of the samples that carry curvature; None for all.
            mc_samples: Columns that are sampled per sample; 0 for the exact loss Hessian.
            verbose: Print what is done.
            seed: Of the sampling; by default it is drawn from torch's global generator.

        Raises:
            InputError: The subsampling is empty or has duplicates.
        """
        super().__init__(subsampling, mc_samples, verbose, seed)

    def get_extension(self) -> CotangentExtension:
        """The extension for `backpack(...)`."""
        return self._extension()

    def _compute(self, state: GroupState, loss: LossPass) -> Tensor:
        """Shape ``[C N]``, ascending."""
        assert state.matrix is not None
        size = sum(p.numel() for p in state.parameters.values())
        values = state.matrix.finished().eigenvalues(size)
        zeros = values.new_zeros(self._num_values(loss) - len(values))
        return torch.cat([zeros, values]).sort().values


class EighComputation(_Computation):
    """Eigenvalues and eigenvectors of GGN blocks."""

    keys = ("params", "criterion")
    wanted_vectors = True

    def __init__(
        self,
        subsampling: Subsampling = None,
        mc_samples: int = 0,
        verbose: bool = False,
        warn_small_eigvals: float = 1e-4,
        seed: int | None = None,
    ) -> None:
        """Choose approximations.

        Args:
            subsampling: As for `EigvalshComputation`, as are the next two.
            mc_samples: Columns that are sampled per sample.
            verbose: Print what is done.
            warn_small_eigvals: Warn if an eigenvalue below this is kept.
            seed: As for `EigvalshComputation`.
        """
        super().__init__(subsampling, mc_samples, verbose, seed)
        self._warn_below = warn_small_eigvals

    def get_extension(self) -> CotangentExtension:
        """The extension for `backpack(...)`."""
        return self._extension()

    def _compute(self, state: GroupState, loss: LossPass) -> tuple[Tensor, list[Tensor]]:
        """``(values [K], a tensor [K, *shape] per parameter)``, of unit norm over the group."""
        directions = self._directions(state, loss, self._warn_below)
        vectors = unit_vectors(state, directions, loss.factor.dtype)
        exact = is_double(directions.values.dtype) and state.is_double
        exact = exact and is_orthonormal(directions.values, loss.num_columns)
        if may_gain(loss.factor) and not exact:
            size = traits(loss.factor.device).workspace
            orthonormalize(vectors, directions.values, size)
        return directions.values.to(loss.factor.dtype), list(vectors.values())


class DirectionalDerivativesComputation(_Computation):
    """First- and second-order derivatives per sample along the eigenvectors of GGN blocks."""

    keys: tuple[str, ...] = ("params", "criterion")
    wanted_slopes = True

    def __init__(
        self,
        subsampling_grad: Subsampling = None,
        subsampling_ggn: Subsampling = None,
        mc_samples_ggn: int = 0,
        verbose: bool = False,
        warn_small_eigvals: float = 1e-4,
        seed: int | None = None,
    ) -> None:
        """Choose approximations.

        Args:
            subsampling_grad: Indices of the samples whose gradients count; None for all.
            subsampling_ggn: Indices of the samples that carry curvature; None for all.
            mc_samples_ggn: Columns that are sampled per sample; 0 for the exact loss Hessian.
            verbose: Print what is done.
            warn_small_eigvals: Warn if an eigenvalue below this is kept.
            seed: As for `EigvalshComputation`.
        """
        super().__init__(subsampling_ggn, mc_samples_ggn, verbose, seed, subsampling_grad)
        self._warn_below = warn_small_eigvals

    def get_extensions(self) -> list[CotangentExtension]:
        """The extensions for `backpack(...)`."""
        return [self._extension()]

    def _compute(self, state: GroupState, loss: LossPass) -> tuple[Tensor, Tensor]:
        """``(gammas [N_grad, K], lambdas [N_ggn, K])``, per sample and unscaled."""
        directions = self._directions(state, loss, self._warn_below)
        gammas, lambdas = self._derivatives(state, loss, directions)
        return gammas.to(loss.factor.dtype), lambdas.to(loss.factor.dtype)

    def _derivatives(
        self, state: GroupState, loss: LossPass, directions: GramPairs
    ) -> tuple[Tensor, Tensor]:
        """In the precision of the directions."""
        blocks = directions.derivatives.unflatten(0, loss.factor.shape[:2])
        lambdas = len(blocks) * blocks.square().sum(dim=1)
        if loss.coordinates is not None:
            gammas = torch.einsum("nc,nck->nk", loss.coordinates.to(blocks), blocks)
            if self._subsampling_grad is not None:
                gammas = gammas[subset_index(self._subsampling_grad, len(gammas))]
        else:
            assert state.gradients is not None
            coefficients = directions.coefficients * reciprocal_roots(directions.values)
            gammas = state.gradients.T.to(coefficients) @ coefficients
        return len(loss.output) * gammas, lambdas


class DirectionalDampedNewtonComputation(DirectionalDerivativesComputation):
    """Newton steps along the eigenvectors of GGN blocks, with a damping per direction."""

    keys = ("params", "criterion", "damping")
    wanted_vectors = True

    def _compute(self, state: GroupState, loss: LossPass) -> Any:
        """``sum_k -mean(gamma)_k / (mean(lambda)_k + delta_k) e_k``, a tensor per parameter."""
        directions = self._directions(state, loss, self._warn_below)
        gammas, lambdas = self._derivatives(state, loss, directions)
        evecs = in_order_of_backpack(loss, directions.coefficients)
        given = directions.values, evecs, gammas, lambdas
        delta = state.group["damping"](*(x.to(loss.factor.dtype) for x in given))
        step = -gammas.mean(dim=0) / (lambdas.mean(dim=0) + delta)
        if not step.isfinite().all():
            raise InputError(
                "The Newton step is infinite or NaN along a direction without curvature and "
                "damping. Let the criterion leave it out, or the damping be positive."
            )
        return weighted_sum(state, directions, step, loss.factor.dtype)


def _check_subsampling(subsampling: Iterable[int] | None) -> None:
    if subsampling is None:
        return
    indices = list(subsampling)
    if not indices:
        raise InputError(
            "The subsampling is empty: give at least one sample, or None to use all of them."
        )
    double = sorted(i for i, count in Counter(indices).items() if count > 1)
    if double:
        raise InputError(f"The subsampling has duplicate samples: {double}.")
