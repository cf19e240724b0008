"""What quantities of a block without its eigenvectors need of it: the smaller matrix, products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vivit.dtypes import loosened
from vivit.factor import Factor
from vivit.gram.blocks import BlockMatrices
from vivit.gram.forms import Form
from vivit.gram.precision import WEAK, is_double, may_be_factored, may_gain
from vivit.gram.spectrum import GroupMatrix


@dataclass(frozen=True)
class SmallerMatrix:
    """``V^T V`` or ``V V^T``, whichever is smaller.

    Attributes:
        tensor: Shape ``[S, S]`` with ``S = min(M, D)``.
        norm: Its Frobenius norm, which bounds the largest eigenvalue.
        noise: Rounding errors of its entries: the precision in which they were summed, times the
            norm.
    """

    tensor: Tensor
    norm: float
    noise: float


@dataclass(frozen=True)
class Block:
    """A curvature matrix ``G = V V^T``, or a diagonal block of it.

    Attributes:
        matrices: Of all blocks.
        group: The block.
        factor: Its columns.
        multiply: Maps columns ``[D, K]`` to ``G`` times these.
    """

    matrices: BlockMatrices
    group: str
    factor: Factor
    multiply: Callable[[Tensor], Tensor]

    @property
    def accuracy(self) -> float:
        """The largest relative residual without a warning: the square root of the precision.

        Or that of a model in half precision, for products are no better.
        """
        usual = float(torch.finfo(self.factor.like.dtype).eps) ** 0.5
        return loosened(usual, self.matrices.curvature.lowest)

    @property
    def has_gram(self) -> bool:
        """Whether the smaller matrix is the Gram matrix."""
        dimension, size = self.factor.shape
        return dimension > size

    def smaller(self, copies: int, scale: float) -> SmallerMatrix:
        """The smaller matrix, in double precision where that counts and is affordable.

        As for eigenpairs, columns are contracted in double precision at once where that costs
        little, and again if weak directions count.

        Args:
            copies: Matrices that will be held beside it.
            scale: Size of the smallest eigenvalues that count.

        Returns:
            The matrix.

        Raises:
            InsufficientMemoryError: It does not fit.
            InputError: It is NaN or infinite.
        """
        gains = may_gain(self.factor.like) and self._is_summed
        double = gains and self.matrices.may_be_double(copies, small=True)
        tensor = self._made(copies, double)
        norm, is_single = float(tensor.norm()), not is_double(tensor.dtype)
        if gains and is_single and scale < WEAK * norm and self._may_be_double(copies):
            del tensor  # its memory is free
            tensor = self._made(copies, double=True)
        noise = torch.finfo(tensor.dtype).eps * norm
        room = self.matrices.costs.room
        if may_gain(tensor) and may_be_factored(len(tensor), copies, room.available):
            tensor = tensor.double()
        return SmallerMatrix(tensor, norm, noise)

    @property
    def _is_summed(self) -> bool:
        """Whether it is made of sums over columns, whose precision can be chosen."""
        return self.has_gram or self.matrices.form_of(self.group) is Form.SUM

    def _may_be_double(self, copies: int) -> bool:
        return self.matrices.may_be_double(copies, small=False)

    def _made(self, copies: int, double: bool) -> Tensor:
        matrix = self.matrices.of_block(self.group, copies, double)
        if isinstance(matrix, GroupMatrix) and matrix.gram is not None:
            return matrix.gram
        return matrix.outer(self.matrices.costs.room)
