"""Gradients times the inverse of a curvature."""

from reports.sections.ratios import Ratios


class Preconditioned(Ratios):
    """The suite of the same name."""

    name = "preconditioned"
    title = "Preconditioned gradient"
    question = "What does a gradient cost that is multiplied by the inverse of a curvature?"
    suites = ("preconditioned",)


SECTION = Preconditioned()
