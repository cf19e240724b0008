"""docs/support.md is what the library does; run this file to write it anew."""

from pathlib import Path

import torch
from torch import nn

import vivit
from vivit.losses import SUPPORTED
from vivit.losses.known import LogLikelihood

PAGE = Path(__file__).resolve().parents[2] / "docs" / "support.md"
N, T, F = 3, 4, 6


def vectors():
    return torch.randn(N, F)


def sequences():
    return torch.randn(N, T, F)


def images(dimensions):
    return torch.randn(N, F, *[4] * dimensions)


def tokens():
    return torch.randint(5, (N, T))


class Attention(nn.MultiheadAttention):
    """Self-attention without its weights as a second output."""

    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


class First(nn.Module):
    """The first output of a module."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)[0]


class Times(nn.Module):
    """A parameter that is used directly."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(F)), nn.Parameter(torch.rand(F))

    def forward(self, x):
        return x * self.scale + self.shift


class Using(nn.Module):
    """A function of an input and parameters."""

    def __init__(self, function, **shapes):
        super().__init__()
        self.function = function
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.rand(shape)))

    def forward(self, x):
        return self.function(x, **dict(self.named_parameters()))


def with_token(x, token):
    return torch.cat([token.expand(len(x), -1, -1), x], dim=1).cumsum(1)


def with_repeated(x, prompts):
    return torch.cat([prompts.repeat(len(x), 1, 1), x], dim=1).cumsum(1)


def with_positions(x, positions):
    return torch.tanh(x + positions[:, : x.shape[1]])


def from_first_state(x, first):
    return x.cumsum(1) * first.expand(len(x), 1, F)


def on_heads(x, weight):
    return torch.einsum("nthi,hio->ntho", x.unflatten(2, (2, -1)), weight)


def by_bmm(x, weight, bias):
    return torch.baddbmm(bias, x.unflatten(1, (2, -1)).transpose(0, 1), weight).transpose(0, 1)


def there_and_back(x, weight):
    return torch.tanh(x @ weight.T) @ weight


def by_angle(x, weight, temperature):
    x, weight = nn.functional.normalize(x), nn.functional.normalize(weight)
    return x @ weight.T / temperature


def by_distance(x, centres, widths):
    return (-(x[:, None] - centres).square().sum(2) / widths).exp()


def recurrence(x, matrix, step):
    transition, state = torch.linalg.matrix_exp(matrix * step.exp()), x[:, 0]
    for t in range(1, T):
        state = torch.tanh(state @ transition.T + x[:, t])
    return state


def hyper(x, code, maker):
    return x @ (maker @ code).reshape(F, 2)


def masked(x, table, filled):
    return torch.where(x > 0, table, x) + filled.masked_fill(x > 1, 0.0)


def logaddexp(x, p):
    return torch.logaddexp(x, p)


weight_norm = nn.utils.parametrizations.weight_norm
spectral_norm = nn.utils.parametrizations.spectral_norm
LAYERS = {
    "Linear, on vectors": (nn.Linear(F, 2), vectors),
    "Linear, on sequences": (nn.Linear(F, 2), sequences),
    **{f"Conv{d}d": (getattr(nn, f"Conv{d}d")(F, 2, 2), lambda d=d: images(d)) for d in (1, 2, 3)},
    **{
        f"ConvTranspose{d}d": (getattr(nn, f"ConvTranspose{d}d")(F, 2, 2), lambda d=d: images(d))
        for d in (1, 2, 3)
    },
    "BatchNorm, in evaluation mode": (nn.BatchNorm2d(F).eval(), lambda: images(2)),
    "LayerNorm": (nn.LayerNorm(F), sequences),
    "GroupNorm": (nn.GroupNorm(2, F), lambda: images(2)),
    "InstanceNorm": (nn.InstanceNorm2d(F, affine=True), lambda: images(2)),
    "RMSNorm": (nn.RMSNorm(F), sequences),
    "Embedding": (nn.Embedding(5, F), tokens),
    "EmbeddingBag": (nn.EmbeddingBag(5, F), tokens),
    "EmbeddingBag, bags of several lengths": (
        Using(
            lambda x, weight: nn.functional.embedding_bag(
                x.flatten()[3:], weight, torch.arange(N) * T
            ),
            weight=(5, F),
        ),
        tokens,
    ),
    "Bilinear": (
        Using(
            lambda x, weight, bias: nn.functional.bilinear(x, x.tanh(), weight, bias),
            weight=(2, F, F),
            bias=2,
        ),
        vectors,
    ),
    "MultiheadAttention": (Attention(F, 2, batch_first=True), sequences),
    "TransformerEncoderLayer": (
        nn.TransformerEncoderLayer(F, 2, 8, dropout=0.0, batch_first=True),
        sequences,
    ),
    "RNN": (First(nn.RNN(F, 2, batch_first=True)), sequences),
    "LSTM": (First(nn.LSTM(F, 2, batch_first=True)), sequences),
    "GRU": (First(nn.GRU(F, 2, batch_first=True)), sequences),
    "PReLU": (nn.PReLU(F), lambda: images(2)),
    "weight_norm": (weight_norm(nn.Linear(F, 2)), vectors),
    "spectral_norm": (spectral_norm(nn.Linear(F, 2)).eval(), vectors),
    "parameters used directly (`+`, `*`)": (Times(), vectors),
    "parameters that are subtracted, and divided by": (
        Using(lambda x, shift, scale: (x - shift) / scale, shift=F, scale=()),
        vectors,
    ),
    "class token (`expand`)": (Using(with_token, token=(1, 1, F)), sequences),
    "prompts (`repeat`)": (Using(with_repeated, prompts=(2, F)), sequences),
    "positions that are cut off": (Using(with_positions, positions=(1, 9, F)), sequences),
    "first state (`expand`)": (Using(from_first_state, first=(1, 1, F)), sequences),
    "weights over heads (`einsum`)": (Using(on_heads, weight=(2, 3, 2)), sequences),
    "weights over heads (`bmm`, `baddbmm`)": (
        Using(by_bmm, weight=(2, 3, 2), bias=(2, 1, 2)),
        vectors,
    ),
    "products with a vector (`x @ t`)": (Using(lambda x, t: x @ t, t=F), vectors),
    "products from the left (`W @ x.T`)": (Using(lambda x, w: (w @ x.T).T, w=(2, F)), vectors),
    "a weight and its transpose": (Using(there_and_back, weight=(2, F)), vectors),
    "normalised weight, and temperature": (
        Using(by_angle, weight=(2, F), temperature=()),
        vectors,
    ),
    "centres and widths": (Using(by_distance, centres=(2, F), widths=2), vectors),
    "matrix of a state space": (Using(recurrence, matrix=(F, F), step=()), sequences),
    "code of a hypernetwork": (Using(hyper, code=2, maker=(2 * F, 2)), vectors),
    "table that is indexed (`table[i]`)": (Using(lambda i, table: table[i], table=(5, F)), tokens),
    "entries that a mask chooses (`where`, `masked_fill`)": (
        Using(masked, table=F, filled=F),
        vectors,
    ),
    "any other operation, as `logaddexp`": (Using(logaddexp, p=F), vectors),
}


