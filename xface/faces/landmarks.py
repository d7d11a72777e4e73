"""What finds the face of a picture and its 68 iBUG landmarks: a registry, which takes others beside dlib."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xface.faces.dlib_models import CNN_MODEL, LANDMARK_MODEL, ModelFile
from xface.files.hashes import sha256_of
from xface.registry import Registry
from xface.results import ByteArray, Face

DEFAULT = "hog"


@dataclass(frozen=True)
class Landmarker:
    """`find` gives the largest face of a picture, uint8 RGB (H, W, 3), with its landmarks (68, 2), or none.

    `version` is raised whenever `find` comes to give other answers: landmarks are kept by name and version.
    `models` are the files that it needs, which `xface doctor` checks.
    """

    find: Callable[[ByteArray], Face]
    version: int = 1
    models: tuple[ModelFile, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What its faces depend on: `version`, and the SHA-256 of each of `models`, None if absent."""
        places = {model.name: model.locate() for model in self.models}
        return {
            "version": self.version,
            "models": {name: sha256_of(place) if place else None for name, place in places.items()},
        }


LANDMARKERS: Registry[Landmarker] = Registry("face detector")


def find_face(pixels: ByteArray, detector: str = DEFAULT) -> Face:
    """The largest face of a picture with its landmarks.

    Both of xface's own detectors search with dlib's HOG, see `xface.faces.dlib_faces`; what is then without a
    face "cnn" searches with dlib's CNN too (seconds on a CPU). Where landmarks can't be a face's, see
    `xface.faces.plausibility`, there is none, whatever found them.

    Args:
        pixels: uint8 (H, W, 3), RGB.
        detector: a name of `LANDMARKERS`.

    Returns:
        The face; `box` is whole numbers, `landmarks` (68, 2) are in the picture's pixels, and `notes` says if
        there were several faces, or if it is turned. Without any, `found` is False, and `notes` says why if
        landmarks were found that can't be a face's.

    Raises:
        UnknownNameError: for another detector.
        LandmarkError: if one of dlib's model files is missing or broken.

    Example:
        >>> find_face(np.zeros((64, 64, 3), np.uint8)).found
        False
    """
    return _checked(LANDMARKERS[detector].find(np.ascontiguousarray(pixels)), detector)


def _checked(face: Face, source: str) -> Face:
    """A face in plain numbers, as they are kept and written; its box is the landmarks' if it has none."""
    from xface.faces.plausibility import implausible

    if not face.found or face.landmarks is None:
        return Face(found=False, notes=tuple(face.notes))
    points = np.asarray(face.landmarks, np.float64)
    if reason := implausible(points):
        return Face(found=False, notes=(f"the landmarks found can't be a face's: {reason}",))
    box = face.box if face.box is not None else (*points.min(axis=0), *points.max(axis=0))
    left, top, right, bottom = (round(float(edge)) for edge in box)
    return Face(True, (left, top, right, bottom), points, face.source or source, tuple(face.notes))


def _hog(pixels: ByteArray) -> Face:
    from xface.faces.dlib_faces import hog_face  # only a search loads dlib

    return hog_face(pixels)


def _cnn(pixels: ByteArray) -> Face:
    from xface.faces.dlib_faces import hog_or_cnn_face

    return hog_or_cnn_face(pixels)


LANDMARKERS.add("hog", Landmarker(_hog, 2, (LANDMARK_MODEL,)))
LANDMARKERS.add("cnn", Landmarker(_cnn, 2, (LANDMARK_MODEL, CNN_MODEL)))
