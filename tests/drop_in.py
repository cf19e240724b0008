"""Problems for the interface of vivit-for-pytorch 1.0.0, and how its tests run it.

The package that is called ``vivit`` may be ours or the original.
"""

from dataclasses import dataclass
from typing import Any

import torch
from backpack import backpack, extend
from backpack.custom_module.branching import Parallel
from backpack.custom_module.pad import Pad
from backpack.custom_module.scale_module import ScaleModule
from backpack.custom_module.slicing import Slicing
from torch import nn

import vivit
from vivit import (
    DirectionalDampedNewtonComputation,
    DirectionalDerivativesComputation,
    EighComputation,
    EigvalshComputation,
)

CE, MSE, BCE = nn.CrossEntropyLoss, nn.MSELoss, nn.BCEWithLogitsLoss


def mlp():
    return nn.Sequential(
        nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 3)
    )


def conv():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2),
        nn.Tanh(),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 2, groups=2, bias=False),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def transposed():
    return nn.Sequential(
        nn.ConvTranspose1d(2, 3, 3, stride=2), nn.ELU(), nn.Flatten(), nn.Linear(27, 3)
    )


def same_padding():
    return nn.Sequential(
        nn.Conv1d(2, 3, 3, padding="same"),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def sequence():
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))


def positions():
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 3, 1))


def tokens():
    return nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 3))


def branches():
    """Of BackPACK's own modules."""
    main = nn.Sequential(nn.Linear(6, 4), nn.LeakyReLU(), Pad((1, 1)))
    return nn.Sequential(
        nn.Linear(5, 6),
        Parallel(main, ScaleModule(0.5), nn.Identity()),
        nn.SELU(),
        Slicing((slice(None), slice(1, 5))),
        nn.Linear(4, 3),
    )


def padded():
    return nn.Sequential(
        nn.ZeroPad2d(1), nn.Conv2d(2, 3, 3), nn.LogSigmoid(), nn.Flatten(), nn.Linear(12, 3)
    )


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.relu, self.sigmoid = nn.ReLU(), nn.Sigmoid()

    def forward(self, x):
        x = self.relu(self.first(x))
        return self.last(x + self.sigmoid(self.second(x)))


@dataclass
class Problem:
    """A model for BackPACK, its loss and a batch, in double precision."""

    network: Any
    shape: tuple
    loss: Any = CE

    def make(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.network().double().eval()
            x = torch.randn(self.shape, dtype=torch.float64)
            if self.network is tokens:
                x = torch.randint(7, self.shape)
            f = model(x).detach()
            loss_func, classes = self.loss(), f[:, 0].shape
            is_ce = isinstance(loss_func, CE)
            targets = torch.randint(3, classes) if is_ce else torch.rand_like(f)
        return model, loss_func, x, targets


PROBLEMS = {
    "mlp": Problem(mlp, (7, 5)),
    "mlp, mse": Problem(mlp, (7, 5), MSE),
    "mlp, bce": Problem(mlp, (7, 5), BCE),
    "conv": Problem(conv, (6, 2, 7, 7)),
    "conv, mse": Problem(conv, (6, 2, 7, 7), MSE),
    "transposed": Problem(transposed, (6, 2, 4)),
    "same padding": Problem(same_padding, (6, 2, 4)),
    "sequence": Problem(sequence, (6, 3, 5)),
    "tokens": Problem(tokens, (6, 3)),
    "positions": Problem(positions, (5, 2, 5)),
    "branches": Problem(branches, (7, 5)),
    "padded": Problem(padded, (5, 2, 2, 2)),
    "smoothing": Problem(mlp, (7, 5), lambda: CE(label_smoothing=0.1)),
}
VARIANTS = {
    "exact": {},
    "subset": {"subsampling": [4, 0, 2]},
    "monte-carlo": {"mc_samples": 2, "seed": 3},
    "both": {"subsampling": [3, 1], "mc_samples": 1, "seed": 3},
}
GROUPS = ["network", "parameter", "weights and biases"]


def split(model, how):
    """Names of the parameters of each group."""
    names = [name for name, _ in model.named_parameters()]
    if how == "network":
        return [names]
    if how == "parameter":
        return [[name] for name in names]
    groups = [[n for n in names if n.endswith(kind)] for kind in ("weight", "bias")]
    return [group for group in groups if group]


def run(computation, model, loss_func, x, y, groups):
    """One backward pass."""
    extend(model), extend(loss_func)
    single = hasattr(computation, "get_extension")
    found = [computation.get_extension()] if single else computation.get_extensions()
    with backpack(*found, extension_hook=computation.get_extension_hook(groups)):
        loss_func(model(x), y).backward()
    return [computation.get_result(group) for group in groups]


def ours(model, loss_func, x, y, names, variant):
    """The same by `vivit.GGN`, on a copy without BackPACK's hooks."""
    options = {}
    if "mc_samples" in variant:
        options["approximation"] = vivit.MonteCarlo(variant["mc_samples"], variant["seed"])
    if "subsampling" in variant:
        options["subset"] = sorted(variant["subsampling"])
    return vivit.GGN(model, loss_func, (x, y), params=names, **options)


def for_directional(variant):
    """The names of the same arguments where there are two subsamplings."""
    renamed = {"subsampling": "subsampling_ggn", "mc_samples": "mc_samples_ggn"}
    return {renamed.get(name, name): value for name, value in variant.items()}


def leading(values):
    """The largest two, the largest first; or the only one."""
    return [len(values) - 1, len(values) - 2][: len(values)]


ALL = [
    EigvalshComputation,
    EighComputation,
    DirectionalDerivativesComputation,
    DirectionalDampedNewtonComputation,
]


def complete(model, **changes):
    """A group of all parameters that suits every computation."""
    group = {
        "params": list(model.parameters()),
        "criterion": leading,
        "damping": lambda values, *_: torch.ones_like(values),
    }
    return {**group, **changes}


def results(kind, changes=None, **options):
    """Of one backward pass of the small problem, with all parameters in one group."""
    model, *rest = PROBLEMS["mlp"].make()
    group = complete(model, **(changes or {}))
    if kind is not EigvalshComputation:
        options = {"warn_small_eigvals": 0, **options}
    return run(kind(**options), model, *rest, [group])[0]
