"""Face crops by landmarks, and the landmarks, which are slow to find, kept in files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xface.errors import LandmarkError
from xface.faces import find_face
from xface.faces.sketch import Sketch
from xface.images import MIN_SIDE
from xface.models.cropping import Cropped, Cropper, CropSettings
from xface.registry import Registry
from xface.results import ByteArray, Face, FloatArray


@dataclass(frozen=True)
class OutlineCrop:
    """All but the face is black: what is outside the outline of jaw line and arched forehead.

    Raises LandmarkError for landmarks that span no face.
    """

    def __call__(self, pixels: ByteArray, landmarks: FloatArray) -> Cropped:
        """Blacken all pixels outside the outline; the size stays."""
        inside = Sketch.of(landmarks, pixels.shape[:2]).face
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


Crop = OutlineCrop | BoxCrop
CROPS: Registry[Callable[[CropSettings], Crop]] = Registry("face crop")
CROPS.add("outline", lambda settings: OutlineCrop())
CROPS.add("box", lambda settings: BoxCrop(float(settings.margin or 0)))


def face_crop(setting: bool | str, margin: float | None = None) -> Crop | None:
    """The crop that a configuration names: true or "outline", "box" with a margin, false for none.

    Raises:
        UnknownNameError, UsageError: as `CropSettings` does.

    Example:
        >>> face_crop(True), face_crop("box"), face_crop(False)
        (OutlineCrop(), BoxCrop(margin=0.3), None)
    """
    settings = CropSettings.named(setting, margin)
    return None if settings is None else _crop(settings)


def cropper(settings: CropSettings) -> Cropper:
    """The crop of a card, to the face that dlib's HOG finds."""
    return Cropper(_crop(settings), find_face)


def _crop(settings: CropSettings) -> Crop:
    return CROPS[settings.kind](settings)


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

    def face(self, pixels: ByteArray) -> Face:
        """The largest face, of which only the landmarks are known; see `landmarks`."""
        points = self.landmarks(pixels)
        return Face(points is not None, None, points)

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
