"""Self-blended images: fakes made of one real face (Shiohara and Yamasaki 2022, arXiv:2204.08376)."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.random import Generator

from xface.data.augmentation import coarsened, colour_matrix
from xface.errors import UsageError
from xface.results import ByteArray, FloatArray

PARTS = ("real", "pair")
LIMITS = {
    "probability": 1,
    "tint": 255,
    "contrast": 1,
    "frequency": 1,
    "scale": 0.5,
    "shift": 1,
    "deformation": 1,
}
"""The greatest value of each setting; the least is 0."""


@dataclass(frozen=True)
class SelfBlending:
    """How self-blended images are made; the defaults are the paper's, lengths in parts of the face's size.

    Attributes:
        probability: in what part of the samples it is done.
        of: "real": of a real face, which becomes a fake. "pair": in place of a fake, of the real face that it
            was made from, so that the classes keep their numbers.
        tint: levels of 255 by which each colour channel is shifted.
        contrast: part by which brightness, contrast and saturation change.
        frequency: how often, apart from colour, the copy is coarsened or sharpened.
        scale, shift: part by which the source is enlarged or shrunk, and moved across and half as much down.
        deformation: typical way of the mask's edge under the elastic deformation.
        erosion: least and greatest width of the first smoothing, whose outside is cut off; the second
            smoothing is at most as wide, so that the mask stays within the face.
        ratios: the weights of the source where the mask is full, one of which is drawn.
    """

    probability: float = 0.5
    of: str = "real"
    tint: float = 20.0
    contrast: float = 0.1
    frequency: float = 0.5
    scale: float = 0.05
    shift: float = 0.03
    deformation: float = 0.03
    erosion: tuple[float, float] = (0.03, 0.15)
    ratios: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name, most in LIMITS.items():
            if not 0 <= getattr(self, name) <= most:
                raise UsageError(f"{name} {getattr(self, name):g} is not within 0 to {most:g}")
        if self.of not in PARTS:
            raise UsageError(f"self-blended images are made of {' or '.join(PARTS)}, not {self.of!r}")
        if not 0 <= self.erosion[0] <= self.erosion[1] < 0.5:
            raise UsageError(f"erosion {self.erosion} must be the least and the greatest, within 0 to 0.5")
        if not self.ratios or not all(0 < ratio <= 1 for ratio in self.ratios):
            raise UsageError(f"ratios {self.ratios} must be above 0 and at most 1")


@dataclass(frozen=True, eq=False)
class Blend:
    """A self-blended image: mask * source + (1 - mask) * target.

    `image`, `source` and `target` are uint8 RGB (H, W, 3); `mask` is float32 (H, W) within 0 to 1, above 0
    where the image is manipulated.
    """

    image: ByteArray
    mask: FloatArray
    source: ByteArray = field(repr=False)
    target: ByteArray = field(repr=False)


def self_blend(
    pixels: ByteArray, landmarks: FloatArray, rng: Generator, recipe: SelfBlending | None = None
) -> Blend | None:
    """Blend a face with an altered copy of itself.

    One of two copies, source or target, is changed in colour and perhaps in frequency; the source is scaled
    and moved; the hull of the landmarks, deformed and smoothed, says where the source is blended in, and how
    much. Unlike the authors' program, the deformation is smooth noise on a coarse grid (faster, and like
    enough), and the mask never leaves the hull.

    Args:
        pixels: uint8 RGB (H, W, 3).
        landmarks: (68, 2), x before y, in pixels; they may lie outside the picture.
        rng: where all random numbers come from.
        recipe: how; the paper's way if None.

    Returns:
        The blend; None if too little of the face is in the picture.
    """
    recipe = recipe or SelfBlending()
    mask = blend_mask(landmarks, pixels.shape[:2], rng, recipe)
    if mask is None:
        return None
    changed, plain = _altered(pixels, rng, recipe), pixels
    source, target = (changed, plain) if rng.random() < 0.5 else (plain, changed)
    source = _moved(source, landmarks, rng, recipe)
    return Blend(blended(source, target, mask), mask, source, target)


def blended(source: ByteArray, target: ByteArray, mask: FloatArray) -> ByteArray:
    """mask * source + (1 - mask) * target, rounded: uint8 (H, W, 3); exactly the target where the mask is 0.

    Example:
        >>> white, black = np.full((1, 2, 3), 255, np.uint8), np.zeros((1, 2, 3), np.uint8)
        >>> blended(white, black, np.array([[0.0, 1.0]]))[..., 0].tolist()
        [[0, 255]]
    """
    weight = mask.astype(np.float32)[..., None]
    base = target.astype(np.float32)
    return np.rint(base + weight * (source.astype(np.float32) - base)).astype(np.uint8)


def blend_mask(
    landmarks: FloatArray, size: tuple[int, ...], rng: Generator, recipe: SelfBlending
) -> FloatArray | None:
    """The weight of the source, float32 (H, W), 0 outside the landmarks' hull; None if it is empty."""
    extent = face_size(landmarks)
    rim = _rim(landmarks, size, extent)
    landmarks = landmarks + rim
    hull = cv2.convexHull(np.rint(landmarks).astype(np.int32))
    solid = np.zeros((size[0] + 2 * rim, size[1] + 2 * rim), np.uint8)
    cv2.fillConvexPoly(solid, hull, 1)
    first, second = _widths(extent, rng, recipe)
    inside = np.minimum(solid, _deformed(solid, landmarks, extent, rng, recipe))
    kernel = np.ones((first, first), np.uint8)
    core = cv2.erode(inside, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    smooth = cv2.GaussianBlur(core.astype(np.float32), (second, second), 0)
    smooth = smooth[rim : rim + size[0], rim : rim + size[1]]
    ratio = recipe.ratios[int(rng.integers(len(recipe.ratios)))]
    peak = float(smooth.max())
    return np.asarray(smooth * (ratio / peak), np.float32) if peak > 0 else None


def _rim(landmarks: FloatArray, size: tuple[int, ...], extent: float) -> int:
    """By how many pixels the canvas must be larger at each side, for a hull that the picture's edge cuts.

    What is moved in from beyond the edge must be the hull's continuation there, not its last row again.
    """
    reach = extent / 4
    near = min(landmarks.min(), (np.array(size[1::-1]) - landmarks).min())
    return int(np.clip(np.ceil(reach - near), 0, np.ceil(2 * reach)))


def face_size(landmarks: FloatArray) -> float:
    """The mean of the landmarks' extents across and down, in pixels."""
    return float(np.ptp(landmarks, axis=0).mean())


def _widths(extent: float, rng: Generator, recipe: SelfBlending) -> tuple[int, int]:
    """The odd widths of the first and the second smoothing, in pixels; the second is not the greater."""
    first = rng.uniform(*recipe.erosion) * extent
    second = rng.uniform(0.3, 1.0) * first
    return 2 * int(first / 2) + 1, 2 * int(second / 2) + 1


def _deformed(
    solid: ByteArray, landmarks: FloatArray, extent: float, rng: Generator, recipe: SelfBlending
) -> ByteArray:
    """The hull shrunk and moved a little, its edge waved."""
    height, width = solid.shape
    waves = rng.normal(0, recipe.deformation * extent, (2, *_cells(solid.shape, extent))).astype(np.float32)
    zoom, shift = _affine(rng, recipe, extent)
    middle = landmarks.mean(axis=0)
    axes = [np.arange(n, dtype=np.float32) for n in (width, height)]
    columns, rows = ((axis - m - s) / zoom + m for axis, m, s in zip(axes, middle, shift, strict=True))
    across, down = (cv2.resize(wave, (width, height), interpolation=cv2.INTER_CUBIC) for wave in waves)
    x, y = (across + columns).astype(np.float32), (down + rows[:, None]).astype(np.float32)
    return np.asarray(cv2.remap(solid, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _cells(size: tuple[int, ...], extent: float) -> tuple[int, int]:
    """Of the grid of waves: cells of a sixth of the face, however large the picture."""
    return max(2, round(6 * size[0] / extent)), max(2, round(6 * size[1] / extent))


def _affine(rng: Generator, recipe: SelfBlending, extent: float) -> tuple[float, FloatArray]:
    limits = recipe.shift * extent * np.array([1.0, 0.5])
    return 1 + float(rng.uniform(-recipe.scale, recipe.scale)), rng.uniform(-limits, limits)


def _altered(pixels: ByteArray, rng: Generator, recipe: SelfBlending) -> ByteArray:
    """A copy in other colours, perhaps coarser or sharper."""
    brightness, contrast, saturation = 1 + rng.uniform(-recipe.contrast, recipe.contrast, 3)
    matrix = colour_matrix(brightness, contrast, saturation, 0.0)
    matrix[:, 3] += rng.uniform(-recipe.tint, recipe.tint, 3)
    copy = np.asarray(cv2.transform(pixels, matrix), np.uint8)
    often, which = rng.random(2)
    if often >= recipe.frequency:
        return copy
    return coarsened(copy, float(rng.choice([0.5, 0.25]))) if which < 0.5 else _sharpened(copy, rng)


def _sharpened(pixels: ByteArray, rng: Generator) -> ByteArray:
    soft = cv2.GaussianBlur(pixels, (3, 3), 0)
    amount = float(rng.uniform(0.5, 2.0))
    return np.asarray(cv2.addWeighted(pixels, 1 + amount, soft, -amount, 0), np.uint8)


def _moved(pixels: ByteArray, landmarks: FloatArray, rng: Generator, recipe: SelfBlending) -> ByteArray:
    """Scaled about the face's middle and shifted; what comes in is mirrored at the edge."""
    zoom, shift = _affine(rng, recipe, face_size(landmarks))
    offset = landmarks.mean(axis=0) * (1 - zoom) + shift
    matrix = np.array([[zoom, 0, offset[0]], [0, zoom, offset[1]]])
    size = pixels.shape[1::-1]
    moved = cv2.warpAffine(pixels, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.uint8)
