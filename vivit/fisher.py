"""The front door of the other low-rank matrix: the empirical Fisher, or gradient covariance.

1. One forward pass; the loss gradient of each sample by the model output.
2. ``F = V V^T`` with one column per sample, its gradient ``g_n / sqrt(N)``; centred,
   ``(g_n - g) / sqrt(N)``. All else is as for the GGN, with a Gram matrix of size ``N``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from vivit.backprop.called import Forward
from vivit.data import Target
from vivit.kinds import Gradients
from vivit.low_rank import LowRankCurvature
from vivit.options import Subset
from vivit.parameters import Selector
from vivit.ranks import NO_GROUP
from vivit.setup import ALL, block_matrices


class EmpiricalFisher(LowRankCurvature):
    """The empirical Fisher ``F = 1/N sum_n g_n g_n^T``, or a diagonal block of it.

    ``g_n`` is the gradient of the loss of sample ``n``; of a loss that is a sum over samples,
    ``F = sum_n g_n g_n^T``. Centred, with ``g_n - g`` of the mean gradient ``g``, it is the
    covariance of gradients: the noise of mini-batches. It needs no second derivatives, so the
    loss may be any mean or sum over samples, convex or not. It is not an approximation of the
    Hessian far from an optimum (Kunstner, Balles, Hennig, "Limitations of the empirical Fisher
    approximation", NeurIPS 2019). ``N`` counts all rows of the data, those too whose targets the
    loss ignores.

    Methods are those of `GGN`, with ``F`` in place of ``G`` and ``C = 1``: of directional
    derivatives, ``lambdas`` are ``(g_n^T e_k)^2``, centred ``((g_n - g)^T e_k)^2``.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_func: Any,
        data: Any,
        *,
        centered: bool = False,
        params: Iterable[Selector] | None = None,
        subset: Subset | None = None,
        workspace: int | None = None,
        memory: int | None = None,
        progress: bool = False,
        forward: Forward | None = None,
        target: Target | None = None,
        samples: str = "sequence",
        mixing: str = "refuse",
        process_group: Any = NO_GROUP,
    ) -> None:
        """Set up the matrix.

        Args:
            model: As for `GGN`.
            loss_func: Any callable ``(output, target) -> scalar`` that is a mean over samples (a
                sum, if its attribute ``reduction`` says so) of functions that can be
                differentiated.
            data: A batch ``(X, y)``, or an iterable of batches: the matrix of all their samples.
            centered: Whether the mean gradient, of the samples in `subset`, is subtracted.
            params: As for `GGN`, as are the others.
            subset: Samples whose gradients count, scaled to stand for all.
            workspace: Bytes for temporaries.
            memory: Bytes to get by with beyond the forward pass.
            progress: Whether bars show how far long runs over the data are.
            forward: As for `GGN`, as is the next.
            target: Maps a batch to its targets.
            samples: As for `GGN`, as is the next: with ``"token"``, ``g_n`` is the gradient of
                the loss of one token, and the matrix is another one.
            mixing: Whether samples may depend on each other.
            process_group: As for `GGN`.

        Raises:
            InputError: As for `GGN`.
            UnsupportedError: As for `GGN`; or the loss is neither mean nor sum over samples.
        """
        kind = Gradients(loss_func, centered)
        matrices = block_matrices(
            model,
            kind,
            data,
            None,
            params,
            subset,
            workspace,
            memory,
            progress,
            forward,
            target,
            samples,
            mixing,
            process_group,
        )
        self._attach(matrices, ALL)
