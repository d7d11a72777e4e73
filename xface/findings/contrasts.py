"""Contrasts: what differs between images that were misclassified and correctly classified ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xface.results import CONTRASTS, LIKENESSES, OUTCOMES, FloatArray
from xface.statistics.adjustment import MARGIN, adjusted_differences
from xface.statistics.bootstrap import LEAST_GROUPS, SEED, Estimate, finite
from xface.statistics.effects import ALPHA, cliffs_delta, false_discovery
from xface.statistics.means import Codes, Mask, groups_with, mean_differences
from xface.statistics.permutation import PERMUTATIONS, permute

UNTESTED = "; not tested"
RAW_PERMUTATIONS = 999  # enough for what is shown beside only
TOLD_APART = "the score alone tells the two sides apart"


@dataclass(frozen=True)
class Unadjusted:
    """A difference as it stands, which may do no more than follow the score."""

    difference: Estimate
    delta: float | None
    p: float | None
    q: float | None = None
    finding: bool = False


@dataclass(frozen=True)
class Equivalence:
    """Whether the sides are the same: `p` that they differ by `margin` or more, at equal scores.

    The margin is half a standard deviation of what the score leaves.
    """

    margin: float | None
    p: float | None
    same: bool


@dataclass(frozen=True)
class Contrast:
    """A number's mean on one outcome against another's.

    `name` says which number (method, layer and region, or attribute); `n`, `groups` and `missing` (images
    without the number) are of the first and second outcome, and so are the `means`, as they stand. Where
    `adjusted`, the rest is at equal scores: `difference`, Cliff's `delta`, `p` of no difference, `q` after
    Benjamini and Hochberg; `raw` is the same without regard to the score. `p_family` is p against the best of
    the contrast's numbers, `p_all` against all that the run tests. `equivalence` is asked of errors and right
    verdicts of one predicted class. `coarse`: the map's cells are too large for the region. `note` says why
    there is no p.
    """

    name: Mapping[str, str]
    contrast: str
    n: tuple[int, int]
    groups: tuple[int, int]
    missing: tuple[int, int]
    means: tuple[Estimate, Estimate]
    difference: Estimate
    delta: float | None
    p: float | None
    q: float | None = None
    finding: bool = False
    note: str = ""
    adjusted: bool = False
    raw: Unadjusted | None = None
    equivalence: Equivalence | None = None
    p_family: float | None = None
    p_all: float | None = None
    coarse: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain values, those of `name` first."""
        given = {key: getattr(self, key) for key in self.__dataclass_fields__ if key != "name"}
        means = [mean.to_json() for mean in self.means]
        pairs = {key: list(given[key]) for key in ("n", "groups", "missing")}
        records = {key: given[key] and asdict(given[key]) for key in ("difference", "raw", "equivalence")}
        return {**self.name, **given, **pairs, **records, "means": means}


def contrasts(
    names: Sequence[Mapping[str, str]],
    values: FloatArray,
    outcomes: NDArray[Any],
    codes: Codes,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
    *,
    scores: FloatArray | None = None,
    sides: Mapping[str, tuple[str, str]] = CONTRASTS,
) -> list[Contrast]:
    """Contrasts of K named columns (N, K), uncorrected; `outcomes` and group `codes` (N,) are the rows'.

    `sides` are the outcomes of each contrast. With `scores` (N,) they are compared at equal scores
    (`adjustment.adjusted_differences`), and as they stand beside; else as they stand only: p is from
    permuting whole groups (`permutation.permute`), intervals from resampling them
    (`means.mean_differences`). A side with fewer than 10 groups gets no p.
    """
    found: list[Contrast] = []
    for contrast, pair in sides.items():
        first, second = (outcomes == side for side in pair)
        count = permutations if scores is None else min(permutations, RAW_PERMUTATIONS)
        rows = _as_they_stand(contrast, names, values, first, second, codes, count, seed)
        if scores is not None:
            both = first | second
            given = (values[both], first[both], scores[both], codes[both])
            rows = _adjusted(rows, *given, permutations, seed)
        found += map(_noted, rows)
    return found


def _as_they_stand(
    contrast: str,
    names: Sequence[Mapping[str, str]],
    values: FloatArray,
    first: Mask,
    second: Mask,
    codes: Codes,
    permutations: int,
    seed: int,
) -> list[Contrast]:
    one, two = (_Side.of(values, side, codes, seed) for side in (first, second))
    differences = mean_differences(values, first, second, codes, seed=seed)
    both = first | second
    tested = permute(values[both], first[both], codes[both], permutations, seed)
    ps, furthest = tested.p_values(), tested.furthest()
    deltas = cliffs_delta(values[first], values[second])
    rows = []
    for k, name in enumerate(names):
        counts = ((one.n[k], two.n[k]), (one.groups[k], two.groups[k]), (one.missing[k], two.missing[k]))
        measured = (differences[k], finite(deltas[k]), finite(ps[k]))
        row = Contrast(name, contrast, *counts, (one.means[k], two.means[k]), *measured)
        rows.append(replace(row, p_family=finite(furthest[k])))
    return rows


