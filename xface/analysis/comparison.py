"""Two runs over the same images: which errors are fixed, which are new, and where the maps moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xface.analysis.bootstrap import LEAST_GROUPS, SEED, Estimate, group_codes
from xface.analysis.columns import Columns, region_columns
from xface.analysis.contrasts import OUTCOMES
from xface.analysis.means import Codes, Mask, group_sums, mean_differences
from xface.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

EXACT = 25  # discordant images: at most so many, and McNemar's test is exact
PERMUTATIONS = 4999
WRONG = ("FP", "FN")


@dataclass(frozen=True)
class Moved:
    """A region's mean lift over one outcome, in both runs: each over the images that have it there."""

    method: str
    layer: str
    region: str
    outcome: str
    n: tuple[int, int]
    first: Estimate
    second: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Comparison:
    """What changed from the first run to the second over the images that both have scored.

    `fixed`, `new` and `still` are pairs of rows (first run's, second run's) of errors that went, came and
    stayed; `p` is McNemar's over images, `group_p` that of swapping the runs in whole groups; `notes` says
    what was left out and why there is no p.
    """

    images: int
    groups: int
    errors: tuple[int, int]
    fixed: tuple[tuple[int, int], ...]
    new: tuple[tuple[int, int], ...]
    still: tuple[tuple[int, int], ...]
    p: float
    group_p: float | None
    regions: tuple[Moved, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        lists = {name: [list(pair) for pair in getattr(self, name)] for name in ("fixed", "new", "still")}
        regions = [{**asdict(row), "n": list(row.n)} for row in self.regions]
        tuples = {"errors": list(self.errors), "regions": regions, "notes": list(self.notes)}
        return {**asdict(self), **lists, **tuples}


Run = tuple["pd.DataFrame", "pd.DataFrame"]
"""The tables `images` and `regions` of a run."""


def compare(first: Run, second: Run) -> Comparison:
    """Compare two runs over the images that both have scored, found by their content, else by their paths.

    McNemar's test (1947; statsmodels': exact for at most 25 images that changed) asks whether as many errors
    are new as fixed, taking images for independent. `group_p` keeps groups whole: under the hypothesis that
    the runs are equally good, each group's two numbers of errors could change places (scipy's permutation
    test of pairs); None for fewer than 10 groups that changed. The lifts' differences have intervals over
    groups.

    Raises:
        UsageError: if the runs share no scored image of the same truth.
    """
    pairs, notes = matched(first[0], second[0])
    codes = group_codes(pairs["group"].fillna("").astype(str).to_numpy(), len(pairs))
    wrong, now = (pairs[name].isin(WRONG).to_numpy() for name in ("outcome", "outcome_second"))
    group_p = _swapped(wrong, now, codes)
    if group_p is None:
        notes.append(f"fewer than {LEAST_GROUPS} groups have changed: no test over groups")
    return Comparison(
        len(pairs),
        len(np.unique(codes)),
        (int(wrong.sum()), int(now.sum())),
        _rows(pairs, wrong & ~now),
        _rows(pairs, ~wrong & now),
        _rows(pairs, wrong & now),
        mcnemar_p(int((wrong & ~now).sum()), int((~wrong & now).sum())),
        group_p,
        tuple(_moves(pairs, codes, first[1], second[1])),
        tuple(notes),
    )


def matched(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The scored images of both runs, a row per image with the second's `row_second` and `outcome_second`."""
    one, other = (_keyed(images) for images in (first, second))
    shared = one.merge(other[["key", "row", "outcome"]], on="key", suffixes=("", "_second"))
    truth, again = (shared[name].isin(["TP", "FN"]) for name in ("outcome", "outcome_second"))
    pairs = shared[truth == again].reset_index(drop=True)
    if pairs.empty:
        raise UsageError(
            f"the runs share no scored image of the same truth (they have {len(one)} and {len(other)} scored "
            "images); compare runs over the same data"
        )
    left = {"images are scored in the first run only": len(one) - len(shared)}
    left["images are scored in the second run only"] = len(other) - len(shared)
    left["images have another truth in the second run"] = len(shared) - len(pairs)
    return pairs, [f"{count} {what}" for what, count in left.items() if count]


def _keyed(images: pd.DataFrame) -> pd.DataFrame:
    """The scored images with what they are known by; the second of two equal files is known as the second."""
    scored = images[images["outcome"] != ""]
    content = scored["sha256"].fillna("").astype(str)
    key = content.where(content != "", scored["image"].astype(str))
    copy = key.groupby(key).cumcount().astype(str)
    return scored.assign(key=key + " " + copy)


def mcnemar_p(fixed: int, new: int) -> float:
    """p that images change from wrong to right as often as back (1 where none changed).

    Example:
        >>> mcnemar_p(5, 0)
        0.0625
    """
    from statsmodels.stats.contingency_tables import mcnemar

    if not fixed + new:
        return 1.0
    return float(mcnemar([[0, fixed], [new, 0]], exact=fixed + new <= EXACT).pvalue)


def _swapped(wrong: Mask, now: Mask, codes: Codes) -> float | None:
    from scipy.stats import permutation_test

    sums = group_sums(np.stack([wrong, now], axis=1), codes, int(codes.max()) + 1)
    changed = sums[sums[:, 0] != sums[:, 1]]
    if len(changed) < LEAST_GROUPS:
        return None
    found = permutation_test(
        tuple(changed.T),
        lambda one, other, axis: (one - other).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(SEED),
    )
    return float(found.pvalue)


def _rows(pairs: pd.DataFrame, which: Mask) -> tuple[tuple[int, int], ...]:
    chosen = pairs[which]
    return tuple(zip(chosen["row"].tolist(), chosen["row_second"].tolist(), strict=True))


def _moves(pairs: pd.DataFrame, codes: Codes, first: pd.DataFrame, second: pd.DataFrame) -> Iterator[Moved]:
    """The regions that both runs have maps of, outcome by outcome."""
    before, after = _lifts(pairs, "row", first), _lifts(pairs, "row_second", second)
    names = [name for name in before.names if name in after.names]
    one, other = (each.values[:, [each.names.index(name) for name in names]] for each in (before, after))
    values, twice = np.concatenate([one, other]), np.concatenate([codes, codes])
    earlier = np.arange(len(twice)) < len(codes)
    outcomes = np.concatenate([pairs["outcome"], pairs["outcome_second"]])
    for outcome in OUTCOMES:
        sides = [(outcomes == outcome) & run for run in (earlier, ~earlier)]
        counts = [np.isfinite(values[side]).sum(axis=0).tolist() for side in sides]
        means = [mean_differences(values, side, None, twice) for side in sides]
        gaps = mean_differences(values, sides[1], sides[0], twice)
        for name, *n, before_, after_, gap in zip(names, *counts, *means, gaps, strict=True):
            kind = (name["method"], name["layer"], name["region"])
            yield Moved(*kind, outcome, (n[0], n[1]), before_, after_, gap)


def _lifts(pairs: pd.DataFrame, key: str, regions: pd.DataFrame) -> Columns:
    named = regions.assign(layer=regions["layer"].fillna("").astype(str))
    return region_columns(pairs[[key]].set_axis(["row"], axis=1), named, "lift", [])
