"""Traces of diagonal blocks, from the norms of columns: no Gram matrix is formed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import torch
from torch import Tensor

from vivit.batches import Carrying
from vivit.dtypes import like_of
from vivit.errors import InputError
from vivit.gram.plan import Plan
from vivit.gram.spectrum import NOT_FINITE
from vivit.gram.sweep import stores_of_run
from vivit.layers.affine import Workspace
from vivit.ranks import ALONE, Ranks


@torch.no_grad()
def parameter_traces(
    carrying: Callable[[], Iterator[Carrying]],
    parameters: Mapping[str, Tensor],
    workspace: int,
    plan: Plan,
    ranks: Ranks = ALONE,
) -> dict[str, Tensor]:
    """``tr(V_p V_p^T) = ||V_p||_F^2`` of the rows ``V_p`` of each parameter.

    Args:
        carrying: Gives what carries curvature, batch by batch.
        parameters: By name.
        workspace: Bytes for temporaries.
        plan: Which parameters a sweep of backward passes serves, and columns that a pass takes.
        ranks: Who has other batches, if any.

    Returns:
        A scalar for each parameter, in the precision of results.

    Raises:
        InputError: One is not finite.
    """
    like = like_of(parameters)
    found = {name: like.new_zeros((), dtype=torch.float64) for name in parameters}
    for names in _sweeps(plan, parameters):
        for batch in carrying():
            memory = Workspace(workspace, like)
            stores = stores_of_run(
                iter([batch]),
                batch[1].num_samples,
                memory,
                names,
                plan.columns_per_pass,
                plan.columns_at_once,
            )
            for key in [*stores]:
                store = stores.pop(key)  # its memory is free after this layer
                for name in names & store.parameters:
                    found[name] += store.square_norm(name)
            del store, stores, batch
    ranks.add([*found.values()], "traces")
    if not all(trace.isfinite() for trace in found.values()):
        raise InputError(NOT_FINITE)
    return {name: trace.to(like.dtype) for name, trace in found.items()}


def _sweeps(plan: Plan, parameters: Collection[str]) -> list[frozenset[str]]:
    """Those of the plan, and one for what it does not sweep."""
    names = frozenset(parameters)
    planned = [names.intersection(sweep) for sweep in plan.sweeps]
    return [sweep for sweep in (*planned, names.difference(*planned)) if sweep]
