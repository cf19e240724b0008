"""A training whose state is on disk after each epoch, so that a killed one goes on from there.

On a CPU, what comes out is the same, bit by bit, however often it was killed: parameters and the
states of optimizer and random generators are restored, and the order of the data depends on seed
and epoch alone. On a GPU, torch's operations round differently each time, so a training that
begins anew keeps nothing of what was there.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.problems.problem import Instance
from benchmarks.records.files import write
from benchmarks.training.data import Sets, in_batches
from benchmarks.training.recipe import Recipe
from benchmarks.training.steps import DivergedError, Steps
from vivit.monitor.prediction import right_classes

EPOCHS_APART = 1_000_003
"""Between the seeds of the order of the data: those of an epoch belong to no other training."""

Tell = Callable[[str], None]
"""Is told what runs."""


@dataclass
class Curve:
    """What was seen after each epoch; the first entry is from before the training.

    Attributes:
        train_loss: Of the training set, in evaluation mode.
        test_loss: Of the test set.
        train_accuracy: Share of the training set; empty where targets are no classes.
        test_accuracy: Share of the test set, likewise.
        seconds: That the steps up to here took, each when it was made; what is looked at and
            written takes none of it. The only thing that is another one after a kill.
        diverged: The epoch after which the loss was not finite, or in which there was no step,
            and the training ended; None if that did not happen. Its losses are not listed.
    """

    train_loss: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list, compare=False)
    diverged: int | None = None


@dataclass
class _State:
    """All that decides how a training goes on."""

    steps: Steps
    epoch: int = 0
    curve: Curve = field(default_factory=Curve)


class Training:
    """Trains by a recipe, and keeps the parameters at some steps.

    Attributes:
        recipe: What decides the result.
        sets: The network with its data; its parameters are those of the last step.
        kept: Steps whose parameters are kept, counted from 0, which is before the first.
        folder: Of its state and of these parameters.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        kept: Callable[[int], Iterable[int]] = lambda steps_per_epoch: (),
        tell: Tell = lambda what: None,
    ) -> None:
        """Read the data; nothing is trained yet.

        Args:
            recipe: What decides the result.
            folder: Of checkpoints; those of this recipe have a folder of their own in it.
            kept: Maps the number of steps of an epoch to the steps whose parameters are kept.
            tell: Is told how far it is.
        """
        self.recipe, self.sets = recipe, Sets.of(recipe)
        self.kept = frozenset(kept(self.steps_per_epoch))
        self._initial = {name: x.clone() for name, x in self.model.state_dict().items()}
        self.folder = folder / f"{recipe.name}-{recipe.digest}-{self.sets.digest}"
        self._tell = tell

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self._batches(torch.arange(self.sets.train.num_samples)))

    def _batches(self, order: Tensor) -> list[Tensor]:
        """Of an epoch; a single sample that is left goes with those before.

        Running statistics of a batch of one have no variance, which torch refuses.
        """
        batches = [*order.split(self.recipe.batch_size)]
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def run(self) -> Curve:
        """Train, or go on with what an earlier run has left.

        One that kept other steps begins anew: it gives the same, and leaves what is lacking.

        Returns:
            What was seen after each epoch.
        """
        devices = [self.recipe.device] if self.recipe.device != "cpu" else []
        with torch.random.fork_rng(devices=devices):
            state = self._restored()
            while state.epoch < self.recipe.epochs and state.curve.diverged is None:
                self._run_epoch(state)
                self._save(state)
        return state.curve

    def has(self, step: int) -> bool:
        """Whether the parameters of a step are on disk."""
        return self._file(step).exists()

    def at(self, step: int) -> Sets:
        """The network as it was after some steps.

        Args:
            step: One of those that are kept.

        Returns:
            The sets, whose network has these parameters until another step is asked for.

        Raises:
            FileNotFoundError: The training has not come to this step.
        """
        file = self._file(step)
        if not file.exists():
            raise FileNotFoundError(
                f"There is no checkpoint of {self.recipe.title} at step {step}: the training "
                "diverged, or did not come that far."
            )
        self.model.load_state_dict(_load(file, self.recipe.device))
        self.model.eval()
        return self.sets

    @property
    def model(self) -> torch.nn.Module:
        """The network."""
        return self.sets.train.model

    def _restored(self) -> _State:
        recipe = self.recipe
        state = _State(recipe.optimizer.of(self.model, recipe.learning_rate))
        file = self.folder / "state.pt"
        saved = _load(file, recipe.device) if file.exists() else None
        if saved is None or not self._has_all(saved["epoch"]):
            self._forget()
            self.model.load_state_dict(self._initial)
            torch.manual_seed(recipe.seed)
            self._keep(0)
            self._look(state.curve, epoch=0, seconds=0.0)
            return state
        self.model.load_state_dict(saved["model"])
        state.steps.load_state_dict(saved["optimizer"])
        _restore_random(saved["random"], recipe.device)
        state.epoch, state.curve = saved["epoch"], Curve(**saved["curve"])
        return state

    def _forget(self) -> None:
        """Remove the parameters of another training, where this one may differ from it."""
        if self.recipe.device != "cpu":
            for file in self.folder.glob("step-*.pt"):
                file.unlink()

    def _has_all(self, epoch: int) -> bool:
        """Whether the parameters of all steps up to this epoch are there."""
        done = epoch * self.steps_per_epoch
        return all(self._file(step).exists() for step in self.kept if step <= done)

    def _save(self, state: _State) -> None:
        _store(
            self.folder / "state.pt",
            {
                "epoch": state.epoch,
                "model": self.model.state_dict(),
                "optimizer": state.steps.state_dict(),
                "random": _random(self.recipe.device),
                "curve": asdict(state.curve),
            },
        )

    def _run_epoch(self, state: _State) -> None:
        train, recipe = self.sets.train, self.recipe
        step, seed = state.epoch * self.steps_per_epoch, recipe.seed * EPOCHS_APART + state.epoch
        order = torch.randperm(
            train.num_samples, generator=torch.Generator().manual_seed(seed)
        ).to(recipe.device)
        self.model.train()
        seconds = state.curve.seconds[-1]
        try:
            for chosen in self._batches(order):
                begin = self._now()
                state.steps.step(train.samples(chosen))
                seconds += self._now() - begin
                step += 1
                self._keep(step)
        except DivergedError:
            state.curve.diverged = state.epoch + 1
            return
        state.epoch += 1
        self._look(state.curve, state.epoch, seconds)

    def _now(self) -> float:
        """Seconds from some moment on, when the device has done what it was given."""
        if self.recipe.device != "cpu":
            torch.cuda.synchronize(self.recipe.device)
        return time.perf_counter()

    def _keep(self, step: int) -> None:
        if step in self.kept:
            _store(self._file(step), self.model.state_dict())

    def _look(self, curve: Curve, epoch: int, seconds: float) -> None:
        self.model.eval()
        seen = [evaluate(instance) for instance in (self.sets.train, self.sets.test)]
        if not all(math.isfinite(loss) for loss, _ in seen):
            curve.diverged = epoch
            return
        (train_loss, train_accuracy), (test_loss, test_accuracy) = seen
        curve.train_loss.append(train_loss)
        curve.test_loss.append(test_loss)
        curve.seconds.append(seconds)
        if train_accuracy is not None and test_accuracy is not None:
            curve.train_accuracy.append(train_accuracy)
            curve.test_accuracy.append(test_accuracy)
        self._tell(
            f"{self.recipe.title}: epoch {epoch} of {self.recipe.epochs}, loss {train_loss:.3g}"
        )

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step:08}.pt"


