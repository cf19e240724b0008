"""Small functions of directional derivatives and eigenspaces.

Source: Dangel, Tatzel, Hennig, "ViViT", TMLR 2022, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vivit.errors import InputError


def signal_to_noise(derivatives: Tensor) -> Tensor:
    """Squared mean over variance of per-sample derivatives, for each direction.

    Args:
        derivatives: ``gammas`` or ``lambdas``, shape ``[N, K]`` with ``N >= 2``.

    Returns:
        Shape ``[K]``, without a unit; infinite where the samples agree. The variance is the
        unbiased one.

    Raises:
        InputError: There are fewer than two samples.
    """
    if derivatives.ndim != 2 or len(derivatives) < 2:
        raise InputError(
            "A signal-to-noise ratio needs derivatives of at least two samples, shape [N, K], got "
            f"{list(derivatives.shape)}."
        )
    return derivatives.mean(dim=0).square() / derivatives.var(dim=0, correction=1)


def gradient_overlap(gradient: Mapping[str, Tensor], vectors: Mapping[str, Tensor]) -> Tensor:
    """Share of the squared gradient norm that lies along each eigenvector.

    Args:
        gradient: A tensor for each parameter, as `GGN.gradient` gives.
        vectors: Orthonormal directions, ``[K, *shape]`` for each parameter, as `GGN.eigh` gives.

    Returns:
        ``(g^T e_k)^2 / ||g||^2``, shape ``[K]``; at most 1 in sum.

    Raises:
        InputError: The parameters differ.
    """
    _check_names(gradient, vectors)
    g = torch.cat([gradient[name].reshape(-1) for name in vectors])
    return (_matrix(vectors) @ g).square() / g.square().sum()


def eigenspace_overlap(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
    """How much of one eigenspace lies in another, ``||U^T V||_F^2 / C``.

    Args:
        first: Orthonormal basis ``U``, ``[C, *shape]`` for each parameter.
        second: Orthonormal basis ``V`` with as many vectors.

    Returns:
        A scalar between 0 (orthogonal) and 1 (equal).

    Raises:
        InputError: The parameters or the numbers of vectors differ.
    """
    _check_names(first, second)
    u, v = _matrix(first), _matrix({name: second[name] for name in first})
    if len(u) != len(v) or not len(u):
        raise InputError(
            f"Eigenspaces of one dimension C >= 1 are compared, got {len(u)} and {len(v)} vectors."
        )
    return (u @ v.T).square().sum() / len(u)


def _matrix(vectors: Mapping[str, Tensor]) -> Tensor:
    """Vectors as the rows of a matrix, shape ``[K, D]``."""
    return torch.cat([v.unsqueeze(1).flatten(start_dim=1) for v in vectors.values()], dim=1)


def _check_names(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    if set(first) != set(second):
        odd = sorted(set(first) ^ set(second))
        raise InputError(f"Both need the same parameters; only one has {', '.join(odd)}.")
