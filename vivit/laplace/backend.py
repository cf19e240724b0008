"""vivit as a curvature backend of laplace-torch 0.3: ``Laplace(..., backend=VivitGGN)``.

Of a full or sub-network Laplace, the exact GGN then comes from this engine, for any architecture
that it takes. What laplace-torch does with it stays: it stores and inverts ``[D, D]`` matrices,
and predicts from full Jacobians. `vivit.LaplacePosterior` does without both.

laplace-torch 0.3 has one structure that needs no such matrix, ``"lowrank"``, but refuses it, with
any backend, unless a module ``asdfghjkl`` can be imported, which the package of that name does
not contain. `VivitGGN.eig_lowrank` serves it where the module is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from vivit.ggn import EXACT, GGN
from vivit.gram.outer import outer_matrices
from vivit.gram.sweep import unnoticed
from vivit.kinds import GaussNewton
from vivit.options import Approximation, MonteCarlo
from vivit.setup import ALL, block_matrices

try:
    from laplace.curvature import GGNInterface
except ModuleNotFoundError as error:
    raise ImportError(
        "vivit.laplace.backend needs laplace-torch: install vivit with the extra laplace, or use "
        "vivit.LaplacePosterior, which needs none of it."
    ) from error


class VivitGGN(GGNInterface):
    """The GGN of the summed loss, as laplace-torch asks for it, one batch after the other.

    With ``stochastic=True`` among the ``backend_kwargs``, a Monte-Carlo Fisher of ``num_samples``
    columns per sample, drawn anew for each batch.
    """

    def full(self, x: Any, y: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The matrix of one batch.

        Args:
            x: Inputs.
            y: Targets.
            **kwargs: What other backends take; of no effect.

        Returns:
            The summed loss, a scalar; and the GGN, shape ``[D, D]``, of the parameters of a
            sub-network if there is one.
        """
        kind = GaussNewton(self.lossfunc, self._approximation())
        made = block_matrices(
            self.model, kind, (x, y), None, self.params, None, None, None, progress=False
        )
        curvature, costs = made.curvature, made.costs
        workspace, plan = costs.room.workspace, costs.plan()
        found = outer_matrices(
            curvature.carrying, curvature.parameters, made.groups, workspace, plan, unnoticed
        )
        matrix, index = found[ALL].matrix, self.subnetwork_indices
        if index is not None:
            matrix = matrix[index][:, index]
        return self.factor * self._loss([(x, y)]), self.factor * matrix

    def eig_lowrank(self, data_loader: Iterable[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """All nontrivial eigenpairs of the GGN of all batches.

        Args:
            data_loader: Gives the batches ``(x, y)``.

        Returns:
            Eigenvectors, shape ``[D, K]``; eigenvalues, shape ``[K]``; the summed loss.
        """
        data = [*data_loader]
        ggn = GGN(self.model, self.lossfunc, data, self.params, self._approximation())
        pairs = ggn.eigh()
        vectors = torch.cat([x.reshape(len(x), -1) for x in pairs.vectors.values()], dim=1).T
        return vectors, self.factor * pairs.values, self.factor * self._loss(data)

    def _approximation(self) -> Approximation:
        if not self.stochastic:
            return EXACT
        return MonteCarlo(self.num_samples, seed=int(torch.randint(2**31, ())))

    @torch.no_grad()
    def _loss(self, data: Sequence[Any]) -> Tensor:
        losses = [self.lossfunc(self.model(x), y) for x, y in data]
        return torch.stack(losses).sum()
