"""Scoring: a detector asked about every image of a table, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from xface.data.labels import Vocabulary
from xface.data.reading import THREADS, read_ahead
from xface.detectors.detector import BATCH, Detector
from xface.detectors.requests import positive_class
from xface.errors import CheckpointError, ImageError, XFaceError
from xface.faces.landmark_cache import LandmarkStore
from xface.images.pictures import read_picture
from xface.preprocessing import Prepared
from xface.results import Prediction

if TYPE_CHECKING:
    import pandas as pd

Scored: TypeAlias = tuple[float, str]
"""The positive class's probability and "", or NaN and the reason."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture as a network sees it, and the notes on how it was read."""

    prepared: Prepared
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PictureReader:
    """Reads pictures as a detector sees them; where it crops, `store` may keep landmarks."""

    detector: Detector
    paths: Sequence[str]
    store: LandmarkStore | None = None

    def read(self, number: int) -> Seen | XFaceError:
        """One picture, or what is wrong with it."""
        try:
            picture = read_picture(self.paths[number])
            face = self.store.face(picture.pixels) if self.store else None
            return Seen(self.detector.prepare(picture, face), picture.notes)
        except XFaceError as error:
            return error

    def asked(self) -> Iterator[tuple[list[Seen], Tensor] | XFaceError]:
        """In the pictures' order, those of one size with their raw outputs (n, classes), and single errors.

        They are read ahead, and shown to the network in batches; one by one where they keep their own sizes,
        as these can be large.
        """
        sized = self.detector.card.preprocessing.size is not None
        read = read_ahead(self.read, len(self.paths), ahead=BATCH if sized else THREADS)
        while part := list(islice(read, BATCH if sized else 1)):
            for _, group in groupby(part, key=_shape):
                alike = list(group)
                yield from (one for one in alike if isinstance(one, XFaceError))
                if seen := [one for one in alike if isinstance(one, Seen)]:
                    yield seen, self.detector.logits(torch.stack([one.prepared.tensor for one in seen]))


def _shape(read: Seen | XFaceError) -> torch.Size | None:
    return read.prepared.tensor.shape if isinstance(read, Seen) else None


def score(
    detector: Detector, table: pd.DataFrame, progress: Callable[[int], object] = lambda done: None
) -> pd.DataFrame:
    """A copy of `table` with `score`, the positive class's probability of each `path`, and `reason`.

    An image that cannot be read, or gives no finite logits, has the score NaN and a reason; others have the
    reason "". Where the detector crops, `uncropped` says why an image was taken whole, "" if it wasn't, and
    landmarks are kept in the user's cache. `progress` is told how many images are done, batch by batch.
    Raises UsageError if no class of the detector is its positive one.
    """
    positive_class(detector)
    store = None if detector.card.crop is None else LandmarkStore(detector=detector.face_detector)
    scores: list[Scored] = []
    whole: list[str] = []
    for found in PictureReader(detector, list(table["path"]), store).asked():
        if isinstance(found, XFaceError):
            if not isinstance(found, ImageError):
                raise found  # no picture's own fault
            new, notes = [(float("nan"), str(found))], [""]
        else:
            new = positive_scores(detector, found[1])
            notes = ["; ".join(one.prepared.notes) for one in found[0]]
        scores += new
        whole += notes
        progress(len(new))
    values, reasons = zip(*scores, strict=True) if scores else ((), ())
    scored = table.assign(score=list(values), reason=list(reasons))
    return scored if detector.card.crop is None else scored.assign(uncropped=whole)


def predictions(detector: Detector, paths: Sequence[str]) -> Iterator[Prediction | XFaceError]:
    """A detector's verdict on each file, in order; the error of one that cannot be read, or gives none."""
    for found in PictureReader(detector, paths).asked():
        if isinstance(found, XFaceError):
            yield found
        else:
            yield from (_verdict(detector, *each) for each in zip(found[0], found[1][:, None], strict=True))


def _verdict(detector: Detector, seen: Seen, logits: Tensor) -> Prediction | XFaceError:
    try:
        [found] = detector.verdicts(logits)
    except CheckpointError as error:
        return error
    return replace(found, notes=(*seen.notes, *seen.prepared.notes))


def vocabulary(detector: Detector, given: Mapping[str, str] | None = None) -> Vocabulary:
    """The labels that data for a detector may have; `given` says which class others mean.

    Raises:
        UsageError: no class of the detector is its positive one; or `given` names a class that is none.
    """
    return Vocabulary.of_detector(detector.classes, positive_class(detector), given)


def positive_scores(detector: Detector, logits: Tensor) -> list[Scored]:
    """Score and "" for each row of raw outputs, (N, classes) or (N, 1); NaN and a reason if not finite."""
    logits = logits.double()  # in float32, all above a logit of 17 would tie at 1
    halves = torch.cat([-logits, logits], dim=1) / 2 if logits.shape[1] == 1 else logits
    column = detector.class_index(positive_class(detector))
    scores = halves.softmax(dim=1)[:, column].tolist()
    finite = logits.isfinite().all(dim=1).tolist()
    reason = "the network gives no finite logits for it"
    return [(s, "") if well else (float("nan"), reason) for s, well in zip(scores, finite, strict=True)]
