"""What can be observed, by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum

from vivit.errors import InputError


class Quantity(str, Enum):
    """What can be observed."""

    EIGENVALUES = "eigenvalues"
    GRADIENT = "gradient"
    NOISE = "noise"
    DAMPING = "damping"
    STEP_SIZE = "step_size"
    TRACE = "trace"
    SPECTRUM = "spectrum"
    LAYERS = "layers"


ALL = tuple(Quantity)
"""All quantities."""


def chosen(quantities: Iterable[Quantity | str]) -> tuple[Quantity, ...]:
    """The quantities that a user names, each once, in the order in which they are computed.

    Args:
        quantities: Members of `Quantity`, or their values.

    Returns:
        The members.

    Raises:
        InputError: A name is not known.
    """
    listed = [quantities] if isinstance(quantities, str) else [*quantities]
    known = [x.value for x in Quantity]
    for name in listed:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"Unknown quantity {name!r}.{guess} Choose from: {', '.join(known)}.")
    return tuple(quantity for quantity in Quantity if quantity in listed)
