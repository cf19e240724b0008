"""The shared table of cases: every network, loss and batch that the tests run on."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from parameter_uses import (
    Autoencoder,
    Branches,
    ClassToken,
    Cosine,
    Expanded,
    Heads,
    Hypernetwork,
    Indexed,
    Prototypes,
    RadialBasis,
    RelativePositions,
    StateSpace,
    Vectors,
)
from torch import Tensor, nn


class Residual(nn.Module):
    """A residual network with functional adds and activations."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.left = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(self.left(x) + self.skip(x) + x)
        return self.head(x.mean((2, 3)))


class UsedTwice(nn.Module):
    """A linear module that is applied twice, with shared weight and bias."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


class ConvolutionTwice(nn.Module):
    """A convolution that is applied to inputs of two sizes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.max_pool2d(torch.tanh(self.conv(x)), 2)
        return self.head(torch.tanh(self.conv(x)).flatten(1))


class TiedWeight(nn.Module):
    """One weight in two modules, of which only one adds its bias."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class SharedBias(nn.Module):
    """One bias in two modules with weights of their own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.bias = self.first.bias
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class OutsideLayers(nn.Module):
    """Parameters that belong to no known layer, and one that is used in two ways."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4) + 0.5)
        self.shift = nn.Parameter(torch.rand(()))
        self.linear = nn.Linear(5, 4)
        self.norm = nn.LayerNorm(4)
        self.both = nn.Parameter(torch.randn(3, 4))
        self.unused = nn.Parameter(torch.randn(2))

    def forward(self, x):
        x = self.norm(self.linear(x)) * self.scale + self.shift
        return F.linear(torch.tanh(x), self.both) + self.both.square().sum(1)


class Sequence(nn.Module):
    """Linear layers on sequences; ``order`` says which axes come first inside."""

    def __init__(self, order: str, bias: bool = True):
        super().__init__()
        self.order = order
        self.embed = nn.Linear(4, 3, bias=bias)
        self.mix = nn.Linear(3, 3, bias=bias)
        self.head = nn.Linear(3, 2)

    def forward(self, x):  # [n, t, i]
        if self.order == "position first, contiguous":
            x = x.transpose(0, 1).contiguous()
        elif self.order == "position first, a view":
            x = x.transpose(0, 1)
        x = torch.tanh(self.mix(torch.tanh(self.embed(x))))
        if self.order.startswith("position first"):
            x = x.transpose(0, 1)
        return self.head(x[:, 0] + x.square().mean(1))


class SamplesInTheMiddle(nn.Module):
    """Rows ordered (position, sample, position): no layout that the rules know."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 2)
        self.head = nn.Linear(2, 2)

    def forward(self, x):  # [n, t, u, i]
        x = torch.tanh(self.embed(x.transpose(0, 1).contiguous()))
        return self.head(x.mean((0, 2)))


class Attention(nn.Module):
    """Self-attention, whose output projection is never called as a module."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    """An LSTM, which autograd sees as one product per weight and time step."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 2, batch_first=True)
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Functional(nn.Module):
    """Weights that are used through functional calls, one of them by a convolution."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, 2, 3) / 2)
        self.matrix = nn.Parameter(torch.randn(2, 12) / 3)
        self.product = nn.Parameter(torch.randn(2, 2))
        self.single, self.transposed = (
            nn.Parameter(torch.randn(1)),
            nn.Parameter(torch.randn(2, 2)),
        )

    def forward(self, x):
        x = torch.tanh(F.conv1d(x, self.kernel, stride=2, padding=1))
        x = torch.tanh(F.linear(x.flatten(1), self.matrix, self.single) @ self.product)
        return x @ self.transposed.T


class Latent(nn.Module):
    """A parameter that is the input of the network, as in a deep image prior."""

    def __init__(self):
        super().__init__()
        self.latent = nn.Parameter(torch.randn(1, 2, 5, 5))
        self.first = nn.Conv2d(2, 2, 3)
        self.second = nn.Conv2d(2, 2, 1, bias=False)

    def forward(self, x):
        return self.second(torch.tanh(self.first(self.latent))) + 0 * x.sum()


class Constant(nn.Module):
    """Its output is a parameter."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.randn(3, 2))

    def forward(self, x):
        return self.p


