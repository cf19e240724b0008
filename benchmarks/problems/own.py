"""Problems of the user's own: ``path/to/file.py:function``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path

from benchmarks.measure.time_and_memory import is_out_of_memory
from benchmarks.problems import PROBLEMS
from benchmarks.problems.problem import Instance, Problem
from benchmarks.records.names import did_you_mean
from benchmarks.records.sources import fingerprint, with_local_modules

SEPARATOR = ".py:"
CONTRACT = (
    "a function (batch_size, device, dtype, seed) that returns (model, loss_func, X, y), with a "
    "mean as reduction of the loss, and X a tensor, or dicts, lists and tuples of tensors"
)

SETTINGS = (type(None), bool, int, float, str)
"""What may be in inputs beside tensors: it is passed on as it is."""


class ProblemError(ValueError):
    """A user's problem does not do what is expected of it."""


@dataclass(frozen=True)
class OwnProblem:
    """A function in a file.

    Attributes:
        file: Where it is.
        function: Its name.
        sizes: None that vary.
    """

    file: Path
    function: str
    sizes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> OwnProblem:
        """Read ``path/to/file.py:function``.

        Args:
            text: What the user wrote.

        Returns:
            The problem; nothing of it has run.

        Raises:
            ProblemError: There is no such file.
        """
        path, _, function = text.rpartition(":")
        file = Path(path).resolve()
        if not file.is_file():
            raise ProblemError(
                f"Expected path/to/file.py:function, but there is no file {path!r}."
            )
        return cls(file, function)

    @property
    def name(self) -> str:
        """Of file and function, for records."""
        return f"{self.file.name}:{self.function}"

    @property
    def spec(self) -> str:
        """What `parse` reads, with an absolute path."""
        return f"{self.file}:{self.function}"

    @property
    def digest(self) -> str:
        """Of the file and the modules of its folder that it imports; with another, it is new."""
        return fingerprint(with_local_modules(self.file), self.file.parent)

    def kind_of_data(self, root: Path | None) -> str:
        """The user knows.

        Args:
            root: Does not matter.

        Returns:
            ``"own"``.
        """
        return "own"

    def make(
        self,
        batch_size: int,
        device: str,
        dtype: torch.dtype,
        seed: int,
        root: Path | None = None,
    ) -> Instance:
        """Call the function and check what it returns.

        Args:
            batch_size: ``N``.
            device: As torch names it.
            dtype: Of parameters and inputs.
            seed: For all that is random.
            root: Does not matter.

        Returns:
            The instance, its model in evaluation mode.

        Raises:
            ProblemError: The function is missing, fails, or returns something else.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            function = self._load()
            try:
                made = function(batch_size, torch.device(device), dtype, seed)
            except Exception as error:
                if is_out_of_memory(error):  # a probe wants to know
                    raise
                raise ProblemError(
                    f"{self.name} failed with {type(error).__name__}: {error}. "
                    f"Expected {CONTRACT}."
                ) from error
        return self._checked(made, batch_size, dtype)

    def check(self, device: str, seed: int) -> None:
        """Make a small instance in both precisions, and see whether they are the same.

        Args:
            device: As torch names it.
            seed: For all that is random.

        Raises:
            ProblemError: They are not, or `make` fails.
        """
        single, double = (self.make(2, device, t, seed) for t in (torch.float32, torch.float64))
        first, second = (
            {
                **_tensors("X", made.inputs),
                "y": made.targets,
                **{f"parameter {name}": p for name, p in made.model.named_parameters()},
            }
            for made in (single, double)
        )
        if [*first] != [*second]:
            raise ProblemError(
                f"{self.name} has to give the same tensors in float64 as in float32, but gives "
                f"{', '.join(second)} instead of {', '.join(first)}."
            )
        for name, one in first.items():
            other = second[name]
            if one.shape != other.shape or not torch.allclose(one.double(), other.double(), 1e-4):
                raise ProblemError(
                    f"{self.name} gives another {name} in float64 than in float32, so nothing can "
                    "be checked: draw random numbers in float32 and convert them by "
                    ".to(device, dtype)."
                )

    def _load(self) -> Callable[..., Any]:
        spec = importlib.util.spec_from_file_location(f"own_problem_{self.file.stem}", self.file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses look
        if str(self.file.parent) not in sys.path:  # behind all else, so that it replaces nothing
            sys.path.append(str(self.file.parent))
        before = sys.dont_write_bytecode
        sys.dont_write_bytecode = True  # it passes for a file of the same size and second
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise ProblemError(
                f"{self.file.name} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        finally:
            sys.dont_write_bytecode = before
        function = getattr(module, self.function, None)
        if not callable(function):
            there = sorted(n for n, x in vars(module).items() if callable(x) and n[0] != "_")
            guess = did_you_mean(self.function, there) or "."
            raise ProblemError(
                f"{self.file.name} has no function {self.function!r}{guess} There is: "
                f"{', '.join(there) or 'none'}. Expected {CONTRACT}."
            )
        return function

    def _checked(self, made: Any, batch_size: int, dtype: torch.dtype) -> Instance:
        kinds = (nn.Module, nn.Module, object, Tensor)
        got = made if isinstance(made, tuple) else (made,)
        is_complete = len(got) == len(kinds) and all(map(isinstance, got, kinds))
        if not is_complete or not any(x.ndim for x in _tensors("X", got[2]).values()):
            found = ", ".join(type(x).__name__ for x in got)
            raise ProblemError(f"{self.name} returned ({found}). Expected {CONTRACT}.")
        model, loss_func, inputs, targets = got
        for name, x in tree_flatten_with_path(inputs)[0]:
            if not isinstance(x, (Tensor, *SETTINGS)):
                raise ProblemError(
                    f"{self.name} returned an X{keystr(name)} of type {type(x).__name__}. "
                    f"Expected {CONTRACT}."
                )
        sizes = {name: len(x) for name, x in _tensors("X", inputs).items() if x.ndim}
        sizes["y"] = len(targets) if targets.ndim else 0
        wrong = [f"{name} has {size}" for name, size in sizes.items() if size != batch_size]
        if wrong:
            raise ProblemError(
                f"{self.name} was asked for {batch_size} samples, but {', '.join(wrong)}: samples "
                "lie along the first axis of each tensor; what they share belongs into the model, "
                "as a buffer."
            )
        others = sorted({str(p.dtype) for p in model.parameters() if p.dtype != dtype})
        if others:
            raise ProblemError(
                f"{self.name} was asked for parameters of {dtype}, but some are of "
                f"{', '.join(others)}: move the model by .to(device, dtype)."
            )
        return Instance(model.eval(), loss_func, inputs, targets)


def _tensors(name: str, nest: Any) -> dict[str, Tensor]:
    """By where they are, such as ``X['ids']``."""
    leaves, _ = tree_flatten_with_path(nest)
    return {f"{name}{keystr(at)}": x for at, x in leaves if isinstance(x, Tensor)}


def find_problem(name: str) -> Problem | OwnProblem:
    """A problem of the registry, or a user's own.

    Args:
        name: Of the registry, or ``path/to/file.py:function``.

    Returns:
        The problem.

    Raises:
        KeyError: There is none of that name.
        ProblemError: There is no such file.
    """
    return OwnProblem.parse(name) if SEPARATOR in name else PROBLEMS[name]
