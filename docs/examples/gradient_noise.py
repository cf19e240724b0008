"""The GGN beside the empirical Fisher, the noise of mini-batches and the kernel of a network."""

import torch
from torch import nn

import vivit

torch.manual_seed(0)
X = torch.randn(256, 10)
y = (X[:, :3] + 0.3 * torch.randn(256, 3)).argmax(dim=1)
model = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 3))
loss_func = nn.CrossEntropyLoss()

optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
for step in range(101):
    if step % 50 == 0:
        ggn = vivit.GGN(model, loss_func, (X, y))
        fisher = vivit.EmpiricalFisher(model, loss_func, (X, y))
        noise = vivit.EmpiricalFisher(model, loss_func, (X, y), centered=True)
        gradient = fisher.flatten(fisher.gradient())
        # McCandlish, Kaplan, Amodei, "An empirical model of large-batch training", 2018: batches
        # much larger than this number reduce the noise no more than they need to.
        variance = sum(noise.traces().values())
        print(
            f"step {step:3d}: largest eigenvalues of the GGN {ggn.eigvalsh()[-1]:.3f}, of the "
            f"empirical Fisher {fisher.eigvalsh()[-1]:.3f}, of the covariance "
            f"{noise.eigvalsh()[-1]:.3f}; noise scale {variance / gradient.square().sum():.0f}"
        )
    optimizer.zero_grad()
    loss_func(model(X), y).backward()
    optimizer.step()

kernel = vivit.ntk(model, X[:32], outputs="trace")
print("condition of the kernel of 32 samples:", float(torch.linalg.cond(kernel)))
between = vivit.ntk(model, X[:32], X[32:40])
print("kernel between two sets:", list(between.shape))
