"""The loss curvature of some batches, whose graphs are kept or made again when needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from operator import length_hint
from typing import Any

import torch
from torch import Tensor, nn

from vivit.backprop.autograd import Linearization
from vivit.backprop.called import plain
from vivit.backprop.checks import Findings, Versions, refuse_contexts, refuse_shards
from vivit.backprop.pushforward import Ways
from vivit.backprop.random_state import RandomState
from vivit.backprop.ties import warn_of_hidden_ties
from vivit.batches import Batch, BatchCurvature, Carried, Carrying
from vivit.data import tensors_in
from vivit.dtypes import like_of
from vivit.errors import InputError, UnsupportedError
from vivit.kinds import BatchColumns, Kind
from vivit.layers.sizes import BatchSizes
from vivit.losses.base import name_of
from vivit.options import Subset, resolve_subset
from vivit.progress import BATCH, Progress
from vivit.ranks import ALONE, Ranks
from vivit.ranks.agreement import Names, check_alike, checksum, described_model
from vivit.sampling import Sampling
from vivit.union import Service, Union, facts_of_sizes, generic_of, sizes_of_facts
from vivit.units import UnitCurvature


class Curvature:
    """The loss curvature of some batches.

    The graph of a single batch is kept; those of several are made when needed, one at a time.

    Attributes:
        batches: The batches.
        parameters: All parameters that count, by name.
        kind: Which vectors of the outputs are sent back.
        places: Which columns are whose.
        sampling: What counts as a sample.
        served_by: How each parameter has been served so far, by name: see `Linearization`.
        lowest: The lowest precision in which the model computes, where it is lower than that of
            results.
        ranks: Who has the other batches, if any. Numbers of samples and columns, their places and
            the factors of a mean are those of the batches of all ranks.
        progress: Where runs through the batches are shown.
    """

    def __init__(
        self,
        model: nn.Module,
        kind: Kind,
        data: Iterable[tuple[Any, Any]],
        parameters: dict[str, Tensor],
        subset: Subset | None,
        progress: Progress,
        sampling: Sampling | None = None,
        ranks: Ranks = ALONE,
        alike: Callable[[], Names] = dict,
    ) -> None:
        """Run a forward pass of each batch and check that they fit together.

        Args:
            model: As for `GGN`.
            kind: Which vectors of the outputs are sent back.
            data: Inputs and targets of each batch.
            parameters: All parameters that count, by name.
            subset: Samples that carry curvature.
            progress: Where runs through the batches are shown.
            sampling: What counts as a sample; by default the rows of the output, apart.
            ranks: Who has the other batches, if any.
            alike: Gives what all ranks must have alike beside the model.
        """
        refuse_contexts()
        refuse_shards(plain(model), parameters)
        warn_of_hidden_ties(plain(model), parameters)
        self._model, self.kind, self.parameters, self.ranks = model, kind, parameters, ranks
        self.progress, self.sampling = progress, sampling or Sampling()
        self._versions = Versions.of(parameters, None)
        self._versions.watch_model(plain(model))
        self._generic: frozenset[str] = frozenset()
        self.batches: list[Batch] = []
        self._sizes: list[BatchSizes] = []
        self.served_by: dict[str, str] = {}
        self.lowest: torch.dtype | None = None
        with progress.stage("forward passes", total=length_hint(data) or None):
            last, columns = self._first_pass(data)
        self._union = self._joined(alike)
        if self.is_mean and not self.summed:
            raise InputError(
                "The loss averages over nothing: all targets are ignored or have weight 0."
            )
        self._subset = resolve_subset(subset, self.num_samples)
        self._counts = self._union.counts(self._subset)
        self.places = self._union.places(self._counts)
        self._kept = self._single(last, columns)
        self.shares = self._sizes_of_all()

    def _joined(self, alike: Callable[[], Names]) -> Union:
        """Tell the other ranks what is here, and take up what they have."""
        own = [[batch.size, batch.columns, batch.normalizer] for batch in self.batches]
        if self.ranks.size == 1:
            return Union.of(0, [own])
        model = described_model(plain(self._model), self.parameters)
        facts = {
            "alike": {**model, **alike()},
            "batches": own,
            "service": self._service.facts if own else None,
            "lowest": None if self.lowest is None else str(self.lowest).removeprefix("torch."),
        }
        found = self.ranks.facts(facts, "the batches of all ranks")
        check_alike([x["alike"] for x in found])
        union = Union.of(self.ranks.rank, (x["batches"] for x in found))
        if not union.all:
            raise InputError("No rank has any samples: data is empty on each.")
        self.batches = union.numbered(self.batches)
        services = [Service.of_facts(x["service"]) for x in found if x["service"] is not None]
        self._generic = generic_of(services)
        self._sizes = [sizes.with_generic(sorted(self._generic)) for sizes in self._sizes]
        lowest = {getattr(torch, x["lowest"]) for x in found if x["lowest"] is not None}
        self.lowest = max(lowest, key=lambda x: torch.finfo(x).eps, default=None)
        return union

    def _single(
        self, last: Linearization | None, columns: BatchColumns | None
    ) -> BatchCurvature | None:
        """The only batch, whose graph is kept, if it is served as those of other ranks are."""
        if last is None or len(self.batches) > 1:
            return None
        if self._generic and self._generic != self._service.generic:
            return None
        is_first = not self._union.first_batch  # else its number has changed
        return self._curvature(self.batches[0], last, columns if is_first else None)

    def _sizes_of_all(self) -> list[list[BatchSizes]]:
        """`sizes` of each of several ranks."""
        if self.ranks.size == 1:
            return []
        subset = None if self._subset is None else checksum(self._subset)
        facts = {
            "alike": {"the subset of samples": subset},
            "sizes": facts_of_sizes(self.sizes),
            "kept": self._kept is not None or not self.batches,
        }
        found = self.ranks.facts(facts, "the sizes of all ranks")
        check_alike([x["alike"] for x in found])
        self._is_kept = all(x["kept"] for x in found)
        return [sizes_of_facts(x["sizes"]) for x in found]

    def _first_pass(
        self, data: Iterable[tuple[Any, Any]]
    ) -> tuple[Linearization | None, BatchColumns | None]:
        """Check every batch, and note what is known of it without its graph.

        Returns:
            Linearization and vectors of the outputs of the last one, if there is one.
        """
        state = RandomState.current(self._model)
        unchecked: list[tuple[Tensor, Any]] = []
        findings, service = Findings(list(self.parameters)), _Service(self.ranks.size > 1)
        linearization: Linearization | None = None
        columns: BatchColumns | None = None
        start = 0
        for x, y in data:
            ways = Ways()
            linearization = self._linearize(x, state, ways)
            rows = self.sampling.rows(self.kind.loss_func, linearization.output)
            output, y_of_rows = rows.split(linearization.output), rows.targets(y)
            index = len(self.batches)
            columns = self._columns_of(output, y_of_rows, index)
            batch = Batch(
                index,
                x,
                y,
                len(output),
                start,
                output.shape[1:],
                columns.num_columns,
                state,
                columns.normalizer,
                ways,
            )
            self.batches.append(batch)
            start += batch.size
            service.add(linearization)
            self._versions.watch(tensors_in((x, y)))
            if columns.needs_check:
                unchecked.append((output, y_of_rows))
            if index:
                self._check_samples(unchecked, alone=False)
            findings.add(linearization.parameter_uses)
            state = linearization.random_state_after
            self.progress.advance(BATCH)
        self._check_samples(unchecked, alone=self.ranks.size == 1)
        if self.batches:
            self._take(findings, service)
        return linearization, columns

    def _take(self, findings: Findings, service: _Service) -> None:
        """Take up what was found in all batches, and tell of it."""
        findings.tell()
        lower = findings.lower_precision
        self.lowest = None if lower is None else lower.dtype
        self._service = service.found
        self._generic, generic = self._service.generic, sorted(self._service.generic)
        self._sizes = [sizes.with_generic(generic) for sizes in service.sizes]

    def _columns_of(self, output: Tensor, y: Any, index: int) -> BatchColumns:
        """The vectors of a new batch, of a loss that is the same function each time."""
        before = RandomState.current(self._model)
        columns = self.kind.of_batch(output, y, index)
        if not RandomState.current(self._model).same_as(before):
            raise UnsupportedError(
                f"The loss {name_of(self.kind.loss_func)!r} draws random numbers, so that it is "
                "another function each time. Draw them before, and let them be part of the "
                "targets."
            )
        return columns

    def _check_samples(self, unchecked: list[tuple[Tensor, Any]], alone: bool) -> None:
        """Check outputs and targets of batches, once each; of single samples, two together."""
        singles = [
            (output, y) for output, y in unchecked if len(output) == 1 and isinstance(y, Tensor)
        ]
        shapes = {(output.shape, y.shape) for output, y in singles}
        if len(singles) > 1 and len(shapes) == 1:
            outputs, targets = zip(*singles, strict=True)
            self.kind.check_samples(torch.cat(outputs), torch.cat(targets), alone)
            singles = []
        for output, y in unchecked:
            self.kind.check_samples(output, y, alone)
        unchecked[:] = singles

    @property
    def num_samples(self) -> int:
        """Samples of all batches."""
        return self._union.num_samples

    @property
    def num_curvature_samples(self) -> int:
        """Samples that carry curvature, ``N`` of the Gram matrix."""
        return self.num_samples if self._subset is None else len(self._subset)

    @property
    def num_columns(self) -> int:
        """``M``, their columns."""
        return self.places.total

    @property
    def is_mean(self) -> bool:
        """Whether the loss is a mean over samples, not a sum."""
        return self._union.is_mean

    @property
    def summed(self) -> float:
        """What makes of the loss of all batches the sum that it is the mean of."""
        return self._union.normalizer if self.is_mean else 1.0

    def linearize(self, x: Any) -> Linearization:
        """The model at other inputs, as it is now."""
        self._versions.check()
        return self._linearize(x, RandomState.current(self._model), Ways(lowest=self.lowest))

    def each(self, only: Collection[int] | None = None) -> Iterator[BatchCurvature]:
        """The batches with their graphs, one at a time.

        Args:
            only: Numbers of some of them; by default all.
        """
        self._versions.check()
        if self._kept is not None:
            yield self._kept
            self.progress.advance(BATCH)
            return
        for batch in self.batches:
            if only is not None and batch.index not in only:
                continue
            linearization = self._linearize(batch.x, batch.random_state, batch.ways)
            yield self._curvature(batch, linearization)
            del linearization
            self.progress.advance(BATCH)

    @property
    def is_kept(self) -> bool:
        """Whether no graph need be made again, on any rank."""
        return self._kept is not None if self.ranks.size == 1 else self._is_kept

    def check_fresh(self) -> None:
        """Refuse to go on if parameters or data are not those of the first pass."""
        self._versions.check()
        if self._kept is not None:
            self._kept.linearization.check_fresh()

    def curved(self, only: Collection[int] | None = None) -> Iterator[BatchCurvature]:
        """The batches with samples that carry curvature, one at a time: see `each`."""
        return (batch for batch in self.each(only) if batch.num_curvature_samples)

    def pieces(self) -> Iterator[BatchCurvature | Carried]:
        """Those samples with what has columns of them: see `BatchCurvature.carried`."""
        return (batch.carried for batch in self.curved())

    def carrying(self, only: Collection[int] | None = None) -> Iterator[Carrying]:
        """What carries curvature, batch by batch: see `each`."""
        for batch in self.curved(only):
            linearization, factor, samples = batch.carrying()
            try:
                yield linearization, factor, samples
            finally:  # nobody may ask for more than the last
                if linearization.has_layout:
                    self.served_by.update(linearization.served_by)

    @property
    def sizes(self) -> list[BatchSizes]:
        """Sizes of the batches that have samples with curvature, and those samples only.

        Where samples share units, those of units, with all columns of their samples.
        """
        known = self._sizes if self._kept is None else [self._kept.linearization.sizes]
        found = []
        for sizes, batch in zip(known, self.batches, strict=True):
            count = self._count(batch)
            units = sizes.samples if self.sampling.has_units else count
            if count:
                columns = count // units * batch.columns
                found.append(sizes.of_samples(units).with_columns(columns))
        return found

    def gradient_coordinates(self) -> Tensor | None:
        """``w`` with ``g_n = V_n w_n``, shape ``[M]``, where gradients lie in the span."""
        if self._subset is not None or self.kind.is_centered:
            return None
        parts, are_known = [self.like], True
        for batch in self.each():
            coordinates = batch.coordinates
            are_known = coordinates is not None
            if coordinates is None:
                break
            parts.append(coordinates.flatten())
        if not all(self.ranks.facts(are_known, "coordinates of gradients")):
            return None
        return self.ranks.rows(torch.cat(parts), "coordinates of gradients")

    @property
    def own_samples(self) -> slice:
        """The samples of this rank among those of all."""
        return self._union.own_samples

    @property
    def curved_of_ranks(self) -> list[slice]:
        """Samples with curvature of each rank among those of all."""
        return self._union.of_each(self._counts)

    @property
    def columns_of_ranks(self) -> list[int]:
        """Columns of each rank."""
        return self._union.columns(self._counts)

    @property
    def like(self) -> Tensor:
        """A tensor of the parameters' device, in the precision of results."""
        return like_of(self.parameters)

    def _linearize(self, x: Any, state: RandomState, ways: Ways) -> Linearization:
        return Linearization(self._model, x, self.parameters, state, self._generic, ways)

    def _curvature(
        self, batch: Batch, linearization: Linearization, columns: BatchColumns | None = None
    ) -> BatchCurvature:
        weight = 1.0 if batch.normalizer is None else batch.normalizer / self.summed
        samples = self.num_samples if self.is_mean else 1
        carrying = None if self._subset is None else self._of_batch(self._subset, batch)
        boost = self.num_samples / self.num_curvature_samples
        found = BatchCurvature(
            batch=batch,
            linearization=linearization,
            kind=self.kind,
            weight=weight,
            scale=self.kind.scale(weight, samples, boost),
            samples=None if carrying is None else carrying.to(self.like.device),
            rows=self.places.of_batch(batch.index),
            alone=len(self.batches) == 1,
            known_columns=columns,
        )
        if not self.sampling.has_units:
            return found
        layout = self.sampling.rows(self.kind.loss_func, linearization.output)
        return UnitCurvature(**vars(found), layout=layout)

    def _count(self, batch: Batch) -> int:
        """Samples of a batch that carry curvature."""
        return batch.size if self._subset is None else len(self._of_batch(self._subset, batch))

    def _of_batch(self, subset: Tensor, batch: Batch) -> Tensor:
        """Those samples of a subset that are in a batch, counted from its first."""
        if self.num_samples == batch.size:
            return subset
        local = subset - batch.start
        return local[(local >= 0) & (local < batch.size)]


