"""The original, vivit-for-pytorch 1.0.0, in an environment of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from backpack import backpack, extend
from backpack.core.derivatives.convnd import weight_jac_t_save_memory
from torch import Tensor, nn

from benchmarks.accuracy import Check, Outcome, Reference, check_trace
from benchmarks.conventions import above_cutoff, flat_vectors, layers
from benchmarks.methods.backpack_form import backpack_form
from benchmarks.methods.base import Method, NotApplicableError, refuse_combinations
from benchmarks.problems import Instance
from benchmarks.tasks import NEWTON_DAMPING, Approximation, Computed, Grouping, Subset, Task

PACKAGE, VERSION = "vivit-for-pytorch", "1.0.0"
OURS = Path(__file__).resolve().parents[2] / "vivit"
"""The library of this repository, which has the same import name."""

SHIM = (
    "Tensor.symeig, which torch has removed, is given back through torch.linalg.eigh, or "
    "torch.linalg.eigvalsh where no vectors are asked for"
)


class Original(Method):
    """Eigenvalues, eigenpairs and Newton steps during BackPACK's backward pass."""

    tolerance = 1e-4
    is_peer = True

    def __init__(self, lean: bool) -> None:
        """Choose the setting.

        Args:
            lean: Compute convolutions inside BackPACK's ``weight_jac_t_save_memory(True)``; else
                everything is as shipped.
        """
        self._lean = lean
        self.name = "original_lean" if lean else "original"
        setting = "inside weight_jac_t_save_memory(True)" if lean else "as shipped"
        self.description = f"{PACKAGE} {VERSION}, {setting}; needs the tox environment peer"

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Extend model and loss by BackPACK."""
        refuse_combinations(self, task)
        if task.computed is Computed.GRAM:
            raise NotApplicableError("The original does not give its Gram matrix away.")
        package = original_package()
        torch.Tensor.symeig = symeig  # type: ignore[method-assign]
        torch.manual_seed(0)  # of the only generator that its Monte-Carlo samples come from
        form, notes = backpack_form(instance.model)
        model, loss_func = extend(form), extend(instance.loss_func)
        details = {"package": _versions(), "shims": [SHIM, *notes]}

        def run() -> Outcome:
            computation = _computation(package, task, len(instance.inputs))
            groups = _groups(model, task)
            loss = loss_func(model(instance.inputs), instance.targets)
            hook = computation.get_extension_hook(groups)
            with self._setting(), backpack(*_extensions(computation), extension_hook=hook):
                loss.backward()
            model.zero_grad()
            return _outcome([computation.get_result(group) for group in groups], task, details)

        return run

    def check(
        self, outcome: Outcome, instance: Instance, task: Task, reference: Reference
    ) -> Check:
        """As for all, but for Monte-Carlo results, whose draws are others than ours."""
        if task.approximation is Approximation.MONTE_CARLO:
            return check_trace(outcome, reference)
        return super().check(outcome, instance, task, reference)

    def _setting(self) -> AbstractContextManager[Any]:
        return weight_jac_t_save_memory(True) if self._lean else nullcontext()


def original_package() -> Any:
    """The installed original.

    Returns:
        The module ``vivit``.

    Raises:
        RuntimeError: What is imported under that name is something else.
    """
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        found = "none"
    package = import_module("vivit")
    place = Path(str(package.__file__)).resolve().parent
    if found != VERSION or place == OURS:
        whose = "this repository's library" if place == OURS else "another module"
        raise RuntimeError(
            f"Expected {PACKAGE} {VERSION} under the name vivit, got {whose} (installed version "
            f"of the package: {found}). Peers run in the environment that tox run -e peer "
            "--notest makes."
        )
    return package


def symeig(self: Tensor, eigenvectors: bool = False, upper: bool = True) -> tuple[Tensor, Tensor]:
    """What ``Tensor.symeig`` was.

    Args:
        self: Symmetric, shape ``[M, M]``.
        eigenvectors: Whether to compute them.
        upper: Which triangle to read.

    Returns:
        Eigenvalues in ascending order, and eigenvectors as columns; or an empty tensor.
    """
    triangle = "U" if upper else "L"
    if not eigenvectors:
        return torch.linalg.eigvalsh(self, UPLO=triangle), self.new_empty(0)
    values, vectors = torch.linalg.eigh(self, UPLO=triangle)
    return values, vectors


def _computation(package: Any, task: Task, batch_size: int) -> Any:
    if task.computed is Computed.NEWTON_STEP:
        return package.DirectionalDampedNewtonComputation(warn_small_eigvals=0.0)
    whole = task.subset is Subset.WHOLE
    options = {
        "subsampling": None if whole else list(range(task.num_samples(batch_size))),
        "mc_samples": int(task.approximation is Approximation.MONTE_CARLO),
    }
    if task.computed is Computed.PAIRS:
        return package.EighComputation(**options, warn_small_eigvals=0.0)
    return package.EigvalshComputation(**options)


def _extensions(computation: Any) -> list[Any]:
    if hasattr(computation, "get_extensions"):
        return computation.get_extensions()
    return [computation.get_extension()]


def _groups(model: nn.Module, task: Task) -> list[dict[str, Any]]:
    parameters = dict(model.named_parameters())
    blocks = [list(parameters)]
    if task.grouping is Grouping.LAYER:
        blocks = list(layers(model).values())
    options: dict[str, Any] = {}
    if task.computed is Computed.PAIRS:
        options["criterion"] = lambda values: list(range(len(values)))[-(task.k or 0) :]
    if task.computed is Computed.NEWTON_STEP:
        options["criterion"] = lambda values: above_cutoff(values).nonzero().flatten().tolist()
        options["damping"] = lambda values, *_: torch.full_like(values, NEWTON_DAMPING)
    return [{"params": [parameters[name] for name in names], **options} for names in blocks]


def _outcome(results: list[Any], task: Task, details: dict[str, Any]) -> Outcome:
    if task.computed is Computed.NEWTON_STEP:
        return Outcome(torch.cat([s.flatten() for s in results[0]]), details=details)
    if task.computed is Computed.PAIRS:
        values, vectors = results[0]
        return Outcome(values, flat_vectors(vectors), details=details)
    return Outcome(torch.cat(results), blocks=tuple(map(len, results)), details=details)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in (PACKAGE, "backpack-for-pytorch", "torch")}
