"""Leading eigenvectors of the GGN, during one backward pass of BackPACK."""

import torch
from backpack import backpack, extend
from torch import nn

from vivit import EighComputation

torch.manual_seed(0)
X, y = torch.randn(32, 1, 12, 12), torch.randint(4, (32,))
model = extend(
    nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(150, 4))
)
loss_func = extend(nn.CrossEntropyLoss())


def leading(values: torch.Tensor) -> list[int]:
    """Of the eigenvalues, ascending, the indices of the three largest."""
    return list(range(len(values) - 3, len(values)))


group = {"params": list(model.parameters()), "criterion": leading}
computation = EighComputation()
hook = computation.get_extension_hook([group])
with backpack(computation.get_extension(), extension_hook=hook):
    loss_func(model(X), y).backward()

values, vectors = computation.get_result(group)  # [3], and a [3, *shape] for each parameter
flat = torch.cat([v.flatten(start_dim=1) for v in vectors], dim=1)
print("eigenvalues:", values)
print("orthonormal up to", float((flat @ flat.T - torch.eye(3)).abs().max()))
