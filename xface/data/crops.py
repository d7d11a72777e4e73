"""Face crops by landmarks, and the landmarks, which are slow to find, kept in files."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xface.errors import LandmarkError
from xface.faces import find_face
from xface.faces.plausibility import implausible
from xface.faces.sketch import Sketch
from xface.images import MIN_SIDE
from xface.models.cropping import Cropped, Cropper, CropSettings
from xface.registry import Registry
from xface.results import ByteArray, Face, FloatArray

FINDER = "hog 2"
"""What finds the faces that are kept; what an older way found is found again."""
MOST_BYTES = 1 << 16  # of a kept face


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
    """The faces of pictures by a hash of their pixels, found once and kept in a folder.

    Each picture's is a file, written aside and renamed, so that several processes can share the folder. A
    picture without a face has a file too, so that it isn't searched again. Whatever else lies in a file's
    place counts as absent; it is made again.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     LandmarkStore(folder).landmarks(np.zeros((64, 64, 3), np.uint8)) is None
        True
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder) if folder else cache_folder() / "landmarks"

    def landmarks(self, pixels: ByteArray) -> FloatArray | None:
        """The landmarks (68, 2) of `face`, None without a face."""
        return self.face(pixels).landmarks

    def face(self, pixels: ByteArray) -> Face:
        """The largest face in uint8 RGB (H, W, 3), as `find_face` has it.

        Raises:
            LandmarkError: dlib's model is missing; or the folder cannot be written.
        """
        digest = hashlib.blake2b(f"{FINDER} {pixels.shape}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(pixels).data)
        name = digest.hexdigest()
        path = self.folder / name[:2] / f"{name}.json"
        known = _read_face(path)
        if known is None:
            known = find_face(pixels)
            self._write(path, known)
        return known

    def _write(self, path: Path, face: Face) -> None:
        points = None if face.landmarks is None else face.landmarks.tolist()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir() and not path.is_symlink():
                return  # it may hold anything: left alone, it costs the search each time
            with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
                json.dump({**asdict(face), "landmarks": points}, file)
            os.replace(file.name, path)
        except OSError as error:
            raise LandmarkError(
                f"landmarks cannot be kept in '{self.folder}' ({error.strerror}); name another folder"
            ) from error


def _read_face(path: Path) -> Face | None:
    """The face of a file; None if there is no file that `LandmarkStore` would have written."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            return _checked_face(**json.loads(file.read(MOST_BYTES)))
    except (OSError, ValueError, TypeError, OverflowError, RecursionError):
        return None


def _checked_face(found: Any, box: Any, landmarks: Any, source: Any, notes: Any) -> Face | None:
    texts = isinstance(source, str) and isinstance(notes, list) and all(isinstance(n, str) for n in notes)
    if not texts or type(found) is not bool:
        return None
    if not found:
        return Face(False, None, None, "", tuple(notes)) if box is None and landmarks is None else None
    left, top, right, bottom = box
    points = np.array(landmarks, np.float64)
    exact = all(type(n) is float for point in landmarks for n in point) and {*map(type, box)} == {int}
    if not exact or implausible(points):
        return None
    return Face(True, (left, top, right, bottom), points, source, tuple(notes))


def cache_folder() -> Path:
    """Where xface keeps what can be made again: $XDG_CACHE_HOME/xface, or ~/.cache/xface."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xface"