def _adjusted(
    rows: Sequence[Contrast],
    values: FloatArray,
    first: Mask,
    scores: FloatArray,
    codes: Codes,
    permutations: int,
    seed: int,
) -> list[Contrast]:
    """The same rows at equal scores, with what they were as `raw`."""
    found = adjusted_differences(values, first, scores, codes, permutations, seed)
    ps, furthest = found.tested.p_values(), found.tested.furthest()
    deltas = cliffs_delta(found.values[first], found.values[~first])
    margins = MARGIN * _spread(found.values, first)
    apart = found.equivalence(margins)
    changed = []
    for k, row in enumerate(rows):
        now = replace(
            row,
            adjusted=True,
            raw=Unadjusted(row.difference, row.delta, row.p),
            difference=found.differences[k],
            delta=finite(deltas[k]),
            p=finite(ps[k]),
            p_family=finite(furthest[k]),
        )
        if row.contrast in LIKENESSES:
            p = finite(apart[k])
            now = replace(now, equivalence=Equivalence(finite(margins[k]), p, p is not None and p <= ALPHA))
        changed.append(now)
    return changed


def _spread(values: FloatArray, first: Mask) -> FloatArray:
    """The standard deviation within the two sides of each column (K,), the sides counting alike."""
    with np.errstate(invalid="ignore", divide="ignore"):
        variances = [_variance(values[side]) for side in (first, ~first)]
        return np.asarray(np.sqrt((variances[0] + variances[1]) / 2))


def _variance(values: FloatArray) -> FloatArray:
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    mean = np.where(defined, values, 0).sum(axis=0) / count
    return np.asarray(np.where(defined, (values - mean) ** 2, 0).sum(axis=0) / (count - 1))


@dataclass(frozen=True)
class _Side:
    """Per column, over one outcome: images, groups, images without the number, the mean."""

    n: list[int]
    groups: list[int]
    missing: list[int]
    means: list[Estimate]

    @staticmethod
    def of(values: FloatArray, side: Mask, codes: Codes, seed: int) -> _Side:
        defined = np.isfinite(values[side])
        n, missing = (each.sum(axis=0).tolist() for each in (defined, ~defined))
        means = mean_differences(values, side, None, codes, seed=seed)
        return _Side(n, groups_with(defined, codes[side]).tolist(), missing, means)


def _noted(row: Contrast) -> Contrast:
    """Without a p where it would mean nothing, and why."""
    sides = {**CONTRASTS, **LIKENESSES}[row.contrast]
    lacking = [
        f"{groups} of {OUTCOMES[outcome]}"
        for outcome, groups in zip(sides, row.groups, strict=True)
        if groups < LEAST_GROUPS
    ]
    if lacking:
        note = f"fewer than {LEAST_GROUPS} groups: {', '.join(lacking)}{UNTESTED}"
        return _untested(replace(row, raw=row.raw and replace(row.raw, p=None)), note)
    if row.p is None:
        constant = row.p is None and (row.raw or row).p is None
        return _untested(row, f"{'nothing varies' if constant else TOLD_APART}{UNTESTED}")
    return row


def _untested(row: Contrast, note: str) -> Contrast:
    """A row of few groups has no interval from them either."""
    difference = Estimate(row.difference.value) if row.adjusted else row.difference
    none = row.equivalence and Equivalence(row.equivalence.margin, None, False)
    return replace(row, difference=difference, p=None, p_family=None, equivalence=none, note=note)


def corrected(rows: Sequence[Contrast], level: float = ALPHA) -> tuple[Contrast, ...]:
    """With q over all rows that have a p (Benjamini and Hochberg 1995), and `finding` where q <= `level`.

    What is `raw` is corrected over its own. `level` bounds the expected part of false findings among the
    findings, also for numbers that depend on one another positively (Benjamini and Yekutieli 2001).
    """
    qs = _corrected([row.p for row in rows])
    raws = _corrected([row.raw.p if row.raw else None for row in rows])
    return tuple(
        replace(row, q=q, finding=q is not None and q <= level, raw=row.raw and _with_q(row.raw, raw, level))
        for row, q, raw in zip(rows, qs, raws, strict=True)
    )


def _with_q(raw: Unadjusted, q: float | None, level: float) -> Unadjusted:
    return replace(raw, q=q, finding=q is not None and q <= level)


def _corrected(ps: Sequence[float | None]) -> list[float | None]:
    qs = iter(false_discovery([p for p in ps if p is not None]))
    return [None if p is None else next(qs) for p in ps]
