"""The predictive distribution of a linearised model: Gaussian outputs, and what follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from vivit.errors import InputError
from vivit.laplace.checks import check_count
from vivit.losses.base import random_normal
from vivit.shown import Shown, summary


class Link(Enum):
    """How a loss makes probabilities of outputs."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"

    @classmethod
    def of(cls, loss_func: object) -> Link | None:
        """That of a loss, None where it has no classes or is not known.

        Args:
            loss_func: As `known_loss` names it.
        """
        if isinstance(loss_func, nn.CrossEntropyLoss):
            return cls.SOFTMAX
        return cls.SIGMOID if type(loss_func) is nn.BCEWithLogitsLoss else None

    def __call__(self, outputs: Tensor, axis: int) -> Tensor:
        """Probabilities of outputs; those of a softmax have their classes along an axis."""
        return outputs.softmax(axis) if self is Link.SOFTMAX else outputs.sigmoid()


@dataclass(frozen=True, repr=False)
class Predictive(Shown):
    """Outputs of some samples: a Gaussian for each, their own covariances only.

    Attributes:
        mean: The model's outputs, shape ``[N, *out]``.
        covariance: Of the outputs of a sample, flattened, shape ``[N, |out|, |out|]``; that of the
            function, without observation noise. Symmetric and positive semi-definite.
        link: How outputs become probabilities; None if they do not.
    """

    mean: Tensor
    covariance: Tensor
    link: Link | None = None

    @property
    def _parts(self) -> dict[str, str]:
        link = "none" if self.link is None else self.link.value
        return {
            "mean": summary(self.mean),
            "covariance": summary(self.covariance),
            "link": link,
        }

    @property
    def variance(self) -> Tensor:
        """Of each output, shape ``[N, *out]``."""
        return self.covariance.diagonal(dim1=1, dim2=2).reshape(self.mean.shape)

    def probabilities(self, method: str = "probit", samples: int = 100, seed: int = 0) -> Tensor:
        """Class probabilities, averaged over the outputs' distribution.

        Args:
            method: ``"probit"``: of the outputs over ``sqrt(1 + pi/8 variance)``, each by itself
                (MacKay, "The evidence framework applied to classification networks", 1992, for two
                classes; usual for more). ``"samples"``: the mean over drawn outputs.
            samples: How many are drawn.
            seed: Of a generator of their own.

        Returns:
            Shape ``[N, *out]``; of cross-entropy, classes along the second axis (the first after
            the samples) sum to one.

        Raises:
            InputError: The loss is not one of classes, the method is unknown, or there are no
                samples.
        """
        if self.link is None:
            raise InputError(
                "There are probabilities for CrossEntropyLoss, NLLLoss and BCEWithLogitsLoss; of "
                "any other loss, use mean, variance and covariance."
            )
        if method == "probit":
            return self.link(self.mean / (1 + math.pi / 8 * self.variance).sqrt(), 1)
        if method == "samples":
            return self.link(self.sample(samples, seed), 2).mean(0)
        raise InputError(f"method must be 'probit' or 'samples', got {method!r}.")

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Outputs drawn from the distribution.

        Args:
            n: How many of each sample.
            seed: Of a generator of their own.

        Returns:
            Shape ``[n, N, *out]``.

        Raises:
            InputError: ``n`` is not a whole number above 0.
        """
        check_count(n)
        values, vectors = torch.linalg.eigh(self.covariance)
        roots = vectors * values.clamp(min=0).sqrt().unsqueeze(1)
        generator = torch.Generator().manual_seed(seed)
        noise = random_normal((n, *roots.shape[:2]), generator, roots)
        return self.mean + torch.einsum("noi,kni->kno", roots, noise).reshape(n, *self.mean.shape)


def positive_semidefinite(matrices: Tensor) -> Tensor:
    """The nearest matrices that are, to some that are so up to rounding errors.

    Args:
        matrices: Shape ``[N, C, C]``.

    Returns:
        Symmetric ones; as they were, where they are.
    """
    matrices = (matrices + matrices.mT) / 2
    bad = torch.linalg.cholesky_ex(matrices).info != 0
    if bad.any():
        values, vectors = torch.linalg.eigh(matrices[bad])
        clipped = (vectors * values.clamp(min=0).unsqueeze(1)) @ vectors.mT
        matrices[bad] = (clipped + clipped.mT) / 2
    return matrices
