"""MesoNet's Meso-4 and MesoInception-4, for face forgery (Afchar et al. 2018, arXiv:1809.00888)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

EPS = 1e-3  # Keras' default for BatchNormalization, with which the published weights were trained
MAPS = (16, 8, 8)
"""Channels, height and width of the last maps, which the first dense layer takes."""


def _block(channels_in: int, channels_out: int, kernel: int, pool: int) -> nn.Sequential:
    """Convolution, ReLU, *then* BatchNorm, max pooling: the paper's order."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels_in, channels_out, kernel, padding="same"),
            relu=nn.ReLU(),
            norm=nn.BatchNorm2d(channels_out, eps=EPS),
            pool=nn.MaxPool2d(pool),
        )
    )


def _inception_block(channels_in: int, widths: tuple[int, int, int, int], pool: int) -> nn.Sequential:
    """Inception layer (rectified in each branch), BatchNorm, max pooling."""
    return nn.Sequential(
        OrderedDict(
            inception=Inception(channels_in, widths),
            norm=nn.BatchNorm2d(sum(widths), eps=EPS),
            pool=nn.MaxPool2d(pool),
        )
    )


def _pointwise(channels_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(channels_in, width, 1), relu=nn.ReLU()))


def _dilated(channels_in: int, width: int, dilation: int) -> nn.Sequential:
    """A 1x1 convolution to `width` maps, then a 3x3 one; a rectifier after each."""
    return nn.Sequential(
        OrderedDict(
            reduce=nn.Conv2d(channels_in, width, 1),
            reduce_relu=nn.ReLU(),
            conv=nn.Conv2d(width, width, 3, padding="same", dilation=dilation),
            relu=nn.ReLU(),
        )
    )


class Inception(nn.Module):
    """MesoInception-4's layer: (N, C, H, W) -> (N, sum of widths, H, W), four branches side by side.

    A 1x1 convolution; and three times a 1x1 and a 3x3 one, the latter with dilation 1, 2 and 3 instead of
    the 5x5 kernel of Szegedy et al. 2015 (Afchar et al. 2018, figure 5). Every convolution is rectified.

    Example:
        >>> Inception(3, (1, 4, 4, 2))(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 11, 16, 16])
    """

    def __init__(self, channels_in: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.pointwise = _pointwise(channels_in, widths[0])
        self.plain = _dilated(channels_in, widths[1], dilation=1)
        self.dilated2 = _dilated(channels_in, widths[2], dilation=2)
        self.dilated3 = _dilated(channels_in, widths[3], dilation=3)

    def forward(self, x: Tensor) -> Tensor:
        """The branches' maps, in the order of the widths."""
        branches = (self.pointwise, self.plain, self.dilated2, self.dilated3)
        return torch.cat([branch(x) for branch in branches], dim=1)


class _MesoNet(nn.Module):
    """What both networks share: the third and fourth block, and the dense layers."""

    def __init__(self, block1: nn.Module, block2: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__()
        self.block1 = block1
        self.block2 = block2
        self.block3 = _block(channels, 16, kernel=5, pool=2)
        self.block4 = _block(16, MAPS[0], kernel=5, pool=4)
        self.dense = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                drop1=nn.Dropout(0.5),
                hidden=nn.Linear(MAPS[0] * MAPS[1] * MAPS[2], 16),
                rectifier=nn.LeakyReLU(0.1),
                drop2=nn.Dropout(0.5),
                head=nn.Linear(16, num_classes),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of 256 x 256 faces."""
        for block in (self.block1, self.block2, self.block3, self.block4):
            x = block(x)
        return self.dense(x)  # type: ignore[no-any-return]


class Meso4(_MesoNet):
    """Meso-4: (N, 3, 256, 256) RGB in [0, 1] -> (N, num_classes) logits, without the published sigmoid.

    Four convolution blocks (8 maps of 3x3; 8, 16, 16 of 5x5; pooling 2, 2, 2, 4), then two dense layers on
    the 16 x 8 x 8 maps. With one logit it has the 27,977 parameters of Afchar et al. 2018, table 1. The
    flattening is channels first; a kernel that was trained channels last (Keras) needs its columns permuted.

    Example:
        >>> import torch
        >>> Meso4(num_classes=1).eval()(torch.zeros(2, 3, 256, 256)).shape
        torch.Size([2, 1])
    """

    def __init__(self, num_classes: int = 1) -> None:
        block1 = _block(3, 8, kernel=3, pool=2)
        block2 = _block(8, 8, kernel=5, pool=2)
        super().__init__(block1, block2, 8, num_classes)


class MesoInception4(_MesoNet):
    """MesoInception-4: (N, 3, 256, 256) RGB in [0, 1] -> (N, num_classes) logits, without the sigmoid.

    Meso-4 with inception layers of widths (1, 4, 4, 2) and (2, 4, 4, 2) for its first two convolutions: 11
    and 12 maps. With one logit it has the 28,615 parameters of Afchar et al. 2018. BatchNorm and pooling by 2
    follow each inception layer, as in the authors' code (github.com/DariusAf/MesoNet, classifiers.py).

    Example:
        >>> import torch
        >>> MesoInception4(num_classes=1).eval()(torch.zeros(2, 3, 256, 256)).shape
        torch.Size([2, 1])
    """

    def __init__(self, num_classes: int = 1) -> None:
        block1 = _inception_block(3, (1, 4, 4, 2), pool=2)
        block2 = _inception_block(11, (2, 4, 4, 2), pool=2)
        super().__init__(block1, block2, 12, num_classes)
