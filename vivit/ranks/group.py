"""The ranks of a process group of `torch.distributed`.

Before tensors move, all ranks tell each other what they are about to do, by messages between each
pair. So an error of one is known to all, a rank that does something else is named, and so is one
that is gone or late, after the group's time-out (`init_process_group(timeout=...)`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import blake2s
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from vivit import errors
from vivit.errors import RankError, VivitError
from vivit.ranks.agreement import checksum
from vivit.ranks.base import Facts, Parcel, Traffic
from vivit.ranks.messages import (
    begin,
    exchanged,
    finish,
    in_buckets,
    in_words,
    listed,
    trade,
)
from vivit.ranks.ring import Step, steps_of

BUCKET = 32 * 2**20
"""Bytes of small tensors that are added up at once."""


class Group:
    """The ranks of a process group, as `Ranks`."""

    def __init__(self, group: dist.ProcessGroup, wire: torch.device) -> None:
        """Wrap a group.

        Args:
            group: The group.
            wire: Device of tensors that it sends.
        """
        self._group, self._wire = group, wire
        self.rank, self.size = group.rank(), group.size()
        self.traffic = Traffic()
        self._depth = 0
        self._lost: str | None = None
        self._told: BaseException | None = None

    @contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """See `Ranks`: the error of another rank is raised as one of the same kind.

        The outermost of several, one within the other, ends on all ranks or on none.
        """
        self._depth += 1
        try:
            yield
            if self._depth == 1:  # a last step may have failed on one alone
                self.facts(None, f"the end of {what}")
        except Exception as error:
            if error is not self._told and self._lost is None:
                self._told = error
                self._tell(what, error)
            raise
        finally:
            self._depth -= 1

    def _tell(self, what: str, error: Exception) -> None:
        """Meet the others once more, wherever they are, with nothing but the error."""
        name, text = type(error).__name__, str(error)
        shown = text if isinstance(error, VivitError) else f"{name}: {text}"
        found = exchanged(self._group, {"what": what, "kind": name, "failed": shown}, self._wire)
        if found.lost:
            self._lost = f"{listed(found.lost)} could not be told of an error in {what}"

    def facts(self, own: Facts, what: str) -> list[Facts]:
        """See `Ranks`."""
        if self._lost is not None:
            raise RankError(
                f"This process group cannot be used any more: {self._lost}. Start all ranks anew."
            )
        found = exchanged(self._group, {"what": what, "own": own}, self._wire)
        if found.lost:
            why = next(iter(found.lost.values()))
            raise self._lost_error(f"{listed(found.lost)} did not come to {what!r}", why)
        texts = [found.texts[rank] for rank in range(self.size)]
        failed = {rank: x for rank, x in enumerate(texts) if "failed" in x}
        if failed:
            rank, text = next(iter(failed.items()))
            self._raise(_kind(text["kind"]), f"Rank {rank}, in {text['what']}: {text['failed']}")
        others = {rank: x["what"] for rank, x in enumerate(texts) if x["what"] != what}
        if others:
            rank, other = next(iter(others.items()))
            self._raise(
                RankError,
                f"Rank {self.rank} is at {what!r}, but rank {rank} is at {other!r}. All ranks "
                "must call the same methods in the same order.",
            )
        return [x["own"] for x in texts]

    def _lost_error(self, who: str, why: str) -> RankError:
        """There is no going on from here."""
        self._lost = who
        return RankError(
            f"Rank {self.rank} waits in vain: {who} ({why}). It has ended, or works longer than "
            "the time-out of the process group: see its own output, and "
            "init_process_group(timeout=...)."
        )

    def _lose(self, who: str, why: str) -> NoReturn:
        """Raise that ranks were lost on the way, which others may not know yet."""
        error = self._lost_error(who, why)
        self._tell("what followed", error)
        raise error

    def _raise(self, kind: type[Exception], text: str) -> NoReturn:
        """An error that the others know of."""
        self._told = kind(text)
        raise self._told

    def add(self, tensors: Sequence[Tensor], what: str) -> None:
        """See `Ranks`."""
        self._check_same(self.facts(_digest(tensors), what), what)
        for bucket in in_buckets([x for x in tensors if x.numel()], BUCKET):
            flat = torch.cat([x.flatten() for x in bucket]) if len(bucket) > 1 else bucket[0]
            flat = flat.contiguous()
            sent = flat.to(self._wire)
            with self._moving(what, sent.nbytes, sent.nbytes):
                dist.all_reduce(sent, group=self._group)
            pieces = sent.flatten().split([x.numel() for x in bucket])
            for x, piece in zip(bucket, pieces, strict=True):
                if x.data_ptr() != piece.data_ptr():
                    x.copy_(piece.view(x.shape))

    def rows(self, x: Tensor, what: str) -> Tensor:
        """See `Ranks`: all send as many as the one with the most."""
        found = self.facts([len(x), str(x.dtype), *x.shape[1:]], what)
        self._check_same([own[1:] for own in found], what)
        counts = [own[0] for own in found]
        padded = x.new_zeros(max(counts), *x.shape[1:], device=self._wire)
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in counts]
        if padded.numel():
            size = padded.nbytes
            with self._moving(what, size, (self.size - 1) * size):
                dist.all_gather(parts, padded, group=self._group)
        own = [part[:count] for part, count in zip(parts, counts, strict=True)]
        return torch.cat(own).to(x.device)

    def agreed(self, tensors: Sequence[Tensor], what: str) -> list[Tensor]:
        """See `Ranks`: processors of other kinds may round in another way."""
        own = [[str(x.dtype), [*x.shape], checksum(x)] for x in tensors]
        first, *others = self.facts(own, what)
        if all(x == first for x in others):
            return [*tensors]
        result = []
        for x, (dtype, shape, _) in zip(tensors, first, strict=True):
            is_first = self.rank == 0
            sent = x.contiguous().to(self._wire) if is_first else self._empty(dtype, shape)
            with self._moving(what, is_first * sent.nbytes, (not is_first) * sent.nbytes):
                dist.broadcast(sent, group=self._group, group_src=0)
            result.append(sent.to(x.device))
        return result

    def to_each(self, blocks: Mapping[int, Tensor], what: str) -> dict[int, Tensor]:
        """See `Ranks`."""
        own = [[rank, str(x.dtype), [*x.shape]] for rank, x in blocks.items()]
        sent = {rank: x.contiguous().to(self._wire) for rank, x in blocks.items()}
        coming = {
            peer: self._empty(dtype, shape)
            for peer, of_peer in enumerate(self.facts(own, what))
            for rank, dtype, shape in of_peer
            if rank == self.rank
        }
        lost: dict[int, str] = {}
        peers = {*sent, *coming}
        trade(self._group, {x: (_filled(sent, x), _filled(coming, x)) for x in peers}, lost)
        self.traffic.sent += sum(x.nbytes for x in sent.values())
        self.traffic.received += sum(x.nbytes for x in coming.values())
        for peer, why in lost.items():
            self._lose(f"rank {peer} left while {what!r} was moved", why)
        return coming

    def around(
        self,
        own: Parcel,
        what: str,
        turn: int | None,
        meanwhile: Callable[[], None],
        use: Callable[[int, Parcel], None],
    ) -> None:
        """See `Ranks`."""
        sent = [x.contiguous().to(self._wire) for x in own.tensors]
        shapes = [[str(x.dtype), [*x.shape]] for x in sent]
        labels, at_hand = self.facts([own.label, shapes], what), meanwhile
        for i, step in enumerate(steps_of(self.rank, self.size, turn)):
            if i:
                self.facts(None, what)
            coming = self._depart(step, sent, labels, turn is not None)
            try:
                at_hand()
            finally:  # before others are told of an error
                source, parcel = coming.arrived(what)
            at_hand = _nothing if source is None else partial(use, source, parcel)
        at_hand()

    def _depart(
        self, step: Step, sent: list[Tensor], labels: list[Facts], are_pairs: bool
    ) -> _Trip:
        """Begin a step.

        Args:
            step: The step.
            sent: What this rank sends.
            labels: What each sends, in words, with dtypes and shapes.
            are_pairs: Whether only ranks meet that both have something.
        """
        has = [bool(shapes) for _, shapes in labels]
        source, target = step.source, step.target
        if source is not None and not (has[source] and (has[self.rank] or not are_pairs)):
            source = None
        if target is not None and not (has[self.rank] and (has[target] or not are_pairs)):
            target = None
        label, shapes = labels[source] if source is not None else (None, [])
        tensors = [self._empty(dtype, shape) for dtype, shape in shapes]
        return _Trip(self, source, target, sent, Parcel(label, tensors))

    def _empty(self, dtype: str, shape: Sequence[int]) -> Tensor:
        """A tensor to be received."""
        return torch.empty(shape, dtype=getattr(torch, dtype.split(".")[1]), device=self._wire)

    def _check_same(self, found: list[Facts], what: str) -> None:
        for rank, other in enumerate(found):
            if other != found[0]:
                self._raise(
                    RankError,
                    f"Ranks have tensors of different kinds in {what!r}: rank 0 {found[0]}, rank "
                    f"{rank} {other}.",
                )

    @contextmanager
    def _moving(self, what: str, sent: int, received: int) -> Iterator[None]:
        """Count bytes, and name what failed."""
        self.traffic.sent += sent
        self.traffic.received += received
        try:
            yield
        except RuntimeError as error:
            others = [rank for rank in range(self.size) if rank != self.rank]
            self._lose(f"one of {listed(others)} left while {what!r} was moved", in_words(error))


class _Trip:
    """A step of a parcel around the ring, which has begun."""

    def __init__(
        self,
        ranks: Group,
        source: int | None,
        target: int | None,
        sent: list[Tensor],
        parcel: Parcel,
    ) -> None:
        self._ranks, self._source, self._parcel = ranks, source, parcel
        self._works: dict[int, list[Any]] = {}
        self._failed: dict[int, str] = {}
        group, nonempty = ranks._group, [x for x in sent if x.numel()]
        received = [x for x in parcel.tensors if x.numel()]
        if target is not None and target == source:
            self._works[target] = begin(group, target, nonempty, received, self._failed)
        else:
            for peer, out, into in ((target, nonempty, []), (source, [], received)):
                if peer is not None:
                    self._works[peer] = begin(group, peer, out, into, self._failed)
        if target is not None:
            ranks.traffic.sent += sum(x.nbytes for x in nonempty)
        ranks.traffic.received += sum(x.nbytes for x in received)

    def arrived(self, what: str) -> tuple[int | None, Parcel]:
        """Wait for it."""
        for peer, works in self._works.items():
            finish(peer, works, self._failed)
        if self._failed:
            peer, why = next(iter(self._failed.items()))
            self._ranks._lose(f"rank {peer} left while {what!r} was moved", why)
        return self._source, self._parcel


def _filled(tensors: Mapping[int, Tensor], rank: int) -> list[Tensor]:
    """That of a rank, if there is one that has entries."""
    x = tensors.get(rank)
    return [x] if x is not None and x.numel() else []


def _digest(tensors: Sequence[Tensor]) -> list[Facts]:
    """How many tensors there are, their entries, and all shapes and dtypes in short."""
    text = "; ".join(f"{x.dtype} {[*x.shape]}" for x in tensors)
    count = sum(x.numel() for x in tensors)
    return [len(tensors), count, blake2s(text.encode(), digest_size=8).hexdigest()]


def _nothing() -> None:
    """There is nothing at hand."""


def _kind(name: str) -> type[Exception]:
    """The class of an error of this library; `RankError` for any other."""
    found = getattr(errors, name, None)
    if isinstance(found, type) and issubclass(found, VivitError):
        return found
    return RankError
