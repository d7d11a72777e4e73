"""Whether 68 points can be a face's landmarks: their size, their order, and which way round they are.

It is measured in the face's own axes, so that a turned face is as plausible as an upright one. Lengths are in
units of D, the distance from the chin (point 8) to the point between the eyes, which a turn of the head to
the side hardly changes. Every limit leaves room around what was seen on real faces, in profile too: see
`docs/regions.md` for the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from xface.errors import LandmarkError
from xface.faces.face_axes import CHIN, FaceAxes
from xface.results import FloatArray

SMALLEST = 8.0  # pixels from the chin to between the eyes: below, a region is a pixel or none
FRACTIONS = 2.0  # coordinates that all lie within it are no pixels of a picture
FARTHEST = {"sideways": (0, 1.7), "up or down": (1, 1.5)}  # from between the eyes; seen: 1.1 and 1.04

PARTS: Mapping[str, tuple[range, float, float, float]] = {
    "jaw line": (range(17), 2.0, 9.0, 1.15),
    "right eyebrow": (range(17, 22), 0.08, 2.4, 1.15),
    "left eyebrow": (range(22, 27), 0.08, 2.4, 1.15),
    "bridge of the nose": (range(27, 31), 0.12, 2.0, 1.15),
    "base of the nose": (range(31, 36), 0.12, 1.6, 1.15),
    "right eye": (range(36, 42), 0.1, 1.4, 1.2),
    "left eye": (range(42, 48), 0.1, 1.4, 1.2),
    "mouth": (range(48, 60), 0.3, 2.8, 1.3),
    "lips": (range(60, 68), 0.2, 2.4, 1.3),
}
"""The points of each part; the least and the greatest length of their hull; and how many times that the way
through the points in their order may be. Where all lie on the hull in order it is 1; seen: 1.01 for lines,
1.05 for eyes and mouth, 1.16 for lips."""

Place = int | range
ABOVE: Sequence[tuple[str, Place, str, Place, float]] = (
    ("right eyebrow", range(17, 22), "right eye", range(36, 42), 0.02),
    ("left eyebrow", range(22, 27), "left eye", range(42, 48), 0.02),
    ("eyes", range(36, 48), "nostrils", range(31, 36), 0.1),
    ("bridge of the nose", 27, "nostrils", range(31, 36), 0.1),
    ("nostrils", range(31, 36), "mouth", range(48, 60), 0.04),
    ("upper lip", 51, "lower lip", 57, 0.0),
    ("mouth", range(48, 60), "chin", CHIN, 0.08),
)
"""What is above what, and how far at least."""

ACROSS = ((36, 39, 42, 45), (17, 21, 22, 26), (31, 35), (48, 54), (60, 64), (0, 16))
"""Points that go from the subject's right to the left, none before the one that precedes it."""


def implausible(landmarks: FloatArray) -> str:
    """Why points (68, 2), x before y in pixels, can't be the landmarks of a face; "" if they can.

    Example:
        >>> implausible(np.linspace(0, 1, 136).reshape(68, 2))[:45]
        'all coordinates lie between 0 and 1: they are'
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        return f"they are not 68 finite pairs, but an array of shape {points.shape}"
    if np.abs(points).max() <= FRACTIONS:
        low, high = np.floor(points.min()), np.ceil(points.max()) + 0.0
        return (
            f"all coordinates lie between {low:g} and {high:g}: they are fractions, not pixels; multiply x "
            "by the picture's width and y by its height"
        )
    reason = _disorder(points)
    if reason and not _disorder(points * [-1, 1]):
        return (
            "they are a face's mirror image: left and right, or x and y, are swapped, or y is counted from "
            "below"
        )
    return reason


def quarter_turns(landmarks: FloatArray) -> int:
    """How many times a face is turned clockwise by 90 degrees in its picture, to the nearest: 0 to 3.

    Raises:
        LandmarkError: the points span no face.
    """
    right, up = FaceAxes.of(landmarks, (1, 1)).directions[1] * [1, -1]
    return round(float(np.arctan2(right, up)) / (np.pi / 2)) % 4


def angle_between(one: FloatArray, other: FloatArray) -> float:
    """The angle between the directions up of two faces, in degrees.

    Example:
        >>> face = np.random.default_rng(0).uniform(0, 100, (68, 2))
        >>> round(angle_between(face, -face))
        180
    """
    ups = [points[36:48].mean(axis=0) - points[CHIN] for points in (one, other)]
    cosine = np.dot(*ups) / np.prod(np.linalg.norm(ups, axis=1))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def turn_note(turns: int) -> str:
    """What is said of a face that is turned clockwise by so many quarters."""
    return f"the face is turned by {90 * turns}° clockwise in the picture"


def _disorder(points: FloatArray) -> str:
    try:
        unit = float(np.linalg.norm(FaceAxes.of(points, (1, 1)).eyes.mean(axis=0) - points[CHIN]))
    except LandmarkError as error:
        return str(error)
    if unit < SMALLEST:
        return f"the face is too small: its chin is {unit:.1f} pixels from the eyes, less than {SMALLEST:g}"
    offsets = _in_own_axes(points) / unit
    return _spread(offsets) or _misshapen(offsets) or _shuffled(offsets)


def _in_own_axes(points: FloatArray) -> FloatArray:
    """Distances from between the eyes towards the subject's left, as the chin tells it, and up."""
    middle = points[36:48].mean(axis=0)
    up = (middle - points[CHIN]) / np.linalg.norm(middle - points[CHIN])
    return np.asarray((points - middle) @ np.array([[-up[1], up[0]], up]).T)


def _spread(offsets: FloatArray) -> str:
    for way, (axis, most) in FARTHEST.items():
        place = int(np.abs(offsets[:, axis]).argmax())
        if abs(offsets[place, axis]) > most:
            return f"point {place} lies too far {way} for the others"
    return ""


def _misshapen(offsets: FloatArray) -> str:
    for name, (part, least, most, longest) in PARTS.items():
        contour = offsets[part.start : part.stop].astype(np.float32)
        around = cv2.arcLength(cv2.convexHull(contour), True)
        if not least <= around <= most:
            size = "small" if around < least else "large"
            return f"the {name} (points {part[0]} to {part[-1]}) is too {size}"
        if cv2.arcLength(contour, True) > longest * around:
            return f"the points of the {name} ({part[0]} to {part[-1]}) are not in their order"
    return ""


def _shuffled(offsets: FloatArray) -> str:
    for upper, above, lower, below, step in ABOVE:
        if np.mean(offsets[above, 1]) - np.mean(offsets[below, 1]) < step:
            return f"the {upper} is not above the {lower}".replace("s is", "s are")
    for row in ACROSS:
        if (np.diff(offsets[list(row), 0]) < 0).any():
            return f"the points {', '.join(map(str, row))} don't go from the subject's right to the left"
    return ""
