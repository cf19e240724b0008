"""The latest values and their course, in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vivit.monitor.curves import Curves
from vivit.monitor.log import read
from vivit.monitor.observation import Observation
from vivit.monitor.summary import headline, rows

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 24
"""Of a course, in characters."""

SECONDS = 1.0
"""Between two looks at the file."""


def view(name: str, observations: list[Observation]) -> RenderableType:
    """What a run has shown so far.

    Args:
        name: Of the run.
        observations: In ascending order of their steps.

    Returns:
        What rich prints.
    """
    if not observations:
        return Text(f"{name}: no observation yet")
    curves = Curves(observations)
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("latest", "range"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("over steps", no_wrap=True)
    for row in rows(curves):
        table.add_row(*map(Text, (row.name, row.latest, row.range, course(row.values))))
    parts: list[RenderableType] = [Text(f"{name}: {headline(curves)}"), table]
    if observations[-1].error:
        parts.append(Text(f"step {observations[-1].step}: {observations[-1].error}", style="red"))
    return Group(*parts)


def course(values: np.ndarray, width: int = WIDTH) -> str:
    """Numbers as blocks of as many heights, on a logarithmic scale where that shows more.

    Args:
        values: Shape ``[S]``; NaN is a gap.
        width: Characters at most; of several numbers for one, the last is shown.

    Returns:
        A character for each number that is shown.
    """
    count = min(len(values), width)
    shown = values[
        np.linspace(len(values) / count - 1, len(values) - 1, count).round().astype(int)
    ]
    found = shown[np.isfinite(shown)]
    if not len(found):
        return " " * count
    if found.min() > 0 and found.max() > 10 * found.min():
        shown, found = np.log(shown), np.log(found)
    low, high = found.min(), found.max()
    heights = (shown - low) / (high - low) if high > low else np.where(np.isnan(shown), shown, 0.5)
    last = len(BLOCKS) - 1
    return "".join(" " if np.isnan(x) else BLOCKS[round(x * last)] for x in heights)


def follow(
    path: Path,
    console: Console | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Show a run until Ctrl-C, and again after each change of its file.

    Args:
        path: The file; it need not exist yet.
        console: Where to show it; by default the terminal.
        wait: Lets some seconds pass.

    Raises:
        InputError: The file has a line that is no observation.
    """
    seen: tuple[int, int] | None = None
    with Live(view(path.name, []), console=console, auto_refresh=False) as live:
        try:
            while True:
                state = _state(path)
                if state is not None and state != seen:
                    seen = state
                    live.update(view(path.name, read(path)), refresh=True)
                wait(SECONDS)
        except KeyboardInterrupt:
            return


def _state(path: Path) -> tuple[int, int] | None:
    """What changes whenever the file does; None while there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns
