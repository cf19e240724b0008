"""Curvature of a batch that several processes share.

Run it with ``torchrun --standalone --nproc-per-node 2 docs/examples/ranks.py``. Without torchrun,
it is one process that has the whole batch, and prints the same numbers.
"""

import os

import torch
import torch.distributed as dist
from torch import nn

import vivit

torch.manual_seed(0)  # the same model on each rank
X, y = torch.randn(63, 10).double(), torch.randint(4, (63,))
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4)).double()
loss_func = nn.CrossEntropyLoss()

options, rank, size = {}, 0, 1
if "RANK" in os.environ:  # torchrun says which one this is
    dist.init_process_group("gloo")  # on GPUs: "nccl"
    options = {"process_group": dist.group.WORLD}
    rank, size = dist.get_rank(), dist.get_world_size()

first, last = rank * len(X) // size, (rank + 1) * len(X) // size  # shares may differ in size
ggn = vivit.GGN(model, loss_func, (X[first:last], y[first:last]), **options)

# All ranks call the same methods in the same order, and have the same results.
values = ggn.eigvalsh()
pairs = ggn.eigh(k=3)
step = ggn.newton_step(damping=1.0, k=10)

# Derivatives are those of this rank's samples.
derivatives = ggn.directional_derivatives(k=10)
print(f"rank {rank}: samples {first} to {last - 1}, slopes {tuple(derivatives.gammas.shape)}")

if rank == 0:
    print("largest eigenvalues:", values[-3:])
    print(ggn.plan())

    # As one process with the whole batch has them.
    alone = vivit.GGN(model, loss_func, (X, y))
    expected = alone.newton_step(damping=1.0, k=10)
    errors = {
        "eigenvalues": (values - alone.eigvalsh()).abs().max(),
        "pairs": (pairs.values - alone.eigh(k=3).values).abs().max(),
        "step": max((x - expected[name]).abs().max() for name, x in step.items()),
    }
    for name, error in errors.items():
        print(f"{name}: {error:.0e} off")
        assert error < 1e-10, name
if size > 1:
    dist.destroy_process_group()
