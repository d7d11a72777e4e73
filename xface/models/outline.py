"""Outlines: networks without storage, from which sizes and counts are read at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from xface.models.architectures import Architecture
from xface.models.preprocessing import Preprocessing

USUAL_SIZE = (224, 224)

INITIALISERS = {
    "constant_", "fill_", "kaiming_uniform_", "normal_", "uniform_", "zero_",  # what draws the numbers
    "add_", "clamp_", "erfinv_", "mul_",  # what nn.init.trunc_normal_ does with them
}  # fmt: skip


class Undrawn(TorchFunctionMode):
    """Leaves out the drawing of initial weights: without storage it takes time and does nothing."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in INITIALISERS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def outline(arch: Architecture) -> nn.Module:
    """The network with two classes on the meta device: all of its shapes, none of its numbers.

    Example:
        >>> from xface.models import architecture
        >>> parameter_count(outline(architecture("resnet18")))
        11177538
    """
    with torch.device("meta"), Undrawn():
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
