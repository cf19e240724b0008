"""A problem of one's own for the benchmarks.

python -m benchmarks run --problem docs/examples/problems/regression.py:sine --suite eigenvalues
"""

import torch
from torch import nn


def sine(batch_size, device, dtype, seed):
    """Fit a sine: the harness asks for this, at any batch size, in float32 and in float64."""
    generator = torch.Generator().manual_seed(seed)  # the same data whenever it is asked for
    X = 6 * torch.rand(batch_size, 1, generator=generator)
    y = X.sin()
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))  # seeded by the harness
    return model.to(device, dtype), nn.MSELoss(), X.to(device, dtype), y.to(device, dtype)
