"""The face crop that a card asks for: its settings, and how a picture is prepared by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from xface.errors import LandmarkError, UsageError
from xface.images.pictures import MIN_SIDE, Picture
from xface.preprocessing import Prepared, Preprocessing
from xface.registry import Registry
from xface.results import ByteArray, FloatArray
from xface.validation import validated

MAX_MARGIN = 10
NO_FACE = "no face found, taken whole"

Cropped = tuple[ByteArray, tuple[int, int]]
"""Pixels (H, W, 3), and where their first one lies in the picture: x before y."""


@dataclass(frozen=True)
class CropSettings:
    """What of a picture a network gets: all but the face outline blackened, or a box around the landmarks.

    `kind` is a name of `CROPS`; `margin` is what is added at each side of a box, in parts of its longer
    side (the kind's own if none is given). Raises UnknownNameError for another kind, UsageError for a
    margin without sense.

    Example:
        >>> CropSettings("box"), str(CropSettings("box")), str(CropSettings("outline"))
        (CropSettings(kind='box', margin=0.3), 'box, margin 0.3', 'outline')
    """

    kind: str
    margin: float | None = None

    def __post_init__(self) -> None:
        usual = CROPS[self.kind].margin
        if self.margin is not None and usual is None:
            raise UsageError(f"a margin of {self.margin} belongs to the crop box")
        if self.margin is not None and not 0 <= self.margin <= MAX_MARGIN:
            raise UsageError(
                f"margin {self.margin} is not within 0 to {MAX_MARGIN} sides of the landmarks' box"
            )
        object.__setattr__(self, "margin", usual if self.margin is None else float(self.margin))

    def __str__(self) -> str:
        return self.kind if self.margin is None else f"{self.kind}, margin {self.margin:g}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for a card."""
        return {"kind": self.kind} if self.margin is None else {"kind": self.kind, "margin": self.margin}

    @classmethod
    def from_json(cls, content: object) -> CropSettings | None:
        """What a card says, None for null; UsageError for what is no crop."""
        return None if content is None else validated(cls, "crop", content)

    @classmethod
    def named(cls, setting: bool | str, margin: float | None = None) -> CropSettings | None:
        """What a configuration says: true is `outline`, false or "" none.

        Example:
            >>> CropSettings.named(True), CropSettings.named(False)
            (CropSettings(kind='outline', margin=None), None)
        """
        kind = setting if isinstance(setting, str) else "outline" if setting else ""
        if kind:
            return cls(kind, margin)
        if margin is not None:
            raise UsageError(f"a margin of {margin} belongs to the crop box")
        return None


class Crop(Protocol):
    """Cuts a face out of its picture."""

    def __call__(self, pixels: ByteArray, landmarks: FloatArray) -> Cropped:
        """Crop to the face that has these landmarks (68, 2); LandmarkError where they give no crop."""
        ...


def prepare_cropped(
    picture: Picture, preprocessing: Preprocessing, crop: Crop | None, landmarks: FloatArray | None
) -> Prepared:
    """Crop a picture to the face, then resize and normalise it: training and predicting alike.

    With a crop, but without landmarks (68, 2), or if they give none, the picture is taken whole; then a note
    says so, and only then there is one. Raises ImageError as `preprocessing.prepare` does.
    """
    if crop is None:
        return preprocessing.prepare(picture)
    if landmarks is None:
        return replace(preprocessing.prepare(picture), notes=(NO_FACE,))
    try:
        pixels, corner = crop(picture.pixels, landmarks)
    except LandmarkError as error:
        return replace(preprocessing.prepare(picture), notes=(f"not cropped, taken whole: {error}",))
    prepared = preprocessing.prepare(Picture(picture.name, pixels))
    return replace(prepared, geometry=prepared.geometry.after_cut(corner))


@dataclass(frozen=True)
class OutlineCrop:
    """All but the face is black: what is outside the outline of jaw line and arched forehead.

    Raises LandmarkError for landmarks that span no face.
    """

    def __call__(self, pixels: ByteArray, landmarks: FloatArray) -> Cropped:
        """Blacken all pixels outside the outline; the size stays."""
        from xface.faces.face_axes import FaceAxes  # loads OpenCV, which a list of the crops doesn't need

        inside = FaceAxes.of(landmarks, pixels.shape[:2]).face
        return pixels * inside[..., None].astype(np.uint8), (0, 0)


@dataclass(frozen=True)
class BoxCrop:
    """The box around the landmarks, wider by `margin` times its longer side at each side, made square.

    What would lie outside the picture is left out, so that at its edge the crop is not square. Raises
    LandmarkError where less than 16 pixels of it are in the picture.

    Example:
        >>> points = np.array([[40.0, 40.0]] * 34 + [[59.0, 59.0]] * 34)
        >>> pixels, corner = BoxCrop(0.5)(np.zeros((100, 100, 3), np.uint8), points)
        >>> pixels.shape, corner
        ((40, 40, 3), (30, 30))
    """

    margin: float = 0.3

    def __call__(self, pixels: ByteArray, landmarks: FloatArray) -> Cropped:
        """Cut the box out."""
        low, high = landmarks.min(axis=0), landmarks.max(axis=0) + 1
        half = (0.5 + self.margin) * float((high - low).max())
        middle, size = (low + high) / 2, np.array(pixels.shape[1::-1])
        left, top = np.clip(np.rint(middle - half), 0, size).astype(int)
        right, bottom = np.clip(np.rint(middle + half), 0, size).astype(int)
        if min(right - left, bottom - top) < MIN_SIDE:
            raise LandmarkError(
                f"less than {MIN_SIDE} pixels of the box around the landmarks are in the picture"
            )
        return np.ascontiguousarray(pixels[top:bottom, left:right]), (int(left), int(top))


@dataclass(frozen=True)
class CropKind:
    """A kind of crop: `make(margin)` makes it; `margin` is the default, None where it takes none."""

    make: Callable[[float], Crop]
    margin: float | None = None


CROPS: Registry[CropKind] = Registry("face crop")
CROPS.add("outline", CropKind(lambda margin: OutlineCrop()))
CROPS.add("box", CropKind(BoxCrop, margin=0.3))


def face_crop(setting: bool | str, margin: float | None = None) -> Crop | None:
    """The crop that a configuration names: true or "outline", "box" with a margin, false for none.

    Raises:
        UnknownNameError, UsageError: as `CropSettings` does.

    Example:
        >>> face_crop(True), face_crop("box"), face_crop(False)
        (OutlineCrop(), BoxCrop(margin=0.3), None)
    """
    return crop_of(CropSettings.named(setting, margin))


def crop_of(settings: CropSettings | None) -> Crop | None:
    """The crop of a card's settings; None for none.

    Example:
        >>> crop_of(CropSettings("box", 0.1)), crop_of(None)
        (BoxCrop(margin=0.1), None)
    """
    return None if settings is None else CROPS[settings.kind].make(settings.margin or 0.0)
