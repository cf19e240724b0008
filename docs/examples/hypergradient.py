"""How does a validation loss change with the strength of an L2 penalty? Without training again."""

import torch
from torch import nn

import vivit

torch.manual_seed(0)
X, X_val = torch.randn(40, 5).double(), torch.randn(100, 5).double()
truth = torch.randn(5, 3).double()
y, y_val = ((x @ truth + torch.randn(len(x), 3)).argmax(1) for x in (X, X_val))
model, loss_func = nn.Linear(5, 3).double(), nn.CrossEntropyLoss()


def train(l2):
    """Minimise the mean loss plus ``l2 / 2 |theta|^2``, and give the validation loss."""
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=500,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def objective():
        optimizer.zero_grad()
        penalty = l2 / 2 * sum(p.square().sum() for p in model.parameters())
        value = loss_func(model(X), y) + penalty
        value.backward()
        return value

    optimizer.step(objective)
    return loss_func(model(X_val), y_val)


# Where the gradient of the objective vanishes, (H + l2 I) dtheta + theta dl2 = 0 (implicit
# function theorem), so that the validation loss changes by -g_val^T (H + l2 I)^-1 theta per dl2.
# Of a linear model, the GGN is the Hessian H; of others, it takes its place.
errors = []
for l2 in (0.01, 0.1, 1.0):
    loss = train(l2)
    gradients = torch.autograd.grad(loss, [*model.parameters()])
    ggn = vivit.GGN(model, loss_func, (X, y))
    g_val = dict(zip(ggn.parameter_names, gradients, strict=True))
    theta = {name: p.detach() for name, p in model.named_parameters()}
    hypergradient = -float(ggn.flatten(ggn.solve(g_val, damping=l2)) @ ggn.flatten(theta))

    h = 1e-3 * l2
    difference = (train(l2 + h) - train(l2 - h)).item() / (2 * h)
    errors.append(abs(hypergradient / difference - 1))
    print(
        f"l2 {l2}: validation loss {loss.item():.4f}, its derivative {hypergradient:.5f}, "
        f"by finite differences {difference:.5f}"
    )
