"""A residual network for face forgery, with CBAM as its shortcut (Woo et al. 2018, arXiv:1807.06521)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from xface.errors import UsageError

# the widths of the three convolutions of each block, a row per stage
STAGES = ((16, 24, 32), (64, 80, 96), (128, 192, 256), (512, 640, 768))
KERNELS = (3, 5, 3)
GRID = 14  # the side of the last map at 224 px
DENSE = (2352, 147)


class ChannelAttention(nn.Module):
    """Scale each channel by a gate made of its mean and its maximum: (N, C, H, W) -> (N, C, H, W).

    Source: Woo et al. 2018, equation 2, with a sigmoid more, as in the published network:
    x * s(s(P(mean x)) + s(P(max x))), where s is the sigmoid and P the perceptron W1 ReLU(W0 v), without
    biases, which both share. The published code makes W0 and W1 from 3x3 convolutions: on a map of 1x1 only
    their centres act, so they are 1x1 here.

    Example:
        >>> gates = ChannelAttention(2, hidden=1)(torch.ones(1, 2, 3, 3))[0, :, 0, 0]
        >>> bool((gates > 0.5).all() and (gates < 0.881).all())  # s(0) and s(2)
        True
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.perceptron = nn.Sequential(
            OrderedDict(
                hidden=nn.Conv2d(channels, hidden, 1, bias=False),
                relu=nn.ReLU(),
                out=nn.Conv2d(hidden, channels, 1, bias=False),
                sigmoid=nn.Sigmoid(),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """The scaled map."""
        mean, peak = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return x * torch.sigmoid(self.perceptron(mean) + self.perceptron(peak))


class SpatialAttention(nn.Module):
    """Scale each position by a gate made of its mean and its maximum: (N, C, H, W) -> (N, C, H, W).

    Source: Woo et al. 2018, equation 3: x * s(f([mean x; max x])), where mean and maximum go over the
    channels and f is a convolution without bias, 5x5 here (7x7 there).

    Example:
        >>> SpatialAttention()(torch.zeros(1, 8, 5, 5)).shape
        torch.Size([1, 8, 5, 5])
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 5, padding=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The scaled map."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(pooled))


class Block(nn.Module):
    """Add a branch of convolutions and one of attention: (N, C, H, W) -> (N, widths[-1], H/pool, W/pool).

    `convolutions`: 3x3, 5x5, 3x3, each with bias, BatchNorm and ReLU, then the maximum of each 3x3
    neighbourhood. `attention`: channel attention, spatial attention, 1x1 convolution without bias, ReLU. Both
    end with max pooling over `pool` x `pool`. Their sum goes through ReLU and, if `norm`, BatchNorm. Without
    `attention` that branch is absent.

    Example:
        >>> Block(3, (4, 5, 6), pool=2, norm=True)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 6, 4, 4])
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...], pool: int, norm: bool, attention: bool = True
    ) -> None:
        super().__init__()
        self.convolutions = _convolutions(channels, widths, pool)
        self.attention = _attention(channels, widths[-1], pool) if attention else None
        self.relu = nn.ReLU()
        self.norm = nn.BatchNorm2d(widths[-1]) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The block's map."""
        y = self.convolutions(x)
        if self.attention is not None:
            y = y + self.attention(x)
        return self.norm(self.relu(y))  # type: ignore[no-any-return]


class CbamResNet(nn.Module):
    """The attention ResNet for face forgery: (N, 3, 224, 224) -> (N, num_classes) logits.

    Four stages of blocks, 32, 96, 256 and 768 channels wide; each stage halves the side, down to 14. Then
    dense layers of 2352 and 147 with ReLU, and the layer of the classes. No BatchNorm follows the last block.
    The sigmoid that the published code puts before the cross entropy is left out: these are logits.

    `depth` is the number of blocks, spread evenly over the stages. The published network is described with 4
    and with 8; as eight halvings would leave nothing of 224 px, only a stage's last block halves the side
    here, which is this library's reading of 8. `attention=False` removes the attention branches, for the
    ablation. With two classes there are 369,895,135 parameters, 354 million of them in the first dense layer:
    1.5 GB in single precision.

    Raises:
        UsageError: `depth` is no positive multiple of 4.

    Example:
        >>> with torch.device("meta"):
        ...     logits = CbamResNet(depth=8, attention=False)(torch.empty(1, 3, 224, 224))
        >>> logits.shape
        torch.Size([1, 2])
    """

    def __init__(self, num_classes: int = 2, depth: int = 4, attention: bool = True) -> None:
        super().__init__()
        blocks, rest = divmod(depth, len(STAGES))
        if rest or blocks < 1:
            raise UsageError(f"cbam_resnet has no depth {depth}; take a multiple of {len(STAGES)}: 4 or 8")
        self.stage1 = _stage(3, STAGES[0], blocks, attention)
        self.stage2 = _stage(STAGES[0][-1], STAGES[1], blocks, attention)
        self.stage3 = _stage(STAGES[1][-1], STAGES[2], blocks, attention)
        self.stage4 = _stage(STAGES[2][-1], STAGES[3], blocks, attention, norm=False)
        self.dense = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                hidden1=nn.Linear(STAGES[-1][-1] * GRID**2, DENSE[0]),
                relu1=nn.ReLU(),
                hidden2=nn.Linear(*DENSE),
                relu2=nn.ReLU(),
                head=nn.Linear(DENSE[1], num_classes),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of 224 x 224 faces."""
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            x = stage(x)
        return self.dense(x)  # type: ignore[no-any-return]


def _stage(
    channels: int, widths: tuple[int, ...], blocks: int, attention: bool, norm: bool = True
) -> nn.Sequential:
    """Blocks of the same widths; the last one halves the side, and it alone may go without BatchNorm."""
    sources = [channels] + [widths[-1]] * (blocks - 1)
    last = blocks - 1
    return nn.Sequential(
        *(
            Block(source, widths, pool=2 if i == last else 1, norm=norm or i < last, attention=attention)
            for i, source in enumerate(sources)
        )
    )


def _convolutions(channels: int, widths: tuple[int, ...], pool: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    sources = (channels, *widths[:-1])
    for i, (source, width, kernel) in enumerate(zip(sources, widths, KERNELS, strict=True), start=1):
        layers[f"conv{i}"] = nn.Conv2d(source, width, kernel, padding="same")
        layers[f"norm{i}"] = nn.BatchNorm2d(width)
        layers[f"relu{i}"] = nn.ReLU()
    layers["peak"] = nn.MaxPool2d(3, stride=1, padding=1)
    layers["pool"] = nn.MaxPool2d(pool)
    return nn.Sequential(layers)


def _attention(channels: int, width: int, pool: int) -> nn.Sequential:
    hidden = 2 * channels if channels == 3 else channels // 2  # published: 3, 32, 96, 256 -> 6, 16, 48, 128
    return nn.Sequential(
        OrderedDict(
            channel=ChannelAttention(channels, hidden),
            spatial=SpatialAttention(),
            project=nn.Conv2d(channels, width, 1, bias=False),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(pool),
        )
    )
