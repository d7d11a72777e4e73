"""Where dlib's model files are, and whether they are the right ones."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from xface.errors import LandmarkError

DEBIAN_FOLDER = Path("/usr/share/dlib")
REMEDY = "install one with `pip install face_recognition_models`"


@dataclass(frozen=True)
class ModelFile:
    """One of dlib's model files: its name, the SHA-256 it must have, and what gets it.

    Example:
        >>> LANDMARK_MODEL.name
        'shape_predictor_68_face_landmarks.dat'
    """

    name: str
    sha256: str
    remedy: str

    def places(self) -> tuple[Path, ...]:
        """Every path where the file may be, best first."""
        return tuple(folder / self.name for folder in model_folders())

    def locate(self) -> Path | None:
        """The first of `places()` that holds the file, or None."""
        return next((place for place in self.places() if os.path.isfile(place)), None)

    def path(self) -> Path:
        """The file's path; LandmarkError with the places looked in and the remedy if it is nowhere."""
        if found := self.locate():
            return found
        looked = ", ".join(map(str, self.places()))
        raise LandmarkError(f"{self.name} is not installed (looked for {looked}); {self.remedy}")

    def is_intact(self) -> bool:
        """Whether the file found has the expected SHA-256; LandmarkError if none can be read."""
        path, digest = self.path(), hashlib.sha256()
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise LandmarkError(f"{path} cannot be read ({error.strerror}); {self.remedy}") from error
        return digest.hexdigest() == self.sha256


def model_folders() -> tuple[Path, ...]:
    """The folders that may hold dlib's model files: the Python package's, then Debian's.

    The package is found without importing it: its `__init__` needs pkg_resources, which newer
    setuptools no longer have.
    """
    spec = find_spec("face_recognition_models")
    packaged = spec.submodule_search_locations if spec else None
    return (*(Path(folder, "models") for folder in packaged or ()), DEBIAN_FOLDER)


LANDMARK_MODEL = ModelFile(
    name="shape_predictor_68_face_landmarks.dat",
    sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
    remedy=f"{REMEDY} or Debian's libdlib-data, or give the landmarks in a .pts or .csv file",
)
CNN_MODEL = ModelFile(
    name="mmod_human_face_detector.dat",
    sha256="4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
    remedy=f"{REMEDY}, or use the HOG detector",
)
