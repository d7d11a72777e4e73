"""Reading: all that an analysis needs of a picture besides the network, done in worker processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from xface.analysis.stopwatch import Stopwatch
from xface.detectors.crops import Crop, prepare_cropped
from xface.errors import ImageError, LandmarkError
from xface.faces import region_labels
from xface.faces.attributes import ATTRIBUTES, face_attributes
from xface.faces.face_axes import FaceAxes
from xface.faces.landmark_cache import LandmarkStore
from xface.files.hashes import sha256_of
from xface.images.pictures import read_hashed
from xface.preprocessing import Prepared, Preprocessing
from xface.results import ByteArray, Face, FloatArray

THUMBNAIL_SIDE = 128
THUMBNAIL_QUALITY = 85
NO_REGION = 255
"""The label of a pixel where no face is known, so that no pixel is in any region."""


@dataclass(frozen=True, eq=False)
class ReadFace:
    """What is known of a picture before the network has seen it.

    `status` is `ok`, `no_face`, `unreadable` or `missing`, `reason` says why it isn't ok. `thumbnail` is a
    JPEG of the network's view, `landmarks` (136,) are in its pixels. `seconds` are those spent, by stage.
    """

    row: int
    status: str = "ok"
    reason: str = ""
    sha256: str = ""
    size: tuple[int, int] | None = None
    thumbnail: bytes | None = field(default=None, repr=False)
    landmarks: FloatArray | None = field(default=None, repr=False)
    attributes: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ATTRIBUTES, float("nan")))
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Stack:
    """The pictures of a batch that have one size: their `places` in it, tensors and region labels.

    `images` is (n, 3, H, W) float32, `labels` (n, H, W) uint8: as `region_labels`, or 255 without a face;
    `iods` are the inter-ocular distances in their pixels, NaN without a face.
    """

    places: tuple[int, ...]
    images: Tensor
    labels: Tensor
    iods: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class ReadBatch:
    """Faces in the order of their rows, and those of them that can be shown to a network."""

    faces: tuple[ReadFace, ...]
    stacks: tuple[Stack, ...]


Shown = tuple[Tensor, ByteArray, float]
"""A prepared tensor, the region labels of its pixels, and the inter-ocular distance in them."""


@dataclass(frozen=True)
class FaceReader:
    """Reads batches: batch `number` is the pictures at `batches[number]`, read and measured.

    It holds no network, so that worker processes need none.
    """

    paths: Sequence[str]
    batches: Sequence[Sequence[int]]
    preprocessing: Preprocessing
    crop: Crop | None
    store: LandmarkStore

    def batch(self, number: int) -> ReadBatch:
        """A batch; raises XFaceError for what isn't a picture's own, such as a missing model of dlib's."""
        return stacked([self.read(row) for row in self.batches[number]])

    def read(self, row: int) -> tuple[ReadFace, Shown | None]:
        """One picture; without what is shown to the network if it cannot be read."""
        path, watch = self.paths[row], Stopwatch()
        try:
            with watch("decode"):
                picture, sha256 = read_hashed(path)
            with watch("landmarks"):
                found = self.store.face(picture.pixels)
            with watch("decode"):
                prepared = prepare_cropped(picture, self.preprocessing, self.crop, found.landmarks)
        except (ImageError, OSError) as error:
            status = "unreadable" if os.path.lexists(path) else "missing"
            return ReadFace(row, status, str(error), sha256_of(path), seconds=watch.seconds), None
        with watch("landmarks"):
            labels, iod, reason = _labelled(prepared, found)
            known = None if reason else found.landmarks
        with watch("attributes"):
            attributes = face_attributes(picture, known)
        with watch("decode"):
            thumbnail, points = _thumbnail(prepared, known)
        height, width = picture.pixels.shape[:2]
        status = "no_face" if reason else "ok"
        size = (width, height)
        face = ReadFace(row, status, reason, sha256, size, thumbnail, points, attributes, watch.seconds)
        return face, (prepared.tensor, labels, iod)


def stacked(read: Sequence[tuple[ReadFace, Shown | None]]) -> ReadBatch:
    """Pictures as a batch, those of one size as one tensor."""
    alike: dict[torch.Size, list[int]] = {}
    for place, (_, shown) in enumerate(read):
        if shown is not None:
            alike.setdefault(shown[0].shape, []).append(place)
    stacks = tuple(_stack(places, [read[place][1] for place in places]) for places in alike.values())
    return ReadBatch(tuple(face for face, _ in read), stacks)


def _stack(places: Sequence[int], shown: Sequence[Any]) -> Stack:
    images, labels, iods = zip(*shown, strict=True)
    return Stack(tuple(places), torch.stack(images), torch.from_numpy(np.stack(labels)), iods)


def _labelled(prepared: Prepared, face: Face) -> tuple[ByteArray, float, str]:
    """The region of each pixel of the network's view, the inter-ocular distance and ""; or the reason for
    none."""
    height, width = prepared.view.shape[:2]
    nowhere = np.full((height, width), NO_REGION, np.uint8)
    if face.landmarks is None:
        return nowhere, float("nan"), "; ".join(("no face was found", *face.notes))
    try:
        points = prepared.geometry.to_input(face.landmarks)
        return region_labels(points, (height, width)), FaceAxes.of(points, (height, width)).iod, ""
    except LandmarkError as error:
        return nowhere, float("nan"), str(error)


def _thumbnail(prepared: Prepared, landmarks: FloatArray | None) -> tuple[bytes, FloatArray | None]:
    height, width = prepared.view.shape[:2]
    scale = min(1.0, THUMBNAIL_SIDE / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    pixels = cv2.resize(prepared.view, small, interpolation=cv2.INTER_AREA)[..., ::-1]
    jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY])[1].tobytes()
    if landmarks is None:
        return jpeg, None
    points = (prepared.geometry.to_input(landmarks) + 0.5) * np.divide(small, (width, height)) - 0.5
    return jpeg, points.astype(np.float32).ravel()
