"""Watching the curvature of a model while it trains: one line in the loop."""

import torch
from torch import nn

import vivit

torch.manual_seed(0)
X, y = torch.randn(512, 10), torch.randint(4, (512,))
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4))
loss_func = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

held_out = X[:64], y[:64]  # not trained on, and the same at each step
monitor = vivit.Monitor(model, loss_func, held_out, every=20, path="run.jsonl")
for step in range(100):
    index = torch.randint(64, len(X), (32,))
    optimizer.zero_grad()
    loss_func(model(X[index]), y[index]).backward()
    optimizer.step()
    seen = monitor(step, learning_rate=0.1)
    if seen:
        values = seen.quantities
        print(
            f"step {step}: loss {values['loss']:.3f}, "
            f"largest eigenvalue {values['eigenvalues'][0]:.2f}, "
            f"step size at most {values['step_bound']:.2f}"
        )
print(f"{monitor.seconds:.1f} s, {monitor.share:.0%} of the time")
# and then: python -m vivit.monitor run.jsonl --html
