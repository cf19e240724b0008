"""What a reader sees under one heading: a question, and what was measured to answer it.

To add a section: a file that has one as `SECTION`, and its name in a line below.
"""

from collections.abc import Iterable
from importlib import import_module

from reports.sections.base import Section
from reports.sections.headline import Headline
from reports.sections.others import Others

ABOUT_SUITES = (
    "eigenvalues",
    "leading",
    "tolerance",
    "derivatives",
    "newton",
    "density",
    "preconditioned",
    "family",
    "limit",
    "targets",
    "drop_in",
    "critical",
    "scaling",
)
"""Sections of the comparison that are about suites of their own."""

ABOUT_ALL = (
    "paper",
    "time",
    "memory",
    "accuracy",
    "spectra",
    "failures",
    "pytest_runs",
)
"""Sections of the comparison that are about measurements of any suite."""

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
"""Sections of the page over commits."""


def sections(names: Iterable[str]) -> tuple[Section, ...]:
    """Sections by the names of their files."""
    return tuple(import_module(f"{__name__}.{name}").SECTION for name in names)


def about_suites() -> tuple[Section, ...]:
    """Sections about suites of their own, and one for all other suites."""
    own = sections(ABOUT_SUITES)
    return (*own, Others([*own, *sections(ABOUT_ALL)]))


def comparison() -> tuple[Section, ...]:
    """The sections of the page that compares methods, in their order."""
    topics = (*about_suites(), *sections(ABOUT_ALL))
    headline = Headline(topics, "How does vivit compare with what one would use instead?")
    return (headline, *sections(["glossary"]), *topics, *sections(["environments"]))


def published() -> tuple[Section, ...]:
    """The sections of the page of published experiments, in their order."""
    topics = sections(ABOUT_EXPERIMENTS)
    headline = Headline(topics, "What do the published experiments say when they are repeated?")
    return (headline, *topics, *sections(["failures", "environments"]))


def commits() -> tuple[Section, ...]:
    """The sections of the page over commits, in their order."""
    return sections(ABOUT_COMMITS)
