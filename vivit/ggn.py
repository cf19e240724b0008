"""The front door: the generalized Gauss-Newton matrix of a model, a loss and a batch.

The algorithm (Dangel, Tatzel, Hennig, "ViViT: Curvature access through the generalized
Gauss-Newton's low-rank structure", TMLR 2022), top-down:

1. One forward pass; the loss Hessian of each sample is factored, ``H_n = S_n S_n^T``.
2. ``G = V V^T`` with the columns ``V_nc = J_n^T s_nc``. The columns of ``S`` are backpropagated,
   and each layer adds its part to the Gram matrix ``K = V^T V`` without storing ``V``.
3. ``K`` has the nonzero eigenvalues of ``G``. With ``K e~ = lambda e~``, the eigenvector of ``G``
   is ``e = V e~ / sqrt(lambda)``: one vector-Jacobian product with cotangent ``sum_c s_nc e~_nc``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn

from vivit.backprop.autograd import Linearization
from vivit.errors import InputError
from vivit.gram import gram_matrices
from vivit.loss_hessian import check_loss, loss_hessian
from vivit.operators import check_vector, flatten, symmetric_scipy_operator, unflatten
from vivit.parameters import Selector, select_parameters
from vivit.spectrum import nontrivial, spectrum

Criterion = Callable[[Tensor], Any]
"""Maps eigenvalues in ascending order to the indices of those to keep."""


@dataclass(frozen=True)
class EigenPairs:
    """Eigenvalues and eigenvectors of the GGN, in ascending order.

    Attributes:
        values: Shape ``[K]``, in units of the loss per squared parameter.
        vectors: For each parameter a tensor of shape ``[K, *shape]``. Together, the ``k``-th
            slices of all parameters are a vector of unit norm.
    """

    values: Tensor
    vectors: dict[str, Tensor]


class BatchCurvature:
    """The loss curvature of one batch: shared by a GGN's blocks, computed once for all of them.

    Attributes:
        linearization: The model, differentiable at its parameters and inputs.
        hessian: Hessian of the loss with respect to the model output.
        loss_gradient: Gradient of the loss with respect to the model output, ``[N, *out]``.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_func: nn.Module,
        data: Any,
        parameters: dict[str, Tensor],
        groups: dict[str, list[str]],
    ) -> None:
        """Run the forward pass and check that everything fits.

        Args:
            model: As for `GGN`, as are the next two.
            loss_func: The loss.
            data: A batch ``(X, y)``.
            parameters: All parameters that count, by name.
            groups: Names of the parameters of each block.
        """
        check_loss(loss_func)
        x, y = _batch(data)
        self.linearization = Linearization(model, x, parameters)
        self.hessian = loss_hessian(loss_func, self.linearization.output, y)
        self.loss_gradient = _loss_gradient(loss_func, self.linearization.output, y)
        self.groups = groups

    @cached_property
    def factor(self) -> Tensor:
        """Symmetric factor ``S`` of the loss Hessian, shape ``[N, C, *out]``."""
        return self.hessian.factor()

    @cached_property
    def grams(self) -> dict[str, Tensor]:
        """The Gram matrices of all blocks, from one sweep of backward passes."""
        return gram_matrices(self.linearization, self.factor, self.groups)


