"""What stochastic Lanczos shows of a spectrum, beside the exact one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy
import torch
from curvlinops.papyan2020traces.spectrum import fast_lanczos
from torch import Tensor

from benchmarks.experiments.base import Scale, attempt, ok
from benchmarks.experiments.eigenspaces import Network, hessian
from benchmarks.experiments.trainings import MomentsOfTrainings, Watched
from benchmarks.methods.conventions import matrix_free_ggn
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer
from vivit import GGN, MonteCarlo

SIZE = 128
"""Of the mini-batch."""

STEPS = 100
"""Of Lanczos, from one random vector, as in the Deep Curvature Suite."""

RUNS = {Scale.SMOKE: 1, Scale.QUICK: 5, Scale.PAPER: 5}
"""From other random vectors. The suite makes one; several show what chance does."""

EXACT, LANCZOS, OF_HESSIAN, DIAGONAL = "gram", "lanczos_ggn", "lanczos_hessian", "diagonal"

COLUMNS_AT_ONCE = 16
"""Of V, while its diagonal is added up."""

BINS, SMALLEST = 29, 1e-4
"""Of the recorded histogram of the diagonal, whose entries are too many for a record: as spectral
densities are drawn, in equal steps of the logarithm up to the largest exact eigenvalue. What is
smaller or larger is in the first or last bin."""


class LanczosSpectrum(MomentsOfTrainings):
    """Exact eigenvalues, Ritz values of GGN and Hessian, and a Monte-Carlo diagonal."""

    name = "lanczos-spectrum"
    label = Label("spectra by Lanczos")
    description = "what do stochastic Lanczos and a diagonal miss of the exact spectrum?"
    published = (
        "Deep Curvature Suite: 100 Lanczos steps from one random vector on the GGN and the "
        "Hessian of VGG-16 on CIFAR-100; the diagonal of the Monte-Carlo GGN as the alternative"
    )
    scaled = (
        "An MLP and a CNN on real handwritten digits, before and during a training, where the "
        "profile paper has 3c3d on CIFAR-10; one mini-batch of 128 samples."
    )
    least_samples = SIZE
    moments = (0, 68)

    def cells(self, watched: Watched, epoch: float) -> list[Cell]:
        """The exact spectrum, and three others."""
        settings = {"epoch": epoch, "batch_size": SIZE}
        of_lanczos = settings | {"steps": STEPS, "runs": RUNS[watched.request.scale]}
        return [
            watched.cell(EXACT, Quantity.SPECTRUM, **settings),
            watched.cell(LANCZOS, Quantity.SPECTRUM, **of_lanczos),
            watched.cell(OF_HESSIAN, Quantity.SPECTRUM, **of_lanczos),
            watched.cell(DIAGONAL, Quantity.SPECTRUM, **settings),
        ]

    def answers(
        self, watched: Watched, epoch: float, cells: Sequence[Cell]
    ) -> Mapping[Cell, Answer]:
        """Of one mini-batch; Lanczos, which not every network allows, may fail by itself."""
        network, seed = Network(watched.at(epoch).train), watched.recipe.seed
        chosen = network.drawn(seed)[:SIZE]
        batch, size = network.train.samples(chosen), network.train.num_parameters
        eigenvalues = network.ggn(chosen).eigvalsh()
        exact = Spectrum.of(eigenvalues, size)
        sampled = network.ggn(chosen, approximation=MonteCarlo(seed=seed))
        of_exact, of_lanczos, of_hessian, of_diagonal = cells
        runs, by_lanczos = (
            RUNS[watched.request.scale],
            partial(_by_lanczos, exact=exact, seed=seed),
        )
        return {
            of_exact: ok(eigenvalues.tolist(), num_parameters=size),
            **attempt(
                [of_lanczos], lambda: {of_lanczos: by_lanczos(matrix_free_ggn(batch), runs)}
            ),
            **attempt([of_hessian], lambda: {of_hessian: by_lanczos(hessian(batch), runs)}),
            of_diagonal: _histogram(diagonal(sampled), exact),
        }


class Spectrum:
    """A distribution of eigenvalues.

    Attributes:
        values: Those that are told apart.
        weights: Of each; they add up to 1.
    """

    def __init__(self, values: np.ndarray, weights: np.ndarray) -> None:
        """Keep values and weights.

        Args:
            values: Shape ``[K]``.
            weights: Shape ``[K]``.
        """
        self.values, self.weights = values, weights

    @classmethod
    def of(cls, values: Tensor, size: int) -> Spectrum:
        """The spectrum of a matrix whose other eigenvalues are zero.

        Args:
            values: Shape ``[K]``.
            size: ``D``, of the matrix.

        Returns:
            All of it; zeros, if there are others, come first.
        """
        found = values.double().cpu().numpy()
        others = size - len(found)
        weights = np.full(len(found), 1 / size)
        if not others:
            return cls(found, weights)
        return cls(np.append(0.0, found), np.append(others / size, weights))

    def distance(self, other: Spectrum) -> float:
        """Wasserstein-1 distance, in units of eigenvalues."""
        both = self.values, other.values
        return float(scipy.stats.wasserstein_distance(*both, self.weights, other.weights))


def _by_lanczos(operator: Any, runs: int, exact: Spectrum, seed: int) -> Answer:
    """Ritz values of the first run; the distances from the exact spectrum of all runs."""
    spectra = []
    for run in range(runs):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(runs * seed + run)
            spectra.append(_quadrature(operator))
    first = spectra[0]
    return ok(
        first.values.tolist(),
        weights=first.weights.tolist(),
        distances=[spectrum.distance(exact) for spectrum in spectra],
    )


def _quadrature(operator: Any) -> Spectrum:
    """Ritz values and weights from a random vector."""
    try:
        values, vectors = fast_lanczos(operator, min(STEPS, operator.shape[0]))
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        values = vectors = torch.full((1, 1), torch.nan)
    if not values.isfinite().all():
        raise ArithmeticError("Lanczos iteration broke down: the matrix has too low a rank.")
    return Spectrum(*(x.double().cpu().numpy() for x in (values, vectors[0].square())))


def diagonal(ggn: GGN) -> Tensor:
    """The diagonal of ``V V^T``, by its columns.

    Args:
        ggn: With few columns, for each is a backward pass.

    Returns:
        Shape ``[D]``.
    """
    factor, count = ggn.factor_operator(), ggn.num_columns
    like = next(iter(ggn.gradient().values()))
    total = torch.zeros(ggn.shape[0], dtype=like.dtype, device=like.device)
    for chosen in torch.eye(count, dtype=like.dtype, device=like.device).split(COLUMNS_AT_ONCE):
        total += (factor @ chosen.T).square().sum(dim=1)
    return total


def _histogram(entries: Tensor, exact: Spectrum) -> Answer:
    """The entries as a distribution, with as much of it as a record can hold."""
    found = Spectrum.of(entries, len(entries))
    edges = np.geomspace(SMALLEST, max(exact.values.max(), 10 * SMALLEST), BINS + 1)
    counts, _ = np.histogram(found.values.clip(edges[0], edges[-1]), edges)
    return ok(
        counts.tolist(),
        edges=edges.tolist(),
        above=int((found.values >= SMALLEST).sum()),
        largest=float(found.values.max()),
        distances=[found.distance(exact)],
    )


EXPERIMENT = LanczosSpectrum()
