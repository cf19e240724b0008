"""What a reader sees under one heading: a question, and what was measured to answer it.

To add a section: a file that has one as `SECTION`, and its name in a line below.
"""

from collections.abc import Iterable
from importlib import import_module

from reports.sections.base import Section
from reports.sections.failures import Failures
from reports.sections.headline import Headline
from reports.sections.others import Others

ABOUT_SPEED = (
    "limit",
    "eigenvalues",
    "leading",
    "tolerance",
    "derivatives",
    "newton",
    "density",
    "preconditioned",
    "family",
    "targets",
    "drop_in",
    "paper",
    "time",
)
"""Sections about how long it takes; most ratios of memory stand beside those of times."""

ABOUT_MEMORY = (
    "critical",
    "memory",
)
"""Sections about memory, and the batch sizes that fit into it."""

ABOUT_ACCURACY = ("accuracy",)
"""Sections about how exact the results are."""

ABOUT_SPECTRA = ("spectra",)
"""Sections about the eigenvalues themselves."""

ABOUT_SCALING = ("scaling",)
"""Sections about growing networks, batches and numbers of classes."""

ABOUT_RECORDS = (
    "failures",
    "environments",
)
"""Sections about the measurements themselves."""

ABOUT_EXPERIMENTS = (
    "experiments.spectral_density",
    "experiments.critical_batch_eigenvalues",
    "experiments.critical_batch_eigenpair",
    "experiments.critical_batch_newton",
    "experiments.runtime_eigenpairs",
    "experiments.power_tolerance",
    "experiments.gram_power",
    "experiments.linear_gram",
    "experiments.training_overlap",
    "experiments.training_derivatives",
    "experiments.learning_rate_grid",
    "experiments.noisy_quadratic",
    "experiments.lanczos_spectrum",
    "experiments.loss_landscape",
    "experiments.gradient_curvature_variance",
    "experiments.kfac_step",
    "experiments.second_order_training",
)
"""Sections about published experiments."""

ABOUT_COMMITS = (
    "changes",
    "over_commits",
    "pytest_runs",
    "machines",
)
"""Sections about what asv and pytest-benchmark measured of each commit."""


def sections(names: Iterable[str]) -> tuple[Section, ...]:
    """Sections by the names of their files."""
    return tuple(import_module(f"{__name__}.{name}").SECTION for name in names)


def speed() -> tuple[Section, ...]:
    """The sections of the page about speed; suites that no section has share the last one."""
    own = sections([*ABOUT_SPEED, *ABOUT_MEMORY, *ABOUT_SCALING])
    return (*sections(ABOUT_SPEED), Others(own))


def comparison() -> tuple[Section, ...]:
    """The sections that compare methods, of all pages, in the order of these."""
    others = (*ABOUT_MEMORY, *ABOUT_ACCURACY, *ABOUT_SPECTRA, *ABOUT_SCALING)
    return (*speed(), *sections(others))


def start() -> tuple[Section, ...]:
    """The sections of the first page: what the others say in short."""
    question = "How does vivit compare with what one would use instead?"
    headline = Headline(comparison(), question)
    return (*sections(["answer", "choice"]), headline, *sections(["basis"]))


def published() -> tuple[Section, ...]:
    """The sections of the page of published experiments, in their order."""
    topics = sections(ABOUT_EXPERIMENTS)
    headline = Headline(topics, "What do the published experiments say when they are repeated?")
    failures = Failures("experiments-failures")
    return (headline, *topics, failures, *sections(["environments"]))
