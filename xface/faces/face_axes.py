"""A face's own axes, and what of a picture lies where along them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from xface.errors import LandmarkError
from xface.results import FloatArray

BoolArray = NDArray[np.bool_]

JAW_LINE = range(17)
EYEBROWS = range(17, 27)
CHIN = 8
SMALLEST = 1e-6  # pixels: below this a length is none
ARCH = 0.4  # height of the forehead's arch above the eyebrows, in eyebrow-to-chin distances


@dataclass(frozen=True, eq=False)
class FaceAxes:
    """A face's own axes over the pixel centres of a picture of `size` (height, width)."""

    points: FloatArray
    size: tuple[int, int]

    @classmethod
    def of(cls, landmarks: FloatArray, size: tuple[int, int]) -> FaceAxes:
        """The axes of (68, 2) landmarks; LandmarkError if they are no 68 finite pairs or span no face."""
        points = np.asarray(landmarks, np.float64)
        if points.shape != (68, 2) or not np.isfinite(points).all():
            raise LandmarkError(f"landmarks must be 68 finite pairs, not an array of shape {points.shape}")
        axes = cls(points, size)
        lengths = axes.iod, float(np.linalg.norm(axes.eyes.mean(axis=0) - points[CHIN]))
        if min(lengths) < SMALLEST or np.ptp(axes.along(0, points[JAW_LINE])) < SMALLEST:
            raise LandmarkError(
                "the landmarks span no face: the eyes, eyes and chin, or the jaw are in one place"
            )
        return axes

    @cached_property
    def eyes(self) -> FloatArray:
        """The centres of the right and of the left eye, (2, 2)."""
        return np.stack([self.points[36:42].mean(axis=0), self.points[42:48].mean(axis=0)])

    @cached_property
    def iod(self) -> float:
        """The distance between the eye centres, in pixels."""
        return float(np.linalg.norm(self.eyes[1] - self.eyes[0]))

    @cached_property
    def directions(self) -> FloatArray:
        """Two unit vectors, (2, 2): towards the subject's left, and up from the chin to the eyes."""
        up = self.eyes.mean(axis=0) - self.points[CHIN]
        up = up / np.linalg.norm(up)
        left = np.array([-up[1], up[0]])
        return np.stack([left if left @ (self.eyes[1] - self.eyes[0]) >= 0 else -left, up])

    @cached_property
    def pixels(self) -> FloatArray:
        """The (x, y) of every pixel's centre, (height, width, 2)."""
        rows, columns = np.indices(self.size, dtype=np.float64)
        return np.stack([columns, rows], axis=-1)

    def along(self, axis: int, points: FloatArray) -> FloatArray:
        """Distance of points (..., 2) from the point between the eyes, along one of the `directions`."""
        return np.asarray((points - self.eyes.mean(axis=0)) @ self.directions[axis])

    @cached_property
    def side(self) -> FloatArray:
        """Of every pixel: negative on the subject's right of the midline, positive on the left."""
        return self.along(0, self.pixels)

    @cached_property
    def height(self) -> FloatArray:
        """Of every pixel: distance above the point between the eyes."""
        return self.along(1, self.pixels)

    def height_of(self, indices: Sequence[int]) -> float:
        """The mean height of some landmarks."""
        return float(self.along(1, self.points[list(indices)]).mean())

    @cached_property
    def face(self) -> BoolArray:
        """The pixels inside the face outline."""
        return self.around(self.outline, 0.0)

    @cached_property
    def outline(self) -> FloatArray:
        """The face outline as a convex polygon (k, 2): the hull of the jaw line and the arched eyebrows."""
        return hull(np.concatenate([self.points[JAW_LINE], self._arch()]))

    def _arch(self) -> FloatArray:
        brows, jaw = self.points[EYEBROWS], self.along(0, self.points[JAW_LINE])
        middle, half = (jaw.max() + jaw.min()) / 2, (jaw.max() - jaw.min()) / 2
        offset = np.clip((self.along(0, brows) - middle) / half, -1, 1)
        top = ARCH * (self.height_of(EYEBROWS) - self.height_of([CHIN]))
        return np.asarray(brows + np.outer(top * np.sqrt(1 - offset**2), self.directions[1]))

    def around(self, polygon: FloatArray, radius: float) -> BoolArray:
        """The pixels in a convex `polygon` (k, 2) from `hull`, or at most `radius` pixels from it."""
        if radius == 0 and len(polygon) > 2:  # its edges count as inside
            return self._windowed(polygon, radius, lambda pixels: _inside(pixels, polygon))
        return self._windowed(
            polygon,
            radius,
            lambda pixels: _inside(pixels, polygon) | _near(pixels, polygon, radius, closed=True),
        )

    def along_line(self, line: FloatArray, radius: float) -> BoolArray:
        """The pixels at most `radius` pixels from an open `line` (k, 2)."""
        return self._windowed(line, radius, lambda pixels: _near(pixels, line, radius, closed=False))

    def _windowed(
        self, shape: FloatArray, radius: float, rule: Callable[[FloatArray], BoolArray]
    ) -> BoolArray:
        mask = np.zeros(self.size, bool)
        first = np.clip(np.floor(shape.min(axis=0) - radius), 0, self.size[::-1]).astype(int)
        last = np.clip(np.ceil(shape.max(axis=0) + radius) + 1, 0, self.size[::-1]).astype(int)
        window = (slice(first[1], last[1]), slice(first[0], last[0]))
        mask[window] = rule(self.pixels[window])
        return mask


def hull(points: FloatArray) -> FloatArray:
    """The convex hull of points (k, 2): a polygon that turns from x towards y."""
    polygon = np.asarray(cv2.convexHull(points.astype(np.float32)).reshape(-1, 2), np.float64)
    x, y = (polygon - polygon.mean(axis=0)).T
    return polygon if x @ np.roll(y, -1) >= y @ np.roll(x, -1) else polygon[::-1]


def _inside(pixels: FloatArray, polygon: FloatArray) -> BoolArray:
    inside = np.full(pixels.shape[:2], len(polygon) > 2)
    for start, step in zip(polygon, np.roll(polygon, -1, axis=0) - polygon, strict=True):
        x, y = _from(start, pixels)
        inside &= step[0] * y - step[1] * x >= 0
    return inside


def _from(start: FloatArray, pixels: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The way to each pixel of a window, x as a row and y as a column: most of what follows costs less so."""
    return pixels[:1, :, 0] - start[0], pixels[:, :1, 1] - start[1]


def _near(pixels: FloatArray, line: FloatArray, radius: float, closed: bool) -> BoolArray:
    near = np.zeros(pixels.shape[:2], bool)
    steps = np.roll(line, -1, axis=0) - line
    for start, (dx, dy) in list(zip(line, steps, strict=True))[: None if closed else -1]:
        x, y = _from(start, pixels)
        part = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, SMALLEST**2), 0, 1)
        near |= (x - part * dx) ** 2 + (y - part * dy) ** 2 <= radius**2
    return near
