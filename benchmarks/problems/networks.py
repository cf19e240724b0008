"""Architectures of the problems, with the published parameter counts."""

from __future__ import annotations

import itertools

import torch
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


def cifar10_resnet(blocks: int) -> nn.Sequential:
    """ResNet-(6n+2) for inputs ``3 x 32 x 32``: 464,154 parameters for n = 5, 853,018 for n = 9.

    He et al., "Deep residual learning for image recognition" (2016), section 4.2. Its number of
    parameters decides for shortcuts of kind A: every other pixel, padded by zero channels.

    Args:
        blocks: ``n``, residual blocks in each of the three stages.

    Returns:
        The network.
    """
    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for width in (16, 32, 64):
        for _ in range(blocks):
            layers += _residual_block(channels, width)
            channels = width
    return nn.Sequential(*layers, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10))


def _residual_block(channels_in: int, channels_out: int) -> list[nn.Module]:
    stride = channels_out // channels_in
    main = nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
    )
    shortcut: nn.Module = nn.Identity()
    if stride > 1:
        added = (channels_out - channels_in) // 2
        shortcut = nn.Sequential(nn.AvgPool2d(1, stride), PadChannels(added, added))
    return [Residual(main, shortcut), nn.ReLU()]


def cifar100_allcnnc() -> nn.Sequential:
    """All-CNN-C for inputs ``3 x 32 x 32`` and 100 classes: 1,387,108 parameters.

    Springenberg et al., "Striving for simplicity: the all convolutional net" (2015), with the
    "same" padding of TensorFlow.
    """
    return nn.Sequential(
        nn.Dropout(0.2),
        *_conv_relu(3, 96, 3, padding=1),
        *_conv_relu(96, 96, 3, padding=1),
        *_halving(96, 96),
        nn.Dropout(0.5),
        *_conv_relu(96, 192, 3, padding=1),
        *_conv_relu(192, 192, 3, padding=1),
        *_halving(192, 192),
        nn.Dropout(0.5),
        *_conv_relu(192, 192, 3),
        *_conv_relu(192, 192, 1),
        *_conv_relu(192, 100, 1),
        nn.AvgPool2d(6),
        nn.Flatten(),
    )


def _conv_relu(
    channels_in: int, channels_out: int, kernel: int, padding: int = 0, stride: int = 1
) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, kernel, stride, padding), nn.ReLU()]


def _halving(channels_in: int, channels_out: int) -> list[nn.Module]:
    # An even side is padded at its end only.
    return [nn.ZeroPad2d((0, 1, 0, 1)), *_conv_relu(channels_in, channels_out, 3, stride=2)]


def mlp_linear() -> nn.Sequential:
    """The MLP 1024-512-256-128-64-32-10 with ReLUs: 699,690 parameters."""
    sizes = (1024, 512, 256, 128, 64, 32, 10)
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cifar10_3c3d() -> nn.Sequential:
    """3C3D for inputs ``3 x 32 x 32``: 895,210 parameters."""
    return nn.Sequential(
        *_block_3c3d(3, 64, kernel=5, padding=0),
        *_block_3c3d(64, 96, kernel=3, padding=0),
        *_block_3c3d(96, 128, kernel=3, padding=1),
        nn.Flatten(),
        nn.Linear(1152, 512),
        nn.ReLU(),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )


