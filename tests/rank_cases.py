"""Shared batches: cases, what is computed of them, and mistakes; in one process or in several."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import vivit
from vivit.gram.matrices import GroupAccumulator
from vivit.ranks.group import Group

SHARES = {
    1: [slice(0, 5)],
    2: [slice(0, 3), slice(3, 5)],
    3: [slice(0, 2), slice(2, 2), slice(2, 5)],
    4: [slice(0, 1), slice(1, 3), slice(3, 4), slice(4, 5)],
}
"""Which of five batches each rank has, by the number of ranks; one of three has none."""

SIZES = (3, 1, 4, 2, 2)
"""Samples of the batches."""

N = sum(SIZES)


class Scaled(nn.Linear):
    """A linear layer with a scale, as a parameter of one entry."""

    def __init__(self):
        super().__init__(4, 3)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return torch.tanh(super().forward(x)) * self.scale


def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def cnn():
    parts = nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 2, 3, stride=2), nn.Tanh()
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(8, 3))


def grouped():
    parts = nn.Conv1d(4, 4, 2, groups=2), nn.Tanh(), nn.ConvTranspose1d(4, 2, 2, bias=False)
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(8, 3))


def words():
    return nn.Sequential(nn.Embedding(7, 4), nn.LayerNorm(4), nn.Flatten(), nn.Linear(12, 3))


def normed():
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)
    )


def on_sequences():
    return nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 2))


def tokens():
    return nn.Sequential(nn.Conv1d(4, 16, 1), nn.Tanh(), nn.Conv1d(16, 3, 1))


def vectors(*shape):
    return lambda: [torch.randn(n, *shape) for n in SIZES]


def lengths():
    return [torch.randn(n, t, 4) for n, t in zip(SIZES, (2, 2, 3, 3, 2), strict=True)]


def indices():
    return [torch.randint(7, (n, 3)) for n in SIZES]


def classes(model, x):
    return torch.randint(3, (len(x), *model(x).shape[2:]))


def values(model, x):
    return torch.randn_like(model(x))


def ignored(model, x):
    y = torch.randint(3, (len(x),))
    y[0] = -100
    return y


def weighted():
    return nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))


def ggn(*args, **options):
    return vivit.GGN(*args, **options)


def fisher(*args, **options):
    return vivit.EmpiricalFisher(*args, **options)


def block(name, **fixed):
    def make(*args, **options):
        return vivit.block_diagonal(*args, **fixed, **options)[name]

    return make


@dataclass(frozen=True)
class Case:
    """A model, a loss and five batches, and a front door."""

    model: Callable[[], nn.Module] = mlp
    inputs: Callable[[], list[torch.Tensor]] = field(default_factory=lambda: vectors(4))
    targets: Callable[[nn.Module, torch.Tensor], torch.Tensor] = classes
    loss: Callable[[], nn.Module] = nn.CrossEntropyLoss
    door: Callable[..., Any] = ggn
    options: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float64

    def made(self):
        """Model, loss and batches, the same in each process."""
        torch.manual_seed(0)
        model, x = self.model().double(), self.inputs()
        x = [part.double() if part.is_floating_point() else part for part in x]
        y = [self.targets(model, part) for part in x]
        x = [part.to(self.dtype) if part.is_floating_point() else part for part in x]
        y = [part.to(self.dtype) if part.is_floating_point() else part for part in y]
        return model.to(self.dtype), self.loss(), [*zip(x, y, strict=True)]

    def alone(self):
        """The curvature of all batches in this process."""
        model, loss, batches = self.made()
        return self.door(model, loss, batches, **self.options)

    def shared(self, rank, size):
        """That of this process's share."""
        model, loss, batches = self.made()
        share = batches[SHARES[size][rank]]
        return self.door(model, loss, share, process_group=dist.group.WORLD, **self.options)


