"""Augmentations: named changes of a view, their parameters as data, their random numbers from a generator.

The operations are OpenCV's. torchvision's and albumentations' own draw from a state that all samples share,
so that one sample's changes depend on which worker it fell to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import cv2
import numpy as np
from numpy.random import Generator

from xface.errors import UsageError
from xface.registry import Registry
from xface.results import ByteArray, FloatArray
from xface.validation import validated

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
GREY = 127.5

Change = Callable[[ByteArray], ByteArray]
"""From uint8 RGB (H, W, 3) to the same; a geometric one takes (H, W) as well."""


class Augmentation(Protocol):
    """A kind of change: how often it is made, and one of its changes drawn at random.

    A geometric one moves pixels, and so masks as well.
    """

    geometric: ClassVar[bool]

    @property
    def probability(self) -> float:
        """In what part of the views it is made."""
        ...

    def draw(self, rng: Generator) -> Change:
        """One change, its amount drawn."""
        ...


AUGMENTATIONS: Registry[type[Any]] = Registry("augmentation")


@dataclass(frozen=True)
class _Changes:
    probability: float = 0.5
    geometric: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise UsageError(f"probability {self.probability} is not within 0 to 1")


@dataclass(frozen=True)
class Flip(_Changes):
    """Mirrors left and right."""

    geometric: ClassVar[bool] = True

    def draw(self, rng: Generator) -> Change:
        """The mirroring."""
        return lambda pixels: np.ascontiguousarray(pixels[:, ::-1])


@dataclass(frozen=True)
class Rotation(_Changes):
    """Turns about the centre by up to `degrees` to either side; what comes in is mirrored at the edge."""

    degrees: float = 10.0
    geometric: ClassVar[bool] = True

    def draw(self, rng: Generator) -> Change:
        """A turn by a uniform angle, bilinear."""
        angle = rng.uniform(-self.degrees, self.degrees)

        def turn(pixels: ByteArray) -> ByteArray:
            height, width = pixels.shape[:2]
            matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
            moved = cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
            return np.asarray(moved, pixels.dtype)

        return turn


@dataclass(frozen=True)
class Colour(_Changes):
    """Brightness, contrast and saturation by factors 1 +- so much, hue by so much of a full turn.

    Each is linear in RGB, so that a change is one matrix (3, 4): a gain; a gain about mid-grey; a mixture
    with the luma of BT.601; a rotation about the grey axis.
    """

    probability: float = 0.8
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02

    def draw(self, rng: Generator) -> Change:
        """A change of all four."""
        limits = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        brightness, contrast, saturation, hue = rng.uniform(-limits, limits)
        matrix = colour_matrix(1 + brightness, 1 + contrast, 1 + saturation, hue)
        return lambda pixels: np.asarray(cv2.transform(pixels, matrix), np.uint8)


def colour_matrix(brightness: float, contrast: float, saturation: float, hue: float) -> FloatArray:
    """The matrix (3, 4) that changes RGB of 0 to 255; factors of 1 and a turn of 0 change nothing.

    Example:
        >>> colour_matrix(1, 1, 1, 0).round(9).tolist()
        [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    turn, _ = cv2.Rodrigues(np.full(3, 2 * np.pi * hue / np.sqrt(3)))
    saturate = saturation * np.eye(3) + (1 - saturation) * np.outer(np.ones(3), LUMA)
    offset = np.full((3, 1), (1 - contrast) * GREY)
    return np.hstack([contrast * brightness * saturate @ turn, offset])


@dataclass(frozen=True)
class Jpeg(_Changes):
    """Compresses as JPEG at a uniform quality within `quality`, lowest and highest of 1 to 100."""

    quality: tuple[int, int] = (40, 95)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("quality", self.quality, 1, 100)

    def draw(self, rng: Generator) -> Change:
        """A compression."""
        options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(self.quality[0], self.quality[1] + 1))]

        def compress(pixels: ByteArray) -> ByteArray:
            _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
            return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)

        return compress


@dataclass(frozen=True)
class Blur(_Changes):
    """Blurs by a Gaussian whose standard deviation is uniform within `sigma`, in pixels."""

    probability: float = 0.2
    sigma: tuple[float, float] = (0.2, 1.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("sigma", self.sigma, 1e-3, 100)

    def draw(self, rng: Generator) -> Change:
        """A blur."""
        sigma = rng.uniform(*self.sigma)
        return lambda pixels: np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8)


