"""The correctly classified image of the same class that is most like an error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xface.results import CONTRASTS, FloatArray
from xface.runs.folder import RunFolder

AT_ONCE = 2**20  # distances in memory
NONE = -1
IndexArray = NDArray[np.intp]


def nearest_correct(run: RunFolder) -> IndexArray:
    """For every false positive the nearest true negative, for every false negative the nearest true positive.

    Images are compared by the region shares of the run's first kind of map and by the attributes, each in
    standard deviations over the run; what is undefined counts as average. Of others, and where there is
    none, the index is -1.
    """
    found = np.full(len(run.rows), NONE, np.intp)
    outcomes, traits = np.array(run.texts("outcome"), object), traits_of(run)
    usable = np.array(run.texts("status"), object) == "ok"
    for wrong, right in CONTRASTS.values():
        errors = np.flatnonzero((outcomes == wrong) & usable)
        corrects = np.flatnonzero((outcomes == right) & usable)
        if len(corrects):
            found[errors] = corrects[nearest(traits[errors], traits[corrects])]
    return found


def traits_of(run: RunFolder) -> FloatArray:
    """What images are compared by, (images, traits), in standard deviations."""
    parts = [run.numbers(name)[:, None] for name in run.attributes]
    if run.kinds:
        parts.append(run.regions.share[:, 0])
    return standardised(np.concatenate([np.empty((len(run.rows), 0)), *parts], axis=1))


def standardised(values: FloatArray) -> FloatArray:
    """Columns of (N, K) to mean 0 and standard deviation 1; what isn't finite, or never changes, to 0.

    Example:
        >>> standardised(np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]])).tolist()
        [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    """
    masked = np.ma.masked_invalid(values)
    spread = np.ma.filled(masked.std(axis=0), 0.0)
    scaled = (masked - masked.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return np.asarray(np.ma.filled(scaled, 0.0))


def nearest(points: FloatArray, others: FloatArray) -> IndexArray:
    """The index of the other point (M, K) that is nearest to each point (N, K), by Euclidean distance."""
    lengths = (others**2).sum(axis=1)
    step = max(1, AT_ONCE // len(others))
    parts = [points[start : start + step] for start in range(0, len(points), step)]
    found = [np.argmin(lengths - 2 * part @ others.T, axis=1) for part in parts]
    return np.concatenate([np.empty(0, np.intp), *found])
