"""The regions as they lie on one frontal face, for drawings that are of no picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from xface.faces.face_axes import BoolArray
from xface.faces.frontal import FRONTAL, HEIGHT, WIDTH
from xface.faces.regions import REGIONS, region_labels

ZOOM = 4  # outlines are traced on a larger drawing, for smooth edges
WIDER = 3  # a number is about three times as wide as high


def drawn_regions() -> dict[str, dict[str, Any]]:
    """The outlines and the label's place of each region on the `FRONTAL` face, as `runs.regions_of` has them.

    Example:
        >>> drawn_regions()["nose"]["label"]
        [99.9, 138.4]
    """
    labels = region_labels(FRONTAL * ZOOM - 0.5, (HEIGHT * ZOOM, WIDTH * ZOOM))
    return {name: _drawn(labels == index) for index, name in enumerate(REGIONS)}


def _drawn(mask: BoolArray) -> dict[str, Any]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    lines = (cv2.approxPolyDP(contour, 1, True).reshape(-1, 2) for contour in contours)
    outlines = [" ".join("{:g},{:g}".format(*_drawing(point)) for point in line) for line in lines]
    return {"outlines": outlines, "label": _drawing(_roomiest(mask))}


def _drawing(point: Any) -> list[float]:
    """The place of a pixel's centre, in the drawing's units."""
    return [round((float(each) + 0.5) / ZOOM, 1) for each in point]


def _roomiest(mask: BoolArray) -> tuple[int, int]:
    """The (x, y) in a mask around which a number has most room."""
    framed = np.pad(mask.astype(np.uint8), 1).repeat(WIDER, axis=0)
    room = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.unravel_index(room.argmax(), room.shape)
    return int(x) - 1, int(y) // WIDER - 1
