"""Where the samples of a loss are in the output of a model: rows, or positions of these."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Size, Tensor, nn

from vivit.errors import InputError, UnsupportedError
from vivit.losses.base import name_of
from vivit.losses.known import LogLikelihood

CLASSES_FIRST = (nn.CrossEntropyLoss, nn.NLLLoss, LogLikelihood)
"""Losses of outputs ``[N, classes, *positions]``."""

ENTRYWISE = (nn.MSELoss, nn.BCEWithLogitsLoss)
"""Losses of outputs ``[N, positions, *others]``, which they treat one by one."""


@dataclass(frozen=True)
class Rows:
    """How the samples of a loss lie in outputs of a model.

    Attributes:
        out: Shape of one output, without the axis ``N``.
        tokens: Whether each position of it is a sample; else it is one itself.
        classes_first: Whether its positions are behind an axis of classes; else they come first.
    """

    out: tuple[int, ...]
    tokens: bool = False
    classes_first: bool = False

    @property
    def _positions(self) -> tuple[int, ...]:
        return self.out[1:] if self.classes_first else self.out[:1]

    def count(self, shape: tuple[int, ...]) -> int:
        """Samples in outputs of a shape ``[*any, *out]``."""
        each = math.prod(self._positions) if self.tokens else 1
        return each * (math.prod(shape) // math.prod(self.out))

    def split(self, output: Tensor) -> Tensor:
        """From ``[*any, *out]`` to samples ``[N P, *]``, for ``P`` positions."""
        output = output.reshape(-1, *self.out)
        if not self.tokens:
            return output
        if self.classes_first:
            return output.movedim(1, -1).reshape(-1, self.out[0])
        return output.flatten(0, 1)

    def join(self, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """What `split` undoes: to a shape ``[*any, *out]``."""
        if self.tokens and self.classes_first:
            count = math.prod(self._positions)
            return rows.unflatten(0, (-1, count)).movedim(-1, 1).reshape(shape)
        return rows.reshape(shape)

    def targets(self, target: Any) -> Any:
        """Targets of the samples.

        Args:
            target: As the loss takes it, for outputs ``[N, *out]``.

        Raises:
            InputError: They have another shape.
        """
        if not self.tokens or not isinstance(target, Tensor):  # which the loss refuses
            return target
        of_classes = self.classes_first and not target.is_floating_point()
        expected = self._positions if of_classes else self.out
        if tuple(target.shape[1:]) != expected:
            raise InputError(
                f"With samples='token', the loss needs targets of shape {['N', *expected]} for "
                f"outputs of shape {['N', *self.out]}, got {list(target.shape)}."
            )
        return target.flatten() if of_classes else self.split(target)


def token_rows(loss_func: Any, out: Size) -> Rows:
    """The positions of outputs as samples.

    Args:
        loss_func: Which axis they are along depends on it: a loss with classes has them behind
            the classes, one that treats all outputs alike along the first axis.
        out: Shape of one output, without the axis ``N``.

    Returns:
        How they lie there.

    Raises:
        UnsupportedError: It is not known of this loss.
        InputError: The outputs have no positions, or the loss has weights of several.
    """
    kind = type(loss_func)
    if kind not in (*CLASSES_FIRST, *ENTRYWISE):
        raise UnsupportedError(
            f"samples='token' is for CrossEntropyLoss, NLLLoss, MSELoss and BCEWithLogitsLoss, of "
            f"which it is known where tokens are; got {name_of(loss_func)!r}. With any other, let "
            "the model give a row for each token, forward=lambda model, X: model(X).flatten(0, "
            "1), the targets likewise, and mixing='allow'."
        )
    if len(out) < 2:
        shape = "[N, classes, tokens]" if kind in CLASSES_FIRST else "[N, tokens, outputs]"
        raise InputError(
            f"samples='token' needs outputs of shape {shape} for {kind.__name__}, got "
            f"{['N', *out]}. If each row is a token already, leave it out."
        )
    weights = [getattr(loss_func, name, None) for name in ("weight", "pos_weight")]
    if kind in ENTRYWISE and any(w is not None and w.ndim >= len(out) for w in weights):
        raise InputError(
            f"{kind.__name__} has weights that differ from token to token: with samples='token', "
            f"they need the shape of one token's outputs, {list(out[1:])}."
        )
    return Rows(tuple(out), tokens=True, classes_first=kind in CLASSES_FIRST)
