"""Reading: a case's pictures, its face and its mask, as a network sees them; in worker processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from xface.data.self_blending import self_blend
from xface.detectors.crops import Crop, prepare_cropped
from xface.errors import ImageError, LandmarkError
from xface.evidence.hiding import ShownFace
from xface.evidence.pairs import difference_mask, misaligned
from xface.evidence.trust.cases import SEED, Case
from xface.faces.landmark_cache import LandmarkStore
from xface.files.hashes import sha256_of
from xface.images.pictures import Picture, read_hashed
from xface.preprocessing import Prepared, Preprocessing
from xface.results import FloatArray

BLENDED = 0.1
"""The weight of the source from which on a pixel of a self-blended picture counts as manipulated."""

WHITE = 127
"""A mask's pixels above this are manipulated."""

OF_MASK = "its mask "
"""What begins the reason why a mask's file does not serve, where the pair does."""


@dataclass(frozen=True, eq=False)
class ReadCase:
    """A case as it was read: `face` with its counterpart and `mask`, as far as there are any.

    `status` is `ok`, `no_face`, `unreadable` or `missing`, and `reason` says why it isn't ok; `no_mask`
    says why there is no pair, or no mask. `sha256` has the hash of each of the case's files.
    """

    case: Case
    status: str = "ok"
    reason: str = ""
    no_mask: str = ""
    face: ShownFace | None = field(default=None, repr=False)
    mask: NDArray[np.bool_] | None = field(default=None, repr=False)
    sha256: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseReader:
    """Reads batches of cases: batch `number` is `batches[number]`. It holds no network."""

    batches: Sequence[Sequence[Case]]
    preprocessing: Preprocessing
    crop: Crop | None
    store: LandmarkStore

    def batch(self, number: int) -> list[ReadCase]:
        """A batch; raises XFaceError for what isn't a picture's own fault."""
        return [self.read(case) for case in self.batches[number]]

    def read(self, case: Case) -> ReadCase:
        """One case; without a face to show if that cannot be had."""
        try:
            found = self._read(case)
        except (ImageError, OSError) as error:
            gone = next((path for path in case.files if not os.path.lexists(path)), None)
            found = ReadCase(case, "unreadable" if gone is None else "missing", str(error))
        return replace(found, sha256=tuple(map(sha256_of, case.files)))

    def _read(self, case: Case) -> ReadCase:
        picture, _ = read_hashed(case.path)
        face = self.store.face(picture.pixels)
        if face.landmarks is None:
            return ReadCase(case, "no_face", "; ".join(("no face was found", *face.notes)))
        try:
            return self._with_face(case, picture, face.landmarks)
        except LandmarkError as error:
            return ReadCase(case, "no_face", str(error))

    def _with_face(self, case: Case, picture: Picture, landmarks: FloatArray) -> ReadCase:
        """The case, with all that its kind has; raises LandmarkError where the landmarks span no face."""
        if case.made:
            return self._blended(case, picture, landmarks)
        forged = self._prepared(picture, landmarks)
        shown = _shown(forged, landmarks)
        real, unpaired = self._counterpart(case, picture, landmarks)
        mask, unmasked = None, ""
        if case.mask:
            unpaired = unpaired or (misaligned(forged.view, real.view) if real else "")
            mask, unmasked = self._mask_file(case, picture, landmarks)
        elif real is not None:
            mask, unpaired = difference_mask(forged.view, real.view)
        if real is not None and not unpaired:
            shown = replace(shown, counterpart=real.tensor)
        return ReadCase(case, no_mask="; ".join(filter(None, (unpaired, unmasked))), face=shown, mask=mask)

    def _blended(self, case: Case, picture: Picture, landmarks: FloatArray) -> ReadCase:
        """A real face blended with an altered copy of itself."""
        blend = self_blend(picture.pixels, landmarks, np.random.default_rng((SEED, case.seed)))
        if blend is None:
            return ReadCase(case, "no_face", "too little of the face is in the picture for self-blending")
        forged = self._prepared(replace(picture, pixels=blend.image), landmarks)
        real = self._prepared(picture, landmarks)
        grey = np.repeat((blend.mask > BLENDED).astype(np.uint8)[..., None] * 255, 3, axis=2)
        mask = self._prepared(replace(picture, pixels=grey), landmarks).view.max(axis=2) > WHITE
        return ReadCase(case, face=_shown(forged, landmarks, real), mask=mask)

    def _counterpart(
        self, case: Case, picture: Picture, landmarks: FloatArray
    ) -> tuple[Prepared | None, str]:
        """The real picture, cropped as the forgery is; None for none, and why it doesn't serve."""
        if not case.counterpart:
            return None, ""
        try:
            real, _ = read_hashed(case.counterpart)
            if real.pixels.shape != picture.pixels.shape:
                return None, misaligned(picture.pixels, real.pixels)
            return self._prepared(real, landmarks), ""
        except (ImageError, OSError) as error:
            return None, f"the real picture cannot be read: {error}"

    def _mask_file(
        self, case: Case, picture: Picture, landmarks: FloatArray
    ) -> tuple[NDArray[np.bool_] | None, str]:
        try:
            drawn, _ = read_hashed(case.mask)
        except (ImageError, OSError) as error:
            return None, f"{OF_MASK}cannot be read: {error}"
        if drawn.pixels.shape != picture.pixels.shape:
            sizes = [f"{each.pixels.shape[1]}x{each.pixels.shape[0]}" for each in (drawn, picture)]
            return None, f"{OF_MASK}has {sizes[0]} pixels, the picture {sizes[1]}"
        mask = self._prepared(drawn, landmarks).view.max(axis=2) > WHITE
        if mask.all() or not mask.any():
            return None, f"{OF_MASK}marks {'every pixel' if mask.all() else 'no pixel'} that the network sees"
        return mask, ""

    def _prepared(self, picture: Picture, landmarks: FloatArray) -> Prepared:
        return prepare_cropped(picture, self.preprocessing, self.crop, landmarks)


def _shown(prepared: Prepared, landmarks: FloatArray, counterpart: Prepared | None = None) -> ShownFace:
    """The face; raises LandmarkError where the landmarks span none."""
    points = prepared.geometry.to_input(landmarks)
    return ShownFace.of(prepared.tensor, points, None if counterpart is None else counterpart.tensor)