CASES = {
    "exact": Case(),
    "Monte Carlo": Case(options={"approximation": vivit.MonteCarlo(2, seed=3)}),
    "subset": Case(options={"subset": [11, 0, 5, 7]}),
    "subset that most have no part in": Case(options={"subset": [11, 10]}),
    "convolutions": Case(cnn, vectors(2, 5, 5), values, nn.MSELoss),
    "groups": Case(grouped, vectors(4, 4), values, nn.MSELoss),
    "sum": Case(loss=lambda: nn.CrossEntropyLoss(reduction="sum")),
    "ignored and weighted": Case(targets=ignored, loss=weighted),
    "embedding": Case(words, indices),
    "made of others": Case(normed),
    "lengths": Case(on_sequences, lengths, values, nn.MSELoss),
    "tokens": Case(tokens, vectors(4, 3), options={"samples": "token"}),
    "batches as units": Case(options={"mixing": "allow"}),
    "few parameters": Case(options={"params": ["2.*"]}),
    "few parameters, added up": Case(options={"params": ["2.*"], "workspace": 1}),
    "one parameter": Case(Scaled, options={"params": ["scale"], "workspace": 1}),
    "empirical Fisher": Case(door=fisher),
    "gradient covariance": Case(door=fisher, options={"centered": True}),
    "covariance of few": Case(
        door=fisher, options={"centered": True, "params": ["2.bias"], "workspace": 1}
    ),
    "block": Case(door=block("0")),
    "blocks of parameters": Case(door=block("2.weight", groups="parameter")),
    "single precision": Case(dtype=torch.float32),
}


def vector(curvature, seed=1):
    generator = torch.Generator().manual_seed(seed)
    like = curvature._factor.like
    return torch.randn(curvature.shape[0], generator=generator).to(like.dtype)


def near(curvature):
    """A small tolerance."""
    return 10 * torch.finfo(curvature._factor.like.dtype).eps ** 0.75


def outer(curvature, **options):
    """``sum_k lambda_k e_k e_k^T``, which does not depend on signs."""
    pairs = curvature.eigh(**options)
    e = torch.cat([x.reshape(len(x), -1) for x in pairs.vectors.values()], dim=1)
    return e.T @ (pairs.values[:, None] * e)


def coefficients(curvature):
    generator = torch.Generator().manual_seed(2)
    like = curvature._factor.like
    return torch.randn(curvature.num_columns, 2, generator=generator).to(like.dtype)


COMPUTED = {
    "gram": lambda c: c.gram(),
    "eigh": outer,
    "newton_step": lambda c: c.flatten(c.newton_step(damping=0.1, k=min(2, c.shape[0]))),
    "G v": lambda c: c @ vector(c),
}
"""What is computed of each case; the same on all ranks."""

FURTHER = {
    "eigvalsh": lambda c: c.eigvalsh(),
    "gradient": lambda c: c.flatten(c.gradient()),
    "rule for the damping": lambda c: c.flatten(
        c.newton_step(damping=vivit.BootstrapDamping(resamples=7))
    ),
    "flat newton_step": lambda c: c.flatten(c.newton_step(damping=0.1, flat=True)),
    "traces": lambda c: torch.stack([*c.traces().values()]),
    "solve": lambda c: c.solve(vector(c), damping=[0.1, 1.0]),
    "conjugate gradients": lambda c: c.solve(
        vector(c), damping=1.0, method=vivit.ConjugateGradients(near(c))
    ),
    "inverse_operator": lambda c: c.inverse_operator(0.5) @ vector(c),
    "scalars": lambda c: torch.stack(
        [c.frobenius_norm(), c.logdet(0.5), c.effective_dimension(0.5), c.trace()]
    ),
    "V u": lambda c: c.factor_operator() @ coefficients(c),
    "V^T v": lambda c: c.factor_operator().T @ vector(c),
    "V^T V u": lambda c: c.gram_operator() @ coefficients(c),
    "Lanczos": lambda c: c.eigh(k=1, method=vivit.Lanczos(near(c))).values,
    "blocks": lambda c: outer(c, k=1, method=vivit.SpreadGram(near(c))),
}
"""And of some."""

OF_SOME = ("exact", "subset", "few parameters", "gradient covariance", "single precision")
"""These, with three ranks."""

