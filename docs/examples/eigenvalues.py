"""Eigenvalues of the GGN and of its blocks, during one backward pass of BackPACK."""

import torch
from backpack import backpack, extend
from torch import nn

from vivit import EigvalshComputation

torch.manual_seed(0)
X, y = torch.randn(32, 10), torch.randint(4, (32,))
model = extend(nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 4)))
loss_func = extend(nn.CrossEntropyLoss())

# One group: the GGN of the whole network. A group per layer: its diagonal blocks.
network = [{"params": list(model.parameters())}]
layers = [{"params": list(layer.parameters())} for layer in (model[0], model[2])]

for name, groups in (("network", network), ("layers", layers)):
    computation = EigvalshComputation()
    hook = computation.get_extension_hook(groups)
    model.zero_grad()
    with backpack(computation.get_extension(), extension_hook=hook):
        loss_func(model(X), y).backward()  # fills .grad as ever
    for group in groups:
        print(name, "largest eigenvalues:", computation.get_result(group)[-3:])

# Cheaper: curvature of a quarter of the samples, with one sampled column each.
cheap = EigvalshComputation(subsampling=list(range(8)), mc_samples=1, seed=0)
hook = cheap.get_extension_hook(network)
with backpack(cheap.get_extension(), extension_hook=hook):
    loss_func(model(X), y).backward()
print("approximately:", cheap.get_result(network[0])[-3:])
