"""What is known to keep samples apart does, whatever operations a model is made of."""

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from vivit.backprop.apart import rows_kept_apart

N = 3
"""Samples; other axes have that length, too, or multiples of it, by chance."""


def ones(size):
    return torch.ones(size, size, dtype=torch.float64)


def permuted(draw, y, axis):
    """Axes are counted from either end."""
    order = draw(st.permutations(range(y.ndim)))
    return y.permute([d - y.ndim * draw(st.booleans()) for d in order])


def reshaped(draw, y, axis):
    size = y.numel()
    shapes = [
        (a, b, size // (a * b))
        for a in range(1, size + 1)
        for b in range(1, size + 1)
        if size % (a * b) == 0
    ]
    return y.reshape(draw(st.sampled_from(shapes)))


STEPS = {
    "permuted": permuted,
    "reshaped": reshaped,
    "transposed": lambda draw, y, d: y.transpose(d, draw(st.integers(-y.ndim, y.ndim - 1))),
    "sum": lambda draw, y, d: y + y.sum(d, keepdim=True),
    "sum without its axis": lambda draw, y, d: y + y.sum(d).unsqueeze(d),
    "mean": lambda draw, y, d: y * y.mean((d,), keepdim=True),
    "largest": lambda draw, y, d: y - y.amax(d, keepdim=True),
    "softmax": lambda draw, y, d: y.softmax(d),
    "cumulative": lambda draw, y, d: y.cumsum(d),
    "chosen": lambda draw, y, d: y + y.select(d, 0).unsqueeze(d),
    "first": lambda draw, y, d: y + y.narrow(d, 0, 1),
    "flipped": lambda draw, y, d: y.flip(d),
    "rolled": lambda draw, y, d: y.roll(1, d),
    "stacked": lambda draw, y, d: torch.stack([*y.unbind(d)], d),
    "pieces": lambda draw, y, d: torch.cat([*reversed(y.split(1, d))], d),
    "with an axis": lambda draw, y, d: y.unsqueeze(d),
    "norm": lambda draw, y, d: y / (1 + y.norm(dim=d, keepdim=True)),
    "normalized": lambda draw, y, d: F.layer_norm(y, y.shape[d % y.ndim :]),
    "padded": lambda draw, y, d: F.pad(y, (1, 1) * (d % y.ndim + 1)),
    "product": lambda draw, y, d: torch.tanh(y @ ones(y.shape[-1])),
    "product from the left": lambda draw, y, d: ones(y.shape[-2]) @ y,
    "product with itself": lambda draw, y, d: y @ y.mT,
    "entrywise": lambda draw, y, d: torch.tanh(y) * y,
}


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(st.data(), st.sampled_from([(N, 2), (N, N), (N, 2, N), (N, N, N), (N, 4, 2)]))
def test_what_is_known_does_not_depend_on_others(data, shape):
    """However sizes agree by chance."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inner = y = torch.tanh(x.requires_grad_())
    for name in data.draw(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4)):
        assume(y.ndim > 1 or "product" not in name)
        axis = data.draw(st.integers(-y.ndim, y.ndim - 1))
        y = STEPS[name](data.draw, y, axis)
        assume(y.ndim <= 5)
        assume(y.numel() <= 200)
    assume(y.numel() % N == 0)
    output = y.reshape(N, -1)
    assume(inner.grad_fn in rows_kept_apart(output.grad_fn, N))
    for n in range(N):
        (gradient,) = torch.autograd.grad(output[n].square().sum(), x, retain_graph=True)
        assert not gradient[[m for m in range(N) if m != n]].any()
