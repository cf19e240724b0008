"""The tasks that are measured, and a problem small enough for the dense oracle."""

import torch
from torch import nn

from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import FAMILY, Approximation, Computed, Grouping, Subset, Task

TASKS = {
    task.title: task
    for task in [
        Task(),
        Task(approximation=Approximation.MONTE_CARLO),
        Task(subset=Subset.EIGHTH),
        Task(approximation=Approximation.MONTE_CARLO, subset=Subset.EIGHTH),
        Task(grouping=Grouping.LAYER),
        Task(subset=Subset.EIGHTH, grouping=Grouping.LAYER),
        Task(approximation=Approximation.MONTE_CARLO, grouping=Grouping.LAYER),
        Task(grouping=Grouping.PARAMETER),
        Task.leading(1),
        Task.leading(3),
        Task.leading(3, subset=Subset.EIGHTH),
        Task.leading(3, approximation=Approximation.MONTE_CARLO),
        Task.leading(3, grouping=Grouping.LAYER),
        Task.leading(
            2,
            approximation=Approximation.MONTE_CARLO,
            subset=Subset.EIGHTH,
            grouping=Grouping.LAYER,
        ),
        Task(Computed.NEWTON_STEP),
        Task(Computed.GRAM),
        Task(Computed.DERIVATIVES, 3),
        Task(Computed.DENSITY),
        Task(Computed.PRECONDITIONED),
        *map(Task, FAMILY),
    ]
}


def small_problem(dtype=torch.float64, batch_size=6):
    """A convolution and a linear layer, four classes."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4))
    x = torch.randn(batch_size, 1, 4, 4, generator=generator)
    y = torch.randint(4, (batch_size,), generator=generator)
    return Instance(model.to(dtype), nn.CrossEntropyLoss(), x.to(dtype), y)


def regression_problem(dtype=torch.float64):
    """Linear layers and a square loss."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).to(dtype)
    x, y = (torch.randn(4, size, generator=generator, dtype=dtype) for size in (3, 2))
    return Instance(model, nn.MSELoss(), x, y)


NESTED = """
import torch
from torch import nn

class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.second(self.first(x["left"] + x["right"][0]).tanh() * x["mask"])

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.last = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, x):
        words, scale = x
        return self.last(self.words(words).mean(dim=1) * scale)

def make(batch_size, device, dtype, seed, in_dict):
    generator = torch.Generator().manual_seed(seed)
    rand = lambda size: torch.rand(batch_size, size, generator=generator).to(device, dtype)
    y = torch.randint(3, (batch_size,), generator=generator).to(device)
    words = torch.randint(7, (batch_size, 5), generator=generator).to(device)
    named = {"left": rand(3), "right": [rand(3)], "mask": rand(4) > 0.1}
    model, X = (Named(), named) if in_dict else (Pair(), (words, rand(1)))
    return model.to(device, dtype), nn.CrossEntropyLoss(), X, y

def in_dict(*arguments):
    return make(*arguments, True)

def in_tuple(*arguments):
    return make(*arguments, False)
"""
"""Functions of a user's file: a dictionary and a tuple as inputs."""
