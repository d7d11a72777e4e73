"""The layers of a network that have a feature map, found by running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xface.errors import AttributionError
from xface.feature_maps.grids import Grid, as_images, check_shape, presumed
from xface.feature_maps.layouts import experiment
from xface.feature_maps.provenance import Provenance


@dataclass(frozen=True)
class Layer:
    """A module with a single feature map per forward pass: its name, class and the map's shape (K, h, w).

    `certain` is False where the shape alone was read: a network without weights (on `meta`) can't be tried.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    certain: bool = True

    def stride(self, size: tuple[int, int]) -> float:
        """How many input pixels a cell of the map is high, for an input of `size` (H, W)."""
        return size[0] / self.shape[1]

    @property
    def cells(self) -> int:
        """How many positions the map has: h w."""
        return self.shape[1] * self.shape[2]


def feature_maps(model: nn.Module, size: tuple[int, int]) -> list[Layer]:
    """Return the layers of `model` that maps can be made at, in the order of the forward pass.

    A layer counts if one forward pass runs it once and it is certain how its output is read as (N, K, h, w):
    by where it comes from, or by the experiment of `xface.feature_maps.layouts`. The network is run in eval
    mode and left as it was.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten())
        >>> [(layer.name, layer.shape) for layer in feature_maps(net, (9, 9))]
        [('0', (8, 4, 4)), ('1', (8, 4, 4))]
    """
    weight = next(model.parameters())
    with _in_eval_mode(model), torch.inference_mode(False), torch.no_grad():
        # Two images, as one cannot be told from a single window or a table of positions.
        images = torch.zeros(2, 3, *size, device=weight.device, dtype=weight.dtype)
        grids, shapes = _run(model, images)
        uncertain = [name for name in shapes if grids[name] is None]
        tried = (
            _presumed(model, {name: shapes[name] for name in uncertain}, size)
            if images.is_meta
            else _tried(model, uncertain, images)
        )
    modules = dict(model.named_modules())
    return [
        Layer(name, type(modules[name]).__name__, grid.shape, not (images.is_meta and name in tried))
        for name in shapes
        if (grid := grids[name] or tried.get(name))
    ]


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _run(model: nn.Module, images: Tensor) -> tuple[dict[str, Grid | None], dict[str, tuple[int, ...]]]:
    """Run the network once: each layer's reading where that is certain, and its output's shape."""
    grids: dict[str, Grid | None] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    runs: Counter[str] = Counter()
    provenance = Provenance(images)

    def record(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        runs[name] += 1
        with suppress(AttributionError):
            check_shape(name, output, len(images))
            grids[name] = as_images(output) if provenance.holds(output) else None
            shapes[name] = tuple(output.shape)

    handles = [
        module.register_forward_hook(partial(record, name)) for name, module in model.named_modules() if name
    ]
    try:
        with provenance:
            model(images.clone())
    finally:
        for handle in handles:
            handle.remove()
    return grids, {name: shape for name, shape in shapes.items() if runs[name] == 1}


def _tried(model: nn.Module, layers: list[str], images: Tensor) -> dict[str, Grid]:
    found = experiment(model, layers, images) if layers else {}
    return {name: grid for name, grid in found.items() if isinstance(grid, Grid)}


def _presumed(model: nn.Module, shapes: dict[str, tuple[int, ...]], size: tuple[int, int]) -> dict[str, Grid]:
    """By shape; tokens only on the grid of patches that the network, as timm's do, says it has."""
    parts = [getattr(module, name, None) for module in model.modules() for name in ("patch_embed", "stem")]
    patches = {tuple(sides) for part in parts if (sides := getattr(part, "grid_size", None))}
    found = {name: presumed(shape, size) for name, shape in shapes.items()}
    return {
        name: grid
        for name, grid in found.items()
        if grid and (len(grid.axes) == 3 or grid.shape[1:] in patches)
    }
