"""Slices: where the detector is wrong more often, by at most two attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise, product, repeat
from typing import Any

import numpy as np

from xface.results import FloatArray
from xface.statistics.bootstrap import LEAST_GROUPS, SEED, Estimate
from xface.statistics.effects import ALPHA
from xface.statistics.means import Codes, Mask, groups_with, proportion
from xface.statistics.permutation import Permuted, permute
from xface.wording import spaced

BINS = 4
LEAST_IMAGES = 30
LEAST_PART = 0.02
MOST = 5
PERMUTATIONS = 999


@dataclass(frozen=True)
class Condition:
    """An attribute from `low` (not itself) to `high`; None where it has no end there."""

    attribute: str
    low: float | None
    high: float | None
    words: str


@dataclass(frozen=True)
class Slice:
    """Images under one or two conditions: how often they are wrong, and how often the rest is.

    `p` is that of this slice alone, `q` against the best of all slices, `p_all` against all that a run tests.
    """

    conditions: tuple[Condition, ...]
    n: int
    groups: int
    errors: int
    rate: Estimate
    rest: Estimate
    p: float
    q: float
    finding: bool
    p_all: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def find_slices(
    names: Sequence[str],
    values: FloatArray,
    wrong: Mask,
    codes: Codes,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
) -> tuple[Slice, ...]:
    """The worst slices by attributes (N, K), each found beyond those before it, and the worst that is not.

    Each attribute is cut at its quartiles; a slice is one bin, or a bin of each of two attributes, with at
    least 30 images, 2 % of all and 10 groups. Its errors against the rest's are tested by permuting whole
    groups (`permutation.permute`), and q is against the highest statistic of all slices (Westfall and Young
    1993), so that with no effect at all 5 % of the sets yield a finding. A slice that is found is then taken
    out, and the others are tested again without its images: near-duplicates have nothing left to show.
    Rates and intervals are of the whole slice; being those of the worst, they are too high.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> dark = rng.random((600, 1))
        >>> wrong = rng.random(600) < 0.1 + 0.5 * (dark[:, 0] < 0.25)
        >>> [worst, *_] = find_slices(["brightness"], dark, wrong, np.arange(600))
        >>> worst.finding, worst.conditions[0].words
        (True, 'brightness at most 0.281')
    """
    conditions, inside = candidates(names, values)
    left = np.ones(len(wrong), bool)
    found: list[Slice] = []
    while len(found) < MOST and len(conditions):
        large = _large(inside & left[:, None], left, codes)
        if not len(large) or len(np.unique(wrong[left])) < 2:
            break
        tested = permute(inside[np.ix_(left, large)], wrong[left], codes[left], permutations, seed)
        best = int(np.nanargmax(tested.observed))
        worst = large[best]
        found.append(_slice(conditions[worst], inside[:, worst], wrong, codes, tested, best))
        if not found[-1].finding:
            break
        left &= ~inside[:, worst]
    return tuple(found)


def members(found: Slice, names: Sequence[str], values: FloatArray) -> Mask:
    """Which images (N,) are in a slice, from all attributes (N, K)."""
    inside = np.ones(len(values), bool)
    for condition in found.conditions:
        column = values[:, list(names).index(condition.attribute)]
        low, high = condition.low, condition.high
        inside &= np.isfinite(column) & (column > (-np.inf if low is None else low))
        inside &= column <= (np.inf if high is None else high)
    return inside


def candidates(names: Sequence[str], values: FloatArray) -> tuple[list[tuple[Condition, ...]], Mask]:
    """All slices of one or two bins, and which images (N, slices) are in each."""
    single = [bins(name, column) for name, column in zip(names, values.T, strict=True)]
    slices: list[tuple[tuple[Condition, Mask], ...]] = [(each,) for bins in single for each in bins]
    slices += [pair for some, others in combinations(single, 2) for pair in product(some, others)]
    inside = np.empty((len(slices), len(values)), bool)
    for row, parts in zip(inside, slices, strict=True):
        np.logical_and.reduce([members for _, members in parts], out=row)
    return [tuple(condition for condition, _ in parts) for parts in slices], inside.T


def bins(name: str, column: FloatArray) -> list[tuple[Condition, Mask]]:
    """The bins of a number between its quartiles, equal ones joined, and which images (N,) are in each."""
    defined = column[np.isfinite(column)]
    if not len(defined) or np.ptp(defined) == 0:
        return []
    cuts = np.unique(np.quantile(defined, np.arange(1, BINS) / BINS))
    cuts = cuts[cuts < defined.max()]
    numbers = np.where(np.isfinite(column), np.searchsorted(cuts, column), -1)
    ends = [None, *map(float, cuts), None]
    words = map(_words, repeat(spaced(name)), pairwise([None, *_shown(cuts), None]))
    return [
        (Condition(name, low, high, said), numbers == number)
        for number, ((low, high), said) in enumerate(zip(pairwise(ends), words, strict=True))
        if len(cuts)
    ]


def _shown(cuts: FloatArray) -> list[str]:
    """The cuts with as many digits as tell them apart, three at least, and thousands in full."""
    for digits in range(3, 17):
        texts = [f"{cut:.0f}" if abs(cut) >= 10**digits else f"{cut:.{digits}g}" for cut in cuts]
        if len(set(texts)) == len(texts):
            break
    return texts


def _words(name: str, ends: tuple[str | None, str | None]) -> str:
    low, high = ends
    if low is None:
        return f"{name} at most {high}"
    return f"{name} above {low}" if high is None else f"{name} above {low} up to {high}"


def _large(inside: Mask, left: Mask, codes: Codes) -> Codes:
    """The numbers of the slices that have enough images and groups, inside and out."""
    count = inside.sum(axis=0)
    least = max(LEAST_IMAGES, LEAST_PART * len(left))
    enough = (count >= least) & (left.sum() - count >= least)
    numbers = np.flatnonzero(enough)
    within, without = inside[:, numbers], left[:, None] & ~inside[:, numbers]
    both = np.minimum(groups_with(within, codes), groups_with(without, codes))
    return np.asarray(numbers[both >= LEAST_GROUPS])


def _slice(
    conditions: tuple[Condition, ...], inside: Mask, wrong: Mask, codes: Codes, tested: Permuted, best: int
) -> Slice:
    q = float(tested.highest()[best])
    return Slice(
        conditions,
        int(inside.sum()),
        len(np.unique(codes[inside])),
        int(wrong[inside].sum()),
        proportion(wrong, inside, codes),
        proportion(wrong, ~inside, codes),
        float(tested.higher()[best]),
        q,
        q <= ALPHA,
    )
