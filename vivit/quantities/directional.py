"""First- and second-order directional derivatives, per sample, along eigenvectors of the GGN.

Source: Dangel, Tatzel, Hennig, "ViViT", TMLR 2022, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vivit.batches import Carrying
from vivit.curvature import Curvature
from vivit.factor import Factor
from vivit.gram.blocks import BlockMatrices
from vivit.gram.cross import Columns
from vivit.gram.forms import Form
from vivit.gram.outer import projections
from vivit.gram.spectrum import GramPairs, Pairs, split_vectors
from vivit.layers.affine import Workspace
from vivit.shown import Shown, summary


@dataclass(frozen=True, repr=False)
class DirectionalDerivatives(Shown):
    """Derivatives of each sample's loss along unit eigenvectors, in ascending order.

    Those of each sample's own loss, without the factors of a mean or a subset: for a loss that is
    a mean, their means over samples are the slope of the loss and the eigenvalues; for a sum,
    ``N`` times their means are.

    Attributes:
        gammas: ``g_n^T e_k``, shape ``[N, K]``, for all samples; with the arbitrary sign of
            ``e_k``.
        lambdas: ``e_k^T J_n^T H_n J_n e_k``, shape ``[N, K]``, for the samples that carry
            curvature.
    """

    gammas: Tensor
    lambdas: Tensor

    @property
    def _parts(self) -> dict[str, str]:
        return {"gammas": summary(self.gammas), "lambdas": summary(self.lambdas)}

    def to(self, dtype: torch.dtype) -> DirectionalDerivatives:
        """In another precision."""
        return DirectionalDerivatives(self.gammas.to(dtype), self.lambdas.to(dtype))


@torch.no_grad()
def directional_derivatives(
    matrices: BlockMatrices, group: str, factor: Factor, pairs: Pairs
) -> DirectionalDerivatives:
    """``gamma_nk = g_n^T e_k`` and ``lambda_nk = scale ||V_n^T e_k||^2`` of eigenvectors.

    Args:
        matrices: Of all blocks.
        group: The block.
        factor: Its columns.
        pairs: Eigenpairs of it.

    Returns:
        The derivatives of the samples of all ranks; in the precision of the pairs.
    """
    curvature, workspace = matrices.curvature, matrices.costs.room.workspace
    if isinstance(pairs, GramPairs):
        gammas = _slopes(curvature, factor, pairs, workspace)
        lambdas = _square_sums_by_samples(curvature, pairs.derivatives)
        return DirectionalDerivatives(gammas, _scale(curvature) * lambdas)
    parameters, vectors = factor.parameters, pairs.vectors
    if matrices.form_of(group) is Form.PRODUCTS:
        lambdas = _curvatures_by_pushforward(curvature, factor, vectors, workspace)
    else:
        swept = projections(curvature.carrying, parameters, vectors, workspace)
        if factor.is_centered or curvature.sampling.has_units:
            images = _rows(curvature, vectors, (blocks.flatten(0, 1) for blocks in swept))
            mean = images.mean(dim=0) if factor.is_centered else 0.0
            lambdas = _square_sums_by_samples(curvature, images - mean)
        else:
            lambdas = _rows(curvature, vectors, (_square_sums(blocks) for blocks in swept))
    scale = curvature.num_samples if curvature.is_mean else 1
    slopes = projections(lambda: _gradients(curvature), parameters, vectors, workspace)
    gammas = _rows(curvature, vectors, (blocks.flatten(0, 1) for blocks in slopes))
    return DirectionalDerivatives(scale * gammas, _scale(curvature) * lambdas)


def _rows(curvature: Curvature, vectors: Tensor, parts: Iterable[Tensor]) -> Tensor:
    """What there is for samples of all batches and ranks and each of ``K`` vectors ``[D, K]``."""
    none = vectors.new_empty(0, vectors.shape[1])
    return curvature.ranks.rows(torch.cat([none, *parts]), "derivatives")


def _scale(curvature: Curvature) -> float:
    """What undoes the mean over samples and the factor of a subset."""
    subset, total = curvature.num_curvature_samples, curvature.num_samples
    return subset if curvature.is_mean else subset / total


def _square_sums(blocks: Tensor) -> Tensor:
    """Of ``V_n^T e_k``, shape ``[N, C, K]``, over the columns."""
    return blocks.square().sum(dim=1)


def _square_sums_by_samples(curvature: Curvature, images: Tensor) -> Tensor:
    """Of ``V^T e_k``, shape ``[M, K]``, over the columns of each sample: ``[N, K]``."""
    return torch.cat([_square_sums(blocks) for blocks in curvature.places.by_samples(images)])


def _gradients(curvature: Curvature) -> Iterator[Carrying]:
    """Each sample's gradient as a column of its own: one backward pass gives all slopes."""
    for batch in curvature.each():
        yield batch.linearization, batch.gradient_factor, None


