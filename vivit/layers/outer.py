"""``V V^T`` of layers on plain vectors, from their inputs and cotangents.

With one position, the columns of a weight are ``V[n,c,o,i] = s[n,c,o] a[n,i]``. So the block of
outputs ``o`` and ``p`` between two weights is ``A^T diag(h_op) A'`` with
``h[n,o,p] = sum_c s[n,c,o] s'[n,c,p]``: ``C`` times less work than products of columns. A bias
is a weight whose input is always one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vivit.layers.affine import Workspace
from vivit.layers.cost import FLOPS_PER_BYTE


@dataclass(frozen=True)
class VectorFactors:
    """What the columns of a parameter are made of, if there is one position.

    Attributes:
        a: Inputs, shape ``[N, i]``.
        s: Cotangents, shape ``[N, C, o]``.
        transposed: Whether the parameter is laid out as ``[i, o]``, not ``[o, i]``.
    """

    a: Tensor
    s: Tensor
    transposed: bool

    def weighted(self, weights: Tensor, out: Tensor) -> Tensor:
        """``weights[n,p] a[n,i]`` in the layout of the parameter, shape ``[N, size]``.

        Args:
            weights: Shape ``[N, p]``.
            out: Memory for it, shape ``[N, p * i]``.
        """
        count, inputs = weights.shape[1], self.a.shape[1]
        if self.transposed:
            torch.mul(self.a[:, :, None], weights[:, None, :], out=out.view(-1, inputs, count))
        else:
            torch.mul(weights[:, :, None], self.a[:, None, :], out=out.view(-1, count, inputs))
        return out

    def rows_of(self, output: int) -> slice:
        """Entries of the parameter that belong to an output."""
        inputs, outputs = self.a.shape[1], self.s.shape[2]
        if self.transposed:
            return slice(output, inputs * outputs, outputs)
        return slice(output * inputs, (output + 1) * inputs)


def add_outer(
    block: Tensor, left: VectorFactors, right: VectorFactors, workspace: Workspace
) -> None:
    """Add a block of ``V V^T``.

    Args:
        block: Rows are entries of the left parameter, columns of the right one; changed in place.
            If they are the same, not all above its diagonal is.
        left: Of the rows.
        right: Of the columns.
        workspace: Memory for the temporaries of some samples.
    """
    outputs, (inputs, columns) = left.s.shape[2], (right.a.shape[1], right.s.shape[2])
    step = max(workspace.size // (columns * (inputs + outputs)), 1)
    for start in range(0, len(left.a), step):
        some = slice(start, min(start + step, len(left.a)))
        a, b = left.a[some], VectorFactors(right.a[some], right.s[some], right.transposed)
        h = torch.bmm(left.s[some].transpose(1, 2), b.s)
        for output in range(outputs):
            is_lower = left is right and not right.transposed
            count = output + 1 if is_lower else columns
            out = workspace.take(len(a), count * inputs)
            target = block[left.rows_of(output), : count * inputs]
            target.addmm_(a.T, b.weighted(h[:, output, :count], out))


def is_faster(samples: int, columns: int, outputs: int, size: int, element_size: int) -> bool:
    """Whether `add_outer` of all pairs is predicted to be faster than products of columns.

    Args:
        samples: ``N``.
        columns: ``C``.
        outputs: Of all parameters.
        size: ``D``, entries of all parameters.
        element_size: Bytes of an element.

    Returns:
        Whether fewer flops make up for more traffic.
    """
    traffic = FLOPS_PER_BYTE * element_size * samples * size
    return samples * size**2 + outputs * traffic < columns * (samples * size**2 + traffic)
