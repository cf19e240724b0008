"""What a store sends to other ranks, and what it is there: its columns or factors, the smaller."""

from __future__ import annotations

from torch import Tensor

from vivit.layers.affine import Workspace
from vivit.layers.column_store import ColumnStore
from vivit.layers.factor_store import FactorStore
from vivit.layers.store import DenseStore, LayerStore, Store
from vivit.ranks import Parcel


def packed(store: Store) -> Parcel:
    """What is sent of a store.

    Args:
        store: Of any kind, with all of its columns.

    Returns:
        Tensors that are no larger than its columns.
    """
    if isinstance(store, FactorStore) and store.is_smaller_than_columns:
        store.settle()  # inputs are made once: to be sent, and for all products here
        return _parcel("factors", *store.tensors, classes=store.classes)
    if isinstance(store, LayerStore):
        return _parcel("columns", store.layer_columns)
    return _parcel("dense", store.columns({name for name in store.parameters if name}))


def _parcel(form: str, *tensors: Tensor, classes: int | None = None) -> Parcel:
    return Parcel({"form": form, "classes": classes, "tensors": len(tensors)}, tensors)


def unpacked(parcel: Parcel, like: Store, workspace: Workspace) -> Store:
    """The store that a parcel is of.

    Args:
        parcel: As `packed` made it.
        like: A store of the same layer here.
        workspace: Memory for temporaries.
    """
    form, tensors = parcel.label["form"], parcel.tensors
    if form == "dense":
        (name,) = (name for name in like.parameters if name)
        return DenseStore(name, tensors[0], len(tensors[0]))
    assert isinstance(like, LayerStore)
    if form == "columns":
        return ColumnStore.beside(like, tensors[0])
    cotangents, inputs = tensors
    return FactorStore.beside(like, cotangents, inputs, parcel.label["classes"], workspace)
