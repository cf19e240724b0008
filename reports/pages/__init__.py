"""The pages: what is on them, and how they are written."""

from reports.pages.commits import COMMITS
from reports.pages.comparison import COMPARISON

PAGES = (COMPARISON, COMMITS)
"""The main page first."""

__all__ = ["COMMITS", "COMPARISON", "PAGES"]
