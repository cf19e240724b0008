"""Kinds of curvature ``V V^T``, one file each: which vectors of the outputs are sent back.

Column ``(n, c)`` of ``V`` is ``J_n^T s_nc``. A kind says what the ``s_nc`` of a batch are; nothing
else of the library needs to know.
"""

from vivit.kinds.base import BatchColumns, Kind
from vivit.kinds.gauss_newton import GaussNewton
from vivit.kinds.gradients import Gradients
from vivit.kinds.outputs import Outputs

__all__ = ["BatchColumns", "GaussNewton", "Gradients", "Kind", "Outputs"]
