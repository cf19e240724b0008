"""The distribution of all eigenvalues."""

from reports.sections.ratios import Ratios


class Density(Ratios):
    """The suite of the same name."""

    name = "density"
    title = "Spectral density"
    question = "What does the distribution of all eigenvalues cost, exact or estimated?"
    suites = ("density",)


SECTION = Density()
