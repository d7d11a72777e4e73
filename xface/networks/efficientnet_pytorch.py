"""EfficientNet as the package efficientnet_pytorch writes it (Tan and Le 2019, arXiv:1905.11946).

Key names, padding and BatchNorm's constants are those of efficientnet_pytorch 0.7.1
(github.com/lukemelas/EfficientNet-PyTorch), whose weights come from TensorFlow's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xface.errors import UnknownNameError


class Stage(NamedTuple):
    """Blocks of one width; the first of them has the stride (Tan and Le 2019, table 1)."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


class Scaling(NamedTuple):
    """The factors of width and depth, the images' side in pixels and the head's dropout rate."""

    width: float
    depth: float
    size: int
    dropout: float


STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)
SCALINGS = {
    "efficientnet-b0": Scaling(1.0, 1.0, 224, 0.2),
    "efficientnet-b1": Scaling(1.0, 1.1, 240, 0.2),
    "efficientnet-b2": Scaling(1.1, 1.2, 260, 0.3),
    "efficientnet-b3": Scaling(1.2, 1.4, 300, 0.3),
    "efficientnet-b4": Scaling(1.4, 1.8, 380, 0.4),
    "efficientnet-b5": Scaling(1.6, 2.2, 456, 0.4),
    "efficientnet-b6": Scaling(1.8, 2.6, 528, 0.5),
    "efficientnet-b7": Scaling(2.0, 3.1, 600, 0.5),
}
DROP_RATE = 0.2  # block i of n loses its branch with i / n of this probability


def _widened(channels: int, width: float) -> int:
    """`channels` times `width`, to the nearest multiple of 8 that loses less than a tenth."""
    exact = channels * width
    nearest = max(8, int(exact + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * exact else nearest


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _pointwise(channels_in: int, channels_out: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 1, bias=bias)


class _SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding for maps of one size, whatever comes in later.

    An odd pixel of padding goes to the right and to the bottom.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int, size: int, groups: int = 1
    ) -> None:
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        super().__init__(
            channels_in, channels_out, kernel, stride, padding=total // 2, groups=groups, bias=False
        )
        self.odd = total % 2

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, (0, 1, 0, 1)) if self.odd else input)


class _Block(nn.Module):
    """Inverted bottleneck with squeeze-and-excitation, made for maps whose side is `size`."""

    def __init__(self, channels_in: int, stage: Stage, stride: int, size: int, drop_rate: float) -> None:
        super().__init__()
        inner, squeezed = channels_in * stage.expansion, max(1, channels_in // 4)
        self.expands = stage.expansion > 1
        self.skips = stride == 1 and channels_in == stage.channels
        self.drop_rate = drop_rate
        if self.expands:
            self._expand_conv = _pointwise(channels_in, inner)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _SameConv2d(inner, inner, stage.kernel, stride, size, groups=inner)
        self._bn1 = _norm(inner)
        self._se_reduce = _pointwise(inner, squeezed, bias=True)
        self._se_expand = _pointwise(squeezed, inner, bias=True)
        self._project_conv = _pointwise(inner, stage.channels)
        self._bn2 = _norm(stage.channels)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.silu(self._bn0(self._expand_conv(x))) if self.expands else x
        branch = F.silu(self._bn1(self._depthwise_conv(branch)))
        squeezed = F.silu(self._se_reduce(F.adaptive_avg_pool2d(branch, 1)))
        branch = branch * torch.sigmoid(self._se_expand(squeezed))
        branch = self._bn2(self._project_conv(branch))
        return self._dropped(branch) + x if self.skips else branch

    def _dropped(self, branch: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): without the branch for some images."""
        if not (self.training and self.drop_rate):
            return branch
        draw = torch.rand(branch.shape[0], 1, 1, 1, dtype=branch.dtype, device=branch.device)
        return branch * (draw >= self.drop_rate) / (1 - self.drop_rate)


def _made_blocks(scaling: Scaling) -> list[_Block]:
    """All blocks of the network, each for the size of maps that it gets from images of the native size."""
    stages = [
        stage._replace(
            repeats=math.ceil(scaling.depth * stage.repeats), channels=_widened(stage.channels, scaling.width)
        )
        for stage in STAGES
    ]
    count = sum(stage.repeats for stage in stages)
    channels, size = _widened(32, scaling.width), math.ceil(scaling.size / 2)
    blocks: list[_Block] = []
    for stage in stages:
        for stride in (stage.stride, *[1] * (stage.repeats - 1)):
            blocks.append(_Block(channels, stage, stride, size, DROP_RATE * (len(blocks) / count)))
            channels, size = stage.channels, math.ceil(size / stride)
    return blocks


class EfficientNetPytorch(nn.Module):
    """EfficientNet B0 to B7 as efficientnet_pytorch has them: (N, 3, H, W) -> (N, num_classes) logits.

    It differs from torchvision's EfficientNet by its key names, BatchNorm's eps of 1e-3 and TensorFlow's
    asymmetric "same" padding. That padding is fixed for the side that belongs to `name` (224, 240, 260, 300,
    380, 456, 528, 600 px) and stays so for images of other sizes, as in networks from the package's
    `from_name` and `from_pretrained`. With 1000 classes efficientnet-b0 has 5,288,548 parameters (5.3 million
    in Tan and Le 2019, table 2). Another `name` is an `UnknownNameError`.

    Example:
        >>> network = EfficientNetPytorch(num_classes=2, name="efficientnet-b0").eval()
        >>> network(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 2])
        >>> network.state_dict()["_blocks.0._depthwise_conv.weight"].shape
        torch.Size([32, 1, 3, 3])
    """

    def __init__(self, num_classes: int = 2, name: str = "efficientnet-b0") -> None:
        super().__init__()
        if name not in SCALINGS:
            raise UnknownNameError("EfficientNet", name, SCALINGS)
        scaling = SCALINGS[name]
        stem, last, final = (_widened(channels, scaling.width) for channels in (32, 320, 1280))
        self._conv_stem = _SameConv2d(3, stem, kernel=3, stride=2, size=scaling.size)
        self._bn0 = _norm(stem)
        self._blocks = nn.ModuleList(_made_blocks(scaling))
        self._conv_head = _pointwise(last, final)
        self._bn1 = _norm(final)
        self._swish = nn.SiLU()
        self._avg_pooling = nn.AdaptiveAvgPool2d(1)
        self._dropout = nn.Dropout(scaling.dropout)
        self._fc = nn.Linear(final, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        x = F.silu(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = self._swish(self._bn1(self._conv_head(x)))
        x = torch.flatten(self._avg_pooling(x), 1)
        return self._fc(self._dropout(x))  # type: ignore[no-any-return]