class Permuted(nn.Module):
    """Works on the samples in another order, and puts them back."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        order = torch.tensor([2, 1, 0, *range(3, len(x))])
        return self.head(torch.tanh(self.first(x[order]))[order])


class Lookup(nn.Module):
    """Samples share the rows of a projected table, which has as many rows as there are samples."""

    def __init__(self):
        super().__init__()
        self.table, self.project = nn.Parameter(torch.randn(4, 3)), nn.Linear(3, 2)

    def forward(self, x):
        return torch.tanh(self.project(self.table))[torch.tensor([0, 1, 0, 1])] * x


class Broadcasts(nn.Module):
    """Sums and products with factors, in place, and of other shapes than a bias has."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.scaled, self.added = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
        self.swapped = nn.Parameter(torch.randn(4))
        self.column, self.single = nn.Parameter(torch.randn(5, 1)), nn.Parameter(torch.randn(1))
        self.matrix = nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        h = self.linear(x).add_(self.added)
        h = torch.tanh(torch.add(h, self.scaled, alpha=2) + self.column + self.single)
        h = torch.tanh(torch.add(self.swapped, h, alpha=-1))
        return h + torch.addmm(self.scaled, x, self.matrix.t().t(), beta=0.5, alpha=2)


class TwoOrders(nn.Module):
    """One module, used sample first and position first."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):  # [n, t, i]
        h = torch.tanh(self.inner(x))
        h = torch.tanh(self.inner(h.transpose(0, 1).contiguous())).transpose(0, 1)
        return self.head(h.square().mean(1))


class Chunked(nn.Module):
    """Runs in pieces of two samples."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        pieces = [torch.tanh(self.first(piece)) for piece in x.split(2)]
        return self.head(torch.cat(pieces))


class Tokens(nn.Module):
    """A table of token vectors with padding, positions added, and a pooled output."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 3, padding_idx=2)
        self.positions = nn.Parameter(torch.randn(4, 3))
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        tokens = (x.abs() * 3).long() % 6
        return self.head(torch.tanh(self.table(tokens) + self.positions).mean(1))


class Transformer(nn.Module):
    """A small encoder classifier; its output weights are those of the token table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.encoder = nn.TransformerEncoderLayer(
            4, 2, 6, dropout=0.0, activation="gelu", batch_first=True
        )
        self.head = nn.Linear(4, 5)
        self.head.weight = self.table.weight

    def forward(self, x):
        tokens = (x.abs() * 3).long() % 5
        return self.head(self.encoder(self.table(tokens)).mean(1))


class LowRank(nn.Module):
    """A frozen weight with a trained low-rank update, as adapters add it."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(5, 4).requires_grad_(False)
        self.down, self.up = nn.Linear(5, 2, bias=False), nn.Linear(2, 4, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.base(x) + 0.5 * self.up(self.down(x))))


class MergedAdapter(nn.Module):
    """A low-rank update that is added to the weight, which is trained as well."""

    def __init__(self):
        super().__init__()
        self.base, self.head = nn.Linear(5, 4), nn.Linear(4, 3)
        self.down, self.up = nn.Parameter(torch.randn(2, 5)), nn.Parameter(torch.randn(4, 2))

    def forward(self, x):
        weight = self.base.weight + 0.5 * self.up @ self.down
        return self.head(torch.tanh(F.linear(x, weight, self.base.bias)))


class CrossAttention(nn.Module):
    """Attention of a sequence to another: its packed weights are used in pieces."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        y = torch.tanh(x[:, :2])
        return self.head(self.attention(x, y, y, need_weights=False)[0].mean(1))


class LanguageModel(nn.Module):
    """A prediction of one of three words at every position, from this and those before."""

    def __init__(self):
        super().__init__()
        self.inputs, self.last = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x):  # [n, t, i]
        q, k, v = self.inputs(x).chunk(3, dim=2)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        weights = (q @ k.mT / 2).masked_fill(later, -torch.inf).softmax(2)
        return self.last(x + weights @ v).transpose(1, 2)


