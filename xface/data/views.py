"""Views: pictures cropped and resized as the network sees them, read one by one or kept in a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xface.data.reading import read_ahead
from xface.detectors.crops import Crop, prepare_cropped
from xface.errors import ImageError, OutputError, UsageError
from xface.faces.landmark_cache import LandmarkStore
from xface.files.hashes import hashes
from xface.files.paths import is_folder
from xface.files.writing import appearing
from xface.images.pictures import read_picture
from xface.preprocessing import Preprocessing
from xface.results import ByteArray, FloatArray

VERSION = 2  # of the stored files; views that an older way of reading made are made again


@dataclass(frozen=True, eq=False)
class View:
    """A picture as uint8 RGB (H, W, 3) at the network's size, and its landmarks (68, 2) there, if known."""

    pixels: ByteArray = field(repr=False)
    landmarks: FloatArray | None = None


class Views(Protocol):
    """Views by index; `view` raises ImageError for a picture that cannot be read."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def view(self, index: int) -> View:
        """One of them."""
        ...


@dataclass(frozen=True)
class ReadViews:
    """Views read from their files whenever asked for.

    They are what `preprocessing.prepare` makes of the pictures, after the crop: to the last bit, and so
    without a shortcut as JPEG's decoding at reduced size. A picture without a face stays uncropped.
    `store` is needed for a crop or where landmarks are wanted.
    """

    paths: Sequence[str]
    preprocessing: Preprocessing
    crop: Crop | None = None
    store: LandmarkStore | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def view(self, index: int) -> View:
        """Read, crop and resize one picture; ImageError if it cannot be read."""
        picture = read_picture(self.paths[index])
        landmarks = None if self.store is None else self.store.landmarks(picture.pixels)
        prepared = prepare_cropped(picture, self.preprocessing, self.crop, landmarks)
        if landmarks is None or prepared.notes:  # a note says that they give no crop: they aren't a face's
            return View(prepared.view)
        return View(prepared.view, prepared.geometry.to_input(landmarks))

    def attempt(self, index: int) -> View | str:
        """One view, or the reason why there is none."""
        try:
            return self.view(index)
        except ImageError as error:
            return str(error)

    def fingerprint(self) -> str:
        """A hash of all that the views depend on: files by what they hold, and settings."""
        settings = {**self.preprocessing.to_json(), "scale": 0, "mean": 0, "std": 0, "colours": 0}
        parts = [VERSION, settings, repr(self.crop), self.store is not None]
        parts += zip(self.paths, hashes(self.paths), strict=True)
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


class StoredViews:
    """Views kept in one file, mapped into memory and so shared by all processes that read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reasons: dict[int, str] = {
            int(index): reason
            for index, reason in json.loads((folder / "unreadable.json").read_text()).items()
        }
        self._landmarks: FloatArray = np.load(folder / "landmarks.npy")
        self._pixels: Any = None

    def __len__(self) -> int:
        return len(self._landmarks)

    def view(self, index: int) -> View:
        """One view, copied out of the file; ImageError for what could not be read when it was made."""
        if index in self.reasons:
            raise ImageError(self.reasons[index])
        if self._pixels is None:
            self._pixels = np.load(self.folder / "pixels.npy", mmap_mode="r")
        points = self._landmarks[index].astype(np.float64)
        return View(np.array(self._pixels[index]), None if np.isnan(points).any() else points)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}  # a mapped file would be copied to the worker


def stored_views(views: ReadViews, folder: str | os.PathLike[str], workers: int = 0) -> StoredViews:
    """The views as one file below `folder`, made now if it isn't there yet.

    A file of N views takes 3 N H W bytes (9,000 at 224x224: 1.35 GB). It is named after all that the views
    depend on, made aside and renamed when it is whole.

    Raises:
        UsageError: the preprocessing keeps each picture's own size.
        OutputError: the folder cannot be written.
    """
    if views.preprocessing.size is None:
        raise UsageError("views of their own sizes cannot be kept in one file; give a size, or no cache")
    place = Path(folder) / views.fingerprint()
    if not is_folder(place, OutputError):
        with appearing(place) as aside:
            _fill(views, views.preprocessing.size, aside, workers)
    return StoredViews(place)


def _fill(views: ReadViews, size: tuple[int, int], folder: Path, workers: int) -> None:
    shape = (len(views), *size, 3)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape)
    landmarks = np.full((len(views), 68, 2), np.nan, np.float32)
    reasons = {}
    for index, one in enumerate(read_ahead(views.attempt, len(views), workers)):
        if isinstance(one, str):
            reasons[index] = one
            continue
        pixels[index] = one.pixels
        if one.landmarks is not None:
            landmarks[index] = one.landmarks
    pixels.flush()
    np.save(folder / "landmarks.npy", landmarks)
    (folder / "unreadable.json").write_text(json.dumps(reasons))
