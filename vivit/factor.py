"""``V`` of ``G = V V^T`` as a linear map, whatever its columns are.

Column ``(n, c)`` is ``J_n^T s_nc`` for a vector ``s_nc`` of the outputs of sample ``n``. Where
these vectors come from is not known here: for a GGN they are columns of factors of loss Hessians,
but may as well be loss gradients or unit vectors. Nor is ``V`` stored: it is applied batch by
batch, by vector-Jacobian and Jacobian-vector products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from vivit.backprop.autograd import Linearization
from vivit.dtypes import like_of, working
from vivit.gram.precision import cached_pieces, is_orthonormal, may_gain, orthonormalize
from vivit.gram.spectrum import GramPairs, Pairs, split_vectors
from vivit.progress import Progress
from vivit.ranks import ALONE, Ranks, together


class Differentiable(Protocol):
    """A batch with its autograd graph."""

    @property
    def linearization(self) -> Linearization:
        """The model, differentiable at its parameters."""


class Piece(Differentiable, Protocol):
    """The columns of one batch."""

    @property
    def rows(self) -> slice:
        """Where they stand among those of all batches."""

    def spread(self, coefficients: Tensor) -> Tensor:
        """``sum_c s_nc x_nc``: from ``[N C]`` to a cotangent of the output, ``[N, *out]``."""

    def contract(self, u: Tensor) -> Tensor:
        """``s_nc^T u_n``: from ``[N, *out]`` to ``[N, C]``."""


B = TypeVar("B", bound=Differentiable)


class Factor:
    """``V`` of some parameters, of shape ``[D, M]``.

    Attributes:
        parameters: The parameters, by name.
        is_centered: Whether the mean of all columns is subtracted from each.
        shapes: Of the parameters, in the order of flat vectors.
        shape: ``(D, M)``.
        ranks: Who has the other batches; ``M`` columns are those of all.
    """

    def __init__(
        self,
        pieces: Callable[[], Iterator[Piece]],
        parameters: Mapping[str, Tensor],
        size: int,
        progress: Progress | None = None,
        centered: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        """Describe the map.

        Args:
            pieces: Gives the batches in order, of which only one has to exist at a time.
            parameters: The parameters, by name.
            size: ``M``, columns of all batches.
            progress: Where runs through the batches are shown, if anywhere.
            centered: Whether the mean of all columns is subtracted from each.
            ranks: Who has the other batches, if any.
        """
        self.ranks = ranks
        self._pieces, self.parameters = pieces, parameters
        self._progress = progress or Progress()
        self.is_centered = centered
        self.shapes = {name: p.shape for name, p in parameters.items()}
        rows = sum(math.prod(shape) for shape in self.shapes.values())
        self.shape = rows, size

    @property
    def like(self) -> Tensor:
        """A tensor of the parameters' device, in the precision of results."""
        return like_of(self.parameters)

    @together
    @torch.no_grad()
    def spread(self, coefficients: Tensor) -> dict[str, Tensor]:
        """``V coefficients``: one vector-Jacobian product for each column of coefficients.

        Args:
            coefficients: Shape ``[M, K]``.

        Returns:
            For each name a tensor of shape ``[K, *shape]``.
        """
        return self._spread(self.centered(coefficients))

    def _spread(self, coefficients: Tensor) -> dict[str, Tensor]:
        vectors = coefficients.T

        def cotangents(piece: Piece) -> Iterator[Tensor]:
            return (piece.spread(vector[piece.rows]) for vector in vectors)

        with self._progress.stage("vector-Jacobian products"):
            found = pullback(self._pieces(), cotangents, self.parameters, len(vectors))
        self.ranks.add([*found.values()], "V times vectors")
        return found

    @together
    def contract(self, v: Mapping[str, Tensor], pulled: bool = False) -> Tensor:
        """``V^T v``: one Jacobian-vector product for each vector.

        Args:
            v: For each name a tensor of shape ``[K, *shape]``.
            pulled: Whether all are in the range of ``V``, which may be faster.

        Returns:
            Shape ``[M, K]``.
        """
        parts = [self._no_rows(v)]
        with self._progress.stage("Jacobian-vector products"):
            for piece in self._pieces():
                lin = piece.linearization
                push = lin.products.pushforward_of_pulled if pulled else lin.products.pushforward
                found = [piece.contract(push(one)).flatten() for one in each_vector(v)]
                parts.append(torch.stack(found, dim=1))
        return self.centered(self._rows(parts))

    def _no_rows(self, v: Mapping[str, Tensor]) -> Tensor:
        """The images of ``K`` vectors in no batches, shape ``[0, K]``."""
        return self.like.new_empty(0, len(next(iter(v.values()))))

    def _rows(self, parts: list[Tensor]) -> Tensor:
        """The images in all batches, and all ranks."""
        return self.ranks.rows(torch.cat(parts), "V^T times vectors")

    def multiply_gram(self, u: Tensor) -> Tensor:
        """``V^T V u`` for each column of ``u``, shape ``[M, K]``, in two runs through the batches.

        It takes a vector-Jacobian and a Jacobian-vector product each.
        """
        return self.contract(self.spread(u), pulled=True)

    @together
    def multiply_curvature(self, v: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """``V V^T v`` and ``V^T v`` for each vector, in one run through the batches.

        Args:
            v: For each name a tensor of shape ``[K, *shape]``.

        Returns:
            For each name a tensor of shape ``[K, *shape]``; and shape ``[M, K]``.
        """
        count = len(next(iter(v.values())))
        total, parts = Sums(self.parameters, count), [self._no_rows(v)]
        for piece in self._pieces():
            found = []
            for k, one in enumerate(each_vector(v)):
                product, image = _product(piece, one, count)
                total.add(k, product)
                found.append(image.flatten())
            parts.append(torch.stack(found, dim=1))
        product = total.tensors
        self.ranks.add([*product.values()], "G times vectors")
        self.center_product(product, v)
        return product, self.centered(self._rows(parts))

    def centered(self, images: Tensor) -> Tensor:
        """Numbers for each column, ``[M, K]``, as those of centred columns, if they are that."""
        return images - images.mean(dim=0) if self.is_centered else images

    @torch.no_grad()
    def center_product(self, product: Mapping[str, Tensor], v: Mapping[str, Tensor]) -> None:
        """Make of ``V V^T v``, with columns as they are, that with centred ones, in place.

        It is less by ``V 1 (V 1)^T v / M``.

        Args:
            product: For each name a tensor of shape ``[K, *shape]``.
            v: Of the same shapes.
        """
        if not self.is_centered:
            return
        total, (_, count) = self._total, self.shape
        parts = [
            v[name].reshape(len(v[name]), x.numel()) @ x.flatten() for name, x in total.items()
        ]
        along = torch.stack(parts).sum(dim=0) / -count
        for name, x in total.items():
            product[name].add_(torch.tensordot(along, x, dims=0))

    @cached_property
    def _total(self) -> dict[str, Tensor]:
        """The sum of all columns, as they are."""
        found = self._spread(self.like.new_ones(self.shape[1], 1))
        return {name: x[0] for name, x in found.items()}

    def centering_traces(self) -> dict[str, Tensor]:
        """By how much the trace of the block of each parameter falls when columns are centred."""
        return {name: x.square().sum() / self.shape[1] for name, x in self._total.items()}

    def vectors(self, pairs: Pairs, workspace: int) -> dict[str, Tensor]:
        """Unit eigenvectors of ``V V^T`` from those of ``V^T V``, ``e = V e~ / sqrt(lambda)``.

        Unless columns are kept in double precision, the true norm takes the place of
        ``sqrt(lambda)``: it is more accurate for small ones.

        Args:
            pairs: Eigenpairs.
            workspace: Bytes for temporaries.

        Returns:
            For each name a tensor of shape ``[K, *shape]``, orthonormal in the precision of the
            parameters.
        """
        dtype, is_single = self.like.dtype, may_gain(self.like)
        if pairs.vectors is not None:
            flat = pairs.vectors.to(dtype)
            if is_single and pairs.vectors.dtype == dtype:
                orthonormalize({"": flat.T}, pairs.values, workspace)
            return split_vectors(flat, self.shapes)
        assert isinstance(pairs, GramPairs)
        if pairs.kept is not None and is_orthonormal(pairs.values, len(pairs.coefficients)):
            return self._sums(pairs, pairs.coefficients / pairs.values.sqrt())
        result = self._sums(pairs, pairs.coefficients)
        _normalize(result, workspace)
        if is_single:
            orthonormalize(result, pairs.values, workspace)
        return result

    def combine(self, pairs: Pairs, weights: Tensor) -> dict[str, Tensor]:
        """``sum_k weights_k e_k``: one vector-Jacobian product, however many eigenvectors.

        Args:
            pairs: Eigenpairs.
            weights: Shape ``[K]``.

        Returns:
            A tensor of the parameter's shape for each name.
        """
        if pairs.vectors is not None:
            flat = (pairs.vectors @ weights)[:, None].to(self.like.dtype)
            result = split_vectors(flat, self.shapes)
        else:
            assert isinstance(pairs, GramPairs)
            coefficients = pairs.coefficients @ (weights / pairs.values.sqrt())
            result = self._sums(pairs, coefficients[:, None])
        return {name: x[0] for name, x in result.items()}

    def _sums(self, pairs: GramPairs, coefficients: Tensor) -> dict[str, Tensor]:
        """``V coefficients`` from the columns, if they are kept, in double precision.

        It is rounded at the end, one parameter after the other.
        """
        if pairs.kept is None:
            return self.spread(coefficients.to(self.like.dtype))
        count, dtype, result = coefficients.shape[1], self.like.dtype, {}
        for name, shape in self.shapes.items():
            flat = pairs.kept.combine(coefficients, name)
            if flat is None:
                flat = coefficients.new_zeros(count, shape.numel())
            self.ranks.add([flat], "V times vectors")
            result[name] = flat.view(count, *shape).to(dtype)
        return result


def _product(piece: Piece, v: dict[str, Tensor], count: int) -> tuple[dict[str, Tensor], Tensor]:
    """``V V^T v`` and ``V^T v`` of one batch, for one of so many vectors."""
    image = v[next(iter(v))]

    def curvature(u: Tensor) -> Tensor:
        nonlocal image
        image = piece.contract(u)
        return piece.spread(image)

    product = piece.linearization.products.sandwich(curvature, v, count)
    return product, image


def _normalize(vectors: dict[str, Tensor], workspace: int) -> None:
    """Give vectors ``[K, *shape]`` unit norm over all parameters, in place."""
    squares = [piece.square().sum(dim=1) for piece in cached_pieces(vectors, workspace)]
    if not squares:
        return
    norms = torch.stack(squares).sum(dim=0).sqrt()
    for x in vectors.values():
        x /= norms.reshape(-1, *[1] * (x.ndim - 1))


def each_vector(v: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Tensors ``[K, *shape]`` as ``K`` vectors, one after the other."""
    count = len(next(iter(v.values())))
    return ({name: x[k] for name, x in v.items()} for k in range(count))


def pullback(
    batches: Iterable[B],
    cotangents: Callable[[B], Iterable[Tensor]],
    parameters: Mapping[str, Tensor],
    count: int,
) -> dict[str, Tensor]:
    """Vector-Jacobian products over all batches, each of which is run once.

    Args:
        batches: The batches, of which only one has to exist at a time.
        cotangents: Gives those of the output of a batch, each of shape ``[N, *out]``; they are
            needed one at a time.
        parameters: The parameters to differentiate by, by name.
        count: ``K``, cotangents of each batch.

    Returns:
        For each name a tensor of shape ``[K, *shape]``.
    """
    total = Sums(parameters, count)
    for batch in batches:
        for k, cotangent in enumerate(cotangents(batch)):
            total.add(k, batch.linearization.products.pullback(cotangent, parameters))
    return total.tensors


class Sums:
    """Vectors in parameter space that batches add up to.

    A single one of the first batch stays as it came, where it can: of a large model, another copy
    counts.
    """

    def __init__(self, parameters: Mapping[str, Tensor], count: int) -> None:
        """Begin with zeros.

        Args:
            parameters: The parameters, by name.
            count: ``K``, the number of vectors.
        """
        self._parameters, self._count = parameters, count
        self._tensors: dict[str, Tensor] = {}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """For each name a tensor of shape ``[K, *shape]``."""
        return {name: self._of(name) for name in self._parameters}

    def add(self, k: int, vector: dict[str, Tensor]) -> None:
        """Add to one of them.

        Args:
            k: Which.
            vector: A tensor for each name; not to be used any more.
        """
        taken: set[int] = set()
        for name in [*vector]:
            part = vector.pop(name)
            if self._count > 1 or name in self._tensors:
                self._of(name)[k] += part
                continue
            if part.data_ptr() in taken or not part.is_contiguous():  # shared memory
                part = part.clone(memory_format=torch.contiguous_format)
            taken.add(part.data_ptr())
            self._tensors[name] = part[None]

    def _of(self, name: str) -> Tensor:
        if name not in self._tensors:
            p = self._parameters[name]
            zeros = p.new_zeros(self._count, *p.shape, dtype=working(p.dtype))
            self._tensors[name] = zeros
        return self._tensors[name]
