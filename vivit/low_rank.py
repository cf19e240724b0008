"""What every curvature matrix ``G = V V^T`` of low rank has, whatever its columns are.

Which vectors of the outputs are sent back is what a kind of curvature says, such as `vivit.GGN`.
All that follows needs no more than the columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from vivit.errors import InputError
from vivit.factor import Factor, Sums, each_vector, pullback
from vivit.gram.blocks import BlockMatrices
from vivit.gram.forms import SWEPT
from vivit.gram.memory import check_matrix_fits
from vivit.gram.plan import Plan
from vivit.gram.spectrum import EIGENVALUE_COPIES, OuterMatrix, Pairs
from vivit.gram.traces import parameter_traces
from vivit.operators import (
    FactorOperator,
    GramOperator,
    check_kind,
    check_vector,
    flatten,
    flatten_columns,
    map_vectors,
    scipy_operator,
    unflatten,
    unflatten_columns,
)
from vivit.quantities.arguments import Positive, Vectors
from vivit.quantities.block import Block
from vivit.quantities.damped import SolveMethod
from vivit.quantities.directional import DirectionalDerivatives, directional_derivatives
from vivit.quantities.eigen_pairs import EigenPairs
from vivit.quantities.newton import Damping, dampings
from vivit.quantities.pairs import find_pairs
from vivit.quantities.scalars import effective_dimension, frobenius_norm, logdet
from vivit.quantities.selection import Criterion, Selection
from vivit.quantities.solve import InverseOperator, flat_newton_step, solve
from vivit.quantities.solvers import Solver
from vivit.ranks import Ranks, together
from vivit.shown import Shown, counted

C = TypeVar("C", bound="LowRankCurvature")


class LowRankCurvature(Shown):
    """A curvature matrix ``G = V V^T`` of a model at some data, or a diagonal block of it."""

    @classmethod
    def of_block(cls: type[C], matrices: BlockMatrices, group: str) -> C:
        """The block of one of the groups of a shared curvature."""
        block = cls.__new__(cls)
        block._attach(matrices, group)
        return block

    def _attach(self, matrices: BlockMatrices, group: str) -> None:
        curvature = matrices.curvature
        parameters = {name: curvature.parameters[name] for name in matrices.groups[group]}
        self._curvature, self._matrices, self._group = curvature, matrices, group
        self._factor = Factor(
            curvature.pieces,
            parameters,
            curvature.num_columns,
            curvature.progress,
            curvature.kind.is_centered,
            curvature.ranks,
        )
        self._shapes = self._factor.shapes

    @property
    def ranks(self) -> Ranks:
        """The processes that have a share of the samples."""
        return self._curvature.ranks

    @property
    def shape(self) -> tuple[int, int]:
        """``(D, D)``, the number of selected parameters twice."""
        size, _ = self._factor.shape
        return size, size

    @property
    def num_columns(self) -> int:
        """``M = N C``, the number of columns of ``V`` and the size of the Gram matrix.

        Batches of other lengths have another ``C``, and ``M`` is the sum of their ``N C``.
        """
        _, size = self._factor.shape
        return size

    @property
    def parameter_names(self) -> list[str]:
        """Names of the selected parameters, in the order of flat vectors."""
        return list(self._shapes)

    @property
    def _parts(self) -> dict[str, str]:
        return {
            "shape": str(self.shape),
            "num_columns": str(self.num_columns),
            "parameters": counted([*self._shapes], what=""),
        }

    @together
    def gram(self) -> Tensor:
        """The Gram matrix ``K = V^T V``.

        Returns:
            Shape ``[M, M]``, rows and columns ordered ``(n, c)``.

        Raises:
            InsufficientMemoryError: It would not fit; so for all that needs eigenvalues.
        """
        size = self.num_columns**2 * self._factor.like.element_size()
        available, kind = self._matrices.costs.room.available, self._curvature.kind
        check_matrix_fits(self.num_columns, size, available, kind.may_be_sampled)
        return self._matrices.gram_of(self._group)

    def plan(self) -> Plan:
        """What the Gram matrix will cost, before any backward pass; and what was done, after it.

        Returns:
            For each layer the order of contraction, flops and bytes, what is formed and why, and
            the predicted peak with eigenvalues; print it for a table. Blocks share their passes:
            it is that of all. Once the matrix is made, which rule served each parameter, and what
            it took.
        """
        return self._matrices.plan(EIGENVALUE_COPIES)

    @together
    def eigvalsh(self) -> Tensor:
        """All eigenvalues that are not zero for lack of columns.

        Returns:
            Shape ``[min(M, D)]``, ascending. ``G`` has ``D - M`` further zeros if ``M < D``.
        """
        matrix = self._matrices.of_block(self._group, EIGENVALUE_COPIES)
        if isinstance(matrix, OuterMatrix):
            return matrix.eigenvalues()
        return matrix.eigenvalues(self.shape[0])

    @together
    @torch.no_grad()
    def eigh(
        self,
        k: int | None = None,
        criterion: Criterion | None = None,
        rank_tolerance: float | None = None,
        method: Solver | None = None,
    ) -> EigenPairs:
        """Eigenvalues and eigenvectors.

        Args:
            k: Keep the ``k`` largest (all nontrivial ones, if there are fewer).
            criterion: Receives the nontrivial eigenvalues, ascending, and returns the indices of
                those to keep (a list, a tensor, a mask or a slice). By default all are kept.
            rank_tolerance: Eigenvalues below this share of the largest are trivial: rounding
                errors, without an eigenvector in the range of ``V``. By default the size of the
                matrix times the precision of the dtype.
            method: ``FullGram()``, or for the ``k`` largest ``Lanczos(tolerance)``, which does
                without the Gram matrix, or ``SpreadGram(tolerance)``, which leaves it in blocks
                on the ranks that compute them; by default the one that is predicted to be
                fastest, among what fits into memory.

        Returns:
            The kept pairs, ascending. Signs of vectors are arbitrary. Rounding errors weigh more,
            the smaller an eigenvalue is: those of a vector grow as the square root of the largest
            over its own. In single precision, vectors are orthonormal all the same, for what
            follows from the columns of ``V`` is computed in double precision where that is needed.

        Raises:
            InputError: Both or an impossible ``k`` are given, or a criterion, tolerance or method
                that does not fit.
            ConvergenceError: Lanczos iteration did not find the pairs.
        """
        pairs = self._pairs(Selection(k, criterion, rank_tolerance, method))
        values = pairs.values.to(self._factor.like.dtype)
        return EigenPairs(values, self._factor.vectors(pairs, self._workspace))

    @together
    def directional_derivatives(
        self,
        k: int | None = None,
        criterion: Criterion | None = None,
        rank_tolerance: float | None = None,
        method: Solver | None = None,
    ) -> DirectionalDerivatives:
        """First and second derivatives of each sample's loss along the eigenvectors.

        Args:
            k: As for `eigh`, as are the others.
            criterion: Chooses the directions.
            rank_tolerance: Which eigenvalues are trivial.
            method: The way to the eigenpairs.

        Returns:
            ``gammas``, shape ``[N, K]``, for all samples; ``lambdas``, shape ``[N, K]``, for those
            that carry curvature; unscaled: see `DirectionalDerivatives`. Of several ranks, for
            this rank's samples.
        """
        pairs = self._pairs(Selection(k, criterion, rank_tolerance, method))
        curvature, found = self._curvature, self._derivatives(pairs)
        if self.ranks.size > 1:
            curved = curvature.curved_of_ranks[self.ranks.rank]
            found = DirectionalDerivatives(
                found.gammas[curvature.own_samples], found.lambdas[curved]
            )
        return found.to(self._factor.like.dtype)

    @together
    @torch.no_grad()
    def newton_step(
        self,
        damping: Damping = 1.0,
        k: int | None = None,
        criterion: Criterion | None = None,
        rank_tolerance: float | None = None,
        method: Solver | None = None,
        flat: bool = False,
    ) -> dict[str, Tensor]:
        """The damped Newton step ``sum_k -gamma_k / (lambda_k + delta_k) e_k``.

        One vector-Jacobian product, however many directions. Trivial ones are left out, which a
        damping that is not far above ``rank_tolerance`` times the largest eigenvalue would let
        make up much of the step: give a smaller tolerance then, or ``flat=True``.

        Args:
            damping: ``delta``, one for all directions, or a rule that maps eigenvalues ``[K]``
                and `DirectionalDerivatives` to one for each, such as `BootstrapDamping`.
            k: As for `eigh`, as are the next three.
            criterion: Chooses the directions.
            rank_tolerance: Which eigenvalues are trivial.
            method: The way to the eigenpairs.
            flat: Whether it is ``-(G + delta I)^-1 g``, along all directions, the flat ones too:
                from a Cholesky factor, much faster than eigenpairs. The damping is one positive
                number then, and nothing is selected. As for `solve`, a warning if it is not
                accurate.

        Returns:
            What to add to each parameter.

        Raises:
            InputError: The damping is negative, not finite or of the wrong shape.
        """
        selection = Selection(k, criterion, rank_tolerance, method)
        if flat:
            return flat_newton_step(self._block, damping, selection, self.gradient)
        pairs = self._pairs(selection)
        derivatives, curvature = self._derivatives(pairs), self._curvature
        dtype = curvature.like.dtype
        delta = dampings(damping, pairs.values.to(dtype), derivatives.to(dtype))
        slope = derivatives.gammas.mean(0) if curvature.is_mean else derivatives.gammas.sum(0)
        step = -slope / (pairs.values + delta)
        return self._factor.combine(pairs, step)

    @together
    def gradient(self) -> dict[str, Tensor]:
        """The gradient of the loss of all samples, at the same forward pass.

        Returns:
            A tensor of the parameter's shape for each parameter.
        """
        batches, parameters = self._curvature.each(), self._factor.parameters
        with self._curvature.progress.stage("gradient", total=len(self._curvature.batches)):
            total = pullback(batches, lambda batch: [batch.gradient], parameters, count=1)
        self.ranks.add([*total.values()], "the gradient")
        return {name: x[0] for name, x in total.items()}

    @together
    def traces(self) -> dict[str, Tensor]:
        """Traces of the diagonal blocks of the parameters; their sum is the trace of ``G``.

        From norms of the columns of ``V``: no Gram matrix is formed, and none has to fit. Of few
        parameters with many columns, from the diagonal of their matrix.

        Returns:
            A scalar for each parameter.

        Raises:
            InputError: One is NaN or infinite.
        """
        self._curvature.check_fresh()
        parameters, costs = self._factor.parameters, self._matrices.costs
        if self._matrices.form_of(self._group) not in SWEPT:
            matrix = self._matrices.of_block(self._group, EIGENVALUE_COPIES)
            if isinstance(matrix, OuterMatrix):
                diagonal = unflatten(matrix.matrix.diagonal(), self._shapes)
                return {name: x.sum() for name, x in diagonal.items()}
        found = parameter_traces(
            self._curvature.carrying, parameters, self._workspace, costs.plan(), self.ranks
        )
        if self._factor.is_centered:
            lost = self._factor.centering_traces()
            found = {name: (x - lost[name]).clamp(min=0) for name, x in found.items()}
        return found

    @together
    def solve(
        self, v: Vectors, damping: Positive, method: SolveMethod | None = None
    ) -> dict[str, Tensor] | Tensor:
        """Solve ``(G + delta I) x = v``, with the flat directions.

        By a Cholesky factor of the smaller matrix: of ``G + delta I``, or of ``K + delta I`` with
        ``(v - V (K + delta I)^-1 V^T v) / delta`` (Woodbury), one Jacobian-vector and one
        vector-Jacobian product for each vector. The residual ``v - (G + delta I) x`` is computed,
        by one product more, and solved for in turn as long as that helps (Higham, "Accuracy and
        Stability of Numerical Algorithms", chapter 12). What is left is rounding errors, some
        ``eps lambda_max ||x||``, where ``||x||`` may be ``||v|| / delta``; there is a warning if
        it exceeds ``sqrt(eps) ||v||``.

        Args:
            v: Tensors by parameter name, or a flat tensor of shape ``[D]`` or, for several vectors
                that share all passes, ``[D, K]``; of the parameters' dtype and device.
            damping: ``delta > 0``, in units of ``G``; or a sequence or tensor of ``P`` of them,
                which share ``V^T v``, all passes and, if they are many, one eigendecomposition.
            method: ``FullGram()`` for the matrix, or ``ConjugateGradients()``, which forms none;
                by default the matrix, if it fits into memory.

        Returns:
            The solution, in the same form; for several dampings with an axis of size ``P`` in
            front, of each tensor.

        Raises:
            InputError: A damping is not positive and finite, the vector is not as described, or
                the method is none.
            ConvergenceError: Conjugate gradients did not find it.
            InsufficientMemoryError: The matrix was asked for, and does not fit.
        """
        return solve(self._block, v, damping, method)

    @together
    def inverse_operator(
        self, damping: float, method: SolveMethod | None = None, check: bool = True
    ) -> InverseOperator:
        """``(G + delta I)^-1`` as an operator: factored once, applied many times.

        Args:
            damping: ``delta > 0``, one.
            method: As for `solve`.
            check: Whether each application computes its residual and corrects itself, as `solve`
                does. That takes one product with ``G`` more for each vector, and two for each
                correction; a preconditioner can do without.

        Returns:
            The operator, with ``shape``, ``@``, ``to_scipy()`` and ``residual``.

        Raises:
            InputError: As for `solve`, as are the others.
        """
        return InverseOperator(self._block, damping, method, check)

    def trace(self) -> Tensor:
        """``tr G``, a scalar: the sum of `traces`, without a Gram matrix."""
        return torch.stack([*self.traces().values()]).sum()

    @together
    def frobenius_norm(self) -> Tensor:
        """``||G||_F = ||K||_F``, a scalar, from the smaller matrix."""
        return frobenius_norm(self._block)

    @together
    def logdet(self, damping: Positive) -> Tensor:
        """``log det(G + delta I) = (D - M) log delta + log det(K + delta I)``, if ``M < D``.

        Args:
            damping: ``delta > 0``; or a sequence or tensor of ``P`` of them.

        Returns:
            A scalar, or shape ``[P]``; a warning, if a damping is below rounding errors.

        Raises:
            InputError: A damping is not positive and finite.
            InsufficientMemoryError: The smaller matrix does not fit.
        """
        return logdet(self._block, damping)

    @together
    def effective_dimension(self, damping: Positive) -> Tensor:
        """``sum_k lambda_k / (lambda_k + delta)``: directions that are curved more than damped.

        Args:
            damping: As for `logdet`, as are results and errors.
        """
        return effective_dimension(self._block, damping)

    def __matmul__(self, v: Mapping[str, Tensor] | Tensor) -> dict[str, Tensor] | Tensor:
        """Multiply ``G v = sum_n J_n^T H_n J_n v`` without forming ``G``.

        Args:
            v: Tensors by parameter name, or a flat tensor of shape ``[D]`` or, for several vectors
                at once, ``[D, K]``.

        Returns:
            The product, in the same form.

        Raises:
            InputError: The vector does not have the parameters' shapes.
            UnsupportedError: An operation has neither a second derivative nor a forward mode.
        """
        if isinstance(v, Tensor):
            return map_vectors(self._multiply_columns, v, self.shape[0], self._factor.like)
        if not isinstance(v, Mapping):
            raise InputError(
                "G is multiplied with a tensor or a mapping from parameter names to tensors, got "
                f"{type(v).__name__}."
            )
        check_vector(v, self._shapes)
        for name, x in v.items():
            check_kind(x, self._factor.like, f" for {name!r}")
        product = self._multiply({name: x[None] for name, x in v.items()})
        return {name: x[0] for name, x in product.items()}

    def to_scipy(self) -> LinearOperator:
        """``G`` as a matrix-free operator for scipy's solvers.

        Returns:
            Operator of shape ``[D, D]`` on flat numpy vectors.
        """
        multiply = self._multiply_columns
        return scipy_operator(multiply, multiply, self.shape, self._factor.like)

    def factor_operator(self) -> FactorOperator:
        """``V`` as a matrix-free operator of shape ``[D, M]``: see `FactorOperator`."""
        return FactorOperator(self._factor)

    def gram_operator(self) -> GramOperator:
        """The Gram matrix as a matrix-free operator of shape ``[M, M]``."""
        return GramOperator(self._factor)

    def flatten(self, v: Mapping[str, Tensor]) -> Tensor:
        """Tensors by parameter name as one flat vector, shape ``[D]``."""
        check_vector(v, self._shapes)
        return flatten(v, self._shapes)

    def unflatten(self, v: Tensor) -> dict[str, Tensor]:
        """A flat vector, shape ``[D]``, as tensors by parameter name."""
        return unflatten(v, self._shapes)

    def _pairs(self, selection: Selection) -> Pairs:
        return find_pairs(self._matrices, self._group, self._factor, selection)

    @property
    def _block(self) -> Block:
        return Block(self._matrices, self._group, self._factor, self._multiply_columns)

    @property
    def _workspace(self) -> int:
        return self._matrices.costs.room.workspace

    def _derivatives(self, pairs: Pairs) -> DirectionalDerivatives:
        with self._curvature.progress.stage("derivatives"):
            return directional_derivatives(self._matrices, self._group, self._factor, pairs)

    @together
    def _multiply(self, v: dict[str, Tensor]) -> dict[str, Tensor]:
        count = len(next(iter(v.values())))
        total = Sums(self._factor.parameters, count)
        with self._curvature.progress.stage("product", total=len(self._curvature.batches)):
            for batch in self._curvature.pieces():
                for k, one in enumerate(each_vector(v)):
                    total.add(k, batch.linearization.products.sandwich(batch.multiply, one, count))
        product = total.tensors
        self.ranks.add([*product.values()], "G times vectors")
        self._factor.center_product(product, v)
        return product

    def _multiply_columns(self, v: Tensor) -> Tensor:
        return flatten_columns(self._multiply(unflatten_columns(v, self._shapes)), self._shapes)
