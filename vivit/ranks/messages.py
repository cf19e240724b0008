"""Messages of JSON between all pairs of ranks: who waits for whom can be told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

LENGTH, ROOM = 8, 1016
"""Bytes of a message's first part: the length of the text, and as much of it as there is room
for. What is left comes in a second part."""

TAG = 5881
"""Of messages and tensors, so that they are not taken for those of others."""

WORDS = 120
"""Characters of torch's own message that are shown."""


@dataclass
class Answers:
    """What came of messages.

    Attributes:
        texts: JSON by rank.
        lost: Ranks of which nothing came, and why, in words.
    """

    texts: dict[int, Any] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)


def exchanged(group: dist.ProcessGroup, own: Any, wire: torch.device) -> Answers:
    """Send the same to all ranks, and receive from all.

    Args:
        group: The ranks.
        own: What JSON can say.
        wire: Device of tensors that are sent.

    Returns:
        What came, with what this rank itself said; it waits no longer than the group's time-out.
    """
    rank, size = group.rank(), group.size()
    text = json.dumps(own).encode()
    found, others = Answers({rank: own}), [peer for peer in range(size) if peer != rank]
    length = len(text).to_bytes(LENGTH, "little")
    first = _tensor((length + text[:ROOM]).ljust(LENGTH + ROOM, b"\0"), wire)
    parts = {peer: torch.empty_like(first) for peer in others}
    trade(group, {peer: ([first], [x]) for peer, x in parts.items()}, found.lost)
    begun = {peer: _bytes(x) for peer, x in parts.items() if peer not in found.lost}
    lengths = {peer: int.from_bytes(x[:LENGTH], "little") for peer, x in begun.items()}
    rest = [_tensor(text[ROOM:], wire)] if len(text) > ROOM else []
    left = {peer: [first.new_empty(n - ROOM)] if n > ROOM else [] for peer, n in lengths.items()}
    trade(group, {peer: (rest, x) for peer, x in left.items()}, found.lost)
    for peer, begin in begun.items():
        if peer not in found.lost:
            whole = begin[LENGTH:] + b"".join(_bytes(x) for x in left[peer])
            found.texts[peer] = json.loads(whole[: lengths[peer]])
    return found


Trades = dict[int, tuple[list[Tensor], list[Tensor]]]
"""For each other rank, what is sent to it and where what comes from it is written to."""


def trade(group: dist.ProcessGroup, trades: Trades, lost: dict[int, str]) -> None:
    """Send tensors to some ranks and receive from them, and wait for all of it.

    Args:
        group: The ranks.
        trades: What, to and from whom.
        lost: Takes the ranks with which it failed, and why.
    """
    begun = {peer: begin(group, peer, *both, lost) for peer, both in trades.items()}
    for peer, works in begun.items():
        finish(peer, works, lost)


def begin(
    group: dist.ProcessGroup,
    peer: int,
    sent: Iterable[Tensor],
    received: Iterable[Tensor],
    lost: dict[int, str],
) -> list[dist.Work]:
    """Begin to send tensors to a rank and to receive from it; arguments as for `trade`."""
    ops = [
        *(dist.P2POp(dist.isend, x, group=group, tag=TAG, group_peer=peer) for x in sent),
        *(dist.P2POp(dist.irecv, x, group=group, tag=TAG, group_peer=peer) for x in received),
    ]
    if not ops:
        return []
    works: list[dist.Work] = []
    with noting(peer, lost):
        works += dist.batch_isend_irecv(ops)
    return works


def finish(peer: int, works: Iterable[dist.Work], lost: dict[int, str]) -> None:
    """Wait for what was begun."""
    for work in works:
        with noting(peer, lost):
            work.wait()


@contextmanager
def noting(peer: int, lost: dict[int, str]) -> Iterator[None]:
    """Note a failure with a rank, with what torch says, in place of raising it."""
    try:
        yield
    except RuntimeError as error:
        lost.setdefault(peer, in_words(error))


def in_words(error: BaseException) -> str:
    """What torch says of a failure, in short."""
    text = str(error).split("] ", 1)[-1].split("\n", 1)[0]
    return text[:WORDS]


def _tensor(text: bytes, wire: torch.device) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).to(wire)


def _bytes(x: Tensor) -> bytes:
    return bytes(x.cpu().numpy())


def listed(numbers: Iterable[int]) -> str:
    """Ranks in words."""
    found = [str(x) for x in numbers]
    return f"rank {found[0]}" if len(found) == 1 else f"ranks {', '.join(found)}"


def in_buckets(tensors: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Tensors of one dtype together, as long as they are small.

    Args:
        tensors: Some.
        size: Bytes.
    """
    bucket: list[Tensor] = []
    for x in tensors:
        fits = sum(y.nbytes for y in bucket) + x.nbytes <= size
        if bucket and not (fits and x.dtype == bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(x)
    if bucket:
        yield bucket
