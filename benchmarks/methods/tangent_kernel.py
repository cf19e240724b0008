"""Baselines: the tangent kernel in both forms of PyTorch's tutorial on it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacrev, jvp, vjp, vmap

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, NotApplicableError, refuse_others
from benchmarks.methods.conventions import Parameters, SampleFunction, function_of_a_sample
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


class TangentKernel(Method):
    """From PyTorch's tutorial "Neural Tangent Kernels", for a set with itself."""

    tolerance = 1e-4

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Make a function of parameters and one sample."""
        refuse_others(self, task, (Computed.NTK,))
        if not isinstance(instance.inputs, Tensor):
            raise NotApplicableError(
                f"{self.name} maps over the samples of a single tensor, not of a "
                f"{type(instance.inputs).__name__}."
            )
        function, parameters = function_of_a_sample(instance.model)
        inputs = instance.inputs
        return lambda: Outcome(self.kernel(function, parameters, inputs))

    @abstractmethod
    def kernel(self, function: SampleFunction, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Compute it.

        Args:
            function: Maps parameters and one sample to its outputs.
            parameters: By name.
            inputs: Shape ``[N, *in]``.

        Returns:
            Shape ``[N, N, C, C]``.
        """


class JacobianContraction(TangentKernel):
    """Method 1: Jacobians of all samples, contracted parameter by parameter.

    The tutorial takes two sets and makes the Jacobian of each. Here it is one set, and one
    Jacobian: the work and memory of the second one are not held against it.
    """

    name = "ntk_jacobian"
    label = Label("Jacobian contraction (torch.func)", "Jacobian contraction")
    description = (
        "method 1 of PyTorch's tutorial on tangent kernels: all Jacobians (vmap of jacrev), made "
        "once for both sides, and an einsum for each parameter"
    )

    def kernel(self, function: SampleFunction, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Stack the contractions of all parameters and sum them up, as the tutorial does."""
        jacobians = vmap(jacrev(function), (None, 0))(parameters, inputs)
        flat = [jacobian.flatten(2) for jacobian in jacobians.values()]
        return torch.stack([torch.einsum("Naf,Mbf->NMab", j, j) for j in flat]).sum(0)


@dataclass(frozen=True)
class Settings:
    """Of products.

    Attributes:
        chunk: Samples of the first set at a time: the tutorial takes all at once, for which
            memory is short.
    """

    chunk: int = 1


class KernelProducts(TangentKernel):
    """Method 2: products of the kernel of each pair of samples with unit vectors."""

    name = "ntk_products"
    label = Label("NTK-vector products (torch.func)", "NTK-vector products")
    description = (
        "method 2 of PyTorch's tutorial on tangent kernels: products of each pair's kernel with "
        "unit vectors (vmap of jvp after vjp)"
    )
    settings = Settings()

    def kernel(self, function: SampleFunction, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Map over all pairs."""

        def of_pair(first: Tensor, second: Tensor) -> Tensor:
            output, pull_back = vjp(lambda w: function(w, first), parameters)  # type: ignore[misc]

            def row(unit: Tensor) -> Tensor:
                tangents = pull_back(unit)
                return jvp(lambda w: function(w, second), (parameters,), tangents)[1]

            return vmap(row)(torch.eye(output.numel()).to(output))

        of_row = vmap(of_pair, (None, 0))
        return vmap(of_row, (0, None), chunk_size=self.settings.chunk)(inputs, inputs)
