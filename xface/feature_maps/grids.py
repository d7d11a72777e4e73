"""How a layer's output is read as a feature map (N, K, h, w).

Convolutional networks give (N, K, h, w) as it is. Some blocks work channels last, (N, h, w, K), and vision
transformers give tokens, (N, T, K): a grid's cells row by row, after prefix tokens (class, registers).
Others give windows, transposed maps or tokens in another order, whose shapes may look just like these, and
a map read wrongly looks just like a right one. So a shape alone decides nothing: `readings` are the ways in
which it could be read, and `xface.feature_maps.layouts` finds the one that is right, if any.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from torch import Tensor

from xface.errors import AttributionError

MOST_EXTRA_TOKENS = 16

Side = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """A map's shape (K, h, w), and how it lies in the output.

    `axes` are the output's axes that become K, h and w; K and T for tokens, of which `start` come first.
    `turned` tokens go column by column.
    """

    shape: tuple[int, int, int]
    axes: tuple[int, ...] = (1, 2, 3)
    start: int = 0
    turned: bool = False

    def read(self, output: Tensor) -> Tensor:
        """Return the layer's output, or its gradient, as (N, K, h, w).

        Example:
            >>> import torch
            >>> tokens = torch.tensor([[[9.0], [1.0], [2.0], [3.0], [4.0]]])
            >>> Grid((1, 2, 2), (2, 1), start=1).read(tokens)
            tensor([[[[1., 2.],
                      [3., 4.]]]])
        """
        channels, height, width = self.shape
        laid = output.permute(0, *self.axes)
        if len(self.axes) == 3:
            return laid
        cells = laid[:, :, self.start : self.start + height * width]
        if self.turned:
            return cells.reshape(-1, channels, width, height).transpose(2, 3)
        return cells.reshape(-1, channels, height, width)


def readings(shape: tuple[int, ...], size: Side) -> list[Grid]:
    """Return the ways to read an output of this shape as maps of images of `size` (H, W), the usual first.

    Four sides may lie in any order. Tokens are the grid gh x gw that a whole stride gives; before or after
    it may stand some other tokens.

    Example:
        >>> [grid.shape for grid in readings((2, 64, 7, 9), (70, 90))][:2]
        [(64, 7, 9), (9, 64, 7)]
        >>> readings((2, 5, 192), (32, 32))[0]
        Grid(shape=(192, 2, 2), axes=(2, 1), start=1, turned=False)
    """
    if len(shape) == 4:
        orders = sorted(permutations((1, 2, 3)), key=[(1, 2, 3), (3, 1, 2)].__contains__, reverse=True)
        return [Grid((shape[k], shape[h], shape[w]), (k, h, w)) for k, h, w in orders]
    if len(shape) != 3:
        return []
    return [
        Grid((shape[channels], *sides), (channels, tokens), start, turned)
        for channels, tokens in ((2, 1), (1, 2))
        for extra in range(min(MOST_EXTRA_TOKENS, shape[tokens]) + 1)
        for sides in _sides(shape[tokens] - extra, size)
        for start in dict.fromkeys((extra, 0))
        for turned in (False, True)
    ]


def _sides(cells: int, size: Side) -> list[Side]:
    """The grids of so many cells that a whole stride gives, the picture's rest cut off or padded."""
    height, width = size
    strides = range(1, min(size) + 1)
    cut = {(height // stride, width // stride) for stride in strides}
    padded = {(-(-height // stride), -(-width // stride)) for stride in strides}
    return sorted(sides for sides in cut | padded if sides[0] * sides[1] == cells and min(sides) > 1)


def is_proportional(sides: Side, size: Side) -> bool:
    """Return whether h x w cells could be those of an H x W image after one stride, but for rounding."""
    return abs(sides[0] * size[1] - sides[1] * size[0]) < max(size)


def presumed(shape: tuple[int, ...], size: Side) -> Grid | None:
    """Return the first reading in proportion to the image: all that a network without weights can tell.

    Example:
        >>> presumed((2, 7, 9, 64), (70, 90)).shape
        (64, 7, 9)
    """
    usual = readings(shape, size)[: 2 if len(shape) == 4 else None]
    return next((grid for grid in usual if is_proportional(grid.shape[1:], size)), None)


def as_images(output: Tensor) -> Grid:
    """Return the reading of what lies as images do, (N, K, h, w)."""
    return Grid((output.shape[1], output.shape[2], output.shape[3]))


def check_shape(layer: str, output: object, count: int) -> None:
    """Raise AttributionError for an output that can be no feature map of `count` images, whatever its layout.

    Example:
        >>> import torch
        >>> check_shape("head", torch.zeros(2, 10), 2)
        Traceback (most recent call last):
        xface.errors.AttributionError: layer 'head' gives (2, 10), no feature map (N, K, h, w); choose ...
    """
    if not isinstance(output, Tensor):
        reason = f"{type(output).__name__}, no feature map (N, K, h, w); choose another layer"
    elif output.ndim > 2 and len(output) != count:
        reason = (
            f"{tuple(output.shape)} for {count} image(s), no feature map (N, K, h, w); "
            "choose the block around it"
        )
    elif output.ndim not in (3, 4):
        reason = f"{tuple(output.shape)}, no feature map (N, K, h, w); choose another layer"
    else:
        return
    raise AttributionError(f"layer {layer!r} gives {reason}")
