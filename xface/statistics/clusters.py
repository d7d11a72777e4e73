"""Groups of errors: which errors have maps that lie on the same parts of the face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from xface.results import FloatArray
from xface.statistics.bootstrap import SEED
from xface.statistics.means import Codes

NUMBERS = range(2, 7)
FEWEST = 20  # errors to look for groups among
LOOKED_AT = 500  # errors, at most, to choose the number from
REFERENCES = 19  # the best of 20 by chance has p = 0.05
LEAST_SILHOUETTE = 0.25  # below, there is no substantial structure (Kaufman and Rousseeuw 1990)


@dataclass(frozen=True)
class Cluster:
    """Errors whose maps are alike: the rows of its images, the most typical of them and its mean lifts."""

    outcome: str
    method: str
    layer: str
    number: int
    size: int
    medoid: int
    members: tuple[int, ...]
    lifts: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "members": list(self.members)}


def cluster(shares: FloatArray, seed: int = SEED) -> Codes:
    """The number of the cluster of each map, from shares (N, regions); the largest is 0.

    k-means on the roots of the shares, so that distances are Hellinger's. k has the best mean silhouette
    (Rousseeuw 1987) of 2 to 6, and stands only if that is at least 0.25 and better than the best of each of
    19 draws from a normal distribution with the same mean and covariance, in which there are no groups (as
    in Liu et al., SigClust, 2008). Otherwise, and for fewer than 20 maps, all are one cluster.

    Example:
        >>> cluster(np.repeat([[0.9, 0.1], [0.1, 0.9]], [30, 20], axis=0) + 1e-3 * np.eye(50, 2))[[0, 49]]
        array([0, 1])
    """
    from sklearn.cluster import KMeans

    if len(shares) < FEWEST:
        return np.zeros(len(shares), np.intp)
    points, rng = np.sqrt(np.maximum(shares, 0)), np.random.default_rng(seed)
    some = points[rng.permutation(len(points))[:LOOKED_AT]]
    best, number = _silhouette(some)
    if best < LEAST_SILHOUETTE:
        return np.zeros(len(shares), np.intp)
    spread, mean = np.cov(some, rowvar=False), some.mean(axis=0)
    drawn = [rng.multivariate_normal(mean, spread, len(some), method="eigh") for _ in range(REFERENCES)]
    if any(_silhouette(points)[0] >= best for points in drawn):
        return np.zeros(len(shares), np.intp)
    labels = KMeans(number, n_init=10, random_state=SEED).fit_predict(points)
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.asarray(np.argsort(order)[labels])


def _silhouette(points: FloatArray) -> tuple[float, int]:
    """The best mean silhouette and its number of clusters; one cluster where there are no two points."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    distinct = len(np.unique(points.round(12), axis=0))
    found = [(0.0, 1)]
    for number in NUMBERS:
        if number <= min(distinct, len(points) - 1):
            labels = KMeans(number, n_init=3, random_state=SEED).fit_predict(points)
            found.append((float(silhouette_score(points, labels)), -number))
    best, number = max(found)
    return best, abs(number)


def find_clusters(
    regions: Sequence[str],
    shares: FloatArray,
    lifts: FloatArray,
    rows: Codes,
    outcome: str,
    method: str,
    layer: str,
) -> tuple[Cluster, ...]:
    """The clusters of the errors `rows` (N,) by their shares (N, regions); those without a map are left out.

    The medoid is the error with the least sum of squared distances to the others of its cluster.
    """
    whole = np.isfinite(shares).all(axis=1)
    shares, lifts, rows = shares[whole], lifts[whole], rows[whole]
    labels = cluster(shares)
    found = []
    for number in range(int(labels.max(initial=-1)) + 1):
        members = labels == number
        points = np.sqrt(np.maximum(shares[members], 0))
        medoid = np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1))  # nearest to the mean: the same
        inside = rows[members]
        means = dict(zip(regions, np.nanmean(lifts[members], axis=0).tolist(), strict=True))
        names = (outcome, method, layer, number, len(inside), int(inside[medoid]))
        found.append(Cluster(*names, tuple(inside.tolist()), means))
    return tuple(found)
