"""Parameter groups during a backward pass: what is summed up until all of their layers came by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vivit.devices import traits
from vivit.drop_in.captured import Captured, LossPass
from vivit.drop_in.modules import cotangents_of, layers_of
from vivit.drop_in.refused import INSTEAD
from vivit.errors import InputError, UnsupportedError
from vivit.gram.matrices import GroupAccumulator
from vivit.gram.precision import Budget, is_double, may_gain
from vivit.gram.runs import add_gram
from vivit.layers.affine import Workspace
from vivit.layers.layer import AffineLayer
from vivit.layers.smaller import store_for
from vivit.layers.store import LayerStore
from vivit.options import subset_index

Group = dict[str, Any]
"""What users give: ``params``, and further keys that a computation asks for."""


@dataclass
class GroupState:
    """What is known of a group.

    Attributes:
        group: As the user gave it.
        parameters: By name.
        waiting: Names of those whose layer has not come by.
        matrix: Sums up the matrix of the group.
        gradients: Inner products of columns and gradients, shape ``[M, N_grad]``, if asked for.
        stores: What is kept of the layers, with the names that count, if eigenvectors are needed.
        is_double: Whether all that came by is in double precision.
    """

    group: Group
    parameters: dict[str, Tensor]
    waiting: set[str]
    matrix: GroupAccumulator | None = None
    gradients: Tensor | None = None
    stores: list[tuple[set[str], LayerStore]] = field(default_factory=list)
    is_double: bool = True

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Of the parameters, by name."""
        return {name: p.shape for name, p in self.parameters.items()}

    def combine(self, coefficients: Tensor) -> dict[str, Tensor]:
        """``V coefficients``: columns ``[M, K]`` to a tensor ``[K, *shape]`` per parameter."""
        found = {}
        for names, store in self.stores:
            for name in names:
                flat = store.combine(coefficients, name)
                found[name] = flat.reshape(len(flat), *self.parameters[name].shape)
        return {name: found[name] for name in self.parameters}


@dataclass(frozen=True)
class Wanted:
    """What a computation needs besides the matrices.

    Attributes:
        vectors: Whether to keep what eigenvectors are made of.
        slopes: Whether the gradients' inner products with the columns are needed.
        samples: Indices of the samples whose gradients count; None for all.
    """

    vectors: bool = False
    slopes: bool = False
    samples: list[int] | None = None