class SeparateProjections(nn.Module):
    """Attention of one layer for each of queries, keys and values, as most encoders write it.

    Its output does not depend on the bias of the keys, whose derivatives are rounding errors.
    """

    def __init__(self, mask: str):
        super().__init__()
        self.mask = mask
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(4, 3)

    def forward(self, x):  # [n, t, i]
        q, k, v = (
            layer(x).unflatten(2, (2, 2)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(2, 3) / 2**0.5
        length = x.shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool)
        if self.mask == "causal":
            allowed = allowed.tril()
        elif self.mask == "padded":  # a last token that does not count, in some samples
            used = torch.ones(x.shape[:2], dtype=torch.bool)
            used[:, -1] = x[:, 0, 0] > 0
            allowed = used[:, None, None, :]
        weights = scores.masked_fill(~allowed, -torch.inf).softmax(3)
        return self.head(torch.tanh((weights @ v).transpose(1, 2).flatten(2)).mean(1))


class ScaleInvariant(nn.Module):
    """Layers whose output does not change with the norm of a weight, nor all of it with a bias."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.single = nn.utils.parametrizations.weight_norm(nn.Linear(1, 3))
        self.classes = nn.Parameter(torch.randn(3, 3))

    def forward(self, x):
        h = F.rms_norm(self.first(x), (3,))
        h = torch.tanh(self.single(h[:, :1]) + h)
        return 4 * F.normalize(h, dim=1) @ F.normalize(self.classes, dim=1).T


class Bags(nn.Module):
    """Sums, means and maxima of token vectors, with padding, and bags of several lengths."""

    def __init__(self):
        super().__init__()
        self.sums = nn.EmbeddingBag(6, 2, mode="sum", padding_idx=1)
        self.means = nn.EmbeddingBag(6, 2, mode="mean", padding_idx=-1)
        self.largest = nn.EmbeddingBag(6, 2, mode="max")
        self.head = nn.Linear(6, 3)

    def forward(self, x):  # [n, t]
        tokens = (x.abs() * 3).long() % 6
        sizes = 1 + tokens[:, 0] % 3
        kept = torch.arange(x.shape[1]) < sizes[:, None]
        starts = sizes.cumsum(0) - sizes
        bags = [
            self.sums(tokens, per_sample_weights=x),
            self.means(tokens),
            self.largest(tokens[kept], starts),
        ]
        return self.head(torch.tanh(torch.cat(bags, dim=1)))


class Scalar(nn.Module):
    """One output per sample without an axis of its own, shape [N]."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, x):
        return self.layers(x).squeeze(1)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))


def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2, groups=2),
        nn.Tanh(),
        nn.Conv1d(4, 2, 3, bias=False, padding="same"),
        nn.Flatten(),
        nn.Linear(10, 3),
    )


def conv2d() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        nn.MaxPool2d(2),
        nn.ELU(inplace=True),
        nn.Conv2d(6, 6, 1, groups=6),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


def conv3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 2, (2, 1, 2), stride=(1, 2, 1), padding=(1, 0, 0)),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(48, 2),
    )


def normalised() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    for x in torch.randn(3, 8, 2, 6, 6):
        net(x)
    return net.eval()


def norms() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 4, 3),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.InstanceNorm1d(4, affine=True),
        nn.LayerNorm((4, 5)),
        nn.ELU(),
        nn.RMSNorm(5),
        nn.Flatten(),
        nn.LayerNorm(20),
        nn.Linear(20, 3),
    )


def norms_behind_biases() -> nn.Module:
    """Norms that take away what a bias before them adds."""
    return nn.Sequential(
        nn.Conv1d(3, 4, 3),
        nn.GroupNorm(4, 4),
        nn.Tanh(),
        nn.Conv1d(4, 4, 1),
        nn.InstanceNorm1d(4),
        nn.Tanh(),
        nn.Conv1d(4, 4, 2, groups=2),
        nn.GroupNorm(1, 4, affine=False),
        nn.Flatten(),
        nn.Linear(16, 4),
        nn.LayerNorm(4),
        nn.Linear(4, 4),
        nn.RMSNorm(4),
        nn.Linear(4, 3),
    )


