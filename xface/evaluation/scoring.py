"""Scoring: a detector asked about every image of a table, in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from xface.data.labels import Vocabulary
from xface.detectors.detector import BATCH, Detector
from xface.errors import ImageError, UsageError
from xface.faces.landmark_cache import LandmarkStore
from xface.images.pictures import read_picture
from xface.preprocessing import Prepared

if TYPE_CHECKING:
    import pandas as pd

READERS = 4  # threads: decoding and resizing let go of the interpreter

Read: TypeAlias = "Prepared | ImageError"
Scored: TypeAlias = tuple[float, str]
"""The positive class's probability and "", or NaN and the reason."""


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
    found: list[Scored] = []
    whole: list[str] = []
    for part in _read_ahead(detector, list(table["path"])):
        found += _scored(detector, part)
        whole += ["; ".join(read.notes) if isinstance(read, Prepared) else "" for read in part]
        progress(len(part))
    scores, reasons = zip(*found, strict=True) if found else ((), ())
    scored = table.assign(score=list(scores), reason=list(reasons))
    return scored if detector.card.crop is None else scored.assign(uncropped=whole)


def _read_ahead(detector: Detector, paths: Sequence[str]) -> Iterator[list[Read]]:
    """Batches of prepared images, the next one read while the last is computed.

    Where the detector crops, a face is looked for once: it is kept in the user's cache.
    """
    store = None if detector.card.crop is None else LandmarkStore()

    def read(path: str) -> Read:
        try:
            picture = read_picture(path)
            return detector.prepare(picture, store.face(picture.pixels) if store else None)
        except ImageError as error:
            return error

    pool = ThreadPoolExecutor(READERS)
    waiting: deque[list[Future[Read]]] = deque()
    try:
        for start in range(0, len(paths), BATCH):
            waiting.append([pool.submit(read, path) for path in paths[start : start + BATCH]])
            if len(waiting) > 1:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def _scored(detector: Detector, part: Sequence[Read]) -> list[Scored]:
    found: list[Scored] = []
    for shape, alike in groupby(part, key=_shape):
        if shape is None:
            found += [(float("nan"), str(error)) for error in alike]
        else:
            batch = torch.stack([read.tensor for read in alike if isinstance(read, Prepared)])
            found += positive_scores(detector, detector.logits(batch))
    return found


def _shape(read: Read) -> torch.Size | None:
    return read.tensor.shape if isinstance(read, Prepared) else None


def positive_class(detector: Detector) -> str:
    """The class whose probability is an image's score; UsageError if none of the detector's is positive."""
    if detector.card.positive is None:
        raise UsageError(
            f"no class of this detector is called fake ({', '.join(detector.classes)}); "
            "say which one is the forgery: --positive NAME"
        )
    return detector.card.positive


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
