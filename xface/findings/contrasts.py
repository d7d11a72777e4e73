"""Contrasts: what differs between images of one true class that were classified differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xface.results import CONTRASTS, OUTCOMES, FloatArray
from xface.statistics.bootstrap import LEAST_GROUPS, SEED, Estimate, finite
from xface.statistics.effects import ALPHA, cliffs_delta, false_discovery
from xface.statistics.means import Codes, Mask, groups_with, mean_differences
from xface.statistics.permutation import PERMUTATIONS, permute

UNTESTED = "; not tested"


@dataclass(frozen=True)
class Contrast:
    """A number's mean on one outcome against another's of the same truth.

    `name` says which number (method, layer and region, or attribute); `n`, `groups` and `missing` (images
    without the number) are of the first and second outcome; `delta` is Cliff's; `p` of the permutation test,
    `q` after Benjamini and Hochberg; `note` says why there is no p.
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

    def to_json(self) -> dict[str, Any]:
        """Return plain values, those of `name` first."""
        given = {key: getattr(self, key) for key in self.__dataclass_fields__ if key != "name"}
        means = [mean.to_json() for mean in self.means]
        pairs = {key: list(given[key]) for key in ("n", "groups", "missing")}
        return {**self.name, **given, **pairs, "means": means, "difference": self.difference.to_json()}


def contrasts(
    names: Sequence[Mapping[str, str]],
    values: FloatArray,
    outcomes: NDArray[Any],
    codes: Codes,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
) -> list[Contrast]:
    """Both contrasts of K named columns (N, K), uncorrected; `outcomes` and group `codes` (N,) are the rows'.

    p is from permuting whole groups (`permutation.permute`), intervals from resampling them
    (`means.mean_differences`). A side with fewer than 10 groups gets no p.
    """
    found = []
    for contrast, sides in CONTRASTS.items():
        first, second = (outcomes == side for side in sides)
        one, two = (_Side.of(values, side, codes, seed) for side in (first, second))
        differences = mean_differences(values, first, second, codes, seed=seed)
        both = first | second
        ps = permute(values[both], first[both], codes[both], permutations, seed).p_values()
        deltas = cliffs_delta(values[first], values[second])
        for k, name in enumerate(names):
            counts = ((one.n[k], two.n[k]), (one.groups[k], two.groups[k]), (one.missing[k], two.missing[k]))
            measured = (differences[k], finite(deltas[k]), finite(ps[k]))
            found.append(_noted(Contrast(name, contrast, *counts, (one.means[k], two.means[k]), *measured)))
    return found


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
    lacking = [
        f"{groups} of {OUTCOMES[outcome]}"
        for outcome, groups in zip(CONTRASTS[row.contrast], row.groups, strict=True)
        if groups < LEAST_GROUPS
    ]
    if lacking:
        return replace(row, p=None, note=f"fewer than {LEAST_GROUPS} groups: {', '.join(lacking)}{UNTESTED}")
    return row if row.p is not None else replace(row, note=f"nothing varies{UNTESTED}")


def corrected(rows: Sequence[Contrast], level: float = ALPHA) -> tuple[Contrast, ...]:
    """With q over all rows that have a p (Benjamini and Hochberg 1995), and `finding` where q <= `level`.

    `level` bounds the expected part of false findings among the findings, also for numbers that depend on one
    another positively (Benjamini and Yekutieli 2001).
    """
    qs = iter(false_discovery([row.p for row in rows if row.p is not None]))
    return tuple(
        row if row.p is None else replace(row, q=(q := next(qs)), finding=q <= level) for row in rows
    )
