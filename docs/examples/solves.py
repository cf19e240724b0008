"""Damped systems with the GGN: steps along all directions, many dampings, a preconditioner."""

import numpy as np
import torch
from scipy.sparse.linalg import aslinearoperator, cg
from torch import nn

import vivit

torch.manual_seed(0)
X, y = torch.randn(64, 10), torch.randint(4, (64,))
model = nn.Sequential(nn.Linear(10, 30), nn.ReLU(), nn.Linear(30, 4)).double()
ggn = vivit.GGN(model, nn.CrossEntropyLoss(), (X.double(), y))

# The Newton step with the flat directions, and how steeply the loss falls along it.
step = ggn.newton_step(damping=0.1, flat=True)
slope = sum((ggn.gradient()[name] * x).sum() for name, x in step.items())
print(f"slope along the step: {slope:.4f}")

# Many dampings share one decomposition and all runs through the data.
dampings = torch.logspace(-3, 1, 20)
gradient = ggn.flatten(ggn.gradient())
print("lengths of steps:", ggn.solve(gradient, dampings).norm(dim=1)[[0, -1]])
print("directions that count:", ggn.effective_dimension(dampings)[[0, -1]])

# The inverse of a quarter of the samples as a preconditioner of a system with all of them.
quarter = vivit.GGN(model, nn.CrossEntropyLoss(), (X.double(), y), subset=range(16))
preconditioner = quarter.inverse_operator(0.1, check=False).to_scipy()
damped = ggn.to_scipy() + 0.1 * aslinearoperator(np.eye(ggn.shape[0]))
solution, failed = cg(damped, gradient.numpy(), M=preconditioner)

# The same without scipy, and how exact it is.
exact = ggn.inverse_operator(0.1)
error = (exact @ gradient - torch.from_numpy(solution)).norm()
print(f"conjugate gradients: {error:.1e} off, the exact solve: residual {exact.residual[0]:.1e}")
