"""Methods that are compared: ours, what people would use instead, and yardsticks."""

from benchmarks.methods.backpropagation import Backpropagation
from benchmarks.methods.base import Method, NotApplicableError
from benchmarks.methods.block_lanczos import BlockLanczos
from benchmarks.methods.computations import DropIn
from benchmarks.methods.conjugate_gradients import ConjugateGradients
from benchmarks.methods.damped_newton import LEADING, DampedNewton
from benchmarks.methods.diagonal_trace import DiagonalTrace
from benchmarks.methods.eigenthings import DifferenceEigenthings, ExactEigenthings
from benchmarks.methods.gradient import Gradient
from benchmarks.methods.gram import Gram
from benchmarks.methods.gram_power_iteration import GramPowerIteration
from benchmarks.methods.kfac import kfac_methods
from benchmarks.methods.lanczos import Lanczos
from benchmarks.methods.lobpcg import Lobpcg
from benchmarks.methods.matrix_free_product import MatrixFreeProduct
from benchmarks.methods.matrix_memory import MatrixMemory
from benchmarks.methods.matrix_product import MatrixProduct
from benchmarks.methods.naive_gram import NaiveGram
from benchmarks.methods.original import Original
from benchmarks.methods.per_sample_gradients import PerSampleGradients
from benchmarks.methods.power_iteration import PowerIteration
from benchmarks.methods.quadrature import Quadrature
from benchmarks.methods.ranks import Ranks
from benchmarks.methods.sketched_eigh import SketchedEigh
from benchmarks.methods.stochastic_trace import CurvlinopsTrace, SkerchTrace
from benchmarks.methods.tangent_kernel import JacobianContraction, KernelProducts
from benchmarks.records.registry import Registry
from benchmarks.records.settings import split_method

METHODS: Registry[Method] = Registry(
    "method",
    [
        Gram(),
        BlockLanczos(),
        Ranks(),
        DropIn(),
        Original(lean=False),
        Original(lean=True),
        NaiveGram(),
        PowerIteration(),
        GramPowerIteration(),
        Lanczos(),
        Lobpcg(),
        SketchedEigh(),
        Quadrature(),
        *kfac_methods(),
        JacobianContraction(),
        KernelProducts(),
        PerSampleGradients(),
        ConjugateGradients(),
        DiagonalTrace(),
        CurvlinopsTrace(),
        SkerchTrace(),
        MatrixFreeProduct(),
        ExactEigenthings(),
        DifferenceEigenthings(),
        DampedNewton(None),
        DampedNewton(LEADING),
        Gradient(),
        Backpropagation(),
        MatrixProduct(),
        MatrixMemory(),
    ],
)


def find_method(text: str) -> Method:
    """A method by name, and perhaps settings.

    Args:
        text: Such as ``gram``, or ``power_iteration:tolerance=1e-6,most_iterations=500``.

    Returns:
        The method.

    Raises:
        KeyError: There is no method of that name.
        ValueError: It has no such setting, or the value is not one.
    """
    name, settings = split_method(text)
    return METHODS[name].with_settings(settings)


__all__ = ["METHODS", "Method", "NotApplicableError", "find_method"]