def _curvatures_by_pushforward(
    curvature: Curvature, factor: Factor, vectors: Tensor, workspace: int
) -> Tensor:
    """``||V_n^T e_k||^2`` of vectors ``[D, K]``, some at a time, shape ``[N, K]``."""
    _, size = factor.shape
    at_once = max(workspace // (size * vectors.element_size()), 1)
    found = []
    for some in vectors.split(at_once, dim=1):
        images = factor.contract(split_vectors(some, factor.shapes))
        found.append(_square_sums_by_samples(curvature, images))
    return torch.cat(found, dim=1)


def _slopes(curvature: Curvature, factor: Factor, pairs: GramPairs, workspace: int) -> Tensor:
    """``gamma_nk = g_n^T e_k``, by the cheapest of three ways.

    * With the exact factor, a sample's gradient is ``V_n w_n``, hence
      ``gamma_nk = <w_n, V_n^T e_k>``: no backward pass at all.
    * Else through the inner products of gradients and columns, for about one backward pass per
      column of the factor,
    * or through one Jacobian-vector product per direction, if these are fewer.

    Args:
        curvature: The loss curvature.
        factor: The block's columns.
        pairs: Eigenpairs of the block's Gram matrix.
        workspace: Bytes for temporaries.

    Returns:
        Shape ``[N, K]``, for all samples; in the precision of the pairs.
    """
    scale = curvature.num_samples if curvature.is_mean else 1
    coordinates = curvature.gradient_coordinates()
    if coordinates is not None:
        by_samples = curvature.places.by_samples
        of_runs = zip(
            by_samples(coordinates.to(pairs.derivatives)),
            by_samples(pairs.derivatives),
            strict=True,
        )
        return scale * torch.cat([torch.einsum("nc,nck->nk", *of_run) for of_run in of_runs])
    if len(pairs.values) <= curvature.places.most:
        vectors = factor.vectors(pairs, workspace)
        return scale * _slopes_by_pushforward(curvature, vectors).to(pairs.values)
    if curvature.ranks.size > 1:  # columns of other ranks are not here
        return scale * _slopes_of_some(curvature, factor, pairs, workspace)
    memory = Workspace(workspace, curvature.like.new_empty(0, dtype=pairs.values.dtype))
    columns = Columns(curvature.carrying(), {*factor.parameters}, memory)
    gram = memory.like.new_zeros(columns.size, curvature.num_samples)
    columns.add_products(gram, _gradients(curvature))
    return scale * (gram.T @ (pairs.coefficients / pairs.values.sqrt()))


def _slopes_of_some(
    curvature: Curvature, factor: Factor, pairs: GramPairs, workspace: int
) -> Tensor:
    """Slopes along as many eigenvectors at a time as the workspace holds."""
    dimension, _ = factor.shape
    count, found = len(pairs.values), []
    step = max(workspace // (dimension * factor.like.element_size()), 1)
    for start in range(0, count, step):
        some = pairs.keep(slice(start, min(start + step, count)))
        vectors = factor.vectors(some, workspace)
        found.append(_slopes_by_pushforward(curvature, vectors).to(pairs.values))
    return torch.cat(found, dim=1)


def _slopes_by_pushforward(curvature: Curvature, vectors: dict[str, Tensor]) -> Tensor:
    """Of all samples along vectors ``[K, *shape]``, shape ``[N, K]``."""
    count = len(next(iter(vectors.values())))
    rows = [curvature.like.new_empty(0, count)]
    for batch in curvature.each():
        gradients = batch.sample_gradients
        slopes = gradients.new_empty(len(gradients), count)
        for k in range(count):
            v = {name: x[k] for name, x in vectors.items()}
            pushed = batch.linearization.products.pushforward(v)
            slopes[:, k] = _inner(gradients, batch.by_samples(pushed))
        rows.append(slopes)
    return curvature.ranks.rows(torch.cat(rows), "slopes")


def _inner(u: Tensor, v: Tensor) -> Tensor:
    """Inner product of each sample's tensors, shape ``[N]``."""
    return (u * v).reshape(len(u), -1).sum(dim=1)
