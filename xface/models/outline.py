"""Outlines: networks without storage, from which sizes and counts are read at once."""

from __future__ import annotations

import torch
from torch import nn

from xface.models.architectures import Architecture
from xface.models.preprocessing import Preprocessing

USUAL_SIZE = (224, 224)


def outline(arch: Architecture) -> nn.Module:
    """The network with two classes on the meta device: all of its shapes, none of its numbers.

    Example:
        >>> from xface.models import architecture
        >>> parameter_count(outline(architecture("resnet18")))
        11177538
    """
    with torch.device("meta"):
        return arch.build(2).eval()


def parameter_count(model: nn.Module) -> int:
    """The numbers in all of a network's parameters; what two modules share counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def usual_size(preprocessing: Preprocessing, arch: Architecture) -> tuple[int, int]:
    """The input's (height, width): as prepared, else as `arch` usually has it, else 224 by 224 pixels.

    Example:
        >>> from xface.models import PRESETS, architecture
        >>> usual_size(PRESETS["none"], architecture("meso4"))
        (256, 256)
    """
    return preprocessing.size or arch.preprocessing.size or USUAL_SIZE
