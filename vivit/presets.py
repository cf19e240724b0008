"""How common kinds of models are called: options of the front doors, to be unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from vivit.backprop.called import output_tensor
from vivit.errors import InputError

IGNORED = -100
"""Targets that ``CrossEntropyLoss`` leaves out by default."""


def _logits(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """Of all tokens but the last, whose next one is not known; classes along the second axis."""
    inputs = {name: x for name, x in batch.items() if name != "labels"}
    logits: Tensor = output_tensor(model(**inputs, use_cache=False))
    return logits[:, :-1].transpose(1, 2)


def _next_tokens(batch: Mapping[str, Any]) -> Tensor:
    """The token after each; not counted where labels say so, or where either is padding."""
    if not isinstance(batch, Mapping):
        raise InputError(
            f"causal_lm takes mappings, such as {{'input_ids': ids}}, got {type(batch).__name__}."
        )
    if "labels" in batch:
        found: Tensor = batch["labels"]
        return found[:, 1:]
    if "input_ids" not in batch:
        raise InputError(
            "causal_lm needs 'input_ids' or 'labels' in a batch, got "
            f"{', '.join(map(repr, batch))}."
        )
    tokens: Tensor = batch["input_ids"][:, 1:]
    mask = batch.get("attention_mask")
    if mask is None:
        return tokens
    return tokens.masked_fill((mask[:, 1:] == 0) | (mask[:, :-1] == 0), IGNORED)


causal_lm: Mapping[str, Any] = MappingProxyType({"forward": _logits, "target": _next_tokens})
"""Language models that predict the next token, as those of transformers.

``GGN(model, torch.nn.CrossEntropyLoss(), batch, **vivit.causal_lm)``: batches are mappings with
``input_ids``, of shape ``[N, T]``, perhaps ``attention_mask`` and ``labels`` (-100 where a token
does not count, which is what the loss has to ignore); a sample is a sequence, or with
``samples="token"`` a token. Outputs are shifted
against labels, and caches are off. Without labels, all tokens count that are no padding, but for
the first after some.
"""
