"""Networks of the table of cases that use parameters outside of modules, in all sorts of ways."""

import torch
import torch.nn.functional as F
from torch import nn


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape) / 2)


class ClassToken(nn.Module):
    """A vision transformer in small: a class token, prompts, and positions that are cut off."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 2, stride=2)
        self.token, self.prompts = parameter(1, 1, 4), parameter(2, 4)
        self.positions = parameter(1, 9, 4)
        self.block = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = [self.token.expand(len(x), -1, -1), self.prompts.repeat(len(x), 1, 1), patches]
        hidden = torch.cat(tokens, dim=1)
        return self.head(self.block(hidden + self.positions[:, : hidden.shape[1]])[:, 0])


class Expanded(nn.Module):
    """Queries, positions with a batch of their own, and a first state, samples in the middle."""

    def __init__(self):
        super().__init__()
        self.first, self.queries = parameter(1, 1, 3), parameter(2, 1, 3)
        self.positions, self.shared = parameter(4, 1, 2), parameter(())
        self.rnn, self.head = nn.GRU(2, 3), nn.Linear(6, 3)

    def forward(self, x):  # [n, t, i]
        n, t, i = x.shape
        x = x.transpose(0, 1) + self.positions.expand(t, n, i)
        states, _ = self.rnn(x, self.first.expand(1, n, 3).contiguous())
        keys = states.permute(1, 2, 0)  # [n, 3, t]
        scores = torch.tanh(self.queries.transpose(0, 1).expand(n, -1, -1) @ keys)
        return self.head((scores @ keys.mT).flatten(1) + self.shared.expand(n, 1))


class Heads(nn.Module):
    """Weights over heads, by all functions that multiply several matrices."""

    def __init__(self):
        super().__init__()
        self.split, self.mix, self.spread = (parameter(2, 3, 3) for _ in range(3))
        self.batch, self.added, self.bias = (
            parameter(2, 3, 3),
            parameter(2, 3, 2),
            parameter(2, 1, 2),
        )
        self.left = parameter(2, 2, 2)

    def forward(self, x):  # [n, t, i]
        x = torch.tanh(torch.einsum("nti,hio->nhto", x, self.split))
        x = torch.tanh(x @ self.mix)
        x = torch.tanh(torch.einsum("nhti,hio->ntho", x, self.spread)).mean(1)  # [n, h, i]
        x = torch.tanh(torch.bmm(x.transpose(0, 1), self.batch))  # [h, n, i]
        x = torch.tanh(torch.baddbmm(self.bias, x, self.added))
        return torch.bmm(self.left, x.mT).sum(0).T


class Vectors(nn.Module):
    """Products with vectors, from the left, and of two inputs."""

    def __init__(self):
        super().__init__()
        self.vector, self.along = parameter(4), parameter(3)
        self.left, self.added, self.plus = parameter(3, 4), parameter(3, 3), parameter(3, 1)
        self.bilinear = nn.Bilinear(4, 3, 2)
        self.cubic = parameter(2, 4, 3)

    def forward(self, x):
        h = torch.tanh(self.left @ x.T)
        h = torch.tanh(torch.addmm(self.plus, self.added, h)).T
        gate = torch.tanh(x @ self.vector)[:, None] + (torch.stack([h, -h * h], 1) @ self.along)
        return gate * (self.bilinear(x, h) + torch.einsum("ni,oij,nj->no", x, self.cubic, h))


class Autoencoder(nn.Module):
    """One weight for both directions, in two ways."""

    def __init__(self):
        super().__init__()
        self.weight, self.other = parameter(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = torch.tanh(F.linear(torch.tanh(F.linear(x, self.weight)), self.weight.t()))
        x = torch.tanh(self.other(x))
        return x @ self.other.weight + F.linear(x, self.other.weight.t())


class Cosine(nn.Module):
    """A classifier by angles, with a temperature that is a logarithm, and one to divide by."""

    def __init__(self):
        super().__init__()
        self.embed, self.classes = nn.Linear(4, 3), parameter(3, 3)
        self.scale, self.temperature = parameter(()), nn.Parameter(torch.rand(1) + 0.5)

    def forward(self, x):
        x = F.normalize(torch.tanh(self.embed(x)), dim=1)
        return x @ F.normalize(self.classes, dim=1).T * self.scale.exp() / self.temperature


class RadialBasis(nn.Module):
    """Distances to centres, in units of widths; and parameters that are divided."""

    def __init__(self):
        super().__init__()
        self.centres, self.widths = parameter(4, 3), nn.Parameter(torch.rand(4) + 0.5)
        self.shift, self.parts = parameter(3), nn.Parameter(torch.rand(4) + 0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        distances = (x[:, None] - self.centres).square().sum(2)
        h = (-distances / self.widths).exp() + self.parts / (1 + distances)
        return torch.sub(self.head(h), self.shift, alpha=2)


class StateSpace(nn.Module):
    """A linear recurrence whose matrix is made continuous, and one by powers of its matrix."""

    def __init__(self):
        super().__init__()
        self.matrix, self.inputs = parameter(3, 3), parameter(3, 2)
        self.step, self.powers = parameter(()), parameter(2, 2)
        self.outputs = nn.Linear(3, 3)

    def forward(self, x):  # [n, t, i]
        kernel = [torch.linalg.matrix_power(self.powers, t) for t in range(x.shape[1])]
        x = torch.einsum("ntj,tij->nti", x, torch.stack(kernel))
        transition = torch.linalg.matrix_exp(self.matrix * self.step.exp())
        state = x.new_zeros(len(x), 3)
        for t in range(x.shape[1]):
            state = torch.tanh(state @ transition.T + x[:, t] @ self.inputs.T)
        return self.outputs(state)


class Hypernetwork(nn.Module):
    """A layer whose weight and bias are made from a code by another."""

    def __init__(self):
        super().__init__()
        self.code, self.maker, self.head = parameter(2), nn.Linear(2, 15), nn.Linear(3, 3)

    def forward(self, x):
        weight, bias = torch.tanh(self.maker(self.code)).split([12, 3])
        return self.head(torch.tanh(F.linear(x, weight.reshape(3, 4), bias)))


class Indexed(nn.Module):
    """Tables that are looked up by indices, from the end, for each position and for each head."""

    def __init__(self):
        super().__init__()
        self.classes, self.tokens, self.relative = (
            parameter(3, 4),
            parameter(5, 2, 2),
            parameter(7, 2),
        )
        self.head = nn.Linear(4, 3)

    def forward(self, x):  # [n, t]
        tokens = (x.abs() * 3).long() % 5
        distance = torch.arange(4)[:, None] - torch.arange(4) + 3
        h = torch.tanh(self.tokens[tokens]).movedim(2, 1)  # [n, h, t, i]
        h = (h @ h.mT + self.relative[distance].movedim(2, 0)).softmax(3) @ h
        h = torch.tanh(h.mean(2).flatten(1) + self.classes[-1 - tokens[:, 0] % 3])
        return self.head(h + self.classes[torch.arange(3) > 1])


class Prototypes(nn.Module):
    """Similarities by an operation that no rule knows."""

    def __init__(self):
        super().__init__()
        self.embed, self.classes = nn.Linear(4, 2), parameter(3, 2)

    def forward(self, x):
        return torch.logaddexp(torch.tanh(self.embed(x))[:, None], self.classes).sum(2)


class Branches(nn.Module):
    """The same, and what is computed depends on the data."""

    def __init__(self):
        super().__init__()
        self.embed, self.classes = nn.Linear(4, 2), parameter(3, 2)

    def forward(self, x):
        similar = [torch.logaddexp(one, self.classes).sum(1) for one in torch.tanh(self.embed(x))]
        return torch.stack([s if s.sum() > 2 else -2 * s for s in similar])


class RelativePositions(nn.Module):
    """Scores of pairs of positions from a table, before masks of each sample."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 2)
        self.register_buffer("distances", torch.arange(3)[:, None] - torch.arange(3) + 2)
        self.filled = nn.Parameter(torch.randn(3))
        self.start = nn.Parameter(torch.randn(3))
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        scores = self.table(self.distances).permute(2, 0, 1)[None]  # one table for all samples
        seen = x[:, None, None, :] > -1
        weights = torch.where(seen, scores, torch.full_like(scores, -9.0)).softmax(dim=-1)
        h = torch.einsum("nhts,ns->nt", weights, x)
        h = torch.where(x > 0, h, self.start) + self.filled.masked_fill(x > 1, 0.0)
        return self.head(torch.tanh(h))


class Once(torch.autograd.Function):
    """Twice its input, without a second derivative."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g
