"""Faces: where the face is, which pixels are its parts, and how much of a map lies in each.

The names below are imported on first use, so that only finding a face loads dlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xface.faces.annotations import LandmarkFile as LandmarkFile
    from xface.faces.annotations import face_from_landmarks as face_from_landmarks
    from xface.faces.annotations import read_landmarks as read_landmarks
    from xface.faces.attributes import ATTRIBUTES as ATTRIBUTES
    from xface.faces.attributes import Attribute as Attribute
    from xface.faces.attributes import face_attributes as face_attributes
    from xface.faces.landmarks import DETECTORS as DETECTORS
    from xface.faces.landmarks import find_face as find_face
    from xface.faces.measures import measure as measure
    from xface.faces.pose import head_pose as head_pose
    from xface.faces.predictor import MODEL_FILES as MODEL_FILES
    from xface.faces.predictor import ModelFile as ModelFile
    from xface.faces.regions import REGIONS as REGIONS
    from xface.faces.regions import UNIONS as UNIONS
    from xface.faces.regions import region_labels as region_labels
    from xface.faces.regions import region_outlines as region_outlines

_HOMES = {
    "LandmarkFile": "annotations",
    "face_from_landmarks": "annotations",
    "read_landmarks": "annotations",
    "ATTRIBUTES": "attributes",
    "Attribute": "attributes",
    "face_attributes": "attributes",
    "DETECTORS": "landmarks",
    "find_face": "landmarks",
    "measure": "measures",
    "head_pose": "pose",
    "MODEL_FILES": "predictor",
    "ModelFile": "predictor",
    "REGIONS": "regions",
    "UNIONS": "regions",
    "region_labels": "regions",
    "region_outlines": "regions",
}

__all__ = [
    "ATTRIBUTES",
    "Attribute",
    "DETECTORS",
    "LandmarkFile",
    "MODEL_FILES",
    "ModelFile",
    "REGIONS",
    "UNIONS",
    "face_attributes",
    "face_from_landmarks",
    "find_face",
    "head_pose",
    "measure",
    "read_landmarks",
    "region_labels",
    "region_outlines",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