@torch.no_grad()
def evaluate(instance: Instance) -> tuple[float, float | None]:
    """Loss and accuracy, in the mode in which the network is.

    Args:
        instance: The network with its samples.

    Returns:
        Mean of the loss; share of right classes, None if targets are no classes.
    """
    loss, right, total, count = 0.0, 0, 0, instance.num_samples
    is_classified = True
    for inputs, targets in in_batches(instance):
        outputs = instance.model(inputs)
        loss += len(targets) / count * float(instance.loss_func(outputs, targets))
        found = right_classes(instance.loss_func, outputs, targets)
        is_classified &= found is not None
        if found is not None:
            right, total = right + int(found.sum()), total + len(found)
    return loss, right / max(total, 1) if is_classified else None


def _store(file: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write(file, buffer.getvalue())


def _load(file: Path, device: str) -> dict[str, Any]:
    """What `_store` wrote: tensors and plain types, so that nothing is unpickled."""
    return torch.load(file, map_location=device, weights_only=True)


def _random(device: str) -> list[Tensor]:
    """States of the generators that dropout draws from."""
    on_device = [] if device == "cpu" else [torch.cuda.get_rng_state(device)]
    return [torch.get_rng_state(), *on_device]


def _restore_random(states: list[Tensor], device: str) -> None:
    torch.set_rng_state(states[0].cpu())
    if device != "cpu":
        torch.cuda.set_rng_state(states[1].cpu(), device)
