"""Where the faces of a command's images come from: dlib, or the landmark file that the user named."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .cautions import say_notes

if TYPE_CHECKING:
    from xface.images.pictures import Picture
    from xface.results import Face


def face_finder(landmarks: str | None, detector: str, count: int) -> Callable[[Picture], Face]:
    """Return what finds a picture's face: the landmark file, or dlib, by the user's landmark cache."""
    from xface.errors import UsageError
    from xface.faces import face_from_landmarks, read_landmarks

    if landmarks is None:
        return _kept(detector)
    file = read_landmarks(landmarks)
    if count > 1 and not file.names_images:
        raise UsageError(
            f"{landmarks!r} holds one unnamed face, for {count} images; give one image, or a CSV with a "
            "column `image`"
        )
    say_notes(file.notes)
    return lambda picture: face_from_landmarks(file.of(picture.name), landmarks)


def _kept(detector: str) -> Callable[[Picture], Face]:
    """What finds a face once and keeps it in the user's cache, unless that cannot be written."""
    from xface.errors import OutputError
    from xface.faces import find_face
    from xface.faces.landmark_cache import LandmarkStore
    from xface.report import ensure_folder

    store = LandmarkStore(detector=detector)
    try:
        ensure_folder(store.folder)
    except OutputError as error:
        say_notes((f"the faces found are not kept for the next time: {error}",))
        return lambda picture: find_face(picture.pixels, detector)
    return lambda picture: store.face(picture.pixels)
