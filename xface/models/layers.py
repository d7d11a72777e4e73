"""The layers of a network that have a feature map, found by running it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from xface.errors import AttributionError
from xface.grids import grid_of


@dataclass(frozen=True)
class Layer:
    """A module with a single feature map per forward pass: its name, class and the map's shape (K, h, w)."""

    name: str
    kind: str
    shape: tuple[int, int, int]

    def stride(self, size: tuple[int, int]) -> float:
        """How many input pixels a cell of the map is high, for an input of `size` (H, W)."""
        return size[0] / self.shape[1]

    @property
    def cells(self) -> int:
        """How many positions the map has: h w."""
        return self.shape[1] * self.shape[2]


def feature_maps(model: nn.Module, size: tuple[int, int]) -> list[Layer]:
    """Return the layers of `model` that maps can be made at, in the order of the forward pass.

    A layer counts if one forward pass runs it once and its output can be read as (N, K, h, w), by the rule of
    `xface.grids`: token grids and channels last are. The network is run in eval mode and left as it was.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten())
        >>> [(layer.name, layer.shape) for layer in feature_maps(net, (9, 9))]
        [('0', (8, 4, 4)), ('1', (8, 4, 4))]
    """
    found: list[Layer] = []
    runs: Counter[str] = Counter()

    def record(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        runs[name] += 1
        with suppress(AttributionError):
            grid = grid_of(model, name, output, len(images), size)
            found.append(Layer(name, type(module).__name__, grid.shape))

    handles = [
        module.register_forward_hook(partial(record, name)) for name, module in model.named_modules() if name
    ]
    # Two images, as one cannot be told from a single window or a table of positions.
    weight, modes = next(model.parameters()), [(module, module.training) for module in model.modules()]
    images = torch.zeros(2, 3, *size, device=weight.device, dtype=weight.dtype)
    try:
        model.eval()
        with torch.inference_mode():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    return [layer for layer in found if runs[layer.name] == 1]
