"""What `xface explain` and `xface regions` share: image after image explained, the next ones read ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xface.detectors import Detector
    from xface.evidence.explained import EffectKind
    from xface.explanation import Explanation
    from xface.images.pictures import Picture
    from xface.results import Face

AHEAD = 4
"""How many pictures are read before their turn: they are held in their full size."""

Request = tuple[Sequence[str] | None, Sequence[str] | None, str]
"""Methods, layers and target, as `xface.explain` takes them."""


def explainer(
    detector: Detector,
    paths: Sequence[Path],
    request: Request,
    face_of: Callable[[Picture], Face],
    effects: EffectKind | None,
) -> Callable[[], Explanation]:
    """What explains the next of the images each time it is called, or raises why that one cannot be.

    While it does, the next images are read and their faces found in threads.
    """
    import xface
    from xface.data.reading import read_ahead
    from xface.errors import ImageError, LandmarkError
    from xface.images.pictures import read_picture

    def read(number: int) -> tuple[Picture, Face] | ImageError | LandmarkError:
        try:
            picture = read_picture(paths[number])
            return picture, face_of(picture)
        except (ImageError, LandmarkError) as error:
            return error

    pictures = read_ahead(read, len(paths), ahead=AHEAD)

    def explain_next() -> Explanation:
        found = next(pictures)
        if not isinstance(found, tuple):
            raise found
        return xface.explain(detector, found[0], *request, found[1], effects)

    return explain_next
