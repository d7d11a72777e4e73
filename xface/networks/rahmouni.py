"""Stats-2L, which tells rendered from photographed patches by statistics (Rahmouni et al., WIFS 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from xface.errors import UsageError

PATCH = 100
KERNEL = 7
WINDOW = PATCH - 2 * (KERNEL - 1)  # 88: what two "valid" convolutions leave of a patch
DROPOUT = 0.35  # the authors' code keeps 0.65 of the hidden layer while training


@fx.wrap
def holds_a_patch(x: Tensor) -> Tensor:
    """Return the pictures (N, 3, H, W); raise UsageError where they are smaller than one patch."""
    height, width = x.shape[-2:]
    if min(height, width) < PATCH:
        raise UsageError(
            f"Stats-2L judges patches of {PATCH} x {PATCH} pixels and this picture has {height} x {width}; "
            f"give it larger pictures or have them resized (300 x 300 makes nine patches)"
        )
    return x


class Statistics(nn.Module):
    """Mean, variance, maximum and minimum of each map over the window of each patch.

    (N, K, h, w) -> (N, 4 K, rows, columns): the K means, then the K variances, maxima, minima. Windows are
    88 x 88 at every 100 cells from the top left. The variance is the mean squared deviation (over n, not
    n - 1), and the gradient of a maximum or minimum is shared evenly among equals: both as in the authors'
    code.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the statistics of the maps of whole pictures, patch by patch."""
        windows = x.unfold(2, WINDOW, PATCH).unfold(3, WINDOW, PATCH).flatten(4)
        centred = windows - windows.mean(-1, keepdim=True)
        variance = (centred * centred).mean(-1)
        return torch.cat([windows.mean(-1), variance, windows.amax(-1), windows.amin(-1)], dim=1)


class Rahmouni(nn.Module):
    """Stats-2L: (N, 3, H, W) RGB in [0, 1] -> (N, num_classes) logits, H and W at least 100.

    Of a picture, 100 x 100 patches are classified, in a grid from the top left; what is left at the right
    and at the bottom is not looked at. Each patch goes through two 7 x 7 convolutions without padding (32 and
    64 maps, ReLU), the `Statistics` of the 64 maps, a dense layer of 1024 with ReLU and dropout, and a linear
    layer. The picture's logits are the mean over its patches: with two classes their difference is the
    mean log-likelihood ratio of the patches, whose sign is the published decision (the vote weighted by each
    patch's difference of logits).

    The convolutions run over the whole picture, so that layers have ordinary maps; without padding, each
    window holds exactly what its patch alone would give. Two classes take 370,370 parameters: 32 x (147 + 1),
    64 x (1568 + 1), 1024 x (256 + 1), 2 x (1024 + 1).

    Raises:
        UsageError: a picture is smaller than one patch.

    Example:
        >>> Rahmouni().eval()(torch.zeros(2, 3, 100, 230)).shape
        torch.Size([2, 2])
    """

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, KERNEL)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 64, KERNEL)
        self.relu2 = nn.ReLU()
        self.statistics = Statistics()
        self.hidden = nn.Linear(4 * 64, 1024)
        self.relu3 = nn.ReLU()
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of pictures."""
        x = self.relu1(self.conv1(holds_a_patch(x)))
        x = self.statistics(self.relu2(self.conv2(x)))
        patches = x.flatten(2).transpose(1, 2)
        logits = self.head(self.dropout(self.relu3(self.hidden(patches))))
        return logits.mean(dim=1)  # type: ignore[no-any-return]
