"""The tasks that are measured, and a problem small enough for the dense oracle."""

import torch
from torch import nn

from benchmarks.problems import Instance
from benchmarks.tasks import Approximation, Computed, Grouping, Subset, Task

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
