"""The regions as they lie on one frontal face, for drawings that are of no picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from xface.faces.face_axes import BoolArray
from xface.faces.regions import REGIONS, region_labels

FRONTAL = np.array([
    (30, 100), (31.3, 119.5), (35.3, 138.3), (41.8, 155.6), (50.5, 170.7), (61.1, 183.1), (73.2, 192.4),
    (86.3, 198.1), (100, 200), (113.7, 198.1), (126.8, 192.4), (138.9, 183.1), (149.5, 170.7), (158.2, 155.6),
    (164.7, 138.3), (168.7, 119.5), (170, 100),
    (45, 84), (53, 80), (62, 78), (72, 79), (85, 84), (115, 84), (128, 79), (138, 78), (147, 80), (155, 84),
    (100, 104), (100, 114), (100, 124), (100, 134), (88, 140), (94, 140), (100, 140), (106, 140), (112, 140),
    (58, 100), (65, 95), (75, 95), (82, 100), (75, 105), (65, 105),
    (118, 100), (125, 95), (135, 95), (142, 100), (135, 105), (125, 105),
    (78, 165), (85, 160), (94, 158), (100, 159), (106, 158), (115, 160), (122, 165), (115, 171), (106, 174),
    (100, 175), (94, 174), (85, 171),
    (82, 165), (94, 163), (100, 163), (106, 163), (118, 165), (106, 167), (100, 167), (94, 167),
])  # fmt: skip
"""Landmarks of a frontal face, symmetric about x = 100, that a report draws."""

WIDTH, HEIGHT = 200, 240
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
