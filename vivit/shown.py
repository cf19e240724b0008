"""Results in a line, and as a table in notebooks; never a wall of numbers."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from torch import Tensor


def summary(x: Tensor) -> str:
    """Shape and range of a tensor.

    Args:
        x: Of any shape.
    """
    shape = f"[{', '.join(map(str, x.shape))}]"
    if not x.numel():
        return shape
    return f"{shape} from {float(x.min()):.3g} to {float(x.max()):.3g}"


class Shown:
    """What is shown in a line, and as a table in notebooks."""

    @property
    def _parts(self) -> Mapping[str, str]:
        """What there is to say of each attribute, in short."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Shapes, ranges and counts, for interactive use."""
        return line(type(self).__name__, self._parts)

    def _repr_html_(self) -> str:
        return table(type(self).__name__, self._parts)


def line(name: str, parts: Mapping[str, str]) -> str:
    """A result in a line.

    Args:
        name: Of its class.
        parts: What there is to say of each attribute.
    """
    return f"{name}({', '.join(f'{key}={value}' for key, value in parts.items())})"


def table(name: str, parts: Mapping[str, str]) -> str:
    """The same as a table of HTML.

    Args:
        name: Of its class.
        parts: What there is to say of each attribute.
    """
    cells = [(html.escape(key), html.escape(value)) for key, value in parts.items()]
    rows = "".join(f"<tr><th scope='row'>{key}</th><td>{value}</td></tr>" for key, value in cells)
    return f"<table><caption>{html.escape(name)}</caption>{rows}</table>"


def listed(found: Sequence[str], most: int = 10) -> str:
    """Names one after the other, of many the first ones.

    Args:
        found: The names.
        most: How many are shown.
    """
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def counted(found: Sequence[str], what: str = "parameters", most: int = 3) -> str:
    """How many names, and the first ones.

    Args:
        found: The names.
        what: They are of.
        most: How many are shown.
    """
    count = f"{len(found)} {what}".rstrip()
    return f"{count} ({', '.join(found[:most])}{', ...' if len(found) > most else ''})"
