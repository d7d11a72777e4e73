"""Preprocessing as data: from an upright picture to the tensor that a network sees, and back again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from xface.errors import ImageError, UsageError
from xface.images.pictures import Picture
from xface.registry import Registry
from xface.results import ByteArray, FloatArray
from xface.validation import validated

if TYPE_CHECKING:
    import torch

MAX_ASPECT = 32
MAX_SIDE = 4096
COLOURS = {"RGB": (0, 1, 2), "BGR": (2, 1, 0)}
Resize: TypeAlias = Callable[[ByteArray, tuple[int, int]], ByteArray]


def _pillow(mode: Image.Resampling) -> Resize:
    """Pillow's resizing, which averages over all pixels when it shrinks."""
    return lambda pixels, size: np.array(Image.fromarray(pixels).resize(size, mode))


def _opencv_bilinear(pixels: ByteArray, size: tuple[int, int]) -> ByteArray:
    """OpenCV's, which takes the four nearest pixels however far it shrinks."""
    import cv2

    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)


INTERPOLATIONS: Mapping[str, Resize] = {
    **{mode.name.lower(): _pillow(mode) for mode in Image.Resampling},
    "opencv_bilinear": _opencv_bilinear,
}
"""Each takes pixels and a size (width, height)."""


@dataclass(frozen=True)
class Geometry:
    """Where a pixel of the original lies in the network's input: x_in = (x + 0.5) * scale - 0.5 - offset.

    `scale` and `offset` are (x, y); pixel centres are at integer coordinates, as in iBUG's landmarks.

    Example:
        >>> half = Geometry(scale=(0.5, 0.5), offset=(0.0, 0.0))
        >>> half.to_input(np.array([[0.5, 2.5]]))
        array([[0., 1.]])
    """

    scale: tuple[float, float]
    offset: tuple[float, float]

    def to_input(self, points: FloatArray) -> FloatArray:
        """Original coordinates (..., 2), x before y, as coordinates of the input."""
        return (np.asarray(points, np.float64) + 0.5) * self.scale - 0.5 - self.offset

    def to_original(self, points: FloatArray) -> FloatArray:
        """Coordinates (..., 2) of the input as coordinates of the original: the inverse of `to_input`."""
        return (np.asarray(points, np.float64) + 0.5 + self.offset) / self.scale - 0.5

    def after_cut(self, corner: tuple[int, int]) -> Geometry:
        """The way from the whole picture, where this is the one from a part of it that starts at (x, y)."""
        left, top = (
            start + at * scale for start, at, scale in zip(self.offset, corner, self.scale, strict=True)
        )
        return Geometry(self.scale, (left, top))


@dataclass(frozen=True)
class Prepared:
    """One picture as the network sees it.

    `tensor` is (3, H, W) float32, `view` the same pixels as (H, W, 3) uint8 RGB before colour order and
    normalisation, `geometry` the way from the original's pixels to these. `notes` say why it was taken whole
    where the card asks for a face crop.
    """

    tensor: torch.Tensor
    view: ByteArray
    geometry: Geometry
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become a network's input: resize, crop, colour order, (pixels / scale - mean) / std.

    `size` is (height, width), None for each picture's own. Without `shorter_side` the picture is stretched to
    `size`; with it, its shorter side is brought to so many pixels and the centre cropped, as torchvision's
    Resize and CenterCrop do. `colours` is RGB or BGR; `mean` and `std` stand in that order. Raises UsageError
    for values without sense.

    Example:
        >>> str(PRESETS["opencv_bgr"])
        '224x224, stretched, opencv_bilinear, BGR, /255'
    """

    size: tuple[int, int] | None
    shorter_side: int | None = None
    interpolation: str = "bilinear"
    colours: str = "RGB"
    scale: float = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.size and not all(1 <= side <= MAX_SIDE for side in self.size):
            raise UsageError(f"size {self.size} is not (height, width) from 1 to {MAX_SIDE} pixels")
        if self.shorter_side is not None and self.size is None:
            raise UsageError(f"shorter_side {self.shorter_side} needs a size to crop")
        if self.size and self.shorter_side is not None:
            least, most = max(self.size), 2 * MAX_SIDE
            if not least <= self.shorter_side <= most:
                raise UsageError(
                    f"shorter_side {self.shorter_side} must be from {least} (the crop) to {most}"
                )
        if self.interpolation not in INTERPOLATIONS:
            raise UsageError(f"interpolation {self.interpolation!r} is none of {', '.join(INTERPOLATIONS)}")
        if self.colours not in COLOURS:
            raise UsageError(f"colours {self.colours!r} are neither RGB nor BGR")
        if not all(map(_is_finite, (self.scale, *self.mean, *self.std))) or not all(
            map(np.float32, (self.scale, *self.std))
        ):
            raise UsageError("scale, mean and std must be finite in float32, and scale and std not 0")

    def prepare(self, picture: Picture) -> Prepared:
        """Resize, crop and normalise one picture.

        Raises:
            ImageError: its centre is to be cropped, but it is over 32 times as long as wide; or it is to keep
                its own size, but has a side over 4096 pixels.
        """
        view, geometry = self._resized(picture)
        return Prepared(self.normalised(view), view, geometry)

    def normalised(self, view: ByteArray) -> torch.Tensor:
        """The tensor (3, H, W) float32 of pixels (H, W, 3) that have their size already."""
        import torch

        ordered = view[..., COLOURS[self.colours]].astype(np.float32) / np.float32(self.scale)
        normal = (ordered - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))

    def pixels_of(self, tensor: torch.Tensor) -> ByteArray:
        """The pixels (H, W, 3) uint8 RGB of a prepared tensor (3, H, W): the inverse of `normalised`.

        Example:
            >>> grey = np.full((2, 2, 3), 77, np.uint8)
            >>> bool((PRESETS["imagenet"].pixels_of(PRESETS["imagenet"].normalised(grey)) == grey).all())
            True
        """
        normal = tensor.detach().cpu().numpy().transpose(1, 2, 0)
        ordered = (normal * np.array(self.std, np.float32) + np.array(self.mean, np.float32)) * self.scale
        pixels = np.rint(ordered.clip(0, 255)).astype(np.uint8)
        return np.asarray(pixels[..., COLOURS[self.colours]])

    def _resized(self, picture: Picture) -> tuple[ByteArray, Geometry]:
        height, width = picture.pixels.shape[:2]
        if self.size is None:
            return _whole(picture), Geometry((1.0, 1.0), (0.0, 0.0))
        new_height, new_width = self.size
        if self.shorter_side is not None:
            short = min(height, width)
            new_height = int(self.shorter_side * height / short)
            new_width = int(self.shorter_side * width / short)
        if max(new_height, new_width) > MAX_ASPECT * max(self.shorter_side or 0, *self.size):
            raise ImageError(
                f"cannot prepare {picture.name!r}: no face fits the centre of {width}x{height} pixels; "
                "crop the picture to the face"
            )
        top, left = round((new_height - self.size[0]) / 2), round((new_width - self.size[1]) / 2)
        resized = INTERPOLATIONS[self.interpolation](picture.pixels, (new_width, new_height))
        view = resized[top : top + self.size[0], left : left + self.size[1]].copy()
        return view, Geometry((new_width / width, new_height / height), (float(left), float(top)))

    def __str__(self) -> str:
        parts = [*self._resizing(), self.colours, f"/{self.scale:g}"]
        if (self.mean, self.std) != ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)):
            parts += [
                f"{name} " + " ".join(f"{v:g}" for v in getattr(self, name)) for name in ("mean", "std")
            ]
        return ", ".join(parts)

    def _resizing(self) -> list[str]:
        if self.size is None:
            return ["own size"]
        how = "stretched" if self.shorter_side is None else f"centre of shorter side {self.shorter_side}"
        return [f"{self.size[0]}x{self.size[1]}", how, self.interpolation]

    def to_json(self) -> dict[str, Any]:
        """Every setting spelled out, for a card."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}

    @classmethod
    def from_json(cls, content: object) -> Preprocessing:
        """A preset by its name, or settings spelled out; those left out are default. Else UsageError."""
        return PRESETS[content] if isinstance(content, str) else validated(cls, "preprocessing", content)


def _whole(picture: Picture) -> ByteArray:
    height, width = picture.pixels.shape[:2]
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            f"cannot prepare {picture.name!r}: a side of its {width}x{height} pixels is over {MAX_SIDE}, and "
            "it is to keep its own size; crop it to the face"
        )
    return picture.pixels.copy()


def _is_finite(number: float) -> bool:
    """Whether a number is one in float32, in which pixels are computed."""
    return abs(number) <= float(np.finfo(np.float32).max)


PRESETS: Registry[Preprocessing] = Registry("preprocessing preset")
PRESETS.add("imagenet", Preprocessing((224, 224), 256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)))
PRESETS.add(  # cv2.imread, then albumentations' Resize, as in Minsuk Sung's Fake Face Detection
    "opencv_bgr", Preprocessing((224, 224), interpolation="opencv_bilinear", colours="BGR")
)
PRESETS.alias("seed", "opencv_bgr")
PRESETS.add("meso", Preprocessing((256, 256)))  # Afchar et al. 2018
PRESETS.add(  # the Inception and Xception networks as their authors trained them
    "inception", Preprocessing((299, 299), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
)
PRESETS.add("none", Preprocessing(None))


def preset_name(preprocessing: Preprocessing) -> str | None:
    """The preset that these settings are, if they are one."""
    return next((name for name, preset in PRESETS.items() if preset == preprocessing), None)
