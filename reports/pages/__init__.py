"""The pages: what is on them, and how they are written."""

from reports.pages.commits import COMMITS
from reports.pages.comparison import GLOSSARY, RECORDS, SCALING, START, THEMES
from reports.pages.experiments import EXPERIMENTS_PAGE

PAGES = (START, *THEMES, EXPERIMENTS_PAGE, SCALING, COMMITS, RECORDS, GLOSSARY)
"""In the order of the navigation, the first page first."""

__all__ = ["PAGES"]
