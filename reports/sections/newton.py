"""Damped Newton steps."""

from reports.sections.ratios import Ratios


class Newton(Ratios):
    """The suite of the same name."""

    name = "newton"
    title = "Newton step"
    question = "What does a damped Newton step along the eigenvectors cost?"
    suites = ("newton",)


SECTION = Newton()
