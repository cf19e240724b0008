"""Training by Newton steps in the leading eigenspace of the GGN, with constant damping."""

import torch
from backpack import backpack, extend
from torch import nn

from vivit import DirectionalDampedNewtonComputation

torch.manual_seed(0)
X, y = torch.randn(64, 10), torch.randint(4, (64,))
model = extend(nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 4)))
loss_func = extend(nn.CrossEntropyLoss())

group = {
    "params": list(model.parameters()),
    "criterion": lambda values: [i for i in range(len(values)) if values[i] > 1e-4],
    "damping": lambda values, evecs, gammas, lambdas: torch.full_like(values, 0.1),
}
for step in range(5):
    computation = DirectionalDampedNewtonComputation()
    hook = computation.get_extension_hook([group])  # anew for each backward pass
    model.zero_grad()
    loss = loss_func(model(X), y)
    with backpack(*computation.get_extensions(), extension_hook=hook):
        loss.backward()
    print(f"step {step}: loss {loss.item():.4f}")
    with torch.no_grad():
        for parameter, update in zip(group["params"], computation.get_result(group), strict=True):
            parameter += update
