"""Face crops by landmarks, and the landmarks, which are slow to find, kept in files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xface.errors import LandmarkError, UnknownNameError, UsageError
from xface.faces import find_face
from xface.faces.sketch import Sketch
from xface.images import MIN_SIDE
from xface.registry import Registry
from xface.results import ByteArray, FloatArray

Cropped = tuple[ByteArray, FloatArray]
"""Pixels (H, W, 3) and the landmarks (68, 2) in them."""


@dataclass(frozen=True)
class OutlineCrop:
    """All but the face is black: what is outside the outline of jaw line and arched forehead.

    Raises LandmarkError for landmarks that span no face.
    """

    def __call__(self, pixels: ByteArray, landmarks: FloatArray) -> Cropped:
        """Blacken all pixels outside the outline; the size stays."""
        inside = Sketch.of(landmarks, pixels.shape[:2]).face
        return pixels * inside[..., None].astype(np.uint8), landmarks


@dataclass(frozen=True)
class BoxCrop:
    """The box around the landmarks, wider by `margin` times its longer side at each side, made square.

    What would lie outside the picture is left out, so that at its edge the crop is not square.

    Example:
        >>> points = np.array([[40.0, 40.0]] * 34 + [[59.0, 59.0]] * 34)
        >>> pixels, moved = BoxCrop(0.5)(np.zeros((100, 100, 3), np.uint8), points)
        >>> pixels.shape, moved[0].tolist()
        ((40, 40, 3), [10.0, 10.0])
    """

    margin: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 10:
            raise UsageError(f"margin {self.margin} is not within 0 to 10 sides of the landmarks' box")

    def __call__(self, pixels: ByteArray, landmarks: FloatArray) -> Cropped:
        """Cut the box out; the picture stays whole where less than 16 pixels of the box are in it."""
        low, high = landmarks.min(axis=0), landmarks.max(axis=0) + 1
        half = (0.5 + self.margin) * float((high - low).max())
        middle, size = (low + high) / 2, np.array(pixels.shape[1::-1])
        left, top = np.clip(np.rint(middle - half), 0, size).astype(int)
        right, bottom = np.clip(np.rint(middle + half), 0, size).astype(int)
        if min(right - left, bottom - top) < MIN_SIDE:
            return pixels, landmarks
        return np.ascontiguousarray(pixels[top:bottom, left:right]), landmarks - (left, top)


CROPS: Registry[type[OutlineCrop] | type[BoxCrop]] = Registry("face crop")
CROPS.add("outline", OutlineCrop)
CROPS.add("box", BoxCrop)
Crop = OutlineCrop | BoxCrop


def face_crop(setting: bool | str, margin: float | None = None) -> Crop | None:
    """The crop that a configuration names: true or "outline", "box" with a margin, false for none.

    Raises:
        UnknownNameError: for another name.
        UsageError: for a margin without sense, or one for an outline.

    Example:
        >>> face_crop(True), face_crop("box"), face_crop(False)
        (OutlineCrop(), BoxCrop(margin=0.3), None)
    """
    name = setting if isinstance(setting, str) else "outline" if setting else ""
    if name and name not in CROPS:
        raise UnknownNameError("face crop", name, CROPS)
    if margin is not None and name != "box":
        raise UsageError(f"a margin of {margin} belongs to the crop box")
    if not name:
        return None
    return CROPS[name]() if margin is None else BoxCrop(margin)


class LandmarkStore:
    """The landmarks of pictures by a hash of their pixels, found once and kept in a folder.

    Each picture's are a file, written aside and renamed, so that several processes can share the folder. A
    picture without a face has a file too, so that it isn't searched again.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     LandmarkStore(folder).landmarks(np.zeros((64, 64, 3), np.uint8)) is None
        True
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder) if folder else cache_folder() / "landmarks"

    def landmarks(self, pixels: ByteArray) -> FloatArray | None:
        """The landmarks (68, 2) of the largest face in uint8 RGB (H, W, 3), None without a face.

        Raises:
            LandmarkError: dlib's model is missing; or the folder cannot be written.
        """
        digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(pixels).data)
        name = digest.hexdigest()
        path = self.folder / name[:2] / f"{name}.npy"
        known = _read_points(path)
        if known is None:
            found = find_face(pixels).landmarks
            known = np.empty((0, 2)) if found is None else np.asarray(found, np.float64)
            self._write(path, known)
        return known if len(known) else None

    def _write(self, path: Path, points: FloatArray) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
                np.save(file, points)
            os.replace(file.name, path)
        except OSError as error:
            raise LandmarkError(
                f"landmarks cannot be kept in '{self.folder}' ({error.strerror}); name another folder"
            ) from error


def _read_points(path: Path) -> FloatArray | None:
    """The points of a file; None if it isn't there or isn't whole."""
    try:
        points = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return points if isinstance(points, np.ndarray) and points.shape in ((0, 2), (68, 2)) else None


def cache_folder() -> Path:
    """Where xface keeps what can be made again: $XDG_CACHE_HOME/xface, or ~/.cache/xface."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xface"