def transposed2d() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(2, 4, (2, 3), (2, 3), (1, 1), (1, 2), groups=2, dilation=(1, 2)),
        nn.Tanh(),
        nn.ConvTranspose2d(4, 2, 2, bias=False),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def transposed3d() -> nn.Module:
    return nn.Sequential(nn.ConvTranspose3d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(54, 2))


def transposed() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose1d(2, 3, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(27, 2)
    )


def weight_normed() -> nn.Module:
    first = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    return nn.Sequential(first, nn.Tanh(), nn.Linear(3, 3))


def spectral_normed() -> nn.Module:
    first = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
    return nn.Sequential(first, nn.Tanh(), nn.Linear(3, 3)).eval()


def prelu() -> nn.Module:
    return nn.Sequential(nn.PReLU(2), nn.Flatten(), nn.Linear(10, 4), nn.PReLU(), nn.Linear(4, 3))


def frozen() -> nn.Module:
    net = mlp()
    net[0].weight.requires_grad_(False)
    net[2].bias.requires_grad_(False)
    return net


def frames() -> nn.Module:
    """A convolution on all frames of all samples at once, rows ordered (sample, frame)."""
    return nn.Sequential(
        nn.Flatten(0, 1),
        nn.Conv2d(1, 2, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Unflatten(0, (-1, 2)),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


@dataclass(frozen=True)
class Case:
    """A network, a loss and a batch.

    ``generic`` lists the parameters that the generic rule is expected to serve.
    """

    name: str
    network: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    loss_func: nn.Module = field(default_factory=nn.CrossEntropyLoss)
    generic: tuple[str, ...] = ()

    def make(self, dtype=torch.float64) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.network().to(dtype)
            x = torch.randn(self.input_shape, dtype=dtype)
            with torch.no_grad():
                f = model(x)
            if isinstance(self.loss_func, nn.CrossEntropyLoss):
                y = torch.randint(f.shape[1], (len(f), *f.shape[2:]))
            else:
                y = torch.randn_like(f)
        return model, self.loss_func, x, y


CE_SUM, MSE, MSE_SUM = (
    nn.CrossEntropyLoss(reduction="sum"),
    nn.MSELoss(),
    nn.MSELoss(reduction="sum"),
)

CASES = [
    Case("mlp", mlp, (6, 5)),
    Case("mlp, sum", mlp, (6, 5), CE_SUM),
    Case("mlp, mse", mlp, (6, 5), MSE),
    Case("mlp, mse sum", mlp, (6, 5), MSE_SUM),
    Case("mlp, one sample", mlp, (1, 5)),
    Case("mlp, more columns than parameters", lambda: nn.Linear(1, 2), (9, 1), MSE),
    Case("scalar output", Scalar, (5, 3), MSE),
    Case("image output", lambda: nn.Conv2d(1, 2, 3), (3, 1, 4, 4), MSE),
    Case("segmentation", lambda: nn.Conv2d(1, 3, 3), (3, 1, 4, 5)),
    Case("language model", LanguageModel, (3, 4, 4)),
    Case("language model, sum", LanguageModel, (3, 4, 4), CE_SUM),
    Case("conv1d", conv1d, (4, 2, 9)),
    Case("conv2d", conv2d, (4, 2, 6, 7)),
    Case("conv2d, mse sum", conv2d, (3, 2, 6, 7), MSE_SUM),
    Case("conv3d", conv3d, (3, 1, 3, 4, 4)),
    Case("residual", Residual, (4, 2, 4, 4)),
    Case("residual, mse", Residual, (4, 2, 4, 4), MSE),
    Case("module used twice", UsedTwice, (5, 4)),
    Case("convolution used twice", ConvolutionTwice, (3, 2, 4, 4)),
    Case("tied weight", TiedWeight, (5, 4)),
    Case("shared bias", SharedBias, (5, 4)),
    Case("frozen", frozen, (6, 5)),
    Case("functional", Functional, (4, 2, 8), MSE),
    Case("sequence", lambda: Sequence("sample first"), (4, 3, 4)),
    Case("sequence, no bias", lambda: Sequence("sample first", bias=False), (4, 3, 4)),
    Case("positions first", lambda: Sequence("position first, contiguous"), (4, 3, 4)),
    Case("positions first, as many", lambda: Sequence("position first, contiguous"), (4, 4, 4)),
    Case("positions first, a view", lambda: Sequence("position first, a view"), (4, 3, 4)),
    Case(
        "samples in the middle",
        SamplesInTheMiddle,
        (4, 3, 2, 3),
        generic=("embed.weight", "embed.bias"),
    ),
    Case("frames", frames, (3, 2, 1, 4, 4)),
    Case("outside layers", OutsideLayers, (5, 5)),
    Case("batch norm, eval", normalised, (4, 2, 6, 6)),
    Case("norms", norms, (4, 3, 7)),
    Case("transposed convolution", transposed, (4, 2, 4)),
    Case("transposed convolution, 2d", transposed2d, (3, 2, 3, 2)),
    Case("transposed convolution, 3d", transposed3d, (3, 1, 2, 2, 2)),
    Case("tokens", Tokens, (5, 4)),
    Case("transformer", Transformer, (4, 3)),
    Case("cross-attention", CrossAttention, (3, 4, 4)),
    Case("merged adapter", MergedAdapter, (5, 5)),
    Case("spectral norm", spectral_normed, (5, 4)),
    Case("prelu", prelu, (3, 2, 5)),
    Case("low rank", LowRank, (5, 5)),
    Case("weight norm", weight_normed, (5, 4)),
    Case("latent", Latent, (1, 1), MSE),
    Case("output is a parameter", Constant, (3, 1), MSE, generic=("p",)),
    Case("permuted", Permuted, (5, 3), generic=("first.bias", "first.weight")),
    Case(
        "lookup",
        Lookup,
        (4, 2),
        MSE,
        generic=("project.bias", "project.weight", "table"),
    ),
    Case(
        "broadcasts",
        Broadcasts,
        (5, 3),
        generic=("column", "matrix"),
    ),
    Case("two orders", TwoOrders, (4, 3, 3)),
    Case("chunked", Chunked, (5, 3), generic=("first.bias", "first.weight")),
    Case("forty samples", mlp, (40, 5)),
    Case("attention", Attention, (3, 4, 4)),
    Case("lstm", Recurrent, (3, 4, 3)),
    Case("separate projections", lambda: SeparateProjections("none"), (3, 4, 4)),
    Case("separate projections, causal", lambda: SeparateProjections("causal"), (3, 4, 4)),
    Case("separate projections, padded", lambda: SeparateProjections("padded"), (4, 4, 4)),
    Case("norms behind biases", norms_behind_biases, (4, 3, 7)),
    Case("scale-invariant", ScaleInvariant, (5, 4)),
    Case("bags", Bags, (5, 4)),
    Case("class token", ClassToken, (3, 1, 4, 4)),
    Case("expanded", Expanded, (3, 4, 2)),
    Case("expanded, one sample", Expanded, (1, 4, 2)),
    Case("heads", Heads, (4, 2, 3), MSE),
    Case("heads, one sample", Heads, (1, 2, 3), MSE),
    Case("heads, as many", Heads, (2, 2, 3), MSE),
    Case("vectors", Vectors, (5, 4), MSE),
    Case("autoencoder", Autoencoder, (5, 4), MSE),
    Case("cosine classifier", Cosine, (5, 4)),
    Case("radial basis functions", RadialBasis, (5, 3)),
    Case("state space", StateSpace, (5, 3, 2)),
    Case("hypernetwork", Hypernetwork, (5, 4)),
    Case("indexed", Indexed, (5, 4)),
    Case("relative positions", RelativePositions, (5, 3)),
    Case("prototypes", Prototypes, (5, 4), generic=("classes",)),
    Case("branches", Branches, (5, 4), generic=("classes",)),
]
