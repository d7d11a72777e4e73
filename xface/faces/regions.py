"""The disjoint regions of a face, drawn from its 68 iBUG landmarks.

All lengths are in units of IOD, the distance between the two eye centres, and all heights are measured
along `up`, the unit vector from the chin to the point between the eyes; so the regions turn and grow with
the face. Left and right are the subject's. A pixel belongs to a region if its centre does; where two
regions overlap, to the one registered first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from xface.faces.face_axes import EYEBROWS, BoolArray, FaceAxes, hull
from xface.registry import Registry
from xface.results import ByteArray, FloatArray

NOSE, NOSE_BRIDGE, MOUTH_CORNERS = range(27, 36), 27, (48, 54)
NOSE_BRIDGE_WIDTH = 0.10  # to each side
OUTLINE_SIDE = 900  # outlines are traced on a drawing about this large, for smooth edges

Region = Callable[[FaceAxes], BoolArray]
REGIONS: Registry[Region] = Registry("region")


def _around(indices: Sequence[int], margin: float) -> Region:
    """The hull of some landmarks, dilated by `margin` IOD."""
    return lambda axes: axes.around(hull(axes.points[list(indices)]), margin * axes.iod)


def _stroke(indices: Sequence[int], thickness: float) -> Region:
    """The line through some landmarks, `thickness` IOD thick."""
    return lambda axes: axes.along_line(axes.points[list(indices)], thickness / 2 * axes.iod)


def _nose(axes: FaceAxes) -> BoolArray:
    widened = np.outer([-1, 1], NOSE_BRIDGE_WIDTH * axes.iod * axes.directions[0]) + axes.points[NOSE_BRIDGE]
    return axes.around(hull(np.concatenate([axes.points[NOSE], widened])), 0.06 * axes.iod)


REGIONS.add("right_eye", _around(range(36, 42), 0.10))
REGIONS.add("left_eye", _around(range(42, 48), 0.10))
REGIONS.add("right_eyebrow", _stroke(range(17, 22), 0.16))
REGIONS.add("left_eyebrow", _stroke(range(22, 27), 0.16))
REGIONS.add("mouth", _around(range(48, 60), 0.06))
REGIONS.add("nose", _nose)
REGIONS.add("forehead", lambda axes: axes.face & (axes.height > axes.height_of(EYEBROWS)))
REGIONS.add("jaw", lambda axes: axes.face & (axes.height < axes.height_of(MOUTH_CORNERS)))
REGIONS.add("right_cheek", lambda axes: axes.face & (axes.side < 0))
REGIONS.add("left_cheek", lambda axes: axes.face & (axes.side >= 0))
REGIONS.add("background", lambda axes: np.ones(axes.size, bool))

BACKGROUND = "background"


def region_labels(landmarks: FloatArray, size: tuple[int, int]) -> ByteArray:
    """The region of every pixel of a picture.

    Args:
        landmarks: (68, 2), x before y, in pixels of that picture; the first pixel's centre is (0, 0).
            They may lie outside it.
        size: the picture's (height, width).

    Returns:
        uint8 (height, width): an index into the order of `REGIONS`.

    Raises:
        LandmarkError: if the landmarks are not 68 finite pairs, or span no face.

    Example:
        >>> x = np.linspace(0, 99, 68)
        >>> region_labels(np.stack([x, x**2 % 97], axis=1), (100, 100)).shape
        (100, 100)
    """
    axes = FaceAxes.of(landmarks, size)
    labels = np.full(size, len(REGIONS) - 1, np.uint8)
    for index, draw in reversed(list(enumerate(REGIONS.values()))):
        labels[draw(axes)] = index
    return labels


def region_outlines(landmarks: FloatArray, size: tuple[int, int]) -> list[tuple[str, FloatArray]]:
    """The outlines of all regions but the background, for drawing.

    Returns:
        A name and a closed polygon (k, 2), in pixels as `landmarks`, per connected part of a region.

    Raises:
        LandmarkError: as `region_labels`.
    """
    zoom = max(1, round(OUTLINE_SIDE / max(size)))
    enlarged = (np.asarray(landmarks, np.float64) + 0.5) * zoom - 0.5
    labels = region_labels(enlarged, (size[0] * zoom, size[1] * zoom))
    return [
        (name, (contour.reshape(-1, 2) + 0.5) / zoom - 0.5)
        for index, name in enumerate(REGIONS)
        if name != BACKGROUND
        for contour in _contours(labels == index)
    ]


def _contours(mask: BoolArray) -> Sequence[NDArray[Any]]:
    return cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
