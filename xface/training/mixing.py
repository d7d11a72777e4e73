"""Pictures of a batch mixed with one another, and their labels with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torchvision.transforms import v2

from xface.training import config as schema

_KINDS: Mapping[str, Callable[..., v2.Transform]] = {"cutmix": v2.CutMix, "mixup": v2.MixUp}


def mixing(settings: schema.Mixing, classes: int) -> Any:
    """What mixes a batch: images (N, 3, H, W) and labels (N,) to images and targets.

    Each picture is mixed with the one before it in the batch, with a part l of its own, l ~ Beta(alpha,
    alpha), the same for the whole batch: mixup adds l x + (1 - l) x' (Zhang et al. 2018, arXiv:1710.09412),
    CutMix replaces a rectangle of the part 1 - l (Yun et al. 2019, arXiv:1905.04899). Targets are
    l y + (1 - l) y', (N, classes). A batch that isn't mixed keeps its labels (N,). torchvision does it, with
    torch's generator.

    Example:
        >>> import torch
        >>> _, targets = mixing(schema.Mixing(), 2)(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> targets.shape, bool((targets.sum(1) == 1).all())
        (torch.Size([4, 2]), True)
    """
    kinds = [_KINDS[kind](alpha=settings.alpha, num_classes=classes) for kind in settings.kinds]
    return v2.RandomApply([v2.RandomChoice(kinds)], p=settings.probability)


def likeliest(targets: Tensor) -> Tensor:
    """The class of the larger part of each picture, (N,); of equal parts, the first class."""
    return targets if targets.ndim == 1 else targets.argmax(dim=1)
