"""All eigenvalues of the GGN."""

from reports.sections.ratios import Ratios


class Eigenvalues(Ratios):
    """The suite of the same name."""

    name = "eigenvalues"
    title = "All eigenvalues"
    question = "What does the complete spectrum of the GGN cost?"
    suites = ("eigenvalues",)


SECTION = Eigenvalues()
