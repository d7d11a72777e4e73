"""Baselines: what answers "which part of the face decides" without the trained network.

A map has earned something on a check only where it does better than these. The fourth baseline, the same
method on the untrained network, is in `xface.evidence.randomised`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from xface.evidence.hiding import ShownFace
from xface.faces.regions import BACKGROUND, REGIONS
from xface.registry import Registry

Baseline: TypeAlias = Callable[[ShownFace, int], Tensor]
"""A face and a seed to an amount per pixel, float32 (H, W)."""

BASELINES: Registry[Baseline] = Registry("baseline")
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def gaussian(face: ShownFace, seed: int) -> Tensor:
    """A Gaussian at the face's centre; its sigma is the inter-ocular distance.

    Example:
        >>> labels = torch.full((9, 9), len(REGIONS) - 1)
        >>> labels[3:6, 1:4] = 0
        >>> found = gaussian(ShownFace(torch.zeros(3, 9, 9), labels, iod=2.0), 0)
        >>> divmod(int(found.argmax()), 9)
        (4, 2)
    """
    rows, columns = (face.labels < list(REGIONS).index(BACKGROUND)).nonzero(as_tuple=True)
    height, width = face.labels.shape
    down = torch.arange(height, device=face.labels.device) - rows.float().mean()
    across = torch.arange(width, device=face.labels.device) - columns.float().mean()
    return torch.exp(-(down[:, None] ** 2 + across**2) / (2 * face.iod**2))


def edges(face: ShownFace, seed: int) -> Tensor:
    """The strength of the picture's edges: Sobel's filters on the mean of its channels."""
    grey = F.pad(face.image.float().mean(dim=0)[None, None], (1, 1, 1, 1), "replicate")
    across = torch.tensor(SOBEL, device=grey.device)[None, None]
    return torch.hypot(F.conv2d(grey, across), F.conv2d(grey, across.mT))[0, 0]


def random(face: ShownFace, seed: int) -> Tensor:
    """Noise, uniform from 0 to 1, the same for the same seed on any device."""
    noise = torch.rand(face.labels.shape, generator=torch.Generator().manual_seed(seed))
    return noise.to(face.image.device)


for _baseline in (gaussian, edges, random):
    BASELINES.add(_baseline.__name__, _baseline)
