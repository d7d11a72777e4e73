"""Residual-based local descriptors recast as a network (Cozzolino et al. 2017, arXiv:1703.04615)."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

THIRD_ORDER = (1.0, -3.0, 3.0, -1.0)
LEVELS = (-1.0, 0.0, 1.0)
"""Residuals are truncated to these, in steps (T = 1): 3^4 words in each direction, 162 features in all."""
STEP = 6.0
"""Grey levels from one level to the next: q = 2 times the filter's 3, as in the authors' Splicebuster."""
SHARPNESS = 9.0
"""How hard the first quantisation is: a residual on a level is on that one with e^(SHARPNESS / 2) to 1."""
ORDER = 4  # residuals in a word
WORDS = len(LEVELS) ** ORDER


class Luminance(nn.Module):
    """RGB in [0, 1], (N, 3, H, W) -> grey levels in [0, 255], (N, 1, H, W): ITU-R BT.601, never trained."""

    def forward(self, x: Tensor) -> Tensor:
        """Grey levels, not rounded: rounding has no gradient."""
        return 255 * (0.299 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3])


class Assignment(nn.Module):
    """Softmax over the words of each direction: how much of each word there is at each position."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 162, h, w) scores -> (N, 162, h, w) parts, of which the first and the last 81 sum to 1."""
        return torch.cat([x[:, :WORDS].softmax(dim=1), x[:, WORDS:].softmax(dim=1)], dim=1)


class Cozzolino(nn.Module):
    """Co-occurrences of noise residuals as a network: (N, 3, H, W) RGB in [0, 1] -> (N, num_classes) logits.

    Four steps, which begin as the hand-crafted descriptor and are all trained (Cozzolino et al. 2017); only
    the conversion to the one channel that the descriptor works on is fixed:

    - `residuals` (N, 2, H-4, W-4): the third-order filter [1 -3 3 -1] along the rows and along the columns,
      inside 5 x 5 kernels;
    - `words` (N, 162, H-7, W-7): for each of the 3^4 words c of four adjacent quantised residuals r along the
      filter's direction, in steps, the score a (c.r - |c|^2 / 2). It is largest at the nearest word, which is
      each residual's own nearest level. First the 81 words along rows, then the 81 along columns, the last
      residual's level counting fastest;
    - `codes`, same shape: the softmax over either 81, the co-occurrence before averaging. With a -> infinity
      it is one at the word found by rounding and truncating and zero elsewhere;
    - the mean over all positions, `pool`, which is then the descriptor's histogram, and a linear classifier.

    There is no rectifier, so guided backprop and deconvnet are undefined. At `codes` Grad-CAM is the positive
    part of each position's own share in the logit. Its zero is a convention: the words of a position sum to
    one in each direction, so a constant added to a class's weights shifts logit and map alike.

    The kernels work on grey levels up to 255, so they need small steps in training, the classifier of
    averages large ones: with Adam, learning rates of 1e-4 and 5e-2 do; 2e-2 for all saturates the softmax.

    Any size from 8 x 8 on. Two classes take 3,130 parameters: 2 x 25, 162 x (16 + 1), 162 x 2 + 2.

    Example:
        >>> Cozzolino().eval()(torch.zeros(2, 3, 32, 48)).shape
        torch.Size([2, 2])
    """

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.grey = Luminance()
        self.residuals = nn.Conv2d(1, 2, 5, bias=False)
        self.words = nn.Conv2d(2, 2 * WORDS, ORDER, groups=2)
        self.codes = Assignment()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(2 * WORDS, num_classes)
        self.recast()

    @torch.no_grad()
    def recast(self) -> None:
        """Set the filters and words to the hand-crafted descriptor; the classifier stays as it is."""
        self.residuals.weight.copy_(_both_ways([THIRD_ORDER], side=5, at=2))
        codebook = list(product(LEVELS, repeat=ORDER))
        self.words.weight.copy_(_both_ways(codebook, side=ORDER, at=1) * (SHARPNESS / STEP))
        norms = [sum(level**2 for level in word) for word in codebook]
        self.words.bias.copy_(torch.tensor(2 * norms) * (-SHARPNESS / 2))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of pictures."""
        codes = self.codes(self.words(self.residuals(self.grey(x))))
        return self.head(self.flatten(self.pool(codes)))  # type: ignore[no-any-return]


def _both_ways(taps: list[tuple[float, ...]], side: int, at: int) -> Tensor:
    """Kernels (2 len(taps), 1, side, side): each of `taps` at the end of row `at`, then of column `at`."""
    rows = torch.zeros(len(taps), side, side)
    rows[:, at, -len(taps[0]) :] = torch.tensor(taps)
    return torch.cat([rows, rows.transpose(1, 2)])[:, None]
