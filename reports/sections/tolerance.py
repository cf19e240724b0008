"""Time against accuracy of power iteration."""

from reports.sections.ratios import Ratios


class Tolerance(Ratios):
    """The suite of the same name."""

    name = "tolerance"
    title = "Power iteration's tolerance"
    question = "What does power iteration cost, depending on how accurate it has to be?"
    suites = ("tolerance",)


SECTION = Tolerance()