def rules(model, make_input):
    """Names of the parameters, by whether the generic rule serves them."""
    x = make_input()
    y = torch.zeros_like(model(x))
    linearization = next(vivit.GGN(model, nn.MSELoss(), (x, y))._curvature.each()).linearization
    names = dict(model.named_parameters())
    generic = set(linearization.layout.generic)
    return [n for n in names if n not in generic], [n for n in names if n in generic]


INTRODUCTION = """\
# What is supported

Any module with any `forward`, any tensor operations and any use of parameters is served
exactly, or refused with a reason. *Fast* parameters have a rule of their layer or operation,
which needs its inputs and one backward pass per column for all samples. *Generic* ones are as
exact, but slower. If the model can be run on each sample as if it were alone (without random
numbers, branches on data and the like), one vector-Jacobian product still gives a column of
every sample. Else there is one per sample and column, with the graph of a single sample or, as
a last resort, with that of the batch: a warning tells if these are many.
`python tests/vivit/test_support.py` writes this page; a test compares it with what is done.

## Layers

| layer | fast | generic |
| --- | --- | --- |
"""

ABOUT_LAYERS = """
Tied weights, modules that are used several times, functional calls, frozen parameters
and in-place activations need nothing special. Parameters of which a weight is made
(parametrizations, merged adapters) are fast, too: the columns of the weight are pulled
back through the function that makes it. A parameter that is expanded or repeated for all samples
is fast, whatever is done with it then. So are weights that are used in different ways
(a token table that is also the output layer), whose columns add up. Refused: models
that mix samples, such as BatchNorm in training mode, without `mixing="allow"`; and reentrant
activation checkpointing (`use_reentrant=True`). How models are called is in
[Your model](models.md).

## Losses

| loss | loss Hessian |
| --- | --- |
"""

ABOUT_LOSSES = """\
| any callable `(output, target) -> scalar`, convex in the output | by autograd |

These losses are known under their functional names, too (`cross_entropy`, `mse_loss`,
`binary_cross_entropy_with_logits`, `nll_loss`), and as `functools.partial` of them.
Refused: losses that are linear in the output, as `L1Loss` or `KLDivLoss` on
log-probabilities, whose GGN is zero. `vivit.EmpiricalFisher` takes `L1Loss`, too.
"""

OPTIONS = {
    nn.CrossEntropyLoss: "classes or probabilities, class weights, `ignore_index`, label "
    "smoothing, extra dimensions; rank C - 1 at each position",
    nn.MSELoss: "outputs of any shape; a multiple of the identity",
    LogLikelihood: "classes, class weights, `ignore_index`, extra dimensions, on "
    "normalised log-probabilities; what cross-entropy gives",
    nn.BCEWithLogitsLoss: "outputs of any shape, `weight`, `pos_weight`; diagonal",
}


def page() -> str:
    layers = losses = ""
    for name, (model, make_input) in LAYERS.items():
        torch.manual_seed(0)
        fast, generic = (", ".join(f"`{n}`" for n in names) for names in rules(model, make_input))
        layers += f"| {name} | {fast} | {generic} |\n"
    for loss, maker in SUPPORTED.items():
        name = "NLLLoss" if loss is LogLikelihood else loss.__name__
        losses += f"| `{name}`, mean or sum ({maker.__name__}) | {OPTIONS[loss]} |\n"
    return INTRODUCTION + layers + ABOUT_LAYERS + losses + ABOUT_LOSSES


def test_page_is_up_to_date():
    assert PAGE.read_text() == page()


if __name__ == "__main__":
    PAGE.write_text(page())
