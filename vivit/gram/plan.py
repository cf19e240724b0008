"""What a Gram matrix costs: evaluations, flops and bytes per layer, and in all."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from vivit.gram.forms import MatrixPlan
from vivit.layers.cost import Evaluation
from vivit.memory import human_bytes
from vivit.ranks import turns_of
from vivit.shown import Shown, counted, listed

LIVE_COTANGENTS = 3
"""Tensors of the largest layer's size that live at once in a backward pass."""


@dataclass(frozen=True)
class LayerPlan:
    """How the columns of some parameters are kept and multiplied.

    Of batches of several lengths, `kept` and `evaluation` are those of the first; bytes and flops
    are those of all.

    Attributes:
        parameters: Their names.
        kept: What is kept between backward passes and matrix: ``"columns"``, ``"factors"`` (inputs
            and cotangents), ``"dense"`` (columns of parameters without a layer of their own), or
            ``"nothing"`` where products are made.
        evaluation: The order of contraction; None where there is none.
        flops: Of the contraction, without backward passes.
        kept_bytes: Of what is kept.
        working_bytes: Of temporaries while the Gram matrix is formed.
        output_bytes: Of the layer's output and of its cotangent.
        input_bytes: Of the inputs that factors have beside their cotangents, windows and all.
        turn: By which the layers are contracted, one after the other.
    """

    parameters: tuple[str, ...]
    kept: str
    evaluation: Evaluation | None
    flops: float
    kept_bytes: int
    working_bytes: int
    output_bytes: int
    input_bytes: int = 0
    turn: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """What was done, once it was.

    Attributes:
        served_by: How the columns of each parameter were found, by its name.
        seconds: Of all forward and backward passes and contractions, without decompositions.
    """

    served_by: Mapping[str, str]
    seconds: float

    def __str__(self) -> str:
        """A line: names only of what the fast rules do not serve."""
        ways: dict[str, list[str]] = {}
        for name, way in self.served_by.items():
            ways.setdefault(way, []).append(name)
        counts = [
            f"{len(names)} {way}" if way in FAST else f"{listed(names)} {way}"
            for way, names in ways.items()
        ]
        return f"done in {self.seconds:.3g} s; parameters: {'; '.join(counts)}"


@dataclass(frozen=True)
class Travel:
    """What a rank sends and receives while the matrices are made; flops and peak are its, too.

    Attributes:
        ranks: How many there are.
        sent: Bytes of tensors; a sum over ranks counts once.
        received: As many as arrive.
        held: Bytes at once of what is on its way or has arrived, on the rank with the most.
    """

    ranks: int
    sent: int
    received: int
    held: int

    def __str__(self) -> str:
        """A line."""
        return (
            f"{self.ranks} ranks; this one sends {human_bytes(self.sent)} and receives "
            f"{human_bytes(self.received)}"
        )


