"""Faces: where the face is, which pixels are its parts, and how much of a map lies in each.

The names below are imported on first use, so that the package itself loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xface.exports import exports

if TYPE_CHECKING:
    from xface.faces.attributes import ATTRIBUTES as ATTRIBUTES
    from xface.faces.attributes import Attribute as Attribute
    from xface.faces.attributes import face_attributes as face_attributes
    from xface.faces.dlib_models import ModelFile as ModelFile
    from xface.faces.landmark_files import LandmarkFile as LandmarkFile
    from xface.faces.landmark_files import face_from_landmarks as face_from_landmarks
    from xface.faces.landmark_files import read_landmarks as read_landmarks
    from xface.faces.landmarks import LANDMARKERS as LANDMARKERS
    from xface.faces.landmarks import Landmarker as Landmarker
    from xface.faces.landmarks import find_face as find_face
    from xface.faces.measures import measure as measure
    from xface.faces.pose import head_pose as head_pose
    from xface.faces.regions import REGIONS as REGIONS
    from xface.faces.regions import region_labels as region_labels
    from xface.faces.regions import region_outlines as region_outlines

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ATTRIBUTES": "xface.faces.attributes",
        "Attribute": "xface.faces.attributes",
        "LANDMARKERS": "xface.faces.landmarks",
        "LandmarkFile": "xface.faces.landmark_files",
        "Landmarker": "xface.faces.landmarks",
        "ModelFile": "xface.faces.dlib_models",
        "REGIONS": "xface.faces.regions",
        "face_attributes": "xface.faces.attributes",
        "face_from_landmarks": "xface.faces.landmark_files",
        "find_face": "xface.faces.landmarks",
        "head_pose": "xface.faces.pose",
        "measure": "xface.faces.measures",
        "read_landmarks": "xface.faces.landmark_files",
        "region_labels": "xface.faces.regions",
        "region_outlines": "xface.faces.regions",
    },
)