WITH_FOUR = ("exact", "convolutions", "Monte Carlo", "few parameters, added up")
"""Cases with four."""


def cases_of(size):
    """Those that so many ranks compute."""
    return {name: CASES[name] for name in (WITH_FOUR if size == 4 else CASES)}


def computed_of(name, size):
    """What so many ranks compute of a case: all with three."""
    if size == 3:
        return {**COMPUTED, **(FURTHER if name in OF_SOME else {})}
    return {what: COMPUTED[what] for what in ("gram", "newton_step")}


def derivatives(curvature, k=None):
    """Of this process's samples; the squares, for signs are arbitrary."""
    found = curvature.directional_derivatives(k=k)
    return {"gammas": found.gammas.square(), "lambdas": found.lambdas}


def sent(curvature):
    """Bytes of tensors that pass through the process group while the matrix is made, and plans."""
    plan, counted = curvature.plan().travel, [0, 0]

    def add_up(tensor, *args, **options):
        counted[0] += tensor.nbytes
        counted[1] += tensor.nbytes
        return all_reduce(tensor, *args, **options)

    def gather(parts, tensor, *args, **options):
        counted[0] += tensor.nbytes
        counted[1] += sum(x.nbytes for x in parts) - tensor.nbytes
        return all_gather(parts, tensor, *args, **options)

    def pass_on(ops):
        for op in ops:
            is_message = op.tensor.dtype == torch.uint8
            counted[op.op is dist.irecv] += 0 if is_message else op.tensor.nbytes
        return batched(ops)

    all_reduce, all_gather = dist.all_reduce, dist.all_gather
    batched = dist.batch_isend_irecv
    with (
        patch.object(dist, "all_reduce", add_up),
        patch.object(dist, "all_gather", gather),
        patch.object(dist, "batch_isend_irecv", pass_on),
    ):
        curvature._matrices.of_block(curvature._group)
    traffic = curvature.ranks.traffic
    return {
        "planned": [plan.sent, plan.received],
        "counted": counted,
        "told": [traffic.sent, traffic.received],
    }


KERNELS = {
    "full": (Case(), {}, 1),
    "trace": (Case(), {"outputs": "trace"}, 1),
    "blocks": (Case(), {"batch_size": 2}, 1),
    "one set as a unit": (Case(), {"mixing": "allow", "outputs": "trace"}, 1),
    "convolutions": (Case(cnn, vectors(2, 5, 5), values), {}, 1),
    "trace of convolutions": (Case(cnn, vectors(2, 5, 5), values), {"outputs": "trace"}, 1),
    "embedding": (Case(words, indices), {}, 1),
    "made of others": (Case(normed), {}, 1),
    "two sets": (Case(), {"batch_size": 3}, 2),
    "trace of two sets": (Case(grouped, vectors(4, 4), values), {"outputs": "trace"}, 2),
    "two sets as units": (Case(), {"mixing": "allow"}, 2),
    "two sets of convolutions": (Case(cnn, vectors(2, 5, 5), values), {}, 2),
}
"""Tangent kernels: a case with model and inputs, options, and how many sets there are."""


def kernel(name, batches=(slice(None), slice(None)), **options):
    """The rows of some batches of a kernel, with the columns of others."""
    case, fixed, count = KERNELS[name]
    model, _, data = case.made()
    x = [part for part, _ in data]
    sets = [x, [part.flip(0) for part in reversed(x)]][:count]
    shares = [
        torch.cat([x[0][:0], *of_set[some]])
        for of_set, some in zip(sets, batches[:count], strict=True)
    ]
    return vivit.ntk(model, *shares, **fixed, **options)


def shared_kernel(name, rank, size):
    """That of this process; of the second set, it has what another has of the first."""
    some = SHARES[size][rank], SHARES[size][(rank + 1) % size]
    return kernel(name, some, process_group=dist.group.WORLD)


