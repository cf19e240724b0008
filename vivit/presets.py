"""How common kinds of models are called: options of the front doors, to be unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from vivit.errors import InputError

IGNORED = -100
"""Targets that ``CrossEntropyLoss`` leaves out by default."""


def _logits(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """Of all tokens but the last, whose next one is not known; classes along the second axis."""
    inputs = {name: x for name, x in batch.items() if name != "labels"}
    found = model(**inputs, use_cache=False)
    logits: Tensor = found if isinstance(found, Tensor) else found.logits
    return logits[:, :-1].transpose(1, 2)


def _next_tokens(batch: Mapping[str, Any]) -> Tensor:
    """The token after each; not counted where labels say so, or where there is but padding."""
    if "labels" in batch:
        found: Tensor = batch["labels"]
        return found[:, 1:]
    if "input_ids" not in batch:
        raise InputError(
            "causal_lm needs 'input_ids' or 'labels' in a batch, got "
            f"{', '.join(map(repr, batch))}."
        )
    tokens, mask = batch["input_ids"], batch.get("attention_mask")
    if mask is not None:
        tokens = tokens.masked_fill(mask == 0, IGNORED)
    return tokens[:, 1:]


causal_lm: Mapping[str, Any] = MappingProxyType({"forward": _logits, "target": _next_tokens})
"""Language models that predict the next token, as those of transformers.

``GGN(model, torch.nn.CrossEntropyLoss(), batch, **vivit.causal_lm)``: batches are mappings with
``input_ids``, of shape ``[N, T]``, perhaps ``attention_mask`` and ``labels`` (-100 where a token
does not count); a sample is a sequence. Outputs are shifted against labels, and caches are off.
"""
