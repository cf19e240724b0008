"""What was counted, as text for people."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.profiling.operations import Count
from benchmarks.profiling.roofline import Roofline

LONGEST = 20
"""Rows of a table of operations; the rest is one row."""

UNITS = ("", "k", "M", "G", "T", "P")


def table(title: str, counts: Mapping[str, Count], roofline: Roofline | None) -> str:
    """A table with a row for each name, and their total.

    Args:
        title: Of the first column.
        counts: By name.
        roofline: The limit of the machine; None where times mean nothing.

    Returns:
        Lines.
    """
    rows = [_heads(title, roofline)]
    rows += [_row(name, count, roofline) for name, count in _shortened(counts, roofline).items()]
    whole = Count()
    for count in counts.values():
        whole.add(count)
    rows.append(_row("total", whole, roofline))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    )


def _shortened(counts: Mapping[str, Count], roofline: Roofline | None) -> dict[str, Count]:
    """The most expensive first, and what is left as one."""

    def weight(name: str) -> float:
        count = counts[name]
        return count.bytes if roofline is None else count.seconds

    names = sorted(counts, key=weight, reverse=True)
    found = {name: counts[name] for name in names[:LONGEST]}
    if names[LONGEST:]:
        rest = Count()
        for name in names[LONGEST:]:
            rest.add(counts[name])
        found[f"{len(names) - LONGEST} others"] = rest
    return found


def _heads(title: str, roofline: Roofline | None) -> list[str]:
    heads = [title, "calls", "bytes", "flops", "waits"]
    return heads if roofline is None else [*heads, "time", "share of limit"]


def _row(name: str, count: Count, roofline: Roofline | None) -> list[str]:
    cells = [name, f"{count.calls:,}", _short(count.bytes, "B"), _short(count.flops), ""]
    cells[4] = str(count.waits or "")
    if roofline is None:
        return cells
    share = roofline.seconds(count) / count.seconds if count.seconds else 0.0
    return [*cells, milliseconds(count.seconds), f"{share:.2f}"]


def milliseconds(seconds: float) -> str:
    """A time, with its unit."""
    return f"{1e3 * seconds:,.1f} ms"


def _short(value: float, unit: str = "") -> str:
    """Three digits and a prefix."""
    if not value:
        return ""
    for prefix in UNITS:
        if value < 999.5:
            return f"{value:.3g} {prefix}{unit}"
        value /= 1000
    return f"{1000 * value:.3g} {UNITS[-1]}{unit}"
