"""Selection and grouping of a model's parameters by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from vivit.dtypes import working
from vivit.errors import InputError, UnsupportedError

Selector = str | Tensor
"""A parameter, its name, or a glob over names such as ``"conv*"``."""

ROOT = "<root>"
"""Name of the group of parameters that the outermost module owns itself."""


def select_parameters(
    model: nn.Module, params: Iterable[Selector] | None = None
) -> dict[str, Tensor]:
    """Resolve a selection of parameters.

    Args:
        model: Owner of the parameters.
        params: Names, globs or parameters; by default all that require gradients.

    Returns:
        The selected parameters by name, in the order of ``model.named_parameters()``.

    Raises:
        InputError: Nothing is selected, a name or parameter is unknown or frozen, or the
            parameters differ in device or in the precision of results (double precision beside
            others), have no values, or are no floating-point numbers of 16, 32 or 64 bits.
        UnsupportedError: The model or a part of it is scripted.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    _refuse_scripted(model)
    known: dict[str, Tensor] = dict(model.named_parameters())
    lazy = [name for name, p in known.items() if nn.parameter.is_lazy(p)]
    if lazy:
        raise InputError(
            f"Parameters have no values yet: {', '.join(lazy)}. Run the model once, so that its "
            "lazy modules know their sizes."
        )
    if params is None:
        selected = {name: p for name, p in known.items() if p.requires_grad}
    else:
        names = {name for selector in listed(params) for name in _resolve(selector, model)}
        selected = {name: p for name, p in known.items() if name in names}
        frozen = [name for name, p in selected.items() if not p.requires_grad]
        if frozen:
            raise InputError(
                f"Selected parameters are frozen (requires_grad=False): {', '.join(frozen)}. "
                "Leave them out, or call requires_grad_() on them."
            )
    if not selected:
        raise InputError(
            "No parameter is selected: "
            + (
                "none of the model's requires a gradient. Are they frozen, or adapters disabled?"
                if params is None
                else "params is empty."
            )
        )
    _check_uniform(selected)
    without = [name for name, p in selected.items() if p.is_meta]
    if without:
        raise InputError(
            f"Parameters are on the device meta, where they have no values: {', '.join(without)}. "
            "Load them: model.to_empty(device='cpu'), and then load_state_dict."
        )
    return selected


