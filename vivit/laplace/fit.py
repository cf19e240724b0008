"""What a posterior needs of model and data, whatever the prior precision is."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from vivit.dtypes import in_working
from vivit.factor import Factor
from vivit.gram.blocks import BlockMatrices
from vivit.gram.memory import Room
from vivit.gram.precision import is_double, may_gain
from vivit.gram.spectrum import EIGENVECTOR_COPIES, GramPairs, robust
from vivit.laplace.decomposition import Decomposition, GramDecomposition, OuterDecomposition
from vivit.losses.rows import Rows
from vivit.quantities.pairs import find_pairs
from vivit.quantities.selection import Selection
from vivit.setup import ALL


class Fit:
    """The curvature of the summed loss, and the loss; each is made when it is first needed.

    Attributes:
        curvature: Batches and loss.
        scale: What makes of the loss as it was given the negative log-likelihood.
    """

    def __init__(self, matrices: BlockMatrices, likelihood_scale: float) -> None:
        """Make nothing yet.

        Args:
            matrices: Of one block, of a Gauss-Newton curvature.
            likelihood_scale: What the summed loss is multiplied with.
        """
        self._matrices, self.curvature = matrices, matrices.curvature
        self.scale = likelihood_scale * self.curvature.summed
        self._factor = Factor(
            self.curvature.pieces,
            self.curvature.parameters,
            self.curvature.num_columns,
            self.curvature.progress,
        )

    @property
    def room(self) -> Room:
        """Bytes to work with."""
        return self._matrices.costs.room

    def bytes_per_sample(self, outputs: int) -> int:
        """Of what predictions keep for each sample: products with all directions, and its own.

        Args:
            outputs: ``|out|``, unit vectors that are sent back for each.
        """
        plan, side = self._matrices.costs.plan(double=True), min(self._factor.shape)
        return outputs * (plan.kept_bytes // plan.num_columns + 16 * (side + outputs))

    @cached_property
    def decomposition(self) -> Decomposition:
        """Eigenpairs of the smaller side."""
        self.curvature.check_fresh()
        dimension, size = self._factor.shape
        return self._of_gram() if dimension > size else self._of_outer()

    def _of_gram(self) -> GramDecomposition:
        """All pairs count: beside a small prior precision, even those near rounding errors."""
        selection = Selection(None, None, rank_tolerance=0.0, method=None)
        pairs = find_pairs(self._matrices, ALL, self._factor, selection)
        assert isinstance(pairs, GramPairs)
        return GramDecomposition(
            values=self.scale * pairs.values,
            factor=self._factor,
            scale=self.scale,
            workspace=self.room.workspace,
            eps=torch.finfo(pairs.values.dtype).eps,
            coefficients=pairs.coefficients,
            carrying=self.curvature.carrying,
            plan=self._matrices.costs.plan(double=is_double(pairs.values.dtype)),
        )

    def _of_outer(self) -> OuterDecomposition:
        """In double precision where that is worth it: all directions count."""
        double = may_gain(self._factor.like) and self._matrices.may_be_double(
            EIGENVECTOR_COPIES, small=False
        )
        matrix = self._matrices.of_block(ALL, EIGENVECTOR_COPIES, double).outer(self.room)
        values, vectors = robust(torch.linalg.eigh, matrix)
        return OuterDecomposition(
            values=self.scale * values.clamp(min=0),
            factor=self._factor,
            scale=self.scale,
            workspace=self.room.workspace,
            eps=torch.finfo(matrix.dtype).eps,
            vectors=vectors,
        )

    @cached_property
    def negative_log_likelihood(self) -> float:
        """The summed loss of all samples, scaled; without constants."""
        total = 0.0
        for batch in self.curvature.each():
            if batch.weight:  # a mean over nothing is NaN, but does not count
                loss = batch.kind.loss_func(batch.output, batch.target)
                total += batch.weight * float(loss)
        return self.scale * total

    def rows(self, output: Tensor) -> Rows:
        """How samples lie in outputs."""
        return self.curvature.sampling.rows(self.curvature.kind.loss_func, output)

    @property
    def output_shape(self) -> list[int | None]:
        """Of a sample; None along axes where batches differ."""
        shapes = (batch.output_shape for batch in self.curvature.batches)
        axes = zip(*shapes, strict=False)
        return [sizes[0] if len({*sizes}) == 1 else None for sizes in axes]

    @property
    def square_norm(self) -> float:
        """``|theta|^2`` of the selected parameters."""
        self.curvature.check_fresh()
        return sum(float(p.double().square().sum()) for p in self.parameters.values())

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The posterior's mean, by name."""
        return {name: in_working(p.detach()) for name, p in self.curvature.parameters.items()}
