"""The layers of a network that have a feature map, found by running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """A module with a single feature map per forward pass: its name, class and output shape (K, h, w)."""

    name: str
    kind: str
    shape: tuple[int, int, int]

    def stride(self, size: tuple[int, int]) -> float:
        """How many input pixels a cell of the map is high, for an input of `size` (H, W)."""
        return size[0] / self.shape[1]


def feature_maps(model: nn.Module, size: tuple[int, int]) -> list[Layer]:
    """Return the layers of `model` that maps can be made at, in the order of the forward pass.

    A layer counts if one forward pass runs it once and its output is (N, K, h, w). The network is run in eval
    mode and left as it was.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten())
        >>> [(layer.name, layer.shape) for layer in feature_maps(net, (9, 9))]
        [('0', (8, 4, 4)), ('1', (8, 4, 4))]
    """
    found: list[Layer] = []
    handles = [
        module.register_forward_hook(_recorder(name, found)) for name, module in model.named_modules() if name
    ]
    weight, modes = next(model.parameters()), [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.inference_mode():
            model(torch.zeros(1, 3, *size, device=weight.device, dtype=weight.dtype))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    names = [layer.name for layer in found]
    return [layer for layer in found if names.count(layer.name) == 1 and len(layer.shape) == 3]


def _recorder(name: str, found: list[Layer]) -> Any:
    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
        found.append(Layer(name, type(module).__name__, shape))  # type: ignore[arg-type]

    return record
