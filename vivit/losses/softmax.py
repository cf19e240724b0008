r"""The symmetric factor of the Hessian of softmax cross-entropy, by Householder reflections.

With ``q = sqrt(p)``, a unit vector, the Hessian ``coefficient (diag(p) - p p^T)`` of a position is
``coefficient diag(q) (I - q q^T) diag(q)``, and ``I - q q^T = Q Q^T`` for any orthonormal basis
``Q`` of the complement of ``q``. The reflection that maps ``q`` to the unit vector of the most
likely class ``b`` gives one in closed form, with a column for each class ``c != b``:
``Q[i, c] = delta_ic - q_i q_c / (1 + q_b)`` for the rows ``i != b``, and ``Q[b, c] = -q_c``. As
``q_c^2 <= 1/2`` for these, nothing cancels, however certain the prediction is.

So ``S = sqrt(coefficient) diag(q) Q`` has as many columns as its rank, and its products cost no
more than reading ``q``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class SoftmaxFactor:
    """``S = sqrt(coefficient) diag(q) Q`` of each sample and position.

    Columns are ordered by position, then class. The last class stands in the place of the most
    likely one, which has no column.

    Attributes:
        roots: ``q``, shape ``[N, K, P]`` for ``K`` classes and ``P`` positions.
        best: The most likely class ``b``, shape ``[N, 1, P]``.
        scale: Square roots of the coefficients, shape ``[N, 1, P]``.
        out: Shape of the output of one sample, ``(K, *positions)``.
    """

    roots: Tensor
    best: Tensor
    scale: Tensor
    out: torch.Size

    @property
    def num_samples(self) -> int:
        """``N``."""
        return len(self.roots)

    @property
    def num_columns(self) -> int:
        """``P (K - 1)``."""
        _, classes, positions = self.roots.shape
        return (classes - 1) * positions

    def columns(self, some: slice) -> Tensor:
        """Each is zero at all positions but one."""
        samples, classes, positions = self.roots.shape
        found = self.roots.new_zeros(samples, some.stop - some.start, classes, positions)
        for position in range(some.start // (classes - 1), -(-some.stop // (classes - 1))):
            first = position * (classes - 1)
            start, stop = max(first, some.start), min(first + classes - 1, some.stop)
            target = found[:, start - some.start : stop - some.start, :, position]
            self._columns_at(position, slice(start - first, stop - first), target)
        return found.reshape(samples, -1, *self.out)

    def _columns_at(self, position: int, some: slice, target: Tensor) -> None:
        """Write the columns of some classes at a position to ``[N, c, K]``."""
        q, best = self.roots[:, :, position], self.best[:, :, position]
        last = q.shape[1] - 1
        classes = torch.arange(some.start, some.stop, device=q.device).expand(len(q), -1)
        classes = torch.where(classes == best, last, classes)
        of_class = q.gather(1, classes).unsqueeze(2)  # q_c
        shrunk = (q / (1 + q.gather(1, best))).scatter(1, best, 1.0).unsqueeze(1)
        torch.mul(-of_class, shrunk, out=target)
        target.scatter_add_(2, classes.unsqueeze(2), torch.ones_like(of_class))
        target.mul_((q * self.scale[:, :, position]).unsqueeze(1))

    def spread(self, x: Tensor) -> Tensor:
        """``sqrt(coefficient) diag(q) (Q x)``."""
        y = self.basis(x).mul_(self.roots).mul_(self.scale)
        return y.reshape(-1, *self.out)

    def contract(self, u: Tensor) -> Tensor:
        """``Q^T (sqrt(coefficient) diag(q) u)``."""
        return self.basis_transposed(u.reshape(self.roots.shape) * self.roots * self.scale)

    def basis(self, x: Tensor) -> Tensor:
        """``Q x``: from ``[N, C]`` to ``[N, K, P]``, in the precision of ``x``."""
        samples, classes, positions = self.roots.shape
        roots = self.roots.to(x.dtype)
        y = torch.empty_like(roots)
        y[:, :-1] = x.reshape(samples, positions, classes - 1).transpose(1, 2)
        y[:, -1:] = 0
        y[:, -1:] = y.gather(1, self.best)
        y.scatter_(1, self.best, 0.0)
        inner = (roots * y).sum(dim=1, keepdim=True)
        y.addcmul_(roots, inner / (1 + roots.gather(1, self.best)), value=-1)
        return y.scatter_(1, self.best, -inner)

    def basis_transposed(self, r: Tensor) -> Tensor:
        """``Q^T r``: from ``[N, K, P]``, which is overwritten, to ``[N, C]``."""
        of_best = r.gather(1, self.best)
        r.scatter_(1, self.best, 0.0)
        inner = (self.roots * r).sum(dim=1, keepdim=True) / (1 + self.roots.gather(1, self.best))
        r.addcmul_(self.roots, inner + of_best, value=-1)
        r.scatter_(1, self.best, r[:, -1:].clone())
        return r[:, :-1].transpose(1, 2).reshape(len(r), -1)

    def unreduced(self, w: Tensor) -> Tensor:
        """From coordinates in these columns to those in ``K`` columns per position.

        These are ``sqrt(coefficient) diag(q) (I - q q^T) = S Q^T``, so the map is ``Q``.

        Args:
            w: Shape ``[N, C, k]``.

        Returns:
            Shape ``[N, K * P, k]``, ordered by class, then position.
        """
        found = w.new_empty(len(w), self.roots[0].numel(), w.shape[2])
        for k in range(w.shape[2]):
            found[:, :, k] = self.basis(w[:, :, k]).flatten(1)
        return found

    def of_samples(self, samples: Tensor) -> SoftmaxFactor:
        """The factors of some samples."""
        roots, best, scale = self.roots[samples], self.best[samples], self.scale[samples]
        return SoftmaxFactor(roots, best, scale, self.out)

    def scaled(self, scale: float) -> SoftmaxFactor:
        """Shares the roots."""
        return replace(self, scale=self.scale * scale)
