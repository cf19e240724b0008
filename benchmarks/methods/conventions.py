"""What all methods agree on: the blocks, the directions of a step, the order of flat vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from curvlinops import GGNLinearOperator
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import NEWTON_CUTOFF, Grouping

Parameters = dict[str, Tensor]
"""Of a network, by name."""

SampleFunction = Callable[[Parameters, Tensor], Tensor]
"""Maps parameters and one sample to its outputs."""


def blocks(model: nn.Module, grouping: Grouping) -> list[list[str]]:
    """The parameters of each block.

    Args:
        model: The model.
        grouping: How they are put together.

    Returns:
        Names of parameters, in the model's order.
    """
    found: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        layer = name.rpartition(".")[0]
        keys = {Grouping.NETWORK: "", Grouping.LAYER: layer, Grouping.PARAMETER: name}
        found.setdefault(keys[grouping], []).append(name)
    return [*found.values()]


def above_cutoff(values: Tensor) -> Tensor:
    """Which eigenvalues have directions that a Newton step uses: a mask."""
    return values > NEWTON_CUTOFF


def flat_vectors(vectors: Iterable[Tensor]) -> Tensor:
    """Eigenvectors in pieces of shape ``[K, *shape]`` as one matrix ``[K, D]``."""
    return torch.cat([v.flatten(start_dim=1) for v in vectors], dim=1)


def function_of_a_sample(model: nn.Module) -> tuple[SampleFunction, Parameters]:
    """A network as torch.func's tutorials have it.

    Args:
        model: Takes a batch ``[N, *in]``.

    Returns:
        A function of parameters and one sample ``[*in]``, and the parameters, detached.
    """

    def outputs(parameters: Parameters, x: Tensor) -> Tensor:
        return functional_call(model, parameters, (x[None],))[0]

    return outputs, {name: p.detach() for name, p in model.named_parameters()}


def num_samples(inputs: Any) -> int:
    """The length of all tensors among the inputs that have one.

    Args:
        inputs: A tensor, or dictionaries, lists and tuples of such, nested.

    Returns:
        ``N``.
    """
    return next(len(x) for x in tree_leaves(inputs) if isinstance(x, Tensor) and x.ndim)


def matrix_free_ggn(instance: Instance, names: Iterable[str] | None = None) -> GGNLinearOperator:
    """Curvlinops' GGN, which shares no code with ours.

    Args:
        instance: The problem.
        names: Parameters of a block; None for all.

    Returns:
        Shape ``[D, D]``.
    """
    parameters = dict(instance.model.named_parameters())
    return GGNLinearOperator(
        instance.model,
        instance.loss_func,
        [parameters[name] for name in (parameters if names is None else names)],
        instance.batches,
        check_deterministic=False,
        batch_size_fn=num_samples,  # inputs may be no tensor
    )


class Sketched:
    """Curvlinops' GGN as skerch wants a matrix: with products from the left, too.

    Attributes:
        shape: ``(D, D)``.
    """

    def __init__(self, ggn: GGNLinearOperator) -> None:
        """Wrap a symmetric operator."""
        self.shape, self._ggn = tuple(ggn.shape), ggn

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Product with vectors ``[D]`` or ``[D, K]``."""
        return self._ggn @ vectors

    def __rmatmul__(self, vectors: Tensor) -> Tensor:
        """Product with vectors ``[D]`` or ``[K, D]``, from the left."""
        return (self._ggn @ vectors.T).T
