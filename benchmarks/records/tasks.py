"""What is computed: the quantity, and of which approximation of the GGN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.records.names import Choice

NEWTON_DAMPING = 1.0
NEWTON_CUTOFF = 1e-4
"""Directions of a Newton step have eigenvalues above this: as in the example of the original's
documentation and in the published experiment on critical batch sizes."""

SOLVE_DAMPING = 1e-2
"""``d`` of the solve with ``G + d I``: small enough that curvature decides the solution along
leading directions, large enough for conjugate gradients in single precision."""

SUBSET_DIVISOR = 8


class Computed(Choice):
    """The result."""

    EIGENVALUES = "eigenvalues"
    PAIRS = "eigenpairs"
    DERIVATIVES = "directional_derivatives"
    """Per sample, along the leading eigenvectors."""
    NEWTON_STEP = "newton_step"
    GRAM = "gram_matrix"
    DENSITY = "spectral_density"
    PRECONDITIONED = "preconditioned_gradient"
    NTK = "ntk"
    """The empirical neural tangent kernel of the batch with itself."""
    FISHER = "fisher"
    """All eigenvalues of the empirical Fisher, uncentred."""
    SOLVE = "solve"
    """``(G + d I)^-1 v`` for the fixed random vector and the damping that all methods agree on."""
    TRACE = "trace"
    PRODUCT = "product"
    """``G v`` for the same vector."""

    @property
    def label(self) -> str:
        """Its name in reports."""
        return {
            Computed.EIGENVALUES: "all eigenvalues",
            Computed.PAIRS: "leading eigenpairs",
            Computed.DERIVATIVES: "directional derivatives",
            Computed.NEWTON_STEP: "damped Newton step",
            Computed.GRAM: "Gram matrix",
            Computed.DENSITY: "spectral density",
            Computed.PRECONDITIONED: "preconditioned gradient",
            Computed.NTK: "neural tangent kernel",
            Computed.FISHER: "eigenvalues of the empirical Fisher",
            Computed.SOLVE: "damped solve",
            Computed.TRACE: "trace",
            Computed.PRODUCT: "product with a vector",
        }[self]

    @property
    def is_about_leading(self) -> bool:
        """Whether some leading eigenvectors are what it is about."""
        return self in (Computed.PAIRS, Computed.DERIVATIVES)

    @property
    def is_of_family(self) -> bool:
        """Whether it is about another low-rank matrix, or needs no eigenpair of the GGN."""
        return self in FAMILY


FAMILY = (Computed.NTK, Computed.FISHER, Computed.SOLVE, Computed.TRACE, Computed.PRODUCT)
"""What else the same backward passes give. Of the network without approximation only."""


class Approximation(Choice):
    """Of the loss Hessian."""

    EXACT = "exact"
    MONTE_CARLO = "monte_carlo"
    """One sampled column per sample."""

    @property
    def label(self) -> str:
        """In reports; empty where it goes without saying."""
        return "Monte-Carlo (1 sample)" if self is Approximation.MONTE_CARLO else ""


class Subset(Choice):
    """The samples that carry curvature."""

    WHOLE = "whole"
    EIGHTH = "eighth"
    """The first ``N // 8``, at least one."""

    @property
    def label(self) -> str:
        """In reports; empty where it goes without saying."""
        return "first N/8 samples" if self is Subset.EIGHTH else ""


class Grouping(Choice):
    """The blocks of the GGN."""

    NETWORK = "network"
    LAYER = "layer"
    """One block for each module that owns parameters."""
    PARAMETER = "parameter"

    @property
    def label(self) -> str:
        """In reports; empty where it goes without saying."""
        return "" if self is Grouping.NETWORK else f"per {self.value}"


@dataclass(frozen=True)
class Task:
    """What is to be computed.

    Attributes:
        computed: The result.
        k: Number of leading eigenpairs or directions; None for any other result.
        approximation: Of the loss Hessian.
        subset: The samples that carry curvature.
        grouping: The blocks of the GGN.
    """

    computed: Computed = Computed.EIGENVALUES
    k: int | None = None
    approximation: Approximation = Approximation.EXACT
    subset: Subset = Subset.WHOLE
    grouping: Grouping = Grouping.NETWORK

    def __post_init__(self) -> None:
        """Refuse a number of pairs without pairs, and pairs without their number."""
        if (self.k is not None) != self.computed.is_about_leading:
            raise ValueError(
                "Eigenpairs and directional derivatives, and nothing else, need their number k; "
                f"got k = {self.k} for {self.computed.value}."
            )

    @classmethod
    def leading(cls, k: int, **variant: Any) -> Task:
        """The ``k`` leading eigenpairs."""
        return cls(Computed.PAIRS, k, **variant)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Task:
        """The task of a record.

        Args:
            parameters: What `parameters` gave; older records lack all but ``k``.

        Returns:
            The task; what is not recorded has its default.

        Raises:
            ValueError: A name is unknown, or ``k`` does not fit.
        """
        k = parameters.get("k")
        default = Computed.EIGENVALUES if k is None else Computed.PAIRS
        return cls(
            Computed(parameters.get("computed", default)),
            k,
            Approximation(parameters.get("approximation", Approximation.EXACT)),
            Subset(parameters.get("subset", Subset.WHOLE)),
            Grouping(parameters.get("grouping", Grouping.NETWORK)),
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "computed": self.computed.value,
            "k": self.k,
            "approximation": self.approximation.value,
            "subset": self.subset.value,
            "grouping": self.grouping.value,
        }

    @property
    def is_plain(self) -> bool:
        """Whether it is about the exact GGN of all samples and the whole network."""
        return self == Task(self.computed, self.k)

    @property
    def title(self) -> str:
        """In a few words."""
        result = {
            Computed.EIGENVALUES: "all eigenvalues",
            Computed.PAIRS: f"{self.k} leading",
            Computed.NEWTON_STEP: "damped Newton step",
            Computed.GRAM: "Gram matrix",
            Computed.DERIVATIVES: f"derivatives along {self.k} leading",
            Computed.DENSITY: "spectral density",
            Computed.PRECONDITIONED: "preconditioned gradient",
            **{computed: computed.label for computed in FAMILY},
        }[self.computed]
        variants = [
            (self.approximation is Approximation.MONTE_CARLO, "Monte-Carlo"),
            (self.subset is Subset.EIGHTH, "first N/8 samples"),
            (self.grouping is not Grouping.NETWORK, f"per {self.grouping.value}"),
        ]
        return ", ".join([result, *(text for applies, text in variants if applies)])

    def num_samples(self, batch_size: int) -> int:
        """How many samples carry curvature: the first ones.

        Args:
            batch_size: ``N``.

        Returns:
            ``N``, or an eighth of it.
        """
        if self.subset is Subset.WHOLE:
            return batch_size
        return max(batch_size // SUBSET_DIVISOR, 1)
