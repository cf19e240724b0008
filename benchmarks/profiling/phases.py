"""In which phase of the library an operation is called, as the stack of calls tells."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType

PROBES = {
    "vivit.backprop.sample_order": None,
    "vivit.backprop.pushforward": {"refusal", "forward_mode_fits", "_probe"},
}
"""Modules, and functions of theirs, that find out how a model can be treated."""

BY_MODULE = {
    "vivit.losses": "loss",
    "vivit.gram.spectrum": "eigensolver",
    "vivit.gram.precision": "eigensolver",
    "vivit.quantities.lanczos": "eigensolver",
    "vivit.quantities.ritz": "eigensolver",
    "vivit.quantities": "quantities",
    "vivit.layers": "contraction",
    "vivit.gram": "contraction",
    "vivit": "rest of the library",
}
"""What a module does that calls an operation, the longest name first."""

RECEIVING = "receive"
"""The function in which a layer takes the cotangents of a column."""

PASSES = {
    "run": "forward",
    "_pull": "backward",
    "pull": "backward",
    "_together": "backward",
    "pull_columns": "backward",
    "by_two_backward_passes": "backward",
    "_differentiable_pullback": "backward",
}
"""Functions in which the model, or autograd, calls operations."""

ELSEWHERE = "outside of the library"


def phase() -> str:
    """That of the operation which is being called.

    Returns:
        The phase: ``forward``, ``backward``, ``columns`` (what a layer does with cotangents),
        ``contraction`` (Gram matrices of what layers keep), ``eigensolver``, ``probe``, ....
    """
    calls = [*_library_calls()]
    if not calls:  # on a GPU, autograd runs what is behind an output in a thread of its own
        in_main = threading.current_thread() is threading.main_thread()
        return ELSEWHERE if in_main else "backward"
    if any(_is_probe(module, function) for module, function in calls):
        return "probe"
    module, _ = calls[0]
    if module.startswith("vivit.backprop"):
        names = (name for _, name in calls)
        return next((PASSES[name] for name in names if name in PASSES), "graph")
    if module.startswith("vivit.layers") and any(name == RECEIVING for _, name in calls):
        return "columns"
    for name, found in BY_MODULE.items():
        if module == name or module.startswith(f"{name}."):
            return found
    return ELSEWHERE


def _library_calls() -> Iterator[tuple[str, str]]:
    """Modules and functions of the library on the stack, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("vivit"):
            yield module, frame.f_code.co_name
        frame = frame.f_back


def _is_probe(module: str, function: str) -> bool:
    functions = PROBES.get(module, set())
    return functions is None or function in functions
