"""What a picture of a face is like apart from whose it is: one number per attribute, each with its source.

The face is the face outline, as regions have it; its luma is 0.299 R + 0.587 G + 0.114 B of the stored
values, from 0 to 255. An attribute that is undefined is NaN, and never a number of another meaning: without a
face, all but the blockiness of the picture are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from xface.faces.portrait import Portrait
from xface.images.pictures import Picture
from xface.registry import Registry
from xface.results import ByteArray, FloatArray
from xface.wording import spaced

BLOCK = 8  # the side of a JPEG block
SMALLEST_GRID = 4 * BLOCK  # pixels: below three borders to a side, blockiness is chance
DARK, BRIGHT = 5, 250  # luma: at these and beyond, a pixel is clipped


@dataclass(frozen=True)
class Attribute:
    """One number of a portrait: the function that reads it, its unit, and how reports word it.

    `more` and `less` complete "fakes called real are ... than those called fake" (`brighter`, `darker`);
    `label` is its name in tables and figures, by default the entry's name and unit. `what`, `formula` and
    `source` are for the documentation.
    """

    of: Callable[[Portrait], float]
    unit: str
    more: str
    less: str
    label: str = ""
    what: str = ""
    formula: str = ""
    source: str = ""
    needs_face: bool = field(default=True, kw_only=True)


ATTRIBUTES: Registry[Attribute] = Registry("attribute")
Reader = Callable[[Portrait], float]


def _attribute(name: str, *words: str, needs_face: bool = True) -> Callable[[Reader], Reader]:
    """Register a function; `words` are the unit and what follows it in `Attribute`."""

    def register(of: Reader) -> Reader:
        ATTRIBUTES.add(name, Attribute(of, *words, needs_face=needs_face))
        return of

    return register


def attribute_words() -> dict[str, dict[str, str]]:
    """What a run keeps of each attribute, so that it can be read without this package: unit and words.

    Example:
        >>> attribute_words()["face_size"]
        {'label': 'face size, pixels', 'unit': 'px', 'more': 'larger', 'less': 'smaller'}
    """
    return {
        name: {
            "label": entry.label or ", ".join(filter(None, (spaced(name), entry.unit))),
            "unit": entry.unit,
            "more": entry.more,
            "less": entry.less,
        }
        for name, entry in ATTRIBUTES.items()
    }


def face_attributes(picture: Picture | ByteArray, landmarks: FloatArray | None) -> dict[str, float]:
    """All attributes of a face in its picture.

    Args:
        picture: from `read_picture`; or uint8 RGB (H, W, 3), neither turned nor cropped nor resized since it
            was stored: blockiness needs the file's pixel grid, which a picture knows after its turn by EXIF.
        landmarks: (68, 2), x before y, in its pixels; None without a face.

    Returns:
        A number per name, in the order of `ATTRIBUTES`; NaN where it is undefined: without landmarks, or
        with such as are not finite or span no face, for all that speak of a face.

    Raises:
        LandmarkError: if the landmarks are not 68 pairs.

    Example:
        >>> found = face_attributes(np.full((64, 64, 3), 128, np.uint8), None)
        >>> list(found)[:3], found["brightness"]
        (['sharpness', 'eye_sharpness', 'brightness'], nan)
    """
    portrait = Portrait.of(picture if isinstance(picture, Picture) else Picture("array", picture), landmarks)
    return {
        name: float("nan") if entry.needs_face and portrait.axes is None else _number(entry.of(portrait))
        for name, entry in ATTRIBUTES.items()
    }


def _number(value: float) -> float:
    """A plain number; NaN for one that is not finite, as it is then undefined."""
    return float(value) if np.isfinite(value) else float("nan")


PECH_PACHECO = "Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000"
SOUKUPOVA = "Soukupová and Čech, Real-time eye blink detection using facial landmarks, CVWW 2016"
MARTINS = "Martins and Batista, Accurate single view model-based head pose estimation, FG 2008"
OWN = "xface"


@_attribute(
    "sharpness",
    "luma²",
    "sharper",
    "less sharp",
    "face sharpness",
    "fine detail of the face, at a fixed face size",
    "variance over the face of the Laplacian of luma (the 3x3 cross of 1 and -4), on a copy whose face size "
    "is 128 px (area averaging where it shrinks, else bicubic), smoothed by a Gaussian of sigma 1 px",
    PECH_PACHECO,
)
def _sharpness(portrait: Portrait) -> float:
    return _variance(portrait.relief)


@_attribute(
    "eye_sharpness",
    "luma²",
    "sharper at the eyes",
    "less sharp at the eyes",
    "eye sharpness",
    "fine detail of the eyes, at the same size",
    "the same over `right_eye` and `left_eye` together",
    PECH_PACHECO,
)
def _eye_sharpness(portrait: Portrait) -> float:
    return _variance(portrait.eye_relief)


@_attribute(
    "brightness",
    "0 to 1",
    "brighter",
    "darker",
    "brightness",
    "how light the face is",
    "mean luma of the face / 255",
    OWN,
)
def _brightness(portrait: Portrait) -> float:
    return _mean(portrait.skin) / 255


@_attribute(
    "contrast",
    "0 to 0.5",
    "richer in contrast",
    "poorer in contrast",
    "contrast",
    "how far its light and dark parts are apart",
    "standard deviation of luma / 255 over the face (RMS contrast)",
    "Peli, Contrast in complex images, JOSA A 1990",
)
def _contrast(portrait: Portrait) -> float:
    return float(portrait.skin.std()) / 255 if portrait.skin.size else float("nan")


@_attribute(
    "exposure",
    "0 to 1",
    "more clipped",
    "less clipped",
    "badly exposed part",
    "how much of the face is clipped, too dark or too bright to show anything",
    "part of the face's pixels with luma <= 5 or >= 250",
    OWN,
)
def _exposure(portrait: Portrait) -> float:
    return _mean((portrait.skin <= DARK) | (portrait.skin >= BRIGHT))


@_attribute(
    "blockiness",
    "ratio",
    "blockier",
    "less blocky",
    "JPEG blockiness",
    "how much the 8x8 blocks of JPEG show in the whole picture as stored; 1 where they don't",
    "B / A: B is the mean absolute difference of luma between neighbours across the borders of 8x8 blocks, "
    "A that of all other neighbours; each summed over rows and columns",
    "after Wang, Sheikh and Bovik, No-reference perceptual quality assessment of JPEG compressed images, "
    "ICIP 2002",
    needs_face=False,
)
def _blockiness(portrait: Portrait) -> float:
    stored = portrait.stored_luma
    if min(stored.shape) < SMALLEST_GRID:
        return float("nan")
    across, within = zip(*(_steps(luma) for luma in (stored, stored.T)), strict=True)
    return sum(across) / sum(within) if sum(within) > 0 else float("nan")


@_attribute(
    "face_size",
    "px",
    "larger",
    "smaller",
    "face size, pixels",
    "how large the face is in the picture as stored",
    "square root of the face outline's area, with what the picture's edge cuts off",
    OWN,
)
def _face_size(portrait: Portrait) -> float:
    return portrait.size


@_attribute(
    "eye_openness",
    "ratio",
    "wider open at the eyes",
    "less open at the eyes",
    "eye openness",
    "how open the eyes are: about 0.3 open, below 0.2 closed",
    "mean over both eyes of (|p2 - p6| + |p3 - p5|) / (2 |p1 - p4|), p1 to p6 being points 36-41 and 42-47",
    SOUKUPOVA,
)
def _eye_openness(portrait: Portrait) -> float:
    points = portrait.face.points
    return (_openness(points, (37, 38), (41, 40), 36, 39) + _openness(points, (43, 44), (47, 46), 42, 45)) / 2


@_attribute(
    "mouth_openness",
    "ratio",
    "wider open at the mouth",
    "less open at the mouth",
    "mouth openness",
    "how open the mouth is between the lips: 0 closed",
    "(|p61 - p67| + |p62 - p66| + |p63 - p65|) / (3 |p60 - p64|): the inner lips' mean gap over their width",
    f"after {SOUKUPOVA}",
)
def _mouth_openness(portrait: Portrait) -> float:
    return _openness(portrait.face.points, (61, 62, 63), (67, 66, 65), 60, 64)


@_attribute(
    "yaw",
    "degrees",
    "turned more to their left",
    "turned more to their right",
    "head turned sideways, degrees",
    "turn of the head: positive to the subject's left, the viewer's right",
    "R = Rz(roll) Ry(-yaw) Rx(-pitch) in the axes x right, y down, z away, from solvePnP with 12 points of a "
    "rigid model, focal length = picture width",
    MARTINS,
)
def _yaw(portrait: Portrait) -> float:
    return portrait.pose[0]


@_attribute(
    "pitch",
    "degrees",
    "turned further up",
    "turned further down",
    "head raised or lowered, degrees",
    "nod of the head: positive upwards",
    "as yaw",
    MARTINS,
)
def _pitch(portrait: Portrait) -> float:
    return portrait.pose[1]


@_attribute(
    "roll",
    "degrees",
    "leant more to their left",
    "leant more to their right",
    "head tilted, degrees",
    "lean of the head: positive to the subject's left, clockwise in the picture",
    "as yaw",
    MARTINS,
)
def _roll(portrait: Portrait) -> float:
    return portrait.pose[2]


def _variance(values: FloatArray) -> float:
    return float(values.var(dtype=np.float64)) if values.size else float("nan")


def _mean(values: ByteArray | np.typing.NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _steps(luma: ByteArray) -> tuple[float, float]:
    """The mean step from a pixel to the next in its row: across the borders of blocks, and within blocks."""
    step = cv2.absdiff(luma[:, 1:], luma[:, :-1]).mean(axis=0)
    border = np.arange(1, luma.shape[1]) % BLOCK == 0
    return float(step[border].mean()), float(step[~border].mean())


def _openness(
    points: FloatArray, upper: tuple[int, ...], lower: tuple[int, ...], start: int, end: int
) -> float:
    """The mean gap between `upper` and `lower` over the distance from `start` to `end`."""
    gap = np.linalg.norm(points[list(upper)] - points[list(lower)], axis=1).mean()
    width = np.linalg.norm(points[end] - points[start])
    return float(gap / width) if width > 0 else float("nan")