class GGN:
    """The generalized Gauss-Newton matrix ``G`` of a mini-batch loss, or a diagonal block of it.

    One forward pass is made on construction. It is kept, with its activations, so that all
    quantities agree with each other; they are evaluated when asked for. Nothing of the model is
    changed: gradients, hooks, mode and random state stay as they were.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_func: nn.Module,
        data: Any,
        params: Iterable[Selector] | None = None,
    ) -> None:
        """Set up the GGN.

        Args:
            model: Maps the inputs to a tensor of shape ``[N, *out]``, samples first.
            loss_func: ``torch.nn.CrossEntropyLoss`` or ``torch.nn.MSELoss``, with reduction
                ``"mean"`` or ``"sum"``.
            data: A batch ``(X, y)``.
            params: Names of parameters, globs such as ``"conv*"``, or parameters; by default all
                that require gradients.

        Raises:
            InputError: An argument has a wrong value, or the model gives NaN or infinity.
            UnsupportedError: The model or loss cannot be handled correctly.
        """
        parameters = select_parameters(model, params)
        groups = {"": list(parameters)}
        self._attach(BatchCurvature(model, loss_func, data, parameters, groups), "")

    @classmethod
    def _block(cls, curvature: BatchCurvature, group: str) -> GGN:
        """The block of one of the groups of a shared curvature."""
        block = cls.__new__(cls)
        block._attach(curvature, group)
        return block

    def _attach(self, curvature: BatchCurvature, group: str) -> None:
        self._curvature, self._group = curvature, group
        parameters = curvature.linearization.parameters
        self._shapes = {name: parameters[name].shape for name in curvature.groups[group]}

    @property
    def shape(self) -> tuple[int, int]:
        """``(D, D)``, the number of selected parameters twice."""
        size = sum(math.prod(shape) for shape in self._shapes.values())
        return size, size

    @property
    def num_columns(self) -> int:
        """``M = N C``, the number of columns of ``V`` and the size of the Gram matrix."""
        return len(self._curvature.linearization.output) * self._curvature.hessian.num_columns

    @property
    def parameter_names(self) -> list[str]:
        """Names of the selected parameters, in the order of flat vectors."""
        return list(self._shapes)

    def __repr__(self) -> str:
        """Size and parameters, for interactive use."""
        names = ", ".join(self._shapes)
        return f"GGN(shape={self.shape}, num_columns={self.num_columns}, parameters=[{names}])"

    def gram(self) -> Tensor:
        """The Gram matrix ``K = V^T V``.

        Returns:
            Shape ``[M, M]``, rows and columns ordered ``(n, c)``.
        """
        return self._gram.clone()

    def eigvalsh(self) -> Tensor:
        """All eigenvalues that are not zero for lack of columns.

        Returns:
            Shape ``[min(M, D)]``, ascending. ``G`` has ``D - M`` further zeros if ``M < D``.
        """
        return spectrum(self._gram, self.shape[0])

    @torch.no_grad()
    def eigh(self, k: int | None = None, criterion: Criterion | None = None) -> EigenPairs:
        """Eigenvalues and eigenvectors.

        Args:
            k: Keep the ``k`` largest (all nontrivial ones, if there are fewer).
            criterion: Receives the nontrivial eigenvalues, ascending, and returns the indices of
                those to keep (a list, a tensor, a mask or a slice). By default all are kept.

        Returns:
            The kept pairs, ascending. Signs of vectors are arbitrary. Trivial eigenvalues, below
            the rounding error of the largest, have no eigenvector in the range of ``V``.

        Raises:
            InputError: Both or an impossible ``k`` are given.
        """
        values, gram_vectors = torch.linalg.eigh(self._gram)
        keep = nontrivial(values)
        values, gram_vectors = values[keep], gram_vectors[:, keep]
        index = _kept(values, k, criterion, min(self.shape[0], self.num_columns))
        values, gram_vectors = values[index], gram_vectors[:, index]
        return EigenPairs(values, self._vectors(gram_vectors))

    def gradient(self) -> dict[str, Tensor]:
        """The gradient of the mini-batch loss at the same forward pass.

        Returns:
            A tensor of the parameter's shape for each parameter.
        """
        curvature = self._curvature
        return curvature.linearization.pullback(curvature.loss_gradient, self._shapes)

    def __matmul__(self, v: Mapping[str, Tensor] | Tensor) -> dict[str, Tensor] | Tensor:
        """Multiply ``G v = sum_n J_n^T H_n J_n v`` without forming ``G``.

        Args:
            v: Tensors by parameter name, or one flat tensor of shape ``[D]``.

        Returns:
            The product, in the same form.

        Raises:
            InputError: The vector does not have the parameters' shapes.
        """
        if isinstance(v, Tensor):
            return flatten(self._multiply(unflatten(v, self._shapes)), self._shapes)
        check_vector(v, self._shapes)
        return self._multiply(dict(v))

    def to_scipy(self) -> LinearOperator:
        """``G`` as a matrix-free operator for scipy's solvers.

        Returns:
            Operator of shape ``[D, D]`` on flat numpy vectors.
        """
        parameters = self._curvature.linearization.parameters
        like = torch.cat([parameters[name].detach().reshape(-1) for name in self._shapes])
        return symmetric_scipy_operator(
            lambda v: flatten(self._multiply(unflatten(v, self._shapes)), self._shapes), like
        )

    @property
    def _gram(self) -> Tensor:
        return self._curvature.grams[self._group]

    def _multiply(self, v: dict[str, Tensor]) -> dict[str, Tensor]:
        curvature = self._curvature
        u = curvature.hessian.product(curvature.linearization.pushforward(v))
        return curvature.linearization.pullback(u, self._shapes)

    def _vectors(self, gram_vectors: Tensor) -> dict[str, Tensor]:
        """Map eigenvectors of the Gram matrix, ``[M, K]``, to unit eigenvectors of ``G``."""
        factor = self._curvature.factor
        vectors = {
            name: factor.new_empty(gram_vectors.shape[1], *shape)
            for name, shape in self._shapes.items()
        }
        for k, coefficients in enumerate(gram_vectors.T):
            cotangent = torch.einsum("nc...,nc->n...", factor, coefficients.view(factor.shape[:2]))
            vector = self._curvature.linearization.pullback(cotangent, self._shapes)
            # sqrt(lambda) in exact arithmetic; the true norm is more accurate for small lambda
            norm = torch.stack([x.square().sum() for x in vector.values()]).sum().sqrt()
            for name, x in vector.items():
                vectors[name][k] = x / norm
        return vectors


def _batch(data: Any) -> tuple[Any, Tensor]:
    if not isinstance(data, (tuple, list)) or len(data) != 2 or not isinstance(data[1], Tensor):
        raise InputError(
            f"data must be a batch (X, y) of inputs and target tensor, got {type(data).__name__}"
            + (f" of length {len(data)}." if isinstance(data, (tuple, list)) else ".")
        )
    x, y = data
    for name, tensor in (("X", x), ("y", y)):
        if isinstance(tensor, Tensor) and (tensor.ndim == 0 or len(tensor) == 0):
            raise InputError(
                f"The batch is empty: {name} has shape {list(tensor.shape)}, expected samples "
                "along the first axis."
            )
    return x, y


def _loss_gradient(loss_func: nn.Module, output: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        f = output.detach().requires_grad_()
        return torch.autograd.grad(loss_func(f, y), f)[0]


def _kept(values: Tensor, k: int | None, criterion: Criterion | None, largest: int) -> Any:
    """Indices of the eigenpairs to keep."""
    if k is not None and criterion is not None:
        raise InputError("Give either k or criterion, not both.")
    if criterion is not None:
        return criterion(values)
    if k is None:
        return slice(None)
    if not 1 <= k <= largest:
        raise InputError(f"k must be between 1 and min(M, D) = {largest}, got {k}.")
    return slice(max(len(values) - k, 0), None)
