"""References of kernels, the Fisher, traces, products and solves: nothing of ours is in them.

Kernel, Fisher and trace come from rows ``J_n^T c``, a plain backward pass for each sample and each
column ``c``, and are checked by other computations with the same matrix. Products do without rows,
which are too many where there are outputs at many positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

from benchmarks.measure.accuracy import Reference, relative_error
from benchmarks.measure.vectors import changed_by_curvature, fixed_vector, sketch
from benchmarks.methods.conventions import matrix_free_ggn
from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import SOLVE_DAMPING, Computed
from benchmarks.run.certified import require

ROWS_BYTES = 2**29
"""Of the rows of some samples that are held at once; twice as many for inner products."""

SOLVE_TOLERANCE = 1e-11
"""Relative residual at which conjugate gradients end, in float64."""


def family_reference(instance: Instance, computed: Computed) -> tuple[Reference, dict[str, Any]]:
    """The result of a task in double precision.

    Args:
        instance: A problem in float64.
        computed: Which of `FAMILY`.

    Returns:
        The reference, and how it was checked.

    Raises:
        ArithmeticError: A check failed.
    """
    makers: dict[Computed, Callable[[Instance], tuple[Tensor, float]]] = {
        Computed.NTK: reference_kernel,
        Computed.FISHER: reference_fisher,
        Computed.SOLVE: reference_solution,
        Computed.TRACE: reference_trace,
        Computed.PRODUCT: reference_product,
    }
    values, residual = makers[computed](instance)
    if computed is Computed.SOLVE:
        values = changed_by_curvature(values)
    facts: dict[str, Any] = {"residual": residual}
    if computed not in (Computed.FISHER, Computed.TRACE):
        values, facts["projections"] = sketch(values.flatten()), True
    return Reference.single(values), facts


def reference_kernel(instance: Instance) -> tuple[Tensor, float]:
    """The tangent kernel of the batch with itself, ``J_n J_m^T``.

    Args:
        instance: A problem in float64, with outputs ``[N, C]``.

    Returns:
        Shape ``[N, N, C, C]``, and the relative error of one of its quadratic forms.
    """
    outputs = _outputs(instance)
    samples, classes = outputs.shape
    unit = torch.eye(classes).to(outputs).expand(samples, classes, classes)
    gram, error = _checked_gram(instance, unit, "kernel")
    return gram.reshape(samples, classes, samples, classes).transpose(1, 2), error


def reference_fisher(instance: Instance) -> tuple[Tensor, float]:
    """All eigenvalues of the empirical Fisher that are not trivial.

    Args:
        instance: A problem in float64.

    Returns:
        Eigenvalues, ascending, and the relative error of a quadratic form of the Gram matrix.
    """
    outputs = _outputs(instance)
    (slopes,) = torch.autograd.grad(instance.loss_func(outputs, instance.targets), outputs)
    columns = slopes.flatten(1)[:, None] * len(outputs) ** 0.5  # g_n / sqrt(N) of a mean loss
    gram, error = _checked_gram(instance, columns, "Fisher")
    return torch.linalg.eigvalsh(gram)[-min(instance.num_parameters, len(gram)) :], error


def reference_trace(instance: Instance) -> tuple[Tensor, float]:
    """The trace of the GGN; its rows must give the same curvature along a vector as curvlinops.

    Args:
        instance: A problem in float64.

    Returns:
        Shape ``[1]``, and the relative error of the curvature.
    """
    vector = fixed_vector(instance.num_parameters).to(instance.like)
    trace, curvature = torch.zeros(2).to(vector)
    for rows in _row_blocks(instance, _hessian_columns(instance)):
        trace += rows.square().sum()
        curvature += (rows @ vector).square().sum()
    exact = vector @ (matrix_free_ggn(instance) @ vector)
    error = relative_error(curvature[None], exact[None])
    require(error, "trace")
    return trace[None], error


def reference_product(instance: Instance) -> tuple[Tensor, float]:
    """The GGN times the fixed vector, by backward passes alone; it must be curvlinops' product.

    That goes forward through the network, which is another computation.

    Args:
        instance: A problem in float64.

    Returns:
        Shape ``[D]``, and the norm of the difference relative to that of the product.
    """
    vector = fixed_vector(instance.num_parameters).to(instance.like)
    outputs = instance.model(instance.inputs)
    leaf = outputs.detach().requires_grad_()
    loss = instance.loss_func(leaf, instance.targets)
    (slopes,) = torch.autograd.grad(loss, leaf, create_graph=True)
    cotangents = torch.zeros_like(leaf).requires_grad_()
    slope = _pulled_back(instance, outputs, cotangents, create_graph=True) @ vector
    (tangents,) = torch.autograd.grad(slope, cotangents, retain_graph=True)  # linear in them
    (curved,) = torch.autograd.grad(slopes, leaf, tangents)
    product = _pulled_back(instance, outputs, curved)
    error = relative_error(product, matrix_free_ggn(instance) @ vector)
    require(error, "product")
    return product, error


def _pulled_back(
    instance: Instance, outputs: Tensor, cotangents: Tensor, create_graph: bool = False
) -> Tensor:
    """The transposed Jacobian of the outputs times cotangents, flat."""
    parameters = [*instance.model.parameters()]
    parts = torch.autograd.grad(outputs, parameters, cotangents, create_graph=create_graph)
    return torch.cat([part.flatten() for part in parts])


def reference_solution(instance: Instance) -> tuple[Tensor, float]:
    """``(G + d I)^-1 v`` by conjugate gradients on curvlinops' GGN, in float64.

    Args:
        instance: A problem in float64.

    Returns:
        Shape ``[D]``, and the norm of the residual relative to that of ``v``.
    """
    operator = matrix_free_ggn(instance)
    vector = fixed_vector(instance.num_parameters).to(instance.like)
    damped = _damped(operator.to_scipy(dtype=np.float64))
    found, _ = cg(damped, vector.cpu().numpy(), rtol=SOLVE_TOLERANCE, maxiter=len(vector))
    solution = torch.from_numpy(found).to(vector)
    error = relative_error(operator @ solution + SOLVE_DAMPING * solution, vector)
    require(error, "solution")
    return solution, error


def _damped(ggn: Any) -> Any:
    return LinearOperator(ggn.shape, lambda v: ggn @ v + SOLVE_DAMPING * v, dtype=ggn.dtype)


def _outputs(instance: Instance) -> Tensor:
    outputs = instance.model(instance.inputs)
    return outputs.detach().requires_grad_()


def _hessian_columns(instance: Instance) -> Tensor:
    """Square roots of the loss Hessian of each sample, by the outputs: ``[N, C, C]``."""
    outputs = _outputs(instance)
    roots = []
    for n in range(len(outputs)):

        def loss(output: Tensor, n: int = n) -> Tensor:
            others = outputs.detach()
            whole = torch.cat([others[:n], output.reshape_as(others[:1]), others[n + 1 :]])
            return instance.loss_func(whole, instance.targets)

        hessian = torch.func.hessian(loss)(outputs[n].detach().flatten())
        values, vectors = torch.linalg.eigh(hessian)
        roots.append((vectors * values.clamp(min=0).sqrt()).T)
    return torch.stack(roots)


def _checked_gram(instance: Instance, columns: Tensor, what: str) -> tuple[Tensor, float]:
    """Inner products of all rows, and their error along the fixed vector.

    The square of a combination of rows is the squared norm of one backward pass through the whole
    batch.

    Args:
        instance: The problem.
        columns: Of each sample, by the outputs, shape ``[N, K, C]``.
        what: It is, in words.

    Returns:
        Shape ``[N K, N K]``, sample by sample.
    """
    gram = _gram(instance, columns)
    weights = fixed_vector(len(gram)).to(gram)
    cotangents = (weights.reshape(columns.shape[:2])[..., None] * columns).sum(dim=1)
    outputs = instance.model(instance.inputs)
    parts = torch.autograd.grad(
        outputs, [*instance.model.parameters()], cotangents.reshape(outputs.shape)
    )
    exact = sum(part.square().sum() for part in parts)
    error = relative_error((weights @ gram @ weights)[None], torch.as_tensor(exact)[None])
    require(error, what)
    return gram, error


def _gram(instance: Instance, columns: Tensor) -> Tensor:
    rows = [
        torch.cat([left @ right.T for right in _row_blocks(instance, columns)], dim=1)
        for left in _row_blocks(instance, columns)
    ]
    return torch.cat(rows)


def _row_blocks(instance: Instance, columns: Tensor) -> Iterator[Tensor]:
    """Rows ``J_n^T c`` of some samples at a time, shape ``[rows, D]``."""
    row_bytes = instance.num_parameters * instance.like.element_size()
    size = max(ROWS_BYTES // (row_bytes * columns.shape[1]), 1)
    for start in range(0, instance.num_samples, size):
        samples = range(start, min(start + size, instance.num_samples))
        yield torch.cat([_rows(instance.samples(slice(n, n + 1)), columns[n]) for n in samples])


def _rows(sample: Instance, columns: Tensor) -> Tensor:
    """Of one sample, by a plain backward pass for each column."""
    outputs, parameters = sample.model(sample.inputs), [*sample.model.parameters()]
    rows = []
    for column in columns:
        cotangent = column.reshape(outputs.shape)
        parts = torch.autograd.grad(outputs, parameters, cotangent, retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)