def order_of_kernel(name, size):
    """Where the columns of all ranks stand in the kernel of one process."""
    x = [part for part, _ in KERNELS[name][0].made()[2]]
    if KERNELS[name][2] == 1:
        return [*range(N)]
    places = torch.arange(N).split([len(part) for part in reversed(x)])
    batches = [*range(len(x))]
    order = [batches[SHARES[size][(rank + 1) % size]] for rank in range(size)]
    return [int(i) for some in order for batch in some for i in places[batch]]


def other_kernel(**of_rank_1):
    """A kernel of something else on rank 1."""

    def attempt(rank, size):
        model, _, batches = Case().made()
        options = {"X": batches[rank][0], **(of_rank_1 if rank == 1 else {})}
        vivit.ntk(model, **options, process_group=dist.group.WORLD)

    return attempt


def empty_kernel(rank, size):
    """No samples on any rank."""
    model, _, batches = Case().made()
    vivit.ntk(model, batches[0][0][:0], process_group=dist.group.WORLD)


def second_set_empty(rank, size):
    """Nor in the second set."""
    model, _, ((x, _), *_) = Case().made()
    vivit.ntk(model, x, x[:0], process_group=dist.group.WORLD)


def damped_cross_entropy(f, y):
    return nn.functional.cross_entropy(f, y) + 0.1 * f.square().mean()


HELD_OUT = {
    "mean": ({}, nn.CrossEntropyLoss),
    "ignored and weighted": ({}, weighted),
    "sum": ({}, lambda: nn.CrossEntropyLoss(reduction="sum")),
    "no closed form": ({}, lambda: damped_cross_entropy),
    "subset": ({"subset": [11, 0, 5, 7]}, nn.CrossEntropyLoss),
}
"""Options of monitors, and losses."""


class Ticking:
    """A clock of which each look takes a while."""

    def __init__(self, seconds):
        self.now, self._seconds = 0.0, seconds

    def __call__(self):
        self.now += self._seconds
        return self.now


def monitor(name, path, some=slice(None), **options):
    """One of some of the samples, and its model."""
    fixed, loss = HELD_OUT[name]
    model, _, batches = Case(targets=ignored).made()
    x, y = (torch.cat(parts)[some] for parts in zip(*batches, strict=True))
    y = y if name == "ignored and weighted" else y.clamp(min=0)
    return vivit.Monitor(model, loss(), (x, y), path=path, k=3, **fixed, **options), model


