"""Curvature while a model trains: a line of figures every so many steps, and what shows them."""

from vivit.monitor.log import read
from vivit.monitor.monitor import Monitor
from vivit.monitor.observation import Observation
from vivit.monitor.quantities import ALL, Quantity

__all__ = ["ALL", "Monitor", "Observation", "Quantity", "read"]
