"""The landmark cache: faces of pictures by a hash of their pixels, kept in a folder."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xface.errors import LandmarkError, OutputError
from xface.faces.landmarks import DEFAULT, LANDMARKERS, find_face
from xface.faces.plausibility import implausible
from xface.files.paths import writing
from xface.files.writing import written_among_others
from xface.results import ByteArray, Face, FloatArray

MOST_BYTES = 1 << 16  # of a kept face


class LandmarkStore:
    """The faces of pictures by a hash of their pixels, found once and kept in a folder.

    They are kept by what found them, a name of `LANDMARKERS`, and its version: no other one's are given.
    Each picture's is a file, written aside and renamed, so that several processes can share the folder. A
    picture without a face has a file too, so that it isn't searched again. Whatever else lies in a file's
    place counts as absent; it is made again.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     LandmarkStore(folder).landmarks(np.zeros((64, 64, 3), np.uint8)) is None
        True
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, detector: str = DEFAULT) -> None:
        self.detector, self.version = detector, LANDMARKERS[detector].version
        self.folder = Path(folder) if folder else cache_folder() / "landmarks"

    def landmarks(self, pixels: ByteArray) -> FloatArray | None:
        """The landmarks (68, 2) of `face`, None without a face."""
        return self.face(pixels).landmarks

    def face(self, pixels: ByteArray) -> Face:
        """The largest face in uint8 RGB (H, W, 3), as `find_face` has it.

        Raises:
            LandmarkError: as `find_face`; or the folder cannot be written.
        """
        digest = hashlib.blake2b(f"{self.detector} {self.version} {pixels.shape}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(pixels).data)
        name = digest.hexdigest()
        path = self.folder / name[:2] / f"{name}.json"
        known = _read_face(path)
        if known is None:
            known = find_face(pixels, self.detector)
            self._write(path, known)
        return known

    def _write(self, path: Path, face: Face) -> None:
        points = None if face.landmarks is None else face.landmarks.tolist()
        try:
            with writing(self.folder):
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir() and not path.is_symlink():
                    return  # it may hold anything: left alone, it costs the search each time
            with written_among_others(path) as part:
                part.write_text(json.dumps({**asdict(face), "landmarks": points}))
        except OutputError as error:
            raise LandmarkError(f"landmarks cannot be kept: {error}; or name another folder") from error


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
    if not exact or implausible(points) or not _encloses(box, points):
        return None
    return Face(True, (left, top, right, bottom), points, source, tuple(notes))


def _encloses(box: list[int], points: FloatArray) -> bool:
    """Whether a box is about where its landmarks (68, 2) are, and about as large."""
    corners = np.array(box, np.float64).reshape(2, 2)
    size, extent = corners[1] - corners[0], np.ptp(points, axis=0)
    apart = np.abs(corners.mean(axis=0) - (points.min(axis=0) + points.max(axis=0)) / 2)
    fits = (extent < 3 * size) & (size < 3 * extent) & (apart < size / 2)
    return bool(fits.all())


def cache_folder() -> Path:
    """Where xface keeps what can be made again: $XDG_CACHE_HOME/xface, or ~/.cache/xface."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xface"
