"""The front door: the generalized Gauss-Newton matrix of a model, a loss and a batch.

The algorithm (Dangel, Tatzel, Hennig, "ViViT: Curvature access through the generalized
Gauss-Newton's low-rank structure", TMLR 2022), top-down:

1. One forward pass; the loss Hessian of each sample is factored, ``H_n = S_n S_n^T``.
2. ``G = V V^T`` with the columns ``V_nc = J_n^T s_nc``. The columns of ``S`` are backpropagated,
   and each layer adds its part to the Gram matrix ``K = V^T V`` without storing ``V``.
3. ``K`` has the nonzero eigenvalues of ``G``. With ``K e~ = lambda e~``, the eigenvector of ``G``
   is ``e = V e~ / sqrt(lambda)``: one vector-Jacobian product with cotangent ``sum_c s_nc e~_nc``.
4. Directional derivatives and Newton steps follow from ``lambda`` and ``e~``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from vivit.backprop.called import Forward
from vivit.data import Target
from vivit.kinds import GaussNewton
from vivit.low_rank import LowRankCurvature
from vivit.options import Approximation, Exact, Subset
from vivit.parameters import Selector
from vivit.ranks import NO_GROUP
from vivit.setup import ALL, block_matrices

EXACT = Exact()


class GGN(LowRankCurvature):
    """The generalized Gauss-Newton matrix ``G`` of a loss, or a diagonal block of it.

    One forward pass is made on construction. That of a single batch is kept, with its
    activations; those of several batches are repeated when needed, with the same dropout masks,
    so that only one batch's activations live at a time. All quantities agree with each other;
    they are evaluated when asked for. Nothing of the model is changed: gradients, buffers, hooks,
    mode and random state stay as they were. Parameters and data must stay as they were, too: a
    change in place is refused with a `StaleError` (but through ``.data`` it goes unnoticed).
    """

    def __init__(
        self,
        model: nn.Module,
        loss_func: Any,
        data: Any,
        params: Iterable[Selector] | None = None,
        approximation: Approximation = EXACT,
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
        """Set up the GGN.

        Args:
            model: Maps the inputs to a tensor of shape ``[N, *out]``, samples first. Of one in
                ``DataParallel`` or ``DistributedDataParallel``, or compiled, the module within
                counts, with its own names; nothing runs compiled. One in half precision, or in
                the ``torch.autocast`` that is on now, runs so each time; results are in single
                precision, and a warning tells their accuracy.
            loss_func: ``torch.nn.CrossEntropyLoss``, ``MSELoss``, ``BCEWithLogitsLoss`` or, on
                normalised log-probabilities, ``NLLLoss`` with any options, or their functions in
                ``torch.nn.functional`` and ``functools.partial`` of them; or any callable
                ``(output, target) -> scalar`` that is a mean over samples (a sum, if its
                attribute ``reduction`` says so) of twice differentiable functions that are convex
                in the output, and curved.
            data: A batch ``(X, y)``, or an iterable of batches: the GGN of all their samples. It
                is run through once; a loader that shuffles draws from torch's global generator.
                A batch may be a mapping, too, with its targets under ``"labels"``; with `target`,
                anything.
            params: Names of parameters, globs such as ``"conv*"``, or parameters; by default all
                that require gradients.
            approximation: ``Exact()``, or ``MonteCarlo(samples, seed)`` of the loss Hessian.
            subset: Samples that carry the curvature, scaled to stand for all: indices or a mask
                over the samples of all batches. They keep their ascending order. Gradients are
                still those of all samples.
            workspace: Bytes for temporaries while the Gram matrix is formed; with less, it takes
                longer. By default 32 MiB on a CPU; on a GPU up to 128 MiB, an eighth of `memory`.
                As much may stay of a small problem in single precision, for its eigenvectors.
            memory: Bytes to get by with beyond the forward pass, the workspace among them; by
                default what is available. If one sweep of backward passes would need more, there
                are several, each for some of the layers: `plan` says how many. Two are made in any
                case where they save much of a large peak for little time.
            progress: Whether bars on standard error show how far long runs over the data are.
            forward: Maps model and inputs to that tensor, for models that are called in another
                way: ``lambda model, X: model(**X).logits``. By default it is called with ``X``, or
                with the entries of a mapping as keywords, if it takes more than one argument, and
                must give a tensor, ``logits``, or a tuple that begins with a tensor.
            target: Maps a batch to its targets, anything that the loss takes; the inputs are the
                whole batch then: ``target=lambda batch: batch["label"]``.
            samples: What counts as a sample, for derivatives, subsets and Monte-Carlo columns: a
                ``"sequence"``, the row ``n`` of the output, or each ``"token"`` of it, in the
                order ``(n, t)``. Tokens are the axes behind the classes (cross-entropy, of
                outputs ``[N, C, T]``), or the second axis (``MSELoss`` and ``BCEWithLogitsLoss``,
                of outputs ``[N, T, F]``). They may depend on each other within a sequence. Those
                whose targets are ignored are samples without curvature.
            mixing: ``"allow"`` for a model whose samples depend on each other on purpose, such as
                nodes of a graph or packed sequences, if the loss is over rows of the output. Each
                batch is a function of its own then, and all is as exact, but each column of each
                sample has a backward pass of its own. By default such a model is refused.
            process_group: Of `torch.distributed`, if several processes have a share of the samples
                each: all is as for one process with the data of all ranks, in their order, but
                `directional_derivatives`, which are of this rank's samples. All ranks must call
                the same methods in the same order; a share may be empty, ``data=[]``.

        Raises:
            InputError: An argument has a wrong value, the model gives NaN or infinity, or no
                selected parameter reaches its output; a warning, if some do not.
            UnsupportedError: The model or loss cannot be handled correctly.
            RankError: Another process is gone, late, or does something else. Errors of others are
                raised as of the same kind, and name the rank.
        """
        kind = GaussNewton(loss_func, approximation)
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