class _Service:
    """How the batches serve the parameters, which is looked at if there are several.

    Attributes:
        sizes: Of what each leaves.
    """

    def __init__(self, at_once: bool) -> None:
        """Begin without any.

        Args:
            at_once: Whether others must know the layers even of a single batch.
        """
        self._at_once = at_once
        self.sizes: list[BatchSizes] = []
        self._layers: list[set[tuple[str | None, ...]]] = []
        self._generic: set[str] = set()
        self._first: Linearization | None = None

    def add(self, linearization: Linearization) -> None:
        """Look at one more batch; a single one finds its layers when it needs them."""
        if not self.sizes and not self._at_once:
            self.sizes, self._first = [linearization.sizes], linearization
            return
        if self._first is not None:
            self._look_at(self._first)
            self.sizes, self._first = [self._first.sizes], None  # now that its layers are known
        self._look_at(linearization)
        self.sizes.append(linearization.sizes)

    def _look_at(self, linearization: Linearization) -> None:
        self._layers.append(linearization.layout.served)
        self._generic.update(linearization.layout.generic)

    @property
    def found(self) -> Service:
        """Parameters need the generic rule, too, if not all batches serve them alike."""
        common = set.intersection(*self._layers) if self._layers else set()
        odd = {key for keys in self._layers for key in keys - common}
        generic = self._generic | {name for key in odd for name in key if name}
        return Service(frozenset(common), frozenset(generic))
