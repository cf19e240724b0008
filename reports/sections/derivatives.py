"""First and second derivatives along leading eigenvectors."""

from reports.sections.ratios import Ratios


class Derivatives(Ratios):
    """The suite of the same name."""

    name = "derivatives"
    title = "Directional derivatives"
    question = "What do slope and curvature of each sample's loss along leading eigenvectors cost?"
    suites = ("derivatives",)


SECTION = Derivatives()
