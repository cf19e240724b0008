"""Slope and curvature of each sample's loss along leading eigenvectors: signal and noise."""

import torch
from backpack import backpack, extend
from torch import nn

from vivit import DirectionalDerivativesComputation

torch.manual_seed(0)
X, y = torch.randn(64, 10), torch.randint(4, (64,))
model = extend(nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 4)))
loss_func = extend(nn.CrossEntropyLoss())

group = {
    "params": list(model.parameters()),
    "criterion": lambda values: [i for i in range(len(values)) if values[i] > 1e-2],
}
computation = DirectionalDerivativesComputation(subsampling_ggn=list(range(16)))
hook = computation.get_extension_hook([group])
with backpack(*computation.get_extensions(), extension_hook=hook):
    loss_func(model(X), y).backward()

gammas, lambdas = computation.get_result(group)  # [64, K] slopes, [16, K] curvatures
for name, x in (("slopes", gammas), ("curvatures", lambdas)):
    noise = x.var(dim=0)
    print(f"signal-to-noise ratios of {name}:", (x.mean(dim=0) ** 2 / noise)[-3:])
