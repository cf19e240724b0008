"""The monitor: called at each step of a training, it looks at the curvature now and then."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vivit.backprop.autocast import without_autocast
from vivit.backprop.called import Forward, called, forward_here, unwrapped
from vivit.data import Batches, Target
from vivit.errors import InputError, RankError
from vivit.ggn import EXACT
from vivit.losses import check_loss
from vivit.monitor.cost import Clock, Cost
from vivit.monitor.curvature import Setting, Values, observe
from vivit.monitor.log import append
from vivit.monitor.numbers import number
from vivit.monitor.observation import Observation
from vivit.monitor.prediction import held_out
from vivit.monitor.quantities import ALL, Quantity, chosen
from vivit.monitor.quiet import evaluating
from vivit.options import Approximation, Subset
from vivit.parameters import Selector, listed, select_parameters
from vivit.ranks import NO_GROUP, ranks_of
from vivit.sampling import Sampling
from vivit.shown import Shown, counted

CALLER = 3
"""Frames from a warning to who calls the monitor, if the call itself warns."""


class Monitor(Shown):
    """Looks at the curvature of a model while it trains, and writes down what it sees.

    Call it in the training loop. Nothing of the training is changed: parameters, gradients,
    buffers, random state and the mode of every module are as before. The model is looked at in
    evaluation mode, as it predicts.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_func: Any,
        held_out_batch: Any,
        every: int = 100,
        quantities: Iterable[Quantity | str] = ALL,
        path: Path | str = "run.jsonl",
        budget: float | None = None,
        k: int = 10,
        params: Iterable[Selector] | None = None,
        approximation: Approximation = EXACT,
        subset: Subset | None = None,
        forward: Forward | None = None,
        target: Target | None = None,
        samples: str = "sequence",
        mixing: str = "refuse",
        *,
        process_group: Any = NO_GROUP,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Set up the monitor; nothing is computed or written yet.

        Args:
            model: As `GGN` takes it, as is the loss. Of one that is compiled or in
                `DistributedDataParallel`, the module within is looked at.
            loss_func: The loss.
            held_out_batch: Inputs and targets ``(X, y)``, or a batch in any form that `GGN` takes,
                that the training does not use; the same at each step, so that curves are not of
                the choice of samples.
            every: Steps between observations.
            quantities: What to compute, by name or as `Quantity`; loss and accuracy always are.
            path: File to which a line is appended for each observation; each monitor needs its
                own.
            budget: Share of the time since the first call, such as 0.05, that observations may
                take: those that would exceed it are skipped, but never the first.
            k: Number of leading directions.
            params: The parameters that count; by default all that require gradients.
            approximation: ``MonteCarlo(...)``, where exact curvature costs too much. Its random
                draws are the same at each step.
            subset: Samples of the batch that carry the curvature.
            forward: As for `GGN`, as is the next.
            target: Maps the batch to its targets.
            samples: As for `GGN`, as is the next.
            mixing: Whether samples may depend on each other.
            process_group: As for `GGN`. Each rank has its own held-out samples, at least one, and
                calls its monitor at the same steps; what is seen is that of all of them. The first
                keeps to the budget, writes the file and warns.
            clock: Tells the time in seconds.

        Raises:
            InputError: An argument has a wrong value.
            UnsupportedError: The loss does not give a scalar.
        """
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
        model = unwrapped(model)
        self._setting = Setting(
            model,
            loss_func,
            _checked_batch(held_out_batch, target),
            chosen(quantities),
            _positive("k", k),
            None if params is None else listed(params),
            approximation,
            subset,
            forward,
            target,
            samples,
            mixing,
            process_group,
        )
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self._ranks = ranks_of(process_group, device)
        called(model, forward)  # refuses what is no function
        Sampling.of(samples, mixing, subset)
        check_loss(loss_func)
        if budget is not None and not 0 < budget <= 1:
            raise InputError(f"budget must be a share of the time in (0, 1], got {budget}.")
        self._every, self._budget, self._path = _positive("every", every), budget, Path(path)
        self._cost = Cost(clock, lambda: {p.device for p in model.parameters() if p.is_cuda})
        self._last_step: int | None = None
        self._skipped = 0
        self._warned: set[str] = set()

    @property
    def _parts(self) -> dict[str, str]:
        found = {
            "every": str(self._every),
            "quantities": counted([x.value for x in self._setting.quantities], what=""),
            "k": str(self._setting.k),
            "path": str(self._path),
            "last step": str(self._last_step),
        }
        return found if self._budget is None else found | {"budget": f"{self._budget:g}"}

    @property
    def seconds(self) -> float:
        """What all observations took."""
        return self._cost.seconds

    @property
    def share(self) -> float:
        """Of the time since the first call that observations took."""
        return self._cost.share

    def __call__(self, step: int, learning_rate: float | None = None) -> Observation | None:
        """Observe, if it is time: at the first call, and then at the first of each `every` steps.

        Args:
            step: Of the training, counted over all epochs, and on when it goes on from a
                checkpoint: a line replaces all of later steps.
            learning_rate: Of this step, to be shown beside the bound that the curvature sets.

        Returns:
            What was seen; None if nothing was looked at.

        Raises:
            InputError: The step is no whole number; or, as others, of the first observation, for
                what cannot be observed at all. What fails later is a warning, once per kind, and
                written down.
        """
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise InputError(f"step must be a whole number of at least 0, got {step!r}.")
        is_first = self._last_step is None
        if self._last_step is not None and step < self._last_step:
            self._warn(
                "steps",
                f"Step {step} follows {self._last_step}: of what the monitor wrote, a reader sees "
                "only what is before it. Count steps over all epochs.",
                CALLER,
            )
        self._cost.start()
        if self._last_step is not None and step // self._every == self._last_step // self._every:
            return None
        if not is_first and not self._allowed:
            self._last_step, self._skipped = step, self._skipped + 1
            return None
        observation = self._observed(step, learning_rate, is_first)
        self._last_step, self._skipped = step, 0
        return observation

    @property
    def _allowed(self) -> bool:
        """Whether the budget allows one more observation, by the clock of the first rank."""
        if self._budget is None:
            return True
        first, *_ = self._ranks.facts(self._cost.allows(self._budget), "the monitor's budget")
        return bool(first)

    def _observed(self, step: int, learning_rate: float | None, is_first: bool) -> Observation:
        values: Values = {}
        error = ""
        with self._cost.counted():
            try:
                with evaluating(self._setting.model), self._ranks.telling("an observation"):
                    self._look(values)
            except Exception as failure:  # whatever it is, a training is worth more
                if is_first:
                    raise
                error = f"{type(failure).__name__}: {failure}"
                self._warn(type(failure).__name__, _not_seen(f"step {step}: {error}"), CALLER + 1)
        observation = Observation(
            step=step,
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            elapsed=round(self._cost.elapsed, 6),
            seconds=round(self._cost.last, 6),
            share=round(self._cost.share, 6),
            skipped=self._skipped,
            learning_rate=None if learning_rate is None else number(learning_rate),
            quantities=values,
            error=error,
        )
        self._write(observation, is_first)
        return observation

    def _look(self, into: Values) -> None:
        setting = self._setting
        parameters = select_parameters(setting.model, setting.params)
        forward = forward_here(setting.forward)
        model = called(setting.model, forward)
        ((x, y),) = Batches(setting.batch, setting.target)
        with without_autocast():
            into |= held_out(model, setting.loss_func, x, y, parameters, self._ranks)
            observe(replace(setting, forward=forward), into)

    def _write(self, observation: Observation, is_first: bool) -> None:
        try:
            with self._ranks.telling("the monitor's file"):
                if self._ranks.rank == 0:
                    append(self._path, observation)
        except (OSError, InputError, RankError) as failure:
            if is_first:
                raise
            message = _not_seen(f"step {observation.step}: not written: {failure}")
            self._warn("writing", message, CALLER + 2)

    def _warn(self, kind: str, message: str, level: int) -> None:
        if kind not in self._warned and self._ranks.rank == 0:
            self._warned.add(kind)
            warnings.warn(message, stacklevel=level)


def _not_seen(what: str) -> str:
    return (
        f"The monitor could not observe all of {what}\nTraining goes on; what more fails of this "
        "kind is only written down."
    )


def _positive(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}.")
    return value


def _checked_batch(batch: Any, target: Target | None) -> Any:
    if Batches(batch, target).is_one:
        return batch
    raise InputError(
        "held_out_batch must be one batch (X, y), inputs and target tensor, got "
        f"{type(batch).__name__}. Of a DataLoader, take next(iter(loader)); of a mapping or with "
        "target=, anything that GGN takes."
    )
