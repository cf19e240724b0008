"""The front door: the Laplace posterior, its samples, predictions and evidence.

``N(theta, (G + p I)^-1)`` with the GGN ``G`` of the summed loss, the negative log-likelihood, and
a Gaussian prior of precision ``p`` and mean zero. All of it follows from one decomposition of
``G``, whatever ``p`` is: see `decomposition`. Sources: MacKay, "A practical Bayesian framework
for backpropagation networks", 1992; Daxberger et al., "Laplace Redux", NeurIPS 2021; Immer et al.,
"Scalable marginal likelihood estimation", ICML 2021.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from vivit.backprop.called import Forward
from vivit.data import Target, check_inputs
from vivit.dtypes import is_finite
from vivit.errors import InputError, InsufficientMemoryError
from vivit.ggn import EXACT
from vivit.kinds import GaussNewton
from vivit.laplace.checks import check_count, check_outputs, positive
from vivit.laplace.decomposition import Decomposition
from vivit.laplace.evidence import best_precision
from vivit.laplace.fit import Fit
from vivit.laplace.outputs import blocks_of, outputs_in_turn
from vivit.laplace.predictive import Link, Predictive, positive_semidefinite
from vivit.losses.base import random_normal
from vivit.memory import human_bytes
from vivit.options import Approximation, Subset
from vivit.parameters import Selector
from vivit.setup import block_matrices
from vivit.shown import Shown

JOINT_BYTES = 32
"""Of each entry of a joint covariance in double precision, twice, in half of the memory."""


class LaplacePosterior(Shown):
    """Gaussian posterior of a network's parameters at a minimum of its regularised loss.

    One forward pass is made on construction, as by `GGN`; the curvature is decomposed when it is
    first needed, once for all prior precisions. Nothing of the model is changed, and parameters
    and data must stay as they were.

    Attributes:
        prior_precision: ``p``.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_func: Any,
        data: Any,
        prior_precision: float = 1.0,
        *,
        params: Iterable[Selector] | None = None,
        approximation: Approximation = EXACT,
        subset: Subset | None = None,
        likelihood_scale: float = 1.0,
        workspace: int | None = None,
        memory: int | None = None,
        progress: bool = False,
        forward: Forward | None = None,
        target: Target | None = None,
        mixing: str = "refuse",
    ) -> None:
        """Set up the posterior.

        Args:
            model: As for `GGN`, as are the next two; in evaluation mode, as predictions mostly
                should be. Its parameters are the posterior's mean.
            loss_func: The loss; a mean counts as the sum that it is the mean of, so that
                ``reduction="mean"`` and ``"sum"`` give the same posterior.
            data: A batch ``(X, y)``, or an iterable of batches: all training data.
            prior_precision: ``p``, which is also the strength of the weight decay
                ``p / 2 |theta|^2`` beside the summed loss.
            params: The parameters with a posterior, as for `GGN`; all others are fixed.
            approximation: As for `GGN`, as is the next.
            subset: Samples that carry the curvature.
            likelihood_scale: What the summed loss is multiplied with to be the negative
                log-likelihood: for ``MSELoss`` and observation noise of variance ``s2``,
                ``1 / (2 * s2)``; by default 1, which is ``s2 = 1/2``. Below 1, a tempered one.
            workspace: As for `GGN`, as are the next two.
            memory: Bytes to get by with beyond the forward pass.
            progress: Whether bars are shown.
            forward: As for `GGN`, as is the next; test inputs are given to it, too.
            target: Gives the targets of a batch.
            mixing: As for `GGN`; test inputs are then a batch of their own, such as a graph, and
                covariances are made for as many of its rows at a time as fit.

        Raises:
            InputError: As `GGN`; or a number is not positive and finite.
            UnsupportedError: As `GGN`.
        """
        self.prior_precision = positive(prior_precision, "prior_precision")
        scale = positive(likelihood_scale, "likelihood_scale")
        matrices = block_matrices(
            model,
            GaussNewton(loss_func, approximation),
            data,
            None,
            params,
            subset,
            workspace,
            memory,
            progress,
            forward,
            target,
            mixing=mixing,
        )
        self._fit = Fit(matrices, scale)

    @property
    def _parts(self) -> dict[str, str]:
        curvature = self._fit.curvature
        return {
            "parameters": str(sum(p.numel() for p in curvature.parameters.values())),
            "samples": str(curvature.num_samples),
            "prior_precision": f"{self.prior_precision:g}",
        }

    @property
    def mean(self) -> dict[str, Tensor]:
        """The parameters, by name, if they are still what they were."""
        self._fit.curvature.check_fresh()
        return self._fit.parameters

    def with_prior_precision(self, prior_precision: float) -> LaplacePosterior:
        """The posterior of another prior, which shares all that has been computed.

        Args:
            prior_precision: ``p``.

        Raises:
            InputError: It is not positive and finite.
        """
        other = copy(self)
        other.prior_precision = positive(prior_precision, "prior_precision")
        return other

    @torch.no_grad()
    def sample(self, n: int = 1, seed: int = 0) -> dict[str, Tensor]:
        """Parameters drawn from the posterior.

        Args:
            n: How many.
            seed: Of a generator of their own: the same on every device.

        Returns:
            For each parameter a tensor of shape ``[n, *shape]``.

        Raises:
            InputError: ``n`` is not a whole number above 0.
        """
        check_count(n)
        decomposition, mean = self._decomposition(self.prior_precision), self.mean
        generator = torch.Generator().manual_seed(seed)
        noise = {name: random_normal((n, *p.shape), generator, p) for name, p in mean.items()}
        scattered = decomposition.scatter(noise, self.prior_precision)
        return {name: p + scattered[name] for name, p in mean.items()}

    @torch.no_grad()
    def predictive(self, X: Any) -> Predictive:  # noqa: N803 - as in data (X, y)
        """Outputs of the linearised model at test inputs, a Gaussian for each sample.

        ``N(f(x), J_x (G + p I)^-1 J_x^T)``. No vector of the size of the parameters is made,
        unless they are fewer than the columns of ``G``. One forward pass has all inputs; the
        covariances of those that are too many for the memory are made some at a time.

        Args:
            X: Inputs, as the model takes them.

        Returns:
            Mean and covariance of the outputs.

        Raises:
            InputError: There are no inputs, or the outputs have another shape than those of the
                training data, or a covariance that is not finite.
            InsufficientMemoryError: The prediction of a single sample would not fit.
        """
        check_inputs("X", X)
        if isinstance(X, Tensor) and (X.ndim == 0 or not len(X)):
            raise InputError(
                f"There are no test inputs: X has shape {list(X.shape)}, expected samples along "
                "the first axis."
            )
        decomposition = self._decomposition(self.prior_precision)
        linearization = self._fit.curvature.linearize(X)
        rows = self._fit.rows(linearization.output)
        output = rows.split(linearization.output)
        check_outputs(output.shape[1:], self._fit.output_shape)
        in_turn = outputs_in_turn(linearization, rows, self._samples_at_a_time(output))
        with self._fit.curvature.progress.stage("predictions"):
            covariances = [
                decomposition.covariance(some, self.prior_precision) for some in in_turn
            ]
        covariance = torch.cat([blocks_of(x, output[0].numel()) for x in covariances])
        if not is_finite(covariance):
            raise InputError(
                "The covariance of the outputs at the test inputs is NaN or infinite: look for "
                "overflow, such as of inputs that are not scaled."
            )
        covariance = positive_semidefinite(covariance).to(output.dtype)
        return Predictive(output, covariance, Link.of(self._fit.curvature.kind.loss_func))

    @torch.no_grad()
    def log_marginal_likelihood(self, prior_precision: float | None = None) -> Tensor:
        """Laplace's approximation of the evidence, ``log p(data | p)``.

        ``-loss - p/2 |theta|^2 + D/2 log p - 1/2 logdet(G + p I)`` of the selected parameters.
        What is left out does not depend on model and prior: the normalisation of the likelihood,
        for ``MSELoss`` with noise ``s2`` minus the number of outputs times ``log(2 pi s2) / 2``.

        Args:
            prior_precision: ``p``; by default the posterior's own. Others cost next to nothing.

        Returns:
            A scalar, in nats.

        Raises:
            InputError: ``p`` is not positive and finite.
        """
        p = self._own(prior_precision)
        fit, decomposition = self._fit, self._decomposition(p)
        prior = p / 2 * fit.square_norm
        evidence = -fit.negative_log_likelihood - prior - decomposition.half_logdet_ratio(p)
        return fit.curvature.like.new_tensor(evidence)

    @torch.no_grad()
    def log_marginal_likelihood_gradient(self, prior_precision: float | None = None) -> Tensor:
        """The derivative of `log_marginal_likelihood` by ``p``, parameters being what they are.

        ``(sum_k lambda_k / (lambda_k + p) / p - |theta|^2) / 2``.

        Args:
            prior_precision: ``p``; by default the posterior's own.

        Returns:
            A scalar.

        Raises:
            InputError: ``p`` is not positive and finite.
        """
        p, fit = self._own(prior_precision), self._fit
        gradient = (self._decomposition(p).effective_dimension(p) / p - fit.square_norm) / 2
        return fit.curvature.like.new_tensor(gradient)

    @torch.no_grad()
    def best_prior_precision(self) -> float:
        """The ``p`` with the largest marginal likelihood, from the eigenvalues alone.

        There ``p |theta|^2`` is ``sum_k lambda_k / (lambda_k + p)``, the effective number of
        parameters: see `best_precision`.

        Returns:
            To a relative accuracy of 1e-10; give it to `with_prior_precision`.

        Raises:
            InputError: There is none: all parameters or all curvatures are zero.
        """
        self._fit.curvature.check_fresh()
        return best_precision(self._fit.decomposition, self._fit.square_norm)

    def _own(self, prior_precision: float | None) -> float:
        if prior_precision is None:
            return self.prior_precision
        return positive(prior_precision, "prior_precision")

    def _decomposition(self, precision: float) -> Decomposition:
        self._fit.curvature.check_fresh()
        found = self._fit.decomposition
        found.check_precision(precision)
        return found

    def _samples_at_a_time(self, output: Tensor) -> int:
        """As many as half of the memory holds.

        Raises:
            InsufficientMemoryError: It does not hold one.
        """
        available, outputs = self._fit.room.available, output[0].numel()
        if available is None:
            return len(output)
        needed = self._fit.bytes_per_sample(outputs)
        if needed > available:
            raise InsufficientMemoryError(
                f"The prediction of a single test sample with {outputs} outputs needs "
                f"{human_bytes(needed)}, but {human_bytes(available)} are available. Use a subset "
                "of the training samples, MonteCarlo(samples=1), or fewer outputs."
            )
        count = max(available // (2 * needed), 1)
        if self._fit.curvature.sampling.whole:  # of one covariance only the blocks stay
            together = math.isqrt(available // JOINT_BYTES) // outputs
            count = max(min(count, together), 1)
        return count
