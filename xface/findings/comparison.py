"""Two runs over the same images: which errors are fixed, which are new, and where the maps moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xface.errors import UsageError
from xface.findings.columns import Columns, region_columns
from xface.results import POSITIVES, WRONG
from xface.runs.folder import is_trained
from xface.statistics.bootstrap import LEAST_GROUPS, SEED, Estimate, group_codes
from xface.statistics.means import Codes, Mask, group_sums, groups_with, mean_differences
from xface.wording import UNTRAINED_RUN, counted, kind_name

if TYPE_CHECKING:
    import pandas as pd

EXACT = 25  # discordant images: at most so many, and McNemar's test is exact
PERMUTATIONS = 4999
SAME = 1e-3  # lifts that differ by less, as on another device, are the same


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A run to compare: its tables `images` and `regions`, its manifest, and what it is called."""

    images: pd.DataFrame
    regions: pd.DataFrame
    manifest: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    def to_json(self) -> dict[str, Any]:
        """What it depends on: weights, threshold and kinds of maps."""
        return {
            "name": self.name,
            "trained": is_trained(self.manifest),
            "weights_sha256": self.manifest.get("settings", {}).get("weights_sha256"),
            "threshold": self.manifest.get("threshold", {}).get("value"),
            "kinds": [dict(kind) for kind in self.manifest.get("kinds", [])],
        }


@dataclass(frozen=True)
class Move:
    """By how much a region's lift is higher in the second run, image by image; `moved` if that isn't chance.

    `difference` is the mean over the `images` that have it in both runs; its interval is over `groups`.
    """

    method: str
    layer: str
    region: str
    images: int
    groups: int
    difference: Estimate
    moved: bool


@dataclass(frozen=True)
class Comparison:
    """What changed from the first run to the second over the images that both have scored.

    `fixed`, `new` and `still` are pairs of rows (first run's, second run's) of errors that went, came and
    stayed; `p` is McNemar's over images, `group_p` that of swapping the runs in whole groups; `runs` says
    what each depends on, `notes` in what they differ, what was left out and why there is no p.
    """

    images: int
    groups: int
    errors: tuple[int, int]
    fixed: tuple[tuple[int, int], ...]
    new: tuple[tuple[int, int], ...]
    still: tuple[tuple[int, int], ...]
    p: float
    group_p: float | None
    regions: tuple[Move, ...]
    runs: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        lists = {name: [list(pair) for pair in getattr(self, name)] for name in ("fixed", "new", "still")}
        tuples = {name: list(getattr(self, name)) for name in ("errors", "runs", "notes")}
        return {**asdict(self), **lists, **tuples, "regions": [asdict(row) for row in self.regions]}


def compare(first: ComparedRun, second: ComparedRun) -> Comparison:
    """Compare two runs over the images that both have scored, found by their content, else by their paths.

    McNemar's test (1947; statsmodels': exact for at most 25 images that changed) asks whether as many errors
    are new as fixed, treating images as independent. `group_p` keeps groups whole: under the hypothesis that
    the runs are equally good, each group's two numbers of errors could change places (scipy's permutation
    test of pairs); None for fewer than 10 groups that changed. Lifts are compared image by image, whatever
    its verdicts, so that a threshold moves none; the mean differences have intervals over groups.

    Raises:
        UsageError: if the runs share no scored image of the same truth.
    """
    pairs, left = matched(first.images, second.images)
    notes = [*unlike(first, second), *left]
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
        tuple(_moves(pairs, codes, first.regions, second.regions)),
        (first.to_json(), second.to_json()),
        tuple(notes),
    )


def matched(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The scored images of both runs, a row per image with the second's `row_second` and `outcome_second`."""
    one, other = (_keyed(images) for images in (first, second))
    shared = one.merge(other[["key", "row", "outcome"]], on="key", suffixes=("", "_second"))
    truth, again = (shared[name].isin(POSITIVES) for name in ("outcome", "outcome_second"))
    pairs = shared[truth == again].reset_index(drop=True)
    if pairs.empty:
        raise UsageError(
            f"the runs share no scored image of the same truth (they have {len(one)} and {len(other)} scored "
            "images); compare runs over the same data"
        )
    left = {"scored in the first run only": len(one) - len(shared)}
    left["scored in the second run only"] = len(other) - len(shared)
    left["of another truth in the second run"] = len(shared) - len(pairs)
    return pairs, [f"left out: {counted(count, 'image')} {what}" for what, count in left.items() if count]


def unlike(first: ComparedRun, second: ComparedRun) -> list[str]:
    """A note on each run of an untrained network, and on what besides the weights the runs don't share."""
    one, other = first.to_json(), second.to_json()
    notes = [f"{run['name'] or place}: {UNTRAINED_RUN}" for place, run in
             (("first run", one), ("second run", other)) if not run["trained"]]  # fmt: skip
    if one["weights_sha256"] == other["weights_sha256"] is not None:
        notes.append("both runs have the same weights")
    if one["threshold"] != other["threshold"]:
        pair = f"{one['threshold']:.6g} and {other['threshold']:.6g}"
        notes.append(f"the runs have different thresholds, {pair}, so verdicts may differ where scores don't")
    apart = [_kinds(*pair) for pair in ((one, other), (other, one))]
    if any(apart):
        said = " and ".join(f"{', '.join(each)} in one" for each in apart if each)
        notes.append(f"the runs have different maps, only shared ones are compared: {said} only")
    return notes


def _kinds(run: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The kinds of maps that the other run lacks."""
    have = [[kind_name(kind) for kind in each["kinds"]] for each in (run, other)]
    return [name for name in have[0] if name not in have[1]]


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


def _moves(pairs: pd.DataFrame, codes: Codes, first: pd.DataFrame, second: pd.DataFrame) -> Iterator[Move]:
    """The regions that both runs have maps of."""
    before, after = _lifts(pairs, "row", first), _lifts(pairs, "row_second", second)
    names = [name for name in before.names if name in after.names]
    one, other = (each.values[:, [each.names.index(name) for name in names]] for each in (before, after))
    gaps, everywhere = other - one, np.ones(len(pairs), bool)
    counts = zip(np.isfinite(gaps).sum(axis=0), groups_with(np.isfinite(gaps), codes), strict=True)
    found = mean_differences(gaps, everywhere, None, codes)
    for name, (images, groups), gap, column in zip(names, counts, found, gaps.T, strict=True):
        if groups >= LEAST_GROUPS and np.nanmax(np.abs(column)) <= SAME:
            gap = Estimate(0.0, 0.0, 0.0)  # nothing to draw an interval from, and nothing to doubt
        moved = gap.low is not None and gap.high is not None and gap.low * gap.high > 0
        yield Move(name["method"], name["layer"], name["region"], int(images), int(groups), gap, moved)


def _lifts(pairs: pd.DataFrame, key: str, regions: pd.DataFrame) -> Columns:
    named = regions.assign(layer=regions["layer"].astype(object).fillna(""))
    return region_columns(pairs[[key]].set_axis(["row"], axis=1), named, "lift", [])
