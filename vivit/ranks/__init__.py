"""Several processes with a share of the batch each: all that they say to each other.

Nothing else of the library calls `torch.distributed`. What it calls is `Ranks`, which for a single
process does nothing.
"""

from vivit.ranks.base import ALONE, Alone, Parcel, Ranks, Traffic, together
from vivit.ranks.chosen import NO_GROUP, ranks_of
from vivit.ranks.ring import steps_of, turns_of

__all__ = [
    "ALONE",
    "NO_GROUP",
    "Alone",
    "Parcel",
    "Ranks",
    "Traffic",
    "ranks_of",
    "steps_of",
    "together",
    "turns_of",
]
