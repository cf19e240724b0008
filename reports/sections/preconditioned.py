"""Gradients times the inverse of a curvature."""

import pandas as pd

from reports.sections.base import Section
from reports.sources.frame import compared, groups, setting_of
from reports.sources.sources import Sources
from reports.tables.beside import beside
from reports.tables.table import Table
from reports.words import labels

CAPTION = (
    "K-FAC approximates the curvature of each layer. Medians of interleaved runs, and of peaks of "
    "memory; errors are relative to the norm of the same in double precision. The gradient is a "
    "yardstick that computes no curvature. What vivit has for the same purpose are damped solves "
    "and Newton steps with the exact curvature."
)


class Preconditioned(Section):
    """The suite of the same name, of which vivit has no method of its own."""

    name = "preconditioned"
    title = "Preconditioned gradient"
    question = "What does a gradient cost that is multiplied by the inverse of a curvature?"
    suites = ("preconditioned",)

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Times, memory and accuracies of its suite, unless there are only accuracies."""
        return compared(sources.frame, self.suites)

    def tables(self, sources: Sources) -> list[Table]:
        """A row for each method, in each setting."""
        return [_table(group) for group in groups(self.needs(sources))]


def _table(group: pd.DataFrame) -> Table:
    setting = setting_of(group)
    name = labels.slug(f"preconditioned {setting}")
    return beside(group, name, labels.titled(Preconditioned.title, setting), CAPTION)


SECTION = Preconditioned()
