"""The face of a picture and its 68 iBUG landmarks, found with dlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from threading import local
from typing import Any

import cv2
import dlib
import numpy as np

from xface.errors import LandmarkError
from xface.faces.dlib_models import CNN_MODEL, LANDMARK_MODEL, ModelFile
from xface.faces.plausibility import implausible, turn_note
from xface.results import ByteArray, Face, FloatArray

DETECTION_SIDE = 800  # longest side searched: dlib finds faces from 80 px, so from a tenth of the side
FACE_SIDE = 300  # the predictor answers in whole pixels: below 200 px of face that costs accuracy
FACE_MARGIN = 0.5  # of the box, kept around the face that the predictor sees
SMALLEST_SIDE = 40  # the second try doubles this to the 80 px that dlib needs
CROP_MARGIN = 0.25  # of the longest side, put around tight crops for the second try

SURE = 0.5  # HOG's score from which a face is the right way up; of faces that weren't, the highest was 0.46
TURNED = 0.3  # the least score of a face that is found only after a turn
AHEAD = 0.2  # how much better than upright it must be; of upright faces none was better by more than -0.2
DOUBTED_SIDE = 80  # pixels that a face has on the copy that is turned to see: as few as HOG takes

_own = local()

Box = tuple[float, float, float, float]  # left, top, right, bottom


def hog_face(pixels: ByteArray) -> Face:
    """The largest face that dlib's HOG detector finds in uint8 RGB (H, W, 3), contiguous.

    The picture, shrunk to 800 px if it is larger, is searched; if nothing is found, twice as large and with a
    black margin, which finds small faces and those that a tight crop cuts. Where nothing is found, the
    picture is also searched turned by 90, 180 and 270 degrees; where HOG is not sure of the face, its
    surroundings by 180; and a face that is clearly better so is taken. The landmarks are those of Kazemi and
    Sullivan (CVPR 2014), predicted on a copy whose face is 300 px wide.

    Raises:
        LandmarkError: if dlib's landmark file is missing or broken.

    Example:
        >>> hog_face(np.zeros((64, 64, 3), np.uint8)).found
        False
    """
    face, score = _upright(pixels)
    if score < SURE and (turns := _better_turns(pixels, face, score)):
        turned, _ = _upright(np.ascontiguousarray(np.rot90(pixels, turns)))
        return _turned_back(turned, turns, pixels) if turned.found else face
    return face


def hog_or_cnn_face(pixels: ByteArray) -> Face:
    """As `hog_face`; without a face, what dlib's CNN detector finds in the picture, shrunk to 800 px.

    Raises:
        LandmarkError: if one of dlib's model files is missing or broken.

    Example:
        >>> hog_or_cnn_face(np.zeros((64, 64, 3), np.uint8)).found
        False
    """
    _load(CNN_MODEL, dlib.cnn_face_detection_model_v1)  # absent, it is missed in every picture alike
    face = hog_face(pixels)
    return face if face.found else _largest(pixels, *_cnn_boxes(pixels), "dlib-cnn")[0]


def _upright(pixels: ByteArray) -> tuple[Face, float]:
    """The largest face that HOG finds the right way up, and its score."""
    small = _shrunk(pixels)
    if min(small.shape[:2]) < SMALLEST_SIDE:
        return Face(found=False), -np.inf
    boxes, scores = _hog_boxes(small, 0)
    if not boxes:
        boxes, scores = _detect_again(small)
    return _largest(pixels, [_enlarge(box, small, pixels) for box in boxes], scores, "dlib-hog")


def _largest(
    pixels: ByteArray, boxes: Sequence[Box], scores: Sequence[float], source: str
) -> tuple[Face, float]:
    if not boxes:
        return Face(found=False), -np.inf
    largest = max(range(len(boxes)), key=lambda i: (boxes[i][2] - boxes[i][0]) * (boxes[i][3] - boxes[i][1]))
    points = _predict(pixels, boxes[largest])
    if reason := implausible(points):
        return Face(found=False, notes=(f"the landmarks found can't be a face's: {reason}",)), -np.inf
    notes = (f"{len(boxes)} faces found: the largest is analysed",) if len(boxes) > 1 else ()
    return Face(True, _clip(boxes[largest], pixels), points, source, notes), scores[largest]


def _better_turns(pixels: ByteArray, face: Face, score: float) -> int:
    """How many quarter turns make HOG see a face far better than upright; 0 if none does."""
    area, tried = _shrunk(pixels), [1, 2, 3]
    if face.box is not None:
        tried = [2]  # on its side, HOG sees one in 150; of these, no turn made a better one
        left, top, right, bottom = face.box
        margin = FACE_MARGIN * (right - left)
        around = _clip((left - margin, top - margin, right + margin, bottom + margin), pixels)
        crop = pixels[around[1] : around[3], around[0] : around[2]]
        area = _resize(crop, min(1.0, DOUBTED_SIDE / (right - left)))
    if min(area.shape[:2]) < SMALLEST_SIDE:
        return 0
    scores = {turns: max(_hog_boxes(np.rot90(area, turns), 0)[1], default=-np.inf) for turns in tried}
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] >= max(TURNED, score + AHEAD) else 0


def _turned_back(face: Face, turns: int, pixels: ByteArray) -> Face:
    """A face of `np.rot90(pixels, turns)` in the pixels as they are."""
    points, corners = np.asarray(face.landmarks), np.reshape(np.array(face.box, np.float64), (2, 2)) - 0.5
    for turn in range(turns):
        last = pixels.shape[0 if (turns - turn) % 2 == 0 else 1] - 1
        points, corners = (np.stack([last - xy[:, 1], xy[:, 0]], axis=1) for xy in (points, corners))
    (left, top), (right, bottom) = np.rint([corners.min(axis=0) + 0.5, corners.max(axis=0) + 0.5]).astype(int)
    box = (int(left), int(top), int(right), int(bottom))
    return replace(face, box=box, landmarks=points, notes=(*face.notes, turn_note(turns)))


def _shrunk(pixels: ByteArray) -> ByteArray:
    return _resize(pixels, min(1.0, DETECTION_SIDE / max(pixels.shape[:2])))


def _hog_boxes(pixels: Any, doublings: int) -> tuple[list[Any], list[float]]:
    boxes, scores, _ = _hog().run(np.ascontiguousarray(pixels), doublings, 0.0)
    return list(boxes), list(scores)


def _cnn_boxes(pixels: ByteArray) -> tuple[list[Box], list[float]]:
    cnn, small = _load(CNN_MODEL, dlib.cnn_face_detection_model_v1), _shrunk(pixels)
    hits = list(cnn(small, 0)) if min(small.shape[:2]) >= SMALLEST_SIDE else []
    return [_enlarge(hit.rect, small, pixels) for hit in hits], [hit.confidence for hit in hits]


def _detect_again(pixels: ByteArray) -> tuple[list[Any], list[float]]:
    height, width = pixels.shape[:2]
    margin = int(max(height, width) * CROP_MARGIN)
    framed = cv2.copyMakeBorder(pixels, margin, margin, margin, margin, cv2.BORDER_CONSTANT)
    framed_boxes, scores = _hog_boxes(framed, 1)
    boxes = [dlib.translate_rect(box, dlib.point(-margin, -margin)) for box in framed_boxes]
    picture = dlib.rectangle(0, 0, width - 1, height - 1)
    kept = [index for index, box in enumerate(boxes) if picture.contains(box.center())]
    return [boxes[index] for index in kept], [scores[index] for index in kept]


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
