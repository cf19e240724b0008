"""The Laplace posterior of a network's parameters, from the GGN's low-rank structure."""

from vivit.laplace.posterior import LaplacePosterior
from vivit.laplace.predictive import Predictive

__all__ = ["LaplacePosterior", "Predictive"]
