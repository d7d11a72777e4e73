"""One face in its picture, prepared once for all attributes that are read from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from xface.errors import LandmarkError
from xface.faces.face_axes import BoolArray, FaceAxes, hull
from xface.faces.pose import Angles, head_pose
from xface.images.pictures import Picture, as_stored
from xface.results import ByteArray, FloatArray

FACE_SIDE = 128
"""The face size in px of the copy that sharpness is read from: below most faces', so that they shrink."""

SMOOTHING = 1.0
"""Sigma of a Gaussian over the copy, in its pixels: more than resampling blurs, so that how much a face was
shrunk hardly tells (a mean deviation of 6 % of sharpness over sizes; 22 % without it)."""

EYE_MARGIN = 0.10  # IOD, as of the regions
EYES = (range(36, 42), range(42, 48))
SUBPIXEL_BITS = 4
FARTHEST = 1e6  # pixels: a landmark beyond is none

Window = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Portrait:
    """A picture, uint8 RGB (H, W, 3), the axes of its face, None if it has none, and its EXIF orientation."""

    pixels: ByteArray
    axes: FaceAxes | None
    orientation: int = 1

    @classmethod
    def of(cls, picture: Picture, landmarks: FloatArray | None) -> Portrait:
        """The portrait by landmarks (68, 2); those that are not finite or span no face stand for none."""
        pixels = np.ascontiguousarray(picture.pixels)
        return cls(pixels, _axes(landmarks, pixels.shape[:2]), picture.orientation)

    @property
    def face(self) -> FaceAxes:
        """The face's axes; LandmarkError if there is none."""
        if self.axes is None:
            raise LandmarkError("the picture has no face to read an attribute from; give its 68 landmarks")
        return self.axes

    @cached_property
    def luma(self) -> ByteArray:
        """0.299 R + 0.587 G + 0.114 B of every pixel (ITU-R BT.601), 0 to 255."""
        return np.asarray(cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY), np.uint8)

    @cached_property
    def stored_luma(self) -> ByteArray:
        """The luma in the rows and columns of the picture's file, which EXIF may have turned."""
        return as_stored(self.luma, self.orientation)

    @cached_property
    def size(self) -> float:
        """The side of a square as large as the face outline, in pixels; with what the picture cuts off."""
        return float(cv2.contourArea(self.face.outline.astype(np.float32)) ** 0.5)

    @cached_property
    def skin(self) -> ByteArray:
        """The luma of the pixels inside the face outline, (n,); none if the picture shows none of them."""
        crop = self.luma[self._window]
        return crop[_filled(self.face.outline - self._origin, crop.shape)]

    @cached_property
    def relief(self) -> FloatArray:
        """The Laplacian inside the face outline of a smoothed copy whose face size is 128 px, (n,)."""
        laplacian, scale = self._copy
        return laplacian[_filled(self._in_copy(self.face.outline, scale), laplacian.shape)]

    @cached_property
    def eye_relief(self) -> FloatArray:
        """The same inside the two eye regions: the hulls of their landmarks, dilated by 0.10 IOD."""
        laplacian, scale = self._copy
        radius = EYE_MARGIN * self.face.iod * float(scale.mean())
        masks = [
            _filled(self._in_copy(hull(self.face.points[list(eye)]), scale), laplacian.shape, radius)
            for eye in EYES
        ]
        return laplacian[np.logical_or(*masks)]

    @cached_property
    def pose(self) -> Angles:
        """Yaw, pitch and roll in degrees; see `xface.faces.pose`."""
        return head_pose(self.face.points, self.face.size)

    @cached_property
    def _window(self) -> Window:
        """The part of the picture around the face outline, with a margin of 2 pixels of the copy."""
        margin = 2 * max(1.0, self.size / FACE_SIDE)
        low = np.clip(np.floor(self.face.outline.min(axis=0) - margin), 0, self.face.size[::-1]).astype(int)
        high = np.clip(np.ceil(self.face.outline.max(axis=0) + margin), 0, self.face.size[::-1]).astype(int)
        return slice(low[1], high[1]), slice(low[0], high[0])

    @property
    def _origin(self) -> FloatArray:
        rows, columns = self._window
        return np.array([columns.start, rows.start], np.float64)

    @cached_property
    def _copy(self) -> tuple[FloatArray, FloatArray]:
        """The Laplacian of the copy (four neighbours less four times the pixel), and the copy's scale."""
        crop = self.luma[self._window].astype(np.float32)
        if not crop.size:
            return crop, np.ones(2)
        zoom = FACE_SIDE / self.size
        width, height = (max(1, round(side * zoom)) for side in crop.shape[::-1])
        method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
        copy = cv2.GaussianBlur(cv2.resize(crop, (width, height), interpolation=method), (0, 0), SMOOTHING)
        scale = np.array([width, height]) / crop.shape[::-1]
        return np.asarray(cv2.Laplacian(copy, cv2.CV_32F, ksize=1)), scale

    def _in_copy(self, points: FloatArray, scale: FloatArray) -> FloatArray:
        return np.asarray((points - self._origin + 0.5) * scale - 0.5)


def _axes(landmarks: FloatArray | None, size: tuple[int, int]) -> FaceAxes | None:
    if landmarks is None:
        return None
    if np.shape(landmarks) != (68, 2):
        raise LandmarkError(f"landmarks must be 68 pairs, not an array of shape {np.shape(landmarks)}")
    points = np.asarray(landmarks, np.float64)
    if not (np.abs(points) < FARTHEST).all():  # false for NaN too
        return None
    try:
        return FaceAxes.of(points, size)
    except LandmarkError:
        return None


def _filled(polygon: FloatArray, shape: tuple[int, ...], radius: float = 0.0) -> BoolArray:
    """The pixels in a convex polygon (k, 2), or at most about `radius` from it."""
    mask = np.zeros(shape, np.uint8)
    if mask.size:
        points = np.rint(polygon * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.fillConvexPoly(mask, points, 1, shift=SUBPIXEL_BITS)
        if radius > 0:
            cv2.polylines(mask, [points], True, 1, max(1, round(2 * radius)), shift=SUBPIXEL_BITS)
    return mask.astype(bool)
