"""Who sends to whom, so that each pair of ranks meets once.

In step ``s``, each rank receives from the one ``s`` before it and sends to the one ``s`` behind
it. After half of the steps, each pair has met. Of an even number, the last step is one between
opposite ranks, of which only one receives, and has the work: they take turns. After all steps,
each has met each on both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What a rank does in a step.

    Attributes:
        source: From whom it receives, if from anyone.
        target: To whom it sends, if to anyone.
    """

    source: int | None
    target: int | None


def steps_of(rank: int, size: int, turn: int | None) -> list[Step]:
    """The steps of a rank.

    Args:
        rank: Its number.
        size: How many ranks there are.
        turn: 0 for the first half of the ranks to receive in the last step, if it is one between
            opposite ranks; 1 for the second half. None for twice as many steps, after which each
            rank has received from each other.
    """
    last = size if turn is None else (size + 1) // 2
    steps = [Step((rank - s) % size, (rank + s) % size) for s in range(1, last)]
    if size % 2 == 0 and turn is not None:
        opposite = (rank + size // 2) % size
        receives = (rank < size // 2) == (turn == 0)
        steps.append(Step(opposite, None) if receives else Step(None, opposite))
    return steps


def turns_of(costs: Iterable[float]) -> list[int]:
    """Whose turn it is, for each of some parcels, so that opposite ranks have as much work.

    Args:
        costs: Of what follows each parcel.
    """
    spent, turns = [0.0, 0.0], []
    for cost in costs:
        turn = int(spent[1] < spent[0])
        spent[turn] += cost
        turns.append(turn)
    return turns