def _block_3c3d(channels_in: int, channels_out: int, kernel: int, padding: int) -> list[nn.Module]:
    # Padding an even side on the right only, as "same" does here, is what ceil_mode computes.
    return [
        nn.Conv2d(channels_in, channels_out, kernel, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
    ]


def fmnist_2c2d() -> nn.Sequential:
    """2C2D for inputs ``1 x 28 x 28``: 3,274,634 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 1024),
        nn.ReLU(),
        nn.Linear(1024, 10),
    )


def digits_cnn() -> nn.Sequential:
    """A small convolutional network for inputs ``1 x 8 x 8``: 1,898 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def scaled_cnn(classes: int, width: int) -> nn.Sequential:
    """A CNN for inputs ``3 x 16 x 16`` whose output and width can be chosen.

    Args:
        classes: Outputs.
        width: Channels of the first convolution; the second has twice as many.

    Returns:
        Two convolutions with pooling, two linear layers.
    """
    return nn.Sequential(
        *_conv_relu(3, width, 3, padding=1),
        nn.MaxPool2d(2),
        *_conv_relu(width, 2 * width, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * width, 8 * width),
        nn.ReLU(),
        nn.Linear(8 * width, classes),
    )


def scaled_cnn_parameters(classes: int, width: int) -> int:
    """Number of parameters of `scaled_cnn`."""
    convolutions = 28 * width + (9 * width + 1) * 2 * width
    return convolutions + (32 * width + 1) * 8 * width + (8 * width + 1) * classes


def digits_mlp() -> nn.Sequential:
    """A small fully-connected network for inputs ``1 x 8 x 8``: 6,570 parameters."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
    )


def cifar100_vgg16() -> nn.Sequential:
    """VGG-16 for inputs ``3 x 32 x 32`` and 100 classes: 15,291,300 parameters.

    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition"
    (2015), configuration D, without BatchNorm and with a head of two layers of 512 units: the
    case of the Deep Curvature Suite, whose number of parameters decides for these.
    """
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += _conv_relu(channels, width, 3, padding=1)
            channels = width
        layers.append(nn.MaxPool2d(2))
    head = (512, 512, 512, 100)
    layers.append(nn.Flatten())
    for size_in, size_out in itertools.pairwise(head):
        layers += [nn.Linear(size_in, size_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cifar10_wrn16_4() -> nn.Sequential:
    """Wide ResNet 16-4 for inputs ``3 x 32 x 32``: 2,748,890 parameters.

    Zagoruyko and Komodakis, "Wide residual networks" (2016): BatchNorm and ReLU before each
    convolution, two blocks in each of three stages, four times as wide as a ResNet; no dropout.
    """
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    channels = 16
    for width, stride in ((64, 1), (128, 2), (256, 2)):
        layers += _wide_block(channels, width, stride)
        layers += _wide_block(width, width, 1)
        channels = width
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels, 10))


def _wide_block(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    first = [nn.BatchNorm2d(channels_in), nn.ReLU()]
    main = [
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
    ]
    if channels_in == channels_out:
        return [Residual(nn.Sequential(*first, *main), nn.Identity())]
    # Where the number of channels changes, the shortcut starts behind the activation.
    shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
    return [*first, Residual(nn.Sequential(*main), shortcut)]


class Attention(nn.Module):
    """Self-attention by matrix products and a softmax.

    Spelled out, since torch's fused kernels have no forward-mode derivatives, which the
    independent check of the references needs.
    """

    def __init__(self, width: int, heads: int) -> None:
        """Choose the sizes.

        Args:
            width: Of the embedding.
            heads: Their number, which divides the width.
        """
        super().__init__()
        self.heads = heads
        self.inputs, self.outputs = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, length, width]`` to the same shape."""
        split = self.inputs(x).unflatten(2, (3, self.heads, -1)).movedim(2, 0).transpose(2, 3)
        query, key, value = split  # each [N, heads, length, width of a head]
        scores = query @ key.mT / query.shape[3] ** 0.5
        return self.outputs((scores.softmax(dim=3) @ value).transpose(1, 2).flatten(2))


def _transformer_block(width: int) -> list[nn.Module]:
    """Attention and a feed-forward network, each behind a norm and beside a shortcut."""
    attention = nn.Sequential(nn.LayerNorm(width), Attention(width, width // 16))
    forward = nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
    )
    return [Residual(attention, nn.Identity()), Residual(forward, nn.Identity())]


class TransformerClassifier(nn.Module):
    """A transformer encoder on tokens, and a linear layer on the mean over positions."""

    def __init__(self, tokens: int, length: int, width: int, depth: int, classes: int) -> None:
        """Choose the sizes.

        Args:
            tokens: Size of the vocabulary.
            length: Of the sequences.
            width: Of the embedding; a head has 16 of it.
            depth: Number of layers.
            classes: Outputs.
        """
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.positions = nn.Parameter(torch.randn(length, width) / width**0.5)
        blocks = [module for _ in range(depth) for module in _transformer_block(width)]
        self.encoder = nn.Sequential(*blocks)
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Token indices ``[N, length]`` to outputs ``[N, classes]``."""
        hidden = self.encoder(self.tokens(x) + self.positions)
        return self.last(hidden.mean(dim=1))


def tiny_transformer() -> TransformerClassifier:
    """Two layers of width 64 on 32 tokens of 256, 10 classes: 119,050 parameters."""
    return TransformerClassifier(tokens=256, length=32, width=64, depth=2, classes=10)
