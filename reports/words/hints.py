"""What the headings of columns stand for, shown where a reader points at them."""

from __future__ import annotations

from benchmarks.methods import METHODS

COLUMNS = {
    "Problem": "The network and its data",
    "Computed": "The task that was timed",
    "Batch": "Number of samples in the mini-batch",
    "C": "Columns per sample of the matrix: of a classifier, its classes less one",
    "N": "Number of samples in the mini-batch",
    "k": "Number of leading eigenpairs",
    "D": "Number of parameters of the network",
    "Environment": "Machine and code: processor, date and commit",
    "Threads": "Threads of the processor that the computation may use",
    "Budget": "Memory that the process may allocate",
    "vivit: time": "Wall-clock time of one computation, median of the repeats",
    "vivit: memory": "Peak memory during the computation, above what was in use before",
    "Relative error": "Against double precision, relative to the largest eigenvalue or the norm",
}


def hint(column: str) -> str:
    """What a column holds, in a line.

    Args:
        column: Its heading; "Time vs X" is explained by what method X does.

    Returns:
        The explanation; empty if there is none.
    """
    method = column.partition(" vs ")[2]
    described = {entry.label.short: entry.description for entry in METHODS.values()}
    return COLUMNS.get(column) or described.get(method, "")
