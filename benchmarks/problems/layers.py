"""Layers that several networks are made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad


class Residual(nn.Module):
    """``main(x) + shortcut(x)``.

    Attributes:
        main: The layers.
        shortcut: What goes past them.
    """

    def __init__(self, main: nn.Module, shortcut: nn.Module) -> None:
        """Join two branches."""
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both branches."""
        return self.main(x) + self.shortcut(x)


class PadChannels(nn.Module):
    """Zero channels before and after those of images ``[N, channels, height, width]``.

    Attributes:
        before: How many to put first.
        after: How many to append.
    """

    def __init__(self, before: int, after: int) -> None:
        """Choose the numbers of channels."""
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``[N, before + channels + after, height, width]``."""
        return pad(x, (0, 0, 0, 0, self.before, self.after))


def conv_relu(
    channels_in: int, channels_out: int, kernel: int, padding: int = 0, stride: int = 1
) -> list[nn.Module]:
    """A convolution and a ReLU."""
    return [nn.Conv2d(channels_in, channels_out, kernel, stride, padding), nn.ReLU()]
