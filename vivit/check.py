"""Will it work, and how fast: all that can be said of a model, a loss and data before the work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from vivit.backprop.autocast import without_autocast
from vivit.backprop.called import Forward, forward_here, unwrapped
from vivit.backprop.checks import (
    refuse_batch_statistics,
    refuse_contexts,
    refuse_renormalized_embeddings,
    refuse_shards,
)
from vivit.data import Target
from vivit.errors import VivitError
from vivit.ggn import EXACT
from vivit.gram.blocks import BlockMatrices
from vivit.gram.plan import FAST, Plan
from vivit.gram.spectrum import EIGENVALUE_COPIES
from vivit.kinds import GaussNewton
from vivit.losses import check_loss
from vivit.options import Approximation, Subset
from vivit.parameters import Selector, select_parameters
from vivit.parameters import listed as selectors
from vivit.setup import block_matrices
from vivit.shown import Shown, listed

UNUSED = "unused"
"""What does not reach the output."""


@dataclass(frozen=True, repr=False)
class Check(Shown):
    """What was found; true if nothing is refused.

    Attributes:
        refused: What would be refused, and what to do about it.
        warned: What would be warned of.
        served_by: How each parameter is served: ``affine`` and ``parts`` are fast; anything else
            takes longer, and is as exact, but for ``unused``. Empty if something is refused.
        plan: What the Gram matrix will cost; None if something is refused.
    """

    refused: tuple[str, ...]
    warned: tuple[str, ...]
    served_by: dict[str, str]
    plan: Plan | None

    def __bool__(self) -> bool:
        """Whether the quantities can be computed."""
        return not self.refused

    @property
    def slow(self) -> dict[str, str]:
        """Parameters without a fast rule, and how they are served."""
        others = (*FAST, UNUSED)
        return {name: way for name, way in self.served_by.items() if way not in others}

    @property
    def _parts(self) -> dict[str, str]:
        found = {f"refused ({i})": text for i, text in enumerate(self.refused, start=1)}
        found |= {f"warning ({i})": text for i, text in enumerate(self.warned, start=1)}
        if self.plan is None:
            return found
        fast = sum(way in FAST for way in self.served_by.values())
        found["parameters"] = f"{fast} of {len(self.served_by)} by fast rules"
        if self.slow:
            found["slower"] = listed([f"{name} ({way})" for name, way in self.slow.items()])
        *_, totals = str(self.plan).splitlines()
        return found | {"Gram matrix": totals}

    def __str__(self) -> str:
        """A table for people."""
        width = max(len(key) for key in self._parts)
        return "\n".join(f"{key.ljust(width)}  {value}" for key, value in self._parts.items())

    __repr__ = __str__


def check(
    model: nn.Module,
    loss_func: Any,
    data: Any,
    params: Iterable[Selector] | None = None,
    approximation: Approximation = EXACT,
    subset: Subset | None = None,
    workspace: int | None = None,
    memory: int | None = None,
    forward: Forward | None = None,
    target: Target | None = None,
    progress: bool = False,
    samples: str = "sequence",
    mixing: str = "refuse",
) -> Check:
    """Look at everything that `GGN` needs, without computing it.

    It takes two forward passes of each batch, and some backward passes that find which rule serves
    which parameter. Nothing is raised: what would be, by `GGN` or by the model, is in the result.
    It speaks for the GGN; `EmpiricalFisher` takes more losses. An iterator is used up by it.

    Args:
        model: As for `GGN`, as are the others.
        loss_func: The loss.
        data: A batch ``(X, y)``, or an iterable of batches.
        params: The parameters that count.
        approximation: Of the loss Hessian.
        subset: Samples that carry the curvature.
        workspace: Bytes for temporaries.
        memory: Bytes to get by with.
        forward: Calls the model.
        target: Maps a batch to its targets.
        progress: Whether bars are shown.
        samples: What counts as one.
        mixing: Whether they may depend on each other.

    Returns:
        What was found; print it.
    """
    params = None if params is None else selectors(params)
    refused = _refused_at_once(unwrapped(model), loss_func, params, mixing)
    if refused:  # what depends on running the model cannot be told
        return Check(tuple(refused), (), {}, None)
    forward = forward_here(forward)
    with without_autocast(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            kind = GaussNewton(loss_func, approximation)
            matrices = block_matrices(
                model,
                kind,
                data,
                None,
                params,
                subset,
                workspace,
                memory,
                progress,
                forward=forward,
                target=target,
                samples=samples,
                mixing=mixing,
            )
            plan, served_by = _seen(matrices)
        except VivitError as error:
            return Check((str(error),), (), {}, None)
        except Exception as error:  # of the model, the loss or the data
            return Check((f"{type(error).__name__}: {error}",), (), {}, None)
    warned = tuple(dict.fromkeys(str(warning.message) for warning in told))
    return Check((), warned, served_by, plan)


def _refused_at_once(
    module: nn.Module, loss_func: Any, params: list[Selector] | None, mixing: str
) -> list[str]:
    """What is refused before the model is run."""
    with without_autocast():
        refused = [
            *_refused(refuse_contexts),
            *_refused(lambda: check_loss(loss_func)),
            *_refused(lambda: refuse_shards(module, select_parameters(module, params))),
        ]
    if isinstance(module, nn.Module):
        if mixing != "allow":
            refused += _refused(lambda: refuse_batch_statistics(module))
        refused += _refused(lambda: refuse_renormalized_embeddings(module))
    return refused


def _seen(matrices: BlockMatrices) -> tuple[Plan, dict[str, str]]:
    """What the work will cost, and which rule serves each parameter."""
    curvature = matrices.curvature
    served_by = dict.fromkeys(curvature.parameters, UNUSED)
    for linearization, *_ in curvature.carrying():
        served_by |= linearization.served_by  # finds the rules
    return matrices.costs.fitting_plan(EIGENVALUE_COPIES), served_by


def _refused(look: Callable[[], object]) -> list[str]:
    """What is refused by a look."""
    try:
        look()
    except VivitError as error:
        return [str(error)]
    return []
