"""How a layer's output is read as a feature map (N, K, h, w).

Convolutional networks give (N, K, h, w) as it is. Some blocks work channels last, (N, h, w, K), and vision
transformers give tokens, (N, T, K): the patches of a grid row by row, after prefix tokens (class, registers).
A wrong reading gives a map that looks just like a right one, so what can be read in no way is refused.

The rule, for N images of H x W pixels:

1. The first side must be N: some networks stack windows or crops there.
2. (N, T, K) is a grid gh x gw where T is gh gw, or gh gw after the prefix. The grid is timm's: of the nearest
   module around the layer, `patch_embed.grid_size` (an MLP-Mixer's `stem.grid_size`), or what
   `patch_embed.dynamic_feat_size` gives for the image; the prefix is that module's `num_prefix_tokens`.
3. (N, a, b, c) is channels first where one of torch's own 2-D convolutions, norms or poolings gave it.
4. Else a reading is possible if its sides are proportional to the input's. Channels last: but for rounding
   after the same stride, |h W - w H| < max(H, W), which are equal sides on a square image. Channels first,
   the more usual: within a cell, |h W - w H| <= H + W. If one is possible, it is taken. If both are (K, h and
   w alike), channels last is taken for an `nn.Linear` or where the nearest `output_fmt` is `NHWC` (timm's
   Swin), channels first elsewhere. If none is, channels first is taken (kernels and strides need not be
   square), but not in a network with attention heads: there such sides are tokens and channels.
5. Inside an attention module (one with `num_heads`), what has one of its sides a, c per head is no map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from xface.errors import AttributionError

CHANNELS_FIRST = (
    nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.Upsample,
)  # fmt: skip

Side = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """A map's shape (K, h, w), and how it lies in the output: `first`, `last` (channels) or `tokens`."""

    shape: tuple[int, int, int]
    layout: str = "first"

    def read(self, output: Tensor) -> Tensor:
        """Return the layer's output, or its gradient, as (N, K, h, w).

        Example:
            >>> import torch
            >>> tokens = torch.tensor([[[9.0], [1.0], [2.0], [3.0], [4.0]]])
            >>> Grid((1, 2, 2), "tokens").read(tokens)
            tensor([[[[1., 2.],
                      [3., 4.]]]])
        """
        if self.layout == "tokens":
            patches = output[:, -self.shape[1] * self.shape[2] :]
            return patches.transpose(1, 2).reshape(-1, *self.shape)
        return output.permute(0, 3, 1, 2) if self.layout == "last" else output


def grid_of(model: nn.Module, layer: str, output: object, count: int, size: Side) -> Grid:
    """Return how the output of a layer is read as a map, for `count` images of `size` (H, W).

    Raises AttributionError for an output that is no feature map.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())
        >>> grid_of(net, "0", torch.zeros(1, 8, 30, 62), 1, (32, 64))
        Grid(shape=(8, 30, 62), layout='first')
        >>> grid_of(net, "1", torch.zeros(1, 14880), 1, (32, 64))
        Traceback (most recent call last):
        xface.errors.AttributionError: layer '1' gives (1, 14880), no feature map (N, K, h, w); choose ...
    """
    shape = tuple(output.shape) if isinstance(output, Tensor) else None
    around = _around(model, layer)
    grid = None
    if shape and shape[0] == count and len(shape) == 3:
        grid = _of_tokens(around, shape, size)
    elif shape and shape[0] == count and len(shape) == 4:
        grid = _of_map(around, shape, size)
    if grid is None:
        raise AttributionError(
            f"layer {layer!r} gives {_refused(around, shape or type(output), count, size)}"
        )
    return grid


def _around(model: nn.Module, layer: str) -> list[nn.Module]:
    """The layer's module and those around it, nearest first."""
    parts = layer.split(".")
    return [model.get_submodule(".".join(parts[:end])) for end in range(len(parts), -1, -1)]


def _nearest(around: Sequence[nn.Module], name: str) -> Any:
    found = (getattr(module, name, None) for module in around)
    return next((value for value in found if value is not None), None)


def _of_tokens(around: Sequence[nn.Module], shape: tuple[int, ...], size: Side) -> Grid | None:
    sides, prefix = _patches(around, size)
    if sides is None or shape[1] - sides[0] * sides[1] not in (0, prefix):
        return None
    return Grid((shape[2], *sides), "tokens")


def _patches(around: Sequence[nn.Module], size: Side) -> tuple[Side | None, int]:
    """The grid of patches of the nearest network around a layer, and how many tokens precede it."""
    for module in around:
        embed: Any = getattr(module, "patch_embed", None) or getattr(module, "stem", None)
        # A network that takes images of any size keeps the grid of the size it was made for.
        sides = embed.dynamic_feat_size(size) if hasattr(embed, "dynamic_feat_size") else None
        sides = sides or getattr(embed, "grid_size", None)
        if sides is not None:
            return (int(sides[0]), int(sides[1])), int(getattr(module, "num_prefix_tokens", 0))
    return None, 0


def _of_map(around: Sequence[nn.Module], shape: tuple[int, ...], size: Side) -> Grid | None:
    if _nearest(around[1:], "num_heads") in (shape[1], shape[3]):
        return None
    first, last = Grid((shape[1], shape[2], shape[3])), Grid((shape[3], shape[1], shape[2]), "last")
    if isinstance(around[0], CHANNELS_FIRST):
        return first
    fits_first = _skew(first.shape[1:], size) <= sum(size)
    if _skew(last.shape[1:], size) < max(size):
        return last if not fits_first or _works_channels_last(around) else first
    return first if fits_first or not _has_heads(around[-1]) else None


def _skew(sides: Side, size: Side) -> int:
    """How far h, w are from being proportional to H, W: |h W - w H|, where a cell counts H or W."""
    return abs(sides[0] * size[1] - sides[1] * size[0])


def _works_channels_last(around: Sequence[nn.Module]) -> bool:
    return isinstance(around[0], nn.Linear) or _nearest(around, "output_fmt") == "NHWC"


def _has_heads(model: nn.Module) -> bool:
    return any(hasattr(module, "num_heads") for module in model.modules())


def _refused(around: Sequence[nn.Module], shape: tuple[int, ...] | type, count: int, size: Side) -> str:
    """Why an output is no map, and what to do."""
    if isinstance(shape, type):
        return f"{shape.__name__}, no feature map (N, K, h, w); choose another layer"
    if len(shape) > 2 and shape[0] != count:
        return f"{shape} for {count} image(s), no feature map (N, K, h, w); choose the block around it"
    if len(shape) != 3:
        return f"{shape}, no feature map (N, K, h, w); choose another layer"
    sides, prefix = _patches(around, size)
    grid = f"{sides[0]}x{sides[1]} after {prefix}" if sides else "unknown"
    return (
        f"{shape}, no feature map (N, K, h, w), nor tokens (N, T, K) of the network's patch_embed.grid_size "
        f"after its num_prefix_tokens (which are {grid}); choose another layer, or set both on the network"
    )
