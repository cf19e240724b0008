"""What counts as a sample, and which samples may depend on each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vivit.errors import InputError
from vivit.losses.rows import Rows, token_rows
from vivit.options import Subset

SAMPLES = ("sequence", "token")
"""What a sample is: a row of the output, or each position of one."""

MIXING = ("refuse", "allow")
"""What is done with a model whose samples depend on each other."""


@dataclass(frozen=True)
class Sampling:
    """How samples of the loss are put together to units, which the model keeps apart.

    Attributes:
        tokens: Whether each position of a row of the output is a sample; a unit is the row.
        mixing: Whether all samples of a batch may depend on each other.
        whole: Whether a batch is one unit.
    """

    tokens: bool = False
    mixing: bool = False
    whole: bool = False

    @classmethod
    def of(cls, samples: str, mixing: str, subset: Subset | None) -> Sampling:
        """From what a user gives.

        Args:
            samples: One of `SAMPLES`.
            mixing: One of `MIXING`.
            subset: Samples that carry curvature. Not all sequences have as many tokens in it, so
                that the batch is one unit then.

        Raises:
            InputError: They are none of these.
        """
        for name, given, known in (("samples", samples, SAMPLES), ("mixing", mixing, MIXING)):
            if given not in known:
                raise InputError(
                    f"{name} must be one of {', '.join(map(repr, known))}, got {given!r}."
                )
        tokens, may_mix = samples == "token", mixing == "allow"
        return cls(tokens, may_mix, may_mix or (tokens and subset is not None))

    @property
    def has_units(self) -> bool:
        """Whether units are not samples."""
        return self.tokens or self.whole

    def rows(self, loss_func: Any, output: Tensor) -> Rows:
        """How samples lie in the output.

        Args:
            loss_func: The loss.
            output: Of a model that gives all of a batch as the output of one unit, if it is one.

        Raises:
            InputError: It has no samples, or no tokens.
            UnsupportedError: The loss does not say where tokens are.
        """
        out = output.shape[2:] if self.whole else output.shape[1:]
        return token_rows(loss_func, out) if self.tokens else Rows(tuple(out))
