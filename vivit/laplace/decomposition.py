"""The curvature of a posterior, ``G``, decomposed once for all prior precisions ``p``.

Either side of ``G = V V^T`` will do, whichever is smaller: the Gram matrix ``K = V^T V``, through
which no vector of the size of the parameters is stored, or ``G`` itself.

Sources: Daxberger, Kristiadi, Immer, Eschenhagen, Bauer, Hennig, "Laplace Redux", NeurIPS 2021;
Immer, Korzepa, Bauer, "Improving predictions of Bayesian neural nets via local linearization",
AISTATS 2021, for the linearised predictive; Woodbury's identity for the Gram side.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vivit.batches import Carrying
from vivit.factor import Factor
from vivit.gram.cross import Columns
from vivit.gram.outer import projections
from vivit.gram.plan import Plan
from vivit.layers.affine import Workspace
from vivit.operators import flatten_columns, unflatten_columns

TOLD = 1e-3
"""Relative error of variances from which on rounding errors are told."""


@dataclass(frozen=True)
class Decomposition(ABC):
    """Eigenpairs of ``G``, the curvature of the summed loss.

    Attributes:
        values: Eigenvalues, none negative, those that are missing zero; shape ``[K]``.
        factor: ``V``, of the loss as it was given.
        scale: By which the curvature of the summed loss is larger.
        workspace: Bytes for temporaries.
        eps: Rounding error of the matrix that was decomposed.
    """

    values: Tensor
    factor: Factor
    scale: float
    workspace: int
    eps: float

    @property
    def dimension(self) -> int:
        """``D``."""
        return self.factor.shape[0]

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        return float(self.values.max()) if len(self.values) else 0.0

    def check_precision(self, precision: float) -> None:
        """Warn where rounding errors are no longer small beside the prior precision.

        Errors of eigenvalues are ``eps`` times the largest, beside ``p``; those of columns, which
        are in the precision of the parameters, count by their root: the matrix of columns that are
        slightly off is still one of columns.
        """
        condition = self.largest / precision
        error = self.eps * condition
        own = torch.finfo(self.factor.like.dtype).eps
        if own > self.eps:
            error += own * math.sqrt(condition)
        if error > TOLD:
            warnings.warn(
                f"The prior precision {precision:.1e} is so small beside the largest eigenvalue "
                f"{self.largest:.1e} of the curvature that variances may have relative errors of "
                f"up to about {error:.0e} from rounding. Use a larger one, or a model in float64.",
                stacklevel=2,
            )

    def half_logdet_ratio(self, precision: float) -> float:
        """``(logdet(G + p I) - D log p) / 2``."""
        return float((self.values / precision).log1p().sum() / 2)

    def effective_dimension(self, precision: float) -> float:
        """``sum_k lambda_k / (lambda_k + p)``."""
        return float((self.values / (self.values + precision)).sum())

    @abstractmethod
    def scatter(self, noise: dict[str, Tensor], precision: float) -> dict[str, Tensor]:
        """``(G + p I)^(-1/2)`` times each of some vectors, tensors ``[K, *shape]`` by name."""

    @abstractmethod
    def covariance(self, outputs: Carrying, precision: float) -> Tensor:
        """``J_n (G + p I)^-1 J_n^T`` of some samples, shape ``[N, |out|, |out|]``.

        Args:
            outputs: The samples, with the unit vectors of the outputs as columns.
            precision: ``p``.
        """


@dataclass(frozen=True)
class GramDecomposition(Decomposition):
    """Of more parameters than columns.

    Attributes:
        coefficients: Eigenvectors ``e~`` of the Gram matrix, shape ``[M, K]``.
        carrying: Gives what carries curvature, batch by batch.
        plan: Of the sweeps of backward passes that were needed for the Gram matrix.
    """

    coefficients: Tensor
    carrying: Callable[[], Iterator[Carrying]]
    plan: Plan

    def scatter(self, noise: dict[str, Tensor], precision: float) -> dict[str, Tensor]:
        """``p^(-1/2) (e - V U diag(f) U^T V^T e)``, ``f = (1 - sqrt(p / (lambda + p))) / lambda``.

        Two Jacobian products per vector. The fraction is written without a difference.
        """
        total = self.values + precision
        shrinks = self.scale / (total * (1 + (precision / total).sqrt()))
        images = self.coefficients.T @ self.factor.contract(noise).to(total)
        inner = self.coefficients @ (shrinks[:, None] * images)
        changes = self.factor.spread(inner.to(self.factor.like.dtype))
        return {name: (x - changes[name]) / precision**0.5 for name, x in noise.items()}

    def covariance(self, outputs: Carrying, precision: float) -> Tensor:
        """``(J_n J_n^T - C_n (K + p I)^-1 C_n^T) / p`` with ``C_n = J_n V``."""
        plan, samples, size = self.plan, outputs[1].num_samples, outputs[1].num_columns
        prior = self.values.new_zeros(samples, size, size)
        cross = self.values.new_zeros(samples * size, len(self.coefficients))
        for names in plan.sweeps:
            memory = Workspace(self.workspace, self.values)
            columns = Columns(
                iter([outputs]), {*names}, memory, plan.columns_per_pass, plan.columns_at_once
            )
            columns.add_blocks(prior)
            columns.add_products(cross, self.carrying())
            del columns, memory  # before those of the next
        roots = (self.scale / (self.values + precision)).sqrt()
        blocks = ((cross @ self.coefficients) * roots).unflatten(0, (samples, size))
        return (prior - blocks @ blocks.mT) / precision


@dataclass(frozen=True)
class OuterDecomposition(Decomposition):
    """Of no more parameters than columns: all ``D`` eigenvectors of ``G``.

    Attributes:
        vectors: Shape ``[D, D]``.
    """

    vectors: Tensor

    def scatter(self, noise: dict[str, Tensor], precision: float) -> dict[str, Tensor]:
        """In the eigenbasis."""
        flat = flatten_columns(noise, self.factor.shapes)
        images = self.vectors.T @ flat.to(self.vectors)
        found = self.vectors @ (images / (self.values + precision).sqrt()[:, None])
        return unflatten_columns(found.to(flat.dtype), self.factor.shapes)

    def covariance(self, outputs: Carrying, precision: float) -> Tensor:
        """From the Jacobians in the eigenbasis; nothing is subtracted."""
        roots = (self.values + precision).sqrt()
        swept = projections(
            lambda: iter([outputs]), self.factor.parameters, self.vectors / roots, self.workspace
        )
        return torch.cat([blocks @ blocks.mT for blocks in swept])