FAST = ("affine", "parts", "products")
"""Ways to serve a parameter that do not depend on how many samples and columns there are."""


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """What the Gram matrices of all groups will cost.

    Bytes are those beyond the activations of the forward pass.

    Attributes:
        num_columns: ``M``.
        num_samples: ``N``, those that carry curvature; where samples share units, these.
        layers: One entry for each layer and group.
        matrices: What is formed for each group, and why.
        matrix_bytes: Of the matrices of all groups.
        solver_bytes: Of the eigensolver's copies, for the largest group.
        forward_flops: Of a forward pass through the affine layers.
        sweeps: Names of the parameters that each sweep of backward passes serves. One sweep is
            the fastest; with several, less is kept at a time.
        passes: Backward passes of a column through the whole model, as many as all sweeps
            together are worth.
        summed: Names of the parameters that have a sweep of their own, in which nothing is kept
            longer than for a batch.
        columns_per_pass: Columns that a backward pass takes at once.
        columns_at_once: Columns of the loss Hessian's factor, for each sample, that are made
            before they are sent.
        column_bytes: Of one of these, of all samples of the largest batch.
        done: What was done; None before.
        travel: What is sent, if there are several ranks. Layers are those of the rank with the
            most columns then, with the products that it is left with.
    """

    num_columns: int
    num_samples: int
    layers: tuple[LayerPlan, ...]
    matrices: tuple[MatrixPlan, ...]
    matrix_bytes: int
    solver_bytes: int
    forward_flops: float
    sweeps: tuple[frozenset[str], ...]
    passes: float = 1.0
    summed: frozenset[str] = frozenset()
    columns_per_pass: int = 1
    columns_at_once: int = 1
    column_bytes: int = 0
    done: Done | None = None
    travel: Travel | None = None

    @property
    def _parts(self) -> dict[str, str]:
        found = {
            "num_columns": str(self.num_columns),
            "layers": str(len(self.layers)),
            "matrices": counted([x.form.value for x in self.matrices], what=""),
            "flops": f"{self.flops:.3g}",
            "peak": human_bytes(self.peak_bytes),
        }
        return (
            found if self.done is None else found | {"done": str(self.done).removeprefix("done ")}
        )

    @property
    def sent_bytes(self) -> int:
        """Of those columns of the loss Hessian's factor that are made at once."""
        return self.columns_at_once * self.column_bytes

    @property
    def sides(self) -> tuple[int, ...]:
        """Size of the matrix that is decomposed for each group."""
        return tuple(matrix.side for matrix in self.matrices)

    @property
    def flops(self) -> float:
        """Of all contractions."""
        return sum(layer.flops for layer in self.layers)

    @property
    def kept_bytes(self) -> int:
        """Kept between the backward passes and the Gram matrices, in the largest sweep."""
        return max(
            sum(x.kept_bytes for x in self.layers if not names.isdisjoint(x.parameters))
            for names in (*self.sweeps, self.summed)
        )

    @property
    def settled_bytes(self) -> int:
        """Of all that the columns are made of, if it stays and does without the graph."""
        return sum(x.kept_bytes + x.input_bytes for x in self.layers)

    @property
    def passing_bytes(self) -> tuple[int, int]:
        """What lives for a while: in backward passes, and in contractions."""
        outputs = [x.output_bytes for x in self.layers]
        backward = self.columns_per_pass * LIVE_COTANGENTS * max(outputs, default=0)
        backward += self.sent_bytes
        return backward, max((x.working_bytes for x in self.layers), default=0)

    @cached_property
    def peak_bytes(self) -> int:
        """The most that lives at once: in backward passes, contractions or the eigensolver."""
        backward, _ = self.passing_bytes
        if len(self.sweeps) > 1 or self.summed:  # the matrices are there
            backward += self.matrix_bytes
        return max(
            self.kept_bytes + backward,
            self.matrix_bytes + self._contraction_bytes,
            self.matrix_bytes + self.solver_bytes,
        )

    @property
    def _contraction_bytes(self) -> int:
        """The most of what is kept and of temporaries; what a layer keeps goes when it is done."""
        most = 0
        for names in (*self.sweeps, self.summed):
            layers = [x for x in self.layers if not names.isdisjoint(x.parameters)]
            left, working = sum(x.kept_bytes for x in layers), 0
            for _, turn in itertools.groupby(
                sorted(layers, key=lambda x: x.turn), lambda x: x.turn
            ):
                own = [*turn]
                working = max(working, *(x.working_bytes for x in own))  # memory is used again
                most = max(most, left + working)
                if names is not self.summed:
                    left -= sum(x.kept_bytes for x in own)
        return most if self.travel is None else most + self.travel.held

    def turns(self, keys: Sequence[Collection[str | None]]) -> list[int]:
        """Which of two opposite ranks multiplies what they keep of each of some layers.

        Args:
            keys: Names of the parameters of each.
        """
        costs = (
            sum(x.flops for x in self.layers if not {*x.parameters}.isdisjoint(key))
            for key in keys
        )
        return turns_of(costs)

    def __str__(self) -> str:
        """A table of layers, and the totals."""
        header = ("parameters", "keeps", "evaluation", "GFLOP", "kept", "working")
        rows = [
            (
                ", ".join(x.parameters),
                x.kept,
                "-" if x.evaluation is None else x.evaluation.value,
                f"{x.flops / 1e9:.2f}",
                human_bytes(x.kept_bytes),
                human_bytes(x.working_bytes),
            )
            for x in self.layers
        ]
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        table = [
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (header, tuple("-" * width for width in widths), *rows)
        ]
        for matrix in self.matrices:
            name = f"{matrix.group!r}: " if matrix.group else ""
            table.append(f"{name}{matrix.form.value}, for {matrix.why}")
        count = len(self.sweeps) + bool(self.summed)
        sweeps = f"{count} sweeps; " if count > 1 else ""
        table.append(
            f"{sweeps}{self.num_columns} columns, {self.flops / 1e9:.1f} GFLOP; matrices "
            f"{human_bytes(self.matrix_bytes)}, S at once {human_bytes(self.sent_bytes)}, "
            f"eigensolver {human_bytes(self.solver_bytes)}; "
            f"peak {human_bytes(self.peak_bytes)} beyond the forward pass"
        )
        if self.travel is not None:
            table.append(str(self.travel))
        if self.done is not None:
            table.append(str(self.done))
        return "\n".join(table)
