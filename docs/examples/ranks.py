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
X, y = torch.randn(64, 10).double(), torch.randint(4, (64,))
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4)).double()

options, rank, size = {}, 0, 1
if "RANK" in os.environ:  # torchrun says which one this is
    dist.init_process_group("gloo")  # on GPUs: "nccl"
    options = {"process_group": dist.group.WORLD}
    rank, size = dist.get_rank(), dist.get_world_size()

first, last = rank * len(X) // size, (rank + 1) * len(X) // size
share = X[first:last], y[first:last]
ggn = vivit.GGN(model, nn.CrossEntropyLoss(), share, **options)

# All ranks call the same methods, and have the same results.
values = ggn.eigvalsh()
step = ggn.newton_step(damping=1.0, k=10)
length = torch.stack([x.square().sum() for x in step.values()]).sum().sqrt()

# Derivatives are those of this rank's samples.
derivatives = ggn.directional_derivatives(k=10)

if rank == 0:
    print("largest eigenvalues:", values[-3:])
    print(f"length of the Newton step: {length:.6f}")
    print("derivatives of this rank's samples:", tuple(derivatives.gammas.shape))
    print(ggn.plan())
if size > 1:
    dist.destroy_process_group()
