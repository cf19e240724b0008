"""Eigenspaces of a network's curvature, on all data and on mini-batches, and how they compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from curvlinops import HessianLinearOperator
from scipy.sparse.linalg import eigsh
from torch import Tensor

from benchmarks.methods.conventions import num_samples
from benchmarks.problems.problem import Instance
from benchmarks.training.data import in_batches
from vivit import GGN, EigenPairs, MonteCarlo

SHARE = 8
"""One sample of as many carries sub-sampled curvature: the first ones."""

CLASSES_PER_DRAW = 10
"""One Monte-Carlo sample for each sample and as many classes: 10 of 100 classes, as published."""

RESIDUAL = 1e-4
"""Of eigenpairs of the Hessian, relative to the eigenvalue."""

APPROXIMATIONS = ("subset", "monte_carlo", "both")
"""Of the curvature of a mini-batch."""


@dataclass(frozen=True)
class Network:
    """The curvature of a network on its training set, and on parts of it.

    Attributes:
        train: Network and samples.
    """

    train: Instance

    @property
    def outputs(self) -> int:
        """Vectors of an eigenspace: as many as the network has outputs, that is, classes."""
        train = self.train
        with torch.no_grad():
            outputs = train.model(train.first(1).inputs)
        return int(min(outputs[0].numel(), train.num_parameters - 1))

    def full(self) -> GGN:
        """Of all data."""
        return GGN(self.train.model, self.train.loss_func, in_batches(self.train))

    def hessian_pairs(self) -> tuple[list[float], Tensor]:
        """Leading pairs of the Hessian of all data, by absolute value, and as columns."""
        operator = hessian(self.train).to_scipy()
        values, vectors = eigsh(operator, k=self.outputs, which="LM", tol=RESIDUAL)
        return values.tolist(), torch.as_tensor(vectors).to(self.train.like)

    def drawn(self, seed: int) -> Tensor:
        """Indices of the samples in a random order, of which mini-batches are the first."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self.train.num_samples, generator=generator)
        return order.to(self.train.targets.device)

    def ggn(self, chosen: Tensor, **options: Any) -> GGN:
        """Of a mini-batch.

        Args:
            chosen: Indices of its samples.
            **options: Of `GGN`.

        Returns:
            Its curvature.
        """
        batch = self.train.samples(chosen)
        return GGN(batch.model, batch.loss_func, (batch.inputs, batch.targets), **options)

    def options(self, name: str, size: int, seed: int) -> dict[str, Any]:
        """What makes an approximation of the curvature of a mini-batch.

        Args:
            name: One of `APPROXIMATIONS`.
            size: Of the mini-batch.
            seed: Of Monte-Carlo samples.

        Returns:
            Options of `GGN`.
        """
        options: dict[str, Any] = {}
        if name in ("monte_carlo", "both"):
            samples = max(self.outputs // CLASSES_PER_DRAW, 1)
            options["approximation"] = MonteCarlo(samples, seed=seed)
        if name in ("subset", "both"):
            options["subset"] = range(max(size // SHARE, 1))
        return options


def hessian(instance: Instance) -> HessianLinearOperator:
    """The Hessian of the loss of all samples, by curvlinops.

    Args:
        instance: A network with its samples.

    Returns:
        The operator, on all parameters that are trained.
    """
    return HessianLinearOperator(
        instance.model,
        instance.loss_func,
        [p for p in instance.model.parameters() if p.requires_grad],
        in_batches(instance),
        check_deterministic=False,
        batch_size_fn=num_samples,  # inputs may be no tensor
    )


def leading(ggn: GGN, count: int) -> EigenPairs:
    """Leading pairs, as many as there are columns where these are fewer.

    Args:
        ggn: The curvature.
        count: How many there should be.

    Returns:
        The pairs that are not trivial.
    """
    return ggn.eigh(k=min(count, ggn.num_columns, ggn.shape[0]))


def flat(pairs: EigenPairs) -> Tensor:
    """Eigenvectors as columns, shape ``[D, K]``."""
    return torch.cat([x.flatten(start_dim=1) for x in pairs.vectors.values()], dim=1).T


def overlap(first: Tensor, second: Tensor, count: int) -> float:
    """How much two eigenspaces have in common.

    Args:
        first: Orthonormal columns, shape ``[D, K]``.
        second: As many, or fewer where a matrix has not as many nontrivial eigenvalues.
        count: How many there should be.

    Returns:
        ``||U^T V||_F^2 / count``, between 0 and 1.
    """
    return float((first.T @ second).square().sum() / count)


def errors(pairs: EigenPairs, full: GGN) -> list[float]:
    """Of the directional curvature on some samples, relative to that on all.

    Args:
        pairs: Of some samples, or of an approximation.
        full: The GGN of all data.

    Returns:
        ``|lambda_k - e_k^T G e_k| / e_k^T G e_k``; none where the curvature of all data vanishes.
    """
    vectors = flat(pairs)
    product = full @ vectors
    assert isinstance(product, Tensor)
    exact = (vectors * product).sum(dim=0)
    found = (pairs.values - exact).abs() / exact
    return found[exact > 0].tolist()


def signal_to_noise(samples: Tensor) -> list[float | None]:
    """Squared mean over variance.

    Args:
        samples: One for each sample and direction, shape ``[N, K]``.

    Returns:
        For each direction; None where the variance vanishes.
    """
    mean = samples.double().mean(dim=0)
    variance = samples.double().var(dim=0, correction=1)
    return [float(m * m / v) if v > 0 else None for m, v in zip(mean, variance, strict=True)]