@dataclass(frozen=True)
class Downscale(_Changes):
    """Shrinks by a uniform factor within `factor`, averaging, and enlarges back bilinearly."""

    probability: float = 0.2
    factor: tuple[float, float] = (0.4, 0.9)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("factor", self.factor, 0.01, 1)

    def draw(self, rng: Generator) -> Change:
        """A loss of resolution."""
        factor = rng.uniform(*self.factor)
        return lambda pixels: coarsened(pixels, factor)


def coarsened(pixels: ByteArray, factor: float) -> ByteArray:
    """Pixels (H, W, 3) at `factor` of their resolution, at their former size."""
    height, width = pixels.shape[:2]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    shrunk = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR), pixels.dtype)


AUGMENTATIONS.add("flip", Flip)
AUGMENTATIONS.add("rotation", Rotation)
AUGMENTATIONS.add("colour", Colour)
AUGMENTATIONS.add("jpeg", Jpeg)
AUGMENTATIONS.add("blur", Blur)
AUGMENTATIONS.add("downscale", Downscale)


@dataclass(frozen=True)
class Augmentations:
    """Several augmentations one after the other.

    Example:
        >>> mirror = augmentations({"flip": {"probability": 1}})
        >>> mirror(np.arange(6, dtype=np.uint8).reshape(1, 2, 3), np.random.default_rng(0))[0].tolist()
        [[[3, 4, 5], [0, 1, 2]]]
    """

    steps: tuple[Augmentation, ...]

    def __call__(
        self, pixels: ByteArray, rng: Generator, mask: FloatArray | None = None
    ) -> tuple[ByteArray, FloatArray | None]:
        """Change pixels, uint8 RGB (H, W, 3), and move a mask (H, W) along with them."""
        for step in self.steps:
            if rng.random() < step.probability:
                change = step.draw(rng)
                pixels = change(pixels)
                if mask is not None and step.geometric:
                    mask = np.asarray(change(mask), np.float32)  # type: ignore[arg-type]
        return pixels, mask


def augmentations(settings: Mapping[str, Mapping[str, Any]] | Iterable[str]) -> Augmentations:
    """Augmentations by their registered names, in the order given, with the parameters given.

    Raises:
        UnknownNameError: no such augmentation, or it has no such parameter.
        UsageError: a parameter's value makes no sense.

    Example:
        >>> augmentations({"rotation": {"degrees": 5}, "flip": {}}).steps
        (Rotation(probability=0.5, degrees=5.0), Flip(probability=0.5))
    """
    named = settings if isinstance(settings, Mapping) else {name: {} for name in settings}
    return Augmentations(
        tuple(validated(AUGMENTATIONS[name], name, values or {}) for name, values in named.items())
    )


def check_range(name: str, given: tuple[float, float], least: float, most: float) -> None:
    """Raise UsageError unless two numbers are in order, and within these."""
    if not least <= given[0] <= given[1] <= most:
        raise UsageError(f"{name} {given} must be the least and the greatest, within {least:g} to {most:g}")


Pixels = TypeVar("Pixels", ByteArray, FloatArray)


@dataclass(frozen=True)
class RandomCrop:
    """Squares of `side` pixels at random places of a view, enlarged by a factor within `scale`.

    The factor is uniform in its logarithm. A network that pools over its whole grid can judge larger views
    than it was trained on: a quarter of the pixels costs a quarter of the time, and every place of a face is
    seen in every corner of the input.

    Example:
        >>> crop = RandomCrop(side=2)
        >>> view = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
        >>> crop(view, np.random.default_rng(0))[0].shape
        (2, 2, 3)
    """

    side: int
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0.1 <= low <= high <= 10:
            raise UsageError(f"scale {self.scale} must be the least and the greatest, within 0.1 to 10")

    def __call__(
        self, pixels: ByteArray, rng: Generator, mask: FloatArray | None = None
    ) -> tuple[ByteArray, FloatArray | None]:
        """Cut from pixels, uint8 RGB (H, W, 3), and from a mask (H, W) at the same place."""
        factor = float(np.exp(rng.uniform(*np.log(self.scale))))
        edge = min(round(self.side / factor), *pixels.shape[:2])
        top, left = (rng.random(2) * (np.array(pixels.shape[:2]) - edge + 1)).astype(int)
        place = slice(top, top + edge), slice(left, left + edge)
        return self._sized(pixels[place]), None if mask is None else self._sized(mask[place])

    def _sized(self, window: Pixels) -> Pixels:
        if window.shape[0] == self.side:
            return np.ascontiguousarray(window)
        resized = cv2.resize(np.ascontiguousarray(window), (self.side, self.side))
        return np.asarray(resized, window.dtype)
