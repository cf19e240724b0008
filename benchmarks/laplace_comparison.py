"""A Laplace posterior by vivit and by laplace-torch: ``python -m benchmarks.laplace_comparison``.

Fit, evidence and probit predictions of the full posterior of all parameters, in turns, so that all
see the same disturbances of the machine. That the probabilities are the same is checked. It needs
laplace-torch (the extra laplace), which stores and inverts a matrix of all pairs of parameters: so
the networks are small.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.grid import arguments as types
from benchmarks.problems import PROBLEMS
from benchmarks.problems.problem import Instance

NETWORKS = ("digits_cnn", "digits_mlp")

AGREEMENT = 1e-4
"""Largest difference of probabilities, in single precision."""

Way = Callable[[Instance, Tensor], Tensor]
"""Maps training data in a network and test inputs to probabilities."""


def by_vivit(instance: Instance, tests: Tensor) -> Tensor:
    """Without a matrix of the parameters."""
    from vivit import LaplacePosterior

    data = (instance.inputs, instance.targets)
    posterior = LaplacePosterior(instance.model, instance.loss_func, data)
    posterior.log_marginal_likelihood()
    return posterior.predictive(tests).probabilities()


def by_laplace_torch(backend: type | None) -> Way:
    """With that matrix.

    Args:
        backend: Gives the curvature; None for laplace-torch's default.
    """
    from laplace import Laplace

    def way(instance: Instance, tests: Tensor) -> Tensor:
        data = TensorDataset(instance.inputs, instance.targets)
        loader = DataLoader(data, batch_size=instance.num_samples)
        posterior = Laplace(instance.model, "classification", "all", "full", backend=backend)
        posterior.fit(loader)
        posterior.log_marginal_likelihood()
        found: Tensor = posterior(tests, link_approx="probit")
        return found

    return way


def all_ways() -> dict[str, Way]:
    """All that are compared, ours first."""
    from laplace.curvature import GGNInterface

    from vivit.laplace.backend import VivitGGN

    return {
        "vivit": by_vivit,
        "laplace-torch, default backend": by_laplace_torch(None),
        "laplace-torch, torch.func": by_laplace_torch(GGNInterface),
        "laplace-torch, VivitGGN": by_laplace_torch(VivitGGN),
    }


def measured(
    name: str, ways: Mapping[str, Way], samples: int, tests: int, rounds: int
) -> list[str]:
    """Rows of a table, one for each way.

    Args:
        name: Of the network.
        ways: What takes turns; ratios are to the first.
        samples: For the fit.
        tests: Inputs to predict at.
        rounds: After one that does not count.

    Raises:
        RuntimeError: Probabilities differ.
    """
    whole = PROBLEMS[name].make(samples + tests, "cpu", torch.float32, 0)
    instance = whole.first(samples)
    held_out = whole.inputs[samples:]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        found: dict[str, Tensor] = {}
        for title, way in ways.items():
            start = perf_counter()
            found[title] = way(instance, held_out)
            if number:  # the first round warms up
                seconds[title].append(perf_counter() - start)
        first, *others = found.items()
        for title, probabilities in others:
            difference = float((probabilities - first[1]).abs().max())
            if not difference <= AGREEMENT:
                raise RuntimeError(
                    f"{title} and {first[0]} differ by {difference:.1e} in a probability: {name}."
                )
    size = sum(p.numel() for p in instance.model.parameters())
    baseline = seconds[next(iter(ways))]
    rows = []
    for title, times in seconds.items():
        ratios = [time / own for time, own in zip(times, baseline, strict=True)]
        cells = [f"`{name}`", f"{size}", f"{samples}", f"{tests}", title]
        cells += [f"{median(times):.3g} s", f"{median(ratios):.3g}"]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: Words of the command; by default the process's.
    """
    name = "python -m benchmarks.laplace_comparison"
    parser = argparse.ArgumentParser(name, description=__doc__)
    parser.add_argument("--problem", choices=NETWORKS, action="append", help="default: all")
    for option, default, what in (
        ("samples", 64, "for the fit"),
        ("tests", 64, "to predict at"),
        ("rounds", 5, "in turns, after one that does not count"),
    ):
        parser.add_argument(f"--{option}", type=types.positive, default=default, help=what)
    options = parser.parse_args(arguments)
    try:
        ways = all_ways()
    except ImportError as error:
        parser.error(f'laplace-torch cannot be imported: pip install -e ".[laplace]" ({error})')
    print("| network | parameters | samples | tests | by | time | ratio to vivit |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for problem in options.problem or NETWORKS:
        rows = measured(problem, ways, options.samples, options.tests, options.rounds)
        print("\n".join(rows), flush=True)


if __name__ == "__main__":
    main()
