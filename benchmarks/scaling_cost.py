"""What a Gram matrix would cost on many ranks, simulated: ``python -m benchmarks.scaling_cost``.

Flops and bytes of a rank's share are those of the library's plan; how they grow with the ranks is
written down here, and rates are assumed. Nothing runs but a forward pass for each plan.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from benchmarks.grid import arguments as types
from benchmarks.methods.gram import curvature_of
from benchmarks.problems import PROBLEMS
from benchmarks.records.tasks import Task
from vivit.gram.costs import TYPICAL_VECTORS
from vivit.gram.plan import LayerPlan, Plan
from vivit.memory import human_bytes

NETWORKS = ("cifar10_3c3d", "cifar10_resnet32", "cifar100_vgg16")
RANKS = (1, 8, 64, 256, 1024)
SAMPLES = 32
"""Of each rank."""

ELEMENT = 4
"""Bytes of a number in single precision."""

BACKWARD = 2
"""Flops of a backward pass in units of those of a forward pass."""

SOLVER = 4 / 3
"""Flops of all eigenvalues in units of ``M^3``: a reduction to tridiagonal form."""

PRODUCTS = 100
"""Products of a Lanczos iteration that finds leading eigenvalues of a matrix in blocks."""

VECTORS = 2 * TYPICAL_VECTORS
"""That it holds at most, as the library plans."""


@dataclass(frozen=True)
class Machine:
    """Assumed rates of a device and of its link to the others.

    Attributes:
        flops: Of matrix products, each second.
        solver_flops: Of an eigensolver, each second.
        memory: Bytes of a device.
        bandwidth: Bytes of its memory, each second.
        link: Bytes that it can send and receive at the same time, each second.
    """

    flops: float = 2e13
    solver_flops: float = 1e12
    memory: float = 80e9
    bandwidth: float = 2e12
    link: float = 2.5e10


@dataclass(frozen=True)
class Share:
    """What the samples of one rank take.

    Attributes:
        samples: ``N / R``.
        columns: ``M / R``.
        parcel_bytes: Of what all layers send around the ring.
        held_bytes: What a rank holds at most beside matrices: what layers keep, the three parcels
            of a layer that are at hand or on the way, and a block.
        flops: Of contractions of these columns with each other.
        pass_flops: Of the forward pass and a backward pass for each column.
    """

    samples: int
    columns: int
    parcel_bytes: int
    held_bytes: int
    flops: float
    pass_flops: float

    @classmethod
    def of(cls, plan: Plan) -> Share:
        """From the plan of a process that has these samples alone.

        Args:
            plan: Of their Gram matrix.
        """
        parcels = [parcel_bytes(layer) for layer in plan.layers]
        per_sample = plan.num_columns // plan.num_samples
        return cls(
            plan.num_samples,
            plan.num_columns,
            sum(parcels),
            plan.settled_bytes + 3 * max(parcels) + ELEMENT * plan.num_columns**2,
            plan.flops,
            plan.forward_flops * (1 + BACKWARD * per_sample),
        )


def parcel_bytes(layer: LayerPlan) -> int:
    """What a layer sends to another rank: columns, or inputs with cotangents.

    The plan has a one beside the inputs of each position, for the bias, which is not sent.
    """
    return layer.kept_bytes + (layer.input_bytes if layer.kept == "factors" else 0)


@dataclass(frozen=True)
class Cost:
    """What a Gram matrix and its eigenvalues take on some ranks.

    Attributes:
        ranks: ``R``.
        columns: ``M``.
        matrix_bytes: Of ``K``.
        fits: Whether each device can hold ``K`` and a copy for the eigensolver.
        blocks_fit: Whether each can hold its blocks, and the vectors of an iteration.
        ring_bytes: That a rank sends while parcels go half around the ring.
        sum_bytes: That it sends so that ``K`` is whole; none, where it lies in blocks.
        computing: Seconds of passes and contractions.
        network: Seconds of all bytes.
        spectrum: Seconds of all eigenvalues; of a Lanczos iteration, where ``K`` is in blocks.
    """

    ranks: int
    columns: int
    matrix_bytes: int
    fits: bool
    blocks_fit: bool
    ring_bytes: float
    sum_bytes: float
    computing: float
    network: float
    spectrum: float


def cost_of(share: Share, ranks: int, machine: Machine) -> Cost:
    """Simulate ranks that have as many samples each.

    Args:
        share: Of one of them.
        ranks: ``R``.
        machine: Assumed rates.

    Returns:
        The cost, without latency and without overlap of computing and sending.
    """
    columns = share.columns * ranks
    matrix = ELEMENT * columns**2
    free = machine.memory - share.held_bytes
    fits, others = 2 * matrix <= free, ranks - 1
    ring = others / 2 * share.parcel_bytes
    of_sum = 2 * others / ranks  # of what is summed, that a rank sends
    blocks, summed = block_bytes(share, ranks), of_sum * matrix if fits else 0.0
    if fits:
        spectrum = SOLVER * columns**3 / machine.solver_flops
    else:  # each block is read twice: for its rows, and for its columns
        product = 2 * blocks / machine.bandwidth + of_sum * ELEMENT * columns / machine.link
        spectrum = PRODUCTS * product
    return Cost(
        ranks=ranks,
        columns=columns,
        matrix_bytes=matrix,
        fits=fits,
        blocks_fit=blocks + VECTORS * ELEMENT * columns <= free,
        ring_bytes=ring,
        sum_bytes=summed,
        computing=(share.pass_flops + ranks * share.flops) / machine.flops,
        network=(ring + summed) / machine.link,
        spectrum=spectrum,
    )


def block_bytes(share: Share, ranks: int) -> int:
    """Of the blocks of ``K`` that a rank computes: with its own columns, and those of half of all.

    Args:
        share: Of one rank.
        ranks: How many there are.
    """
    return ELEMENT * share.columns**2 * (1 + ranks // 2)


def most_ranks(share: Share, machine: Machine) -> tuple[int, int]:
    """How many ranks may have as many samples, with ``K`` on each device, and in blocks.

    Args:
        share: Of one of them.
        machine: Whose memory counts.
    """
    entries, own = max(machine.memory - share.held_bytes, 0) / ELEMENT, share.columns**2
    most = math.isqrt(int(entries / (2 * own)))
    in_blocks = (entries - own) / (own / 2 + VECTORS * share.columns)
    return most, max(int(in_blocks), most)


def share_of(problem: str, samples: int) -> Share:
    """The share of a rank that has some samples of a problem.

    Args:
        problem: Its name.
        samples: How many.
    """
    instance = PROBLEMS[problem].make(samples, "cpu", torch.float32, 0)
    return Share.of(curvature_of(instance, Task()).plan())


COSTS = (
    "| network | ranks | N | M | K | K lies | ring | sum | computing | sending | spectrum |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)
LIMITS = (
    "| network | columns of a rank | kept by a rank | K on each device up to | in blocks up to |",
    "| --- | --- | --- | --- | --- |",
)


def cost_row(problem: str, share: Share, cost: Cost) -> str:
    """A row of the first table."""
    place = "on each" if cost.fits else "in blocks" if cost.blocks_fit else "nowhere"
    time = f"{cost.spectrum:.2g} s" if cost.fits or cost.blocks_fit else "-"
    cells = [
        f"`{problem}`",
        *(f"{x}" for x in (cost.ranks, share.samples * cost.ranks, cost.columns)),
        human_bytes(cost.matrix_bytes),
        place,
        human_bytes(int(cost.ring_bytes)),
        human_bytes(int(cost.sum_bytes)),
        f"{cost.computing:.2g} s",
        f"{cost.network:.2g} s",
        time,
    ]
    return f"| {' | '.join(cells)} |"


def limit_row(problem: str, share: Share, machine: Machine) -> str:
    """A row of the second table."""
    sizes = [f"{n * share.samples} ({n} ranks)" for n in most_ranks(share, machine)]
    cells = [f"`{problem}`", f"{share.columns}", human_bytes(share.held_bytes), *sizes]
    return f"| {' | '.join(cells)} |"


def tables(
    problems: Sequence[str], ranks: Sequence[int], samples: int, machine: Machine
) -> tuple[str, str]:
    """Costs, and how far ``K`` fits, as tables.

    Args:
        problems: Names.
        ranks: Numbers of ranks.
        samples: Of each rank.
        machine: Assumed rates.
    """
    shares = {problem: share_of(problem, samples) for problem in problems}
    costs = [
        cost_row(problem, share, cost_of(share, count, machine))
        for problem, share in shares.items()
        for count in ranks
    ]
    limits = [limit_row(problem, share, machine) for problem, share in shares.items()]
    return "\n".join((*COSTS, *costs)), "\n".join((*LIMITS, *limits))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: Words of the command; by default the process's.
    """
    name = "python -m benchmarks.scaling_cost"
    parser = argparse.ArgumentParser(name, description="simulate the cost of many ranks")
    parser.add_argument("--problem", choices=NETWORKS, action="append", help="default: all")
    parser.add_argument("--ranks", type=types.positive, action="append", help="default: 1 to 1024")
    parser.add_argument("--samples", type=types.positive, default=SAMPLES, help="of each rank")
    for field in fields(Machine):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=float, default=field.default, help="assumed")
    options = parser.parse_args(arguments)
    machine = Machine(**{field.name: getattr(options, field.name) for field in fields(Machine)})
    found = tables(options.problem or NETWORKS, options.ranks or RANKS, options.samples, machine)
    print("\n\n".join(found))


if __name__ == "__main__":
    main()
