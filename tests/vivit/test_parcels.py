"""What a store sends to other ranks, and what becomes of it there."""

import pytest
import torch
from cases import CASES

import vivit
from vivit.gram.sweep import stores_of_run
from vivit.layers.affine import Workspace
from vivit.layers.cost import Evaluation
from vivit.layers.factor_store import FactorStore
from vivit.layers.parcels import packed, unpacked
from vivit.ranks import Parcel

SIZE = 2**20
"""Bytes of the workspace."""


def stores_of(case):
    """Of all layers, with memory for temporaries."""
    model, loss_func, x, y = case.make()
    curvature = vivit.GGN(model, loss_func, (x, y))._curvature
    memory, (carrying,) = Workspace(SIZE, curvature.like), curvature.carrying()
    samples = carrying[1].num_samples
    return stores_of_run(iter([carrying]), samples, memory, curvature.parameters), memory


def arrived(store, memory):
    """What another rank makes of it."""
    parcel = packed(store)
    sent = [x.clone(memory_format=torch.contiguous_format) for x in parcel.tensors]
    return unpacked(Parcel(parcel.label, sent), store, memory)


@pytest.mark.parametrize("as_factors", [True, False])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_columns_and_products_are_the_same(case, as_factors, monkeypatch):
    monkeypatch.setattr(FactorStore, "is_smaller_than_columns", as_factors)
    stores, memory = stores_of(case)
    for store in stores.values():
        names = {name for name in store.parameters if name is not None}
        there, columns = arrived(store, memory), store.columns(names)
        unsent = unpacked(packed(store), store, memory)
        assert there.parameters == store.parameters
        assert there.dtype == store.dtype
        assert there.num_columns == store.num_columns == len(columns)
        for some in [names, *({name} for name in names)]:
            own = store.columns(some)
            assert torch.equal(unsent.columns(some), own)
            rounding = 4 * torch.finfo(own.dtype).eps * float(own.abs().max())  # of other strides
            assert torch.allclose(there.columns(some), own, rtol=0, atol=rounding)
            gram = torch.zeros(len(columns), len(columns), dtype=columns.dtype)
            store.add_gram(gram, some, there)
            wanted = own @ own.T
            assert torch.allclose(gram, wanted, rtol=1e-10, atol=1e-10 * float(wanted.abs().max()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_factors_are_multiplied_in_any_order(case, monkeypatch):
    monkeypatch.setattr(FactorStore, "is_smaller_than_columns", True)
    monkeypatch.setattr(
        "vivit.layers.factor_store.cheapest_evaluation", lambda *_: Evaluation.DIRECT
    )
    stores, memory = stores_of(case)
    for store in stores.values():
        names = {name for name in store.parameters if name is not None}
        columns = store.columns(names)
        gram = torch.zeros(len(columns), len(columns), dtype=columns.dtype)
        store.add_gram(gram, names, arrived(store, memory))
        wanted = columns @ columns.T
        assert torch.allclose(gram, wanted, rtol=1e-10, atol=1e-10 * float(wanted.abs().max()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_smaller_form_is_sent(case):
    stores, _ = stores_of(case)
    for store in stores.values():
        names = {name for name in store.parameters if name is not None}
        size = sum(x.nbytes for x in packed(store).tensors)
        assert size <= store.columns(names).nbytes


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_inputs_are_made_once(case, monkeypatch):
    """To be sent, and for products with what arrives."""
    monkeypatch.setattr(FactorStore, "is_smaller_than_columns", True)
    stores, _ = stores_of(case)
    for store in stores.values():
        if isinstance(store, FactorStore):
            (_, sent), (_, own) = packed(store).tensors, store.tensors
            assert own.data_ptr() == sent.data_ptr()
