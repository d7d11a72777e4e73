"""Finds the face of a picture and its 68 iBUG landmarks with dlib."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from threading import local
from typing import Any

import cv2
import dlib
import numpy as np

from xface.errors import LandmarkError, UnknownNameError
from xface.faces.predictor import CNN_MODEL, LANDMARK_MODEL, ModelFile
from xface.results import ByteArray, Face, FloatArray

DETECTORS = ("hog", "cnn")
DETECTION_SIDE = 800  # longest side searched: dlib finds faces from 80 px, so from a tenth of the side
FACE_SIDE = 300  # the predictor answers in whole pixels: below 200 px of face that costs accuracy
FACE_MARGIN = 0.5  # of the box, kept around the face that the predictor sees
SMALLEST_SIDE = 40  # the second try doubles this to the 80 px that dlib needs
CROP_MARGIN = 0.25  # of the longest side, put around tight crops for the second try

_own = local()

Box = tuple[float, float, float, float]  # left, top, right, bottom


def find_face(pixels: ByteArray, detector: str = "hog") -> Face:
    """The largest face of a picture with its landmarks.

    The picture, shrunk to 800 px if it is larger, is searched by dlib's HOG detector; if that finds
    nothing, twice as large and with a black margin, which finds small faces and those that a tight crop
    cuts; and if `detector` is "cnn", then by dlib's CNN detector (seconds on a CPU). The landmarks are
    those of Kazemi and Sullivan (CVPR 2014), predicted on a copy whose face is 300 px wide.

    Args:
        pixels: uint8 (H, W, 3), RGB.
        detector: "hog", or "cnn" to try the CNN where HOG finds nothing.

    Returns:
        The face; `box` is clipped to the picture, `landmarks` (68, 2) are in its pixels, and `notes`
        says if there were several faces. Without any, `found` is False.

    Raises:
        UnknownNameError: for another detector.
        LandmarkError: if one of dlib's model files is missing or broken.

    Example:
        >>> find_face(np.zeros((64, 64, 3), np.uint8)).found
        False
    """
    if detector not in DETECTORS:
        raise UnknownNameError("face detector", detector, DETECTORS)
    boxes, source = _detect(np.ascontiguousarray(pixels), detector)
    if not boxes:
        return Face(found=False)
    largest = max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    notes = (f"{len(boxes)} faces found: the largest is analysed",) if len(boxes) > 1 else ()
    return Face(True, _clip(largest, pixels), _predict(pixels, largest), source, notes)


def _detect(pixels: ByteArray, detector: str) -> tuple[list[Box], str]:
    cnn = _load(CNN_MODEL, dlib.cnn_face_detection_model_v1) if detector == "cnn" else None
    small = _resize(pixels, min(1.0, DETECTION_SIDE / max(pixels.shape[:2])))
    if min(small.shape[:2]) < SMALLEST_SIDE:
        return [], ""
    found, source = list(_hog()(small, 0)) or _detect_again(small), "dlib-hog"
    if not found and cnn is not None:
        found, source = [hit.rect for hit in cnn(small, 0)], "dlib-cnn"
    return [_enlarge(box, small, pixels) for box in found], source


def _detect_again(pixels: ByteArray) -> list[Any]:
    height, width = pixels.shape[:2]
    margin = int(max(height, width) * CROP_MARGIN)
    framed = cv2.copyMakeBorder(pixels, margin, margin, margin, margin, cv2.BORDER_CONSTANT)
    boxes = [dlib.translate_rect(box, dlib.point(-margin, -margin)) for box in _hog()(framed, 1)]
    picture = dlib.rectangle(0, 0, width - 1, height - 1)
    return [box for box in boxes if picture.contains(box.center())]


def _predict(pixels: ByteArray, box: Box) -> FloatArray:
    left, top, right, bottom = box
    margin = FACE_MARGIN * (right - left)
    around = _clip((left - margin, top - margin, right + margin, bottom + margin), pixels)
    crop = pixels[around[1] : around[3], around[0] : around[2]]
    copy = _resize(crop, FACE_SIDE / (right - left))
    origin = np.array(around[:2])
    scale = np.array(copy.shape[1::-1]) / crop.shape[1::-1]
    corners = ((np.reshape(box, (2, 2)) - origin) * scale).round().astype(int)
    face = dlib.rectangle(*corners[0].tolist(), *(corners[1] - 1).tolist())  # dlib's edges are inclusive
    shape = _load(LANDMARK_MODEL, dlib.shape_predictor)(copy, face)
    points = np.array([(point.x, point.y) for point in shape.parts()], np.float64)
    return np.asarray(
        (points + 0.5) / scale - 0.5 + origin
    )  # pixel centres are whole numbers in both pictures


def _resize(pixels: ByteArray, scale: float) -> ByteArray:
    if scale == 1:
        return np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=method), np.uint8)


def _enlarge(box: Any, small: ByteArray, pixels: ByteArray) -> Box:
    across, down = pixels.shape[1] / small.shape[1], pixels.shape[0] / small.shape[0]
    return box.left() * across, box.top() * down, (box.right() + 1) * across, (box.bottom() + 1) * down


def _clip(box: Box, pixels: ByteArray) -> tuple[int, int, int, int]:
    height, width = pixels.shape[:2]
    left, right = (min(max(round(edge), 0), width) for edge in (box[0], box[2]))
    top, bottom = (min(max(round(edge), 0), height) for edge in (box[1], box[3]))
    return left, top, right, bottom


def _hog() -> Any:
    """Each thread's own: it keeps its state in itself while it searches, and lets other threads run."""
    if not hasattr(_own, "hog"):
        _own.hog = dlib.get_frontal_face_detector()
    return _own.hog


@cache
def _load(model: ModelFile, loader: Callable[[str], Any]) -> Any:
    path = model.path()
    try:
        return loader(str(path))
    except RuntimeError as error:
        raise LandmarkError(f"{path} is damaged ({error}); {model.remedy}") from error
