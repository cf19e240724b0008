"""The largest eigenvalues and their eigenvectors."""

from reports.sections.ratios import Ratios


class Leading(Ratios):
    """The suite of the same name."""

    name = "leading"
    title = "Leading eigenpairs"
    question = "What do the k largest eigenvalues and their eigenvectors cost?"
    suites = ("leading",)


SECTION = Leading()
