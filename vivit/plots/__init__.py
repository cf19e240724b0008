"""Figures of curvature: functions of arrays and an optional axis, which they return.

They draw with matplotlib and seaborn: ``pip install vivit[plots]``. Arrays are what numpy takes,
or tensors on any device. Without an axis, ``matplotlib.pyplot`` makes a figure, in this style.
"""

try:
    import matplotlib  # noqa: F401
    import seaborn  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        f"vivit.plots draws with matplotlib and seaborn, and {error.name} is not installed: "
        "install vivit with the extra plots."
    ) from error

from vivit.plots.derivatives import gradient_curvature, signal_to_noise
from vivit.plots.landscapes import landscape
from vivit.plots.matrices import gram
from vivit.plots.spectra import eigenvalues, spectral_density
from vivit.plots.style import styled

__all__ = [
    "eigenvalues",
    "gradient_curvature",
    "gram",
    "landscape",
    "signal_to_noise",
    "spectral_density",
    "styled",
]