class GroupHook:
    """BackPACK's extension hook: takes what each module leaves to the groups."""

    def __init__(
        self,
        groups: list[Group],
        savefield: str,
        wanted: Wanted,
        finish: Callable[[GroupState, LossPass], None],
        forget: Callable[[], None],
    ) -> None:
        """Begin a backward pass.

        Args:
            groups: Checked by `check_groups`.
            savefield: Where the extension leaves what it captures.
            wanted: What the computation needs.
            finish: Called with each group when all of its layers came by.
            forget: Called when the pass fails, whose results are none.
        """
        self._savefield, self._wanted = savefield, wanted
        self._finish, self._forget = finish, forget
        named = [_named(group["params"]) for group in groups]
        self._states = [GroupState(g, ps, {*ps}) for g, ps in zip(groups, named, strict=True)]
        self._names = {name for state in self._states for name in state.parameters}
        self._loss: LossPass | None = None
        self._workspaces: dict[torch.dtype, Workspace] = {}
        self._budget: Budget | None = None

    @torch.no_grad()
    def __call__(self, module: nn.Module) -> None:
        """Take what a module leaves; nothing of it stays at its parameters.

        Raises:
            InputError: The hook has been used before.
            UnsupportedError: A parameter comes by twice.
        """
        names, captured = {}, None
        for attribute, parameter in module.named_parameters(recurse=False):
            if hasattr(parameter, self._savefield):
                captured = getattr(parameter, self._savefield)
                delattr(parameter, self._savefield)
                if str(id(parameter)) in self._names:
                    names[attribute] = str(id(parameter))
        if captured is None or not names:
            return
        self._check_is_first(module, captured.loss, names.values())
        for layer in layers_of(module, captured.loss.samples, names):
            self._add(layer, captured, module, names)
        for workspace in self._workspaces.values():
            workspace.release()  # BackPACK needs most at the modules without parameters
        for state in self._states:
            came = state.waiting.intersection(names.values())
            state.waiting -= came
            if came and not state.waiting:
                self._finish(state, captured.loss)
                state.stores.clear()
                state.matrix = state.gradients = None

    def _check_is_first(self, module: nn.Module, loss: LossPass, names: Collection[str]) -> None:
        if self._loss is None:
            self._loss = loss
            size = traits(loss.factor.device).workspace
            self._workspaces[loss.factor.dtype] = Workspace(size, loss.factor)
            self._budget = self._double_budget(loss, size)
            if self._budget is not None:
                self._workspaces[torch.float64] = Workspace(size, loss.factor[:0].double())
        if self._loss is not loss:
            raise InputError(
                "This extension hook has seen a backward pass before, or another extended loss in "
                "this one. Call get_extension_hook again for each backward pass, of one loss."
            )
        gone = (state.parameters.keys() - state.waiting for state in self._states)
        if any(not done.isdisjoint(names) for done in gone):
            self._forget()
            raise UnsupportedError(
                f"A parameter of {module} comes by a second time in one backward pass, and "
                f"BackPACK keeps the uses of a shared parameter apart. {INSTEAD}"
            )

    def _double_budget(self, loss: LossPass, size: int) -> Budget | None:
        """What may be kept in double precision; None if no matrix is to be."""
        if not may_gain(loss.factor) or not (self._wanted.vectors or self._wanted.slopes):
            return None
        total = loss.num_columns
        sides = (sum(p.numel() for p in state.parameters.values()) for state in self._states)
        left = size - 8 * sum(total * min(total, side) for side in sides)
        return Budget(left) if left >= 0 else None

    def _add(
        self, layer: AffineLayer, captured: Captured, module: nn.Module, names: dict[str, str]
    ) -> None:
        """Add a layer to what its groups sum up."""
        loss, dtype = captured.loss, self._precision_for(layer, captured)
        store = self._stored(layer, captured.s, dtype)
        gradients, count = None, 0
        if self._wanted.slopes and loss.coordinates is None:
            chosen = self._wanted.samples
            samples = None if chosen is None else subset_index(chosen, len(loss.output))
            (of_samples,) = (x for x in layers_of(module, samples, names) if x.key == layer.key)
            rows = captured.gradient if samples is None else captured.gradient[samples]
            gradients, count = self._stored(of_samples, rows.unsqueeze(0), dtype), len(rows)
        for state in self._states:
            own = {name for name in layer.key if name in state.parameters and name is not None}
            if not own:
                continue
            state.is_double &= is_double(dtype)
            self._add_columns(state, own, store, loss)
            if gradients is not None:
                if state.gradients is None:
                    state.gradients = self._like(loss).new_zeros(loss.num_columns, count)
                add_gram(state.gradients, store, own, gradients)

    def _precision_for(self, layer: AffineLayer, captured: Captured) -> torch.dtype:
        """Double, if that is within the budget for it."""
        names = {name for name in layer.key if name is not None}
        shape = layer.sizes.shape(len(captured.s), names)
        if self._budget is not None and self._budget.spend(shape, stays=self._wanted.vectors):
            return torch.float64
        return captured.loss.factor.dtype

    def _add_columns(
        self, state: GroupState, own: set[str], store: LayerStore, loss: LossPass
    ) -> None:
        """Add the inner products of columns, and keep these if they are needed later."""
        if state.matrix is None:
            sizes, members = [loss.num_columns], list(state.parameters)
            precision = loss.factor.dtype
            state.matrix = GroupAccumulator(
                members, state.shapes, sizes, self._like(loss), precision
            )
        state.matrix.add([store], own)
        if self._wanted.vectors:
            state.stores.append((own, store))

    def _like(self, loss: LossPass) -> Tensor:
        """A tensor of the matrices' precision."""
        dtype = loss.factor.dtype if self._budget is None else torch.float64
        return loss.factor.new_empty(0, dtype=dtype)

    def _stored(self, layer: AffineLayer, s: Tensor, dtype: torch.dtype) -> LayerStore:
        """Keep cotangents ``[C, N, *]``."""
        like = s.new_empty(0, dtype=dtype)
        store = store_for(layer, layer.num_samples, len(s), like, self._workspaces[dtype])
        store.begin(layer)
        for c, column in enumerate(s):
            store.receive(slice(c, c + 1), cotangents_of(layer, column)[None])
        store.end()
        return store


def check_groups(groups: list[Group], keys: Iterable[str]) -> None:
    """Refuse groups that no result could be computed for.

    Args:
        groups: What the user gave.
        keys: What each group must have.

    Raises:
        InputError: A key is missing, a parameter is frozen or occurs twice, or there are none.
    """
    seen: set[int] = set()
    for i, group in enumerate(groups):
        for key in keys:
            if key not in group:
                raise InputError(
                    f"Parameter group {i} has no key {key!r}, only {sorted(group)}; it needs: "
                    f"{', '.join(keys)}."
                )
        if isinstance(group["params"], Tensor):
            group["params"] = [group["params"]]
        if not isinstance(group["params"], (list, tuple)):
            group["params"] = list(group["params"])  # a generator can be read only once
        if not group["params"]:
            raise InputError(f"Parameter group {i} has no parameters.")
        for j, parameter in enumerate(group["params"]):
            where = f"Parameter {j} of group {i}, of shape {list(parameter.shape)},"
            if id(parameter) in seen:
                raise InputError(f"{where} occurs twice; each must be in one group only, once.")
            if not parameter.requires_grad:
                raise InputError(
                    f"{where} is frozen: no derivatives by it pass. Leave it out, or set its "
                    "requires_grad."
                )
            seen.add(id(parameter))


def _named(parameters: Iterable[Tensor]) -> dict[str, Tensor]:
    return {str(id(parameter)): parameter for parameter in parameters}
