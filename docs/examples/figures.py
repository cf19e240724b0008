"""Figures of a trained network's curvature: spectrum, noise, the loss along an eigenvector."""

import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.func import functional_call

import vivit
from vivit import plots  # extra plots

torch.manual_seed(0)
X = torch.randn(256, 10)
y = (X[:, :4] + 0.5 * torch.randn(256, 4)).argmax(dim=1)
model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 4))
loss_func = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
for _ in range(20):
    optimizer.zero_grad()
    loss_func(model(X), y).backward()
    optimizer.step()

ggn = vivit.GGN(model, loss_func, (X, y))
pairs, derivatives = ggn.eigh(k=20), ggn.directional_derivatives(k=20)
noise = [vivit.diagnostics.signal_to_noise(x) for x in (derivatives.gammas, derivatives.lambdas)]

# The loss along the steepest direction, and the quadratic that slope and curvature give.
direction = {name: vectors[-1] for name, vectors in pairs.vectors.items()}
slope = sum((x * direction[name]).sum() for name, x in ggn.gradient().items())
distances = torch.linspace(-2, 2, 41)
with torch.no_grad():
    moved = [{n: p + t * direction[n] for n, p in model.named_parameters()} for t in distances]
    losses = torch.stack([loss_func(functional_call(model, p, (X,)), y) for p in moved])
    here = loss_func(model(X), y)
quadratic = here + slope * distances + pairs.values[-1] / 2 * distances**2

with plots.styled():
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    plots.eigenvalues(ggn.eigvalsh(), axes[0])
    plots.signal_to_noise(pairs.values, *noise, axes[1])
    axes[1].legend()
    plots.landscape(distances, losses, axes[2], model=quadratic)
print(f"largest eigenvalue {pairs.values[-1]:.3f}, slope along its direction {slope:.1e}")
