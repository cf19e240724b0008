"""References of the family are dense results, and what contradicts them is found."""

from dataclasses import replace

import oracle
import pytest
import torch
from benchmark_cases import regression_problem, small_problem
from torch import nn
from torch.func import functional_call, jacrev

from benchmarks.measure.accuracy import Outcome, check
from benchmarks.measure.vectors import changed_by_curvature, fixed_vector, sketch
from benchmarks.methods import NotApplicableError
from benchmarks.records.tasks import FAMILY, SOLVE_DAMPING, Computed, Grouping, Task
from benchmarks.run import family_reference as module
from benchmarks.run.family_reference import family_reference, reference_kernel
from benchmarks.run.reference import make_reference

PROBLEMS = {"cross-entropy": small_problem, "square loss": regression_problem}


def ggn(p):
    names = [name for name, _ in p.model.named_parameters()]
    return oracle.ggn(p.model, p.loss_func, p.inputs, p.targets, names)


def kernel(p):
    """From the Jacobian of the whole batch."""
    parameters = {name: x.detach() for name, x in p.model.named_parameters()}
    found = jacrev(lambda w: functional_call(p.model, w, (p.inputs,)))(parameters)
    rows = torch.cat([j.flatten(2) for j in found.values()], dim=2)
    return torch.einsum("ncd,mkd->nmck", rows, rows)


def fisher(p):
    """Eigenvalues of the ``D x D`` matrix; those of ``N`` samples."""
    names = [name for name, _ in p.model.named_parameters()]
    gradients = torch.stack(
        [
            oracle.gradient(p.model, p.loss_func, p.inputs[n : n + 1], p.targets[n : n + 1], names)
            for n in range(p.num_samples)
        ]
    )
    return torch.linalg.eigvalsh(gradients.T @ gradients / p.num_samples)[-p.num_samples :]


def solution(p):
    damped = ggn(p) + SOLVE_DAMPING * torch.eye(p.num_parameters).double()
    return torch.linalg.solve(damped, fixed_vector(p.num_parameters).double())


DENSE = {
    Computed.NTK: kernel,
    Computed.FISHER: fisher,
    Computed.SOLVE: solution,
    Computed.TRACE: lambda p: ggn(p).trace()[None],
    Computed.PRODUCT: lambda p: ggn(p) @ fixed_vector(p.num_parameters).double(),
}


@pytest.mark.parametrize("rows_bytes", [module.ROWS_BYTES, 1], ids=["at once", "one by one"])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("computed", FAMILY)
def test_references_are_dense_results(monkeypatch, computed, problem, rows_bytes):
    monkeypatch.setattr(module, "ROWS_BYTES", rows_bytes)
    p, task = PROBLEMS[problem](), Task(computed)
    reference, facts = make_reference(p, task)
    exact = DENSE[computed](p)
    assert check(Outcome(exact), task, reference, 1e-4).error < 1e-9
    wrong = check(Outcome(1.1 * exact), task, reference, 1e-4)
    assert wrong.error > 0.09
    assert wrong.tolerance in (1e-4, 1e-2)
    assert facts["residual"] < 1e-9
    assert len(reference.values) <= 64
    assert all(x.grad is None for x in p.model.parameters())


def test_kernels_have_one_block_for_each_pair_of_samples():
    p = small_problem()
    torch.testing.assert_close(reference_kernel(p)[0], kernel(p))


def test_a_solution_is_judged_by_what_curvature_changes():
    """To ignore curvature is an error of one, however small a part of the solution it changes."""
    size = 1000
    vector = fixed_vector(size)
    assert vector.dtype is torch.float32
    ignored = vector.double() / SOLVE_DAMPING
    assert changed_by_curvature(ignored).norm() == 0
    exact = ignored.clone()
    exact[0] *= 0.9
    reference = replace(family_reference(small_problem(), Computed.SOLVE)[0])
    reference = replace(reference, values=sketch(changed_by_curvature(exact)))
    task = Task(Computed.SOLVE)
    assert check(Outcome(ignored), task, reference, 1e-4).error == pytest.approx(1)
    assert check(Outcome(exact.float()), task, reference, 1e-4).error < 1e-4


@pytest.mark.parametrize("computed", FAMILY)
def test_wrong_references_do_not_pass(monkeypatch, computed):
    """Each is compared with a computation of another kind."""
    rows = module._rows
    monkeypatch.setattr(module, "_rows", lambda *parts: 1.001 * rows(*parts))
    pulled_back = module._pulled_back
    monkeypatch.setattr(module, "_pulled_back", lambda *a, **b: 1.001 * pulled_back(*a, **b))
    monkeypatch.setattr(module, "cg", lambda damped, v, **_: (v, 0))
    with pytest.raises(ArithmeticError, match=r"reference's .* has a relative residual of"):
        family_reference(small_problem(), computed)


@pytest.mark.parametrize("computed", FAMILY)
def test_variants_have_no_reference(computed):
    task = Task(computed, grouping=Grouping.LAYER)
    with pytest.raises(
        NotApplicableError, match=f"no reference for: {task.title}. It is measured"
    ):
        make_reference(small_problem(), task)


def test_losses_of_several_positions():
    """A loss may mix what a sample gives at several positions; its Hessian has all of them."""
    p = small_problem()
    model = nn.Sequential(p.model, nn.Unflatten(1, (2, 2)))
    targets = p.targets[:, None].expand(-1, 2) % 2
    p = replace(p, model=model, targets=targets)
    reference, _ = family_reference(p, Computed.TRACE)
    assert float(reference.values) == pytest.approx(float(ggn(p).trace()), rel=1e-10)