def _refuse_scripted(model: nn.Module) -> None:
    """Refuse modules that run without Python."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedError(
                f"The model is scripted or traced{f' at {name!r}' if name else ''}: its autograd "
                "graph does not show how parameters are used. Give the module that it was made of."
            )


def group_parameters(
    model: nn.Module,
    selected: Mapping[str, Tensor],
    groups: str | Mapping[str, Iterable[Selector]],
) -> dict[str, list[str]]:
    """Split selected parameters into disjoint groups.

    Args:
        model: Owner of the parameters.
        selected: The selected parameters by name.
        groups: ``"layer"`` (one group per module that owns parameters), ``"parameter"``, or a
            mapping from group names to names, globs or parameters.

    Returns:
        For each group the names of its parameters.

    Raises:
        InputError: The grouping is unknown, or the groups overlap or do not cover the selection.
    """
    if isinstance(groups, str):
        return group_by_name(selected, groups)
    result = {}
    for group, selectors in groups.items():
        names = {name for selector in listed(selectors) for name in _resolve(selector, model)}
        result[group] = [name for name in selected if name in names]
        foreign = sorted(names - set(selected))
        if foreign or not names:
            raise InputError(
                f"Group {group!r} "
                + (
                    f"has parameters that are not selected: {', '.join(foreign)}."
                    if foreign
                    else "is empty."
                )
            )
    _check_cover(result, selected)
    return result


def group_by_name(selected: Iterable[str], grouping: str) -> dict[str, list[str]]:
    """Split parameters by what their names say.

    Args:
        selected: Their names.
        grouping: ``"layer"`` or ``"parameter"``.

    Returns:
        For each group the names of its parameters.

    Raises:
        InputError: The grouping is unknown.
    """
    if grouping not in ("layer", "parameter"):
        raise InputError(
            f"Unknown grouping {grouping!r}. Expected 'layer', 'parameter', or a mapping from "
            "group names to parameter names."
        )
    result: dict[str, list[str]] = {}
    for name in selected:
        owner = name.rpartition(".")[0] or ROOT
        result.setdefault(owner if grouping == "layer" else name, []).append(name)
    return result


def _check_cover(groups: Mapping[str, list[str]], selected: Iterable[str]) -> None:
    """Refuse groups that overlap or leave parameters out."""
    owners = {name: [g for g, names in groups.items() if name in names] for name in selected}
    for name, found in owners.items():
        if len(found) > 1:
            raise InputError(
                f"Groups overlap: parameter {name!r} is in {', '.join(map(repr, found))}. The "
                "blocks of a block diagonal are disjoint."
            )
    uncovered = [name for name, found in owners.items() if not found]
    if uncovered:
        raise InputError(
            f"Groups leave out selected parameters: {', '.join(uncovered)}. Add them to a group, "
            "or select only the others with params=."
        )


def listed(selectors: Iterable[Selector]) -> list[Selector]:
    """A list of selectors; a single one is easily passed by mistake."""
    return [selectors] if isinstance(selectors, (str, Tensor)) else list(selectors)


def _resolve(selector: Selector, model: nn.Module) -> list[str]:
    """Names of the parameters that a selector means; a tied one under its first name."""
    aliases = dict(model.named_parameters(remove_duplicate=False))
    first = {id(p): name for name, p in model.named_parameters()}
    if isinstance(selector, Tensor):
        if id(selector) not in first:
            raise InputError(
                f"A selected tensor of shape {list(selector.shape)} is not one of the model's "
                "parameters."
            )
        return [first[id(selector)]]
    if not isinstance(selector, str):
        raise InputError(
            f"params takes names, globs or parameters, got {type(selector).__name__}: "
            f"{selector!r}."
        )
    if selector in aliases:
        return [first[id(aliases[selector])]]
    matches = [first[id(p)] for name, p in aliases.items() if fnmatchcase(name, selector)]
    if not matches:
        near = get_close_matches(selector, aliases, n=3, cutoff=0.4) or list(aliases)[:3]
        raise InputError(
            f"No parameter is called {selector!r} or matches it. Near matches: {', '.join(near)}."
        )
    return matches


def _check_uniform(selected: Mapping[str, Tensor]) -> None:
    for name, p in selected.items():
        if working(p.dtype) not in (torch.float32, torch.float64):
            raise InputError(
                f"Parameter {name!r} has dtype {p.dtype}, but curvature needs float16, bfloat16, "
                "float32 or float64. Convert the model with model.float() or model.double()."
            )
    devices = {p.device: (name, p.device) for name, p in reversed([*selected.items()])}
    precisions = {working(p.dtype): (name, p.dtype) for name, p in reversed([*selected.items()])}
    for what, example in (("device", devices), ("dtype", precisions)):
        if len(example) > 1:
            found = ", ".join(f"{value} ({name!r})" for name, value in example.values())
            raise InputError(
                f"The selected parameters have several {what}s: {found}. Move or convert the "
                f"model to one {what}, or select parameters of one."
            )


def flat_places(shapes: Mapping[str, torch.Size]) -> dict[str, slice]:
    """Where the entries of each parameter stand in flat vectors.

    Args:
        shapes: Of the parameters, in order.

    Returns:
        Slices by name.
    """
    ends = [*itertools.accumulate(shape.numel() for shape in shapes.values())]
    starts = [0, *ends[:-1]]
    return {n: slice(*both) for n, *both in zip(shapes, starts, ends, strict=True)}