def monitors(rank, size, folder):
    """What they see, who writes, and what they do when one fails or has spent its budget."""
    ends = [N * i // size for i in range(size + 1)]
    options = {"some": slice(*ends[rank : rank + 2]), "process_group": dist.group.WORLD}
    seen = {}
    for number, name in enumerate(HELD_OUT):
        looks, _ = monitor(name, Path(folder) / f"monitor-{number}-{rank}.jsonl", **options)
        seen[name] = looks(0).quantities
    clock = Ticking(0.0 if rank else 1.0)
    path = Path(folder) / f"monitor-{rank}.jsonl"
    looks, model = monitor("mean", path, every=1, budget=0.1, clock=clock, **options)
    first = looks(0) is not None
    skipped = looks(1) is None  # the first rank's clock says that all of the time was spent
    clock.now += 1000.0
    if rank == 1:
        falling({"model": model})
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        failed = looks(2).error
    return {
        "seen": seen,
        "looked": [first, skipped],
        "failed": failed,
        "warned": [str(x.message) for x in warned],
        "written": path.exists(),
    }


def left(rank, size):
    """Others that are gone while tensors go to single ranks."""
    ranks = Group(dist.new_group(timeout=timedelta(seconds=5)), torch.device("cpu"))

    def fail(group, trades, lost):
        lost.update(dict.fromkeys(trades, "gone"))

    with patch("vivit.ranks.group.trade", fail):
        ranks.to_each({(rank + 1) % size: torch.ones(1)}, "a test")


def small_room(size):
    """Bytes with which only the blocks of a rank fit, and what is chosen then."""
    torch.manual_seed(0)
    wide = [nn.Linear(20, 600), nn.Tanh(), nn.Linear(600, 600), nn.Tanh(), nn.Linear(600, 10)]
    model, x = nn.Sequential(*wide), torch.randn(50, 20)
    batch, group = [(x, torch.randint(10, (50,)))], dist.group.WORLD
    curvature = vivit.GGN(model, nn.CrossEntropyLoss(), batch, process_group=group)
    costs = curvature._matrices.costs
    memory = costs.spread_plan("").peak_bytes
    limited = vivit.GGN(model, nn.CrossEntropyLoss(), batch, memory=memory, process_group=group)
    found = limited.eigh(k=10)
    try:
        vivit.GGN(
            model, nn.CrossEntropyLoss(), batch, memory=memory - 1, process_group=group
        ).eigh(k=1, method=vivit.SpreadGram())
    except vivit.InsufficientMemoryError as error:
        text = str(error)
    return {
        "whole": costs.plan(0).peak_bytes,
        "blocks": memory,
        "has blocks": [*limited._matrices._spread],
        "values": found.values,
        "wanted": curvature.eigvalsh()[-10:],
        "refused": text,
    }


def changed(**of_rank_1):
    """The exact case with something else on rank 1."""

    def attempt(rank, size):
        model, loss, batches = Case().made()
        given = {"model": model, "loss": loss, "data": batches, "door": ggn, "options": {}}
        if rank == 1:
            given = {**given, **{name: change(given) for name, change in of_rank_1.items()}}
        given["door"](
            given["model"],
            given["loss"],
            given["data"],
            process_group=dist.group.WORLD,
            **given["options"],
        )

    return attempt


def perturbed(given):
    with torch.no_grad():
        given["model"][0].bias[0] += 1e-12
    return given["model"]


def falling(given):
    given["model"].forward = lambda x: (_ for _ in ()).throw(ValueError("no luck today"))
    return given["model"]


def nothing_at_all(rank, size):
    """No samples on any rank."""
    model, loss, _ = Case().made()
    vivit.GGN(model, loss, [], process_group=dist.group.WORLD)


def wrapped(rank, size):
    """A model in `DistributedDataParallel`, which is no mistake."""
    model, loss, batches = Case().made()
    share = batches[SHARES[size][rank]]
    parallel = nn.parallel.DistributedDataParallel(model)
    return vivit.GGN(parallel, loss, share, process_group=dist.group.WORLD).gram()


def sharded(rank, size):
    """A model of which each rank has a part."""
    model, loss, batches = Case().made()
    fully_shard(model, mesh=init_device_mesh("cpu", (size,)))
    vivit.GGN(model, loss, batches, process_group=dist.group.WORLD)


def stale(rank, size):
    """Parameters that change on one rank."""
    model, loss, batches = Case().made()
    curvature = vivit.GGN(model, loss, batches, process_group=dist.group.WORLD)
    if rank == 1:
        with torch.no_grad():
            model[0].weight += 1
    curvature.eigvalsh()


def stale_inverse(rank, size):
    """The same, under an operator that was made before."""
    model, loss, batches = Case().made()
    curvature = vivit.GGN(model, loss, batches, process_group=dist.group.WORLD)
    operator = curvature.inverse_operator(1.0)
    if rank == 1:
        with torch.no_grad():
            model[0].weight += 1
    operator @ vector(curvature)


def in_the_middle(error):
    """An error while blocks of the Gram matrix are computed, on rank 1."""

    def attempt(rank, size):
        curvature = whole()

        def fail(*_):
            raise error

        with patch.object(GroupAccumulator, "add_cross", fail) if rank == 1 else nothing():
            curvature.gram()

    return attempt


def whole(group=None):
    """The same batch on each rank."""
    model, loss, batches = Case().made()
    return vivit.GGN(model, loss, batches[0], process_group=group or dist.group.WORLD)


def nothing():
    return patch.object(GroupAccumulator, "_", None, create=True)


def other_call(rank, size):
    """Ranks that are not at the same."""
    curvature = whole()
    if rank == 1:
        curvature.gradient()
    else:
        curvature.gram()


def late(rank, size):
    """A rank that does not come in time."""
    group = dist.new_group(timeout=timedelta(seconds=1))
    curvature = whole(group)
    if rank == 1:
        time.sleep(2)
    try:
        curvature.gram()
    except vivit.RankError as error:
        text = str(error)
    try:
        curvature.gram()
    except vivit.RankError as error:
        raise vivit.RankError(f"{text} Then: {error}") from error


def dead(rank, size):
    """A rank that ends while others wait for it."""
    curvature = whole()

    def end(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    with patch.object(GroupAccumulator, "add_cross", end) if rank == 1 else nothing():
        curvature.gram()


MISTAKES = {
    "values": changed(model=perturbed),
    "dtype": changed(model=lambda given: given["model"].float(), data=lambda _: []),
    "model": changed(model=lambda _: nn.Linear(4, 3).double()),
    "mode": changed(model=lambda given: given["model"].eval()),
    "loss": changed(loss=lambda _: nn.CrossEntropyLoss(label_smoothing=0.1)),
    "reduction": changed(loss=lambda _: nn.CrossEntropyLoss(reduction="sum")),
    "columns": changed(options=lambda _: {"approximation": vivit.MonteCarlo()}),
    "kind": changed(door=lambda _: fisher),
    "subset": changed(options=lambda _: {"subset": [0]}),
    "parameters": changed(options=lambda _: {"params": ["0.*"]}),
    "samples": changed(options=lambda _: {"mixing": "allow"}),
    "nothing": nothing_at_all,
    "sharded": sharded,
    "data": changed(data=lambda _: [(torch.zeros(2, 4).double(), torch.tensor([0, 7]))]),
    "model that raises": changed(model=falling),
    "stale": stale,
    "stale inverse": stale_inverse,
    "in the middle": in_the_middle(ValueError("no luck today")),
    "in the middle, of ours": in_the_middle(vivit.InputError("no luck at all")),
    "other call": other_call,
    "kernel of other outputs": other_kernel(outputs="trace"),
    "kernel of two sets": other_kernel(X2=torch.zeros(2, 4).double()),
    "kernel that does not fit": other_kernel(memory=1),
    "kernel of nothing": empty_kernel,
    "kernel with nothing": second_set_empty,
    "left": left,
    "late": late,
}
"""What goes wrong on one rank, and is told on all."""


def message(attempt, rank, size):
    """The error, as its class and text."""
    try:
        attempt(rank, size)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["none", ""]


def work(rank: int, size: int, folder: str) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=20),
    )
    found: dict[str, Any] = {"results": {}, "derivatives": {}, "sent": {}, "mistakes": {}}
    for name, case in cases_of(size).items():
        curvature = case.shared(rank, size)
        found["sent"][name] = sent(curvature)
        computed = computed_of(name, size)
        found["results"][name] = {what: f(curvature) for what, f in computed.items()}
        found["derivatives"][name] = derivatives(curvature)
    found["kernels"] = {name: shared_kernel(name, rank, size) for name in KERNELS}
    found["small room"] = small_room(size)
    found["monitors"] = monitors(rank, size, folder)
    if size == 3:
        found["mistakes"] = {
            name: message(attempt, rank, size) for name, attempt in MISTAKES.items()
        }
        found["agreed"] = curvature.ranks.agreed([torch.full((2, rank + 1), rank)], "a test")
        found["wrapped"] = wrapped(rank, size)
        found["after all"] = CASES["exact"].shared(rank, size).gram()
    torch.save(found, Path(folder) / f"{rank}.pt")
    if size == 3:
        start = time.monotonic()
        text = message(dead, rank, size)
        torch.save([*text, time.monotonic() - start], Path(folder) / f"{rank}-dead.pt")
    else:
        dist.barrier()
    dist.destroy_process_group()


def work_on_gpus(rank: int, folder: str) -> None:
    """A Gram matrix by NCCL, with a GPU for each of two ranks."""
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    model, loss, batches = Case().made()
    share = [(x.cuda(), y.cuda()) for x, y in batches[SHARES[2][rank]]]
    curvature = vivit.GGN(model.cuda(), loss, share, process_group=dist.group.WORLD)
    torch.save(curvature.gram(), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
