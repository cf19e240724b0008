"""Which training samples hurt a test loss? Influence scores, against training without each."""

import torch
from torch import nn
from torch.func import functional_call, jvp

import vivit

torch.manual_seed(0)
X, X_test = torch.randn(100, 5).double(), torch.randn(100, 5).double()
truth = torch.randn(5, 3).double()
y, y_test = ((x @ truth + torch.randn(len(x), 3)).argmax(1) for x in (X, X_test))
model, loss_func, l2 = nn.Linear(5, 3).double(), nn.CrossEntropyLoss(), 0.1


def train(weights):
    """Minimise the weighted mean loss with an L2 penalty, which is convex."""
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=500,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def objective():
        optimizer.zero_grad()
        losses = nn.functional.cross_entropy(model(X), y, reduction="none")
        penalty = l2 / 2 * sum(p.square().sum() for p in model.parameters())
        value = weights @ losses / len(X) + penalty
        value.backward()
        return value

    optimizer.step(objective)


train(X.new_ones(len(X)))
parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
test_loss = loss_func(model(X_test), y_test)
gradients = torch.autograd.grad(test_loss, [*model.parameters()])
test_gradient = dict(zip(parameters, gradients, strict=True))

# Without sample n, the parameters move by about (H + l2 I)^-1 grad l_n / N, and the test loss by
# the inner product with its gradient. One solve serves all samples; of a linear model, the GGN is
# the Hessian.
ggn = vivit.GGN(model, loss_func, (X, y))
direction = ggn.solve(test_gradient, damping=l2)


def losses(p):
    """Of each training sample."""
    return nn.functional.cross_entropy(functional_call(model, p, (X,)), y, reduction="none")


_, slopes = jvp(losses, (parameters,), (direction,))  # grad l_n^T direction, of all n
influences = slopes / len(X)

changes = []
for n in range(len(X)):
    weights = X.new_ones(len(X))
    weights[n] = 0.0
    train(weights)
    changes.append((loss_func(model(X_test), y_test) - test_loss).item())

correlation = float(torch.corrcoef(torch.stack([influences, X.new_tensor(changes)]))[0, 1])
worst = int(influences.argmin())
print(f"correlation of scores and retraining: {correlation:.4f}")
print(
    f"without sample {worst}, the test loss changes by {changes[worst]:.5f}; "
    f"predicted: {float(influences[worst]):.5f}"
)
