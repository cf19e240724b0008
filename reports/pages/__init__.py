"""The pages: what is on them, and how they are written."""

from reports.pages.commits import COMMITS
from reports.pages.comparison import COMPARISON
from reports.pages.experiments import EXPERIMENTS_PAGE

PAGES = (COMPARISON, EXPERIMENTS_PAGE, COMMITS)
"""The main page first."""

__all__ = ["COMMITS", "COMPARISON", "EXPERIMENTS_PAGE", "PAGES"]
