"""Error rates by the values of the data's own columns: of each value, and against all the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xface.findings.columns import Judged
from xface.findings.contrasts import UNTESTED
from xface.findings.sentences import Sentence
from xface.results import FloatArray
from xface.statistics.bootstrap import LEAST_GROUPS, Estimate, finite
from xface.statistics.effects import ALPHA, false_discovery
from xface.statistics.means import Mask
from xface.statistics.metrics import measure
from xface.statistics.parts import MOST_VALUES, Part, parts_of
from xface.statistics.permutation import permute
from xface.statistics.rates import rate
from xface.wording import RATE_WORDS, counted, percent

if TYPE_CHECKING:
    import pandas as pd

TRUTHS = {"FP": ("FP", "TN"), "FN": ("FN", "TP")}
"""Each kind of error, with all outcomes of the images that can have it."""


@dataclass(frozen=True)
class ErrorRate:
    """How often images of a part have one kind of error, of the `n` that can, and how often the others have.

    `groups` are those of the part and of the others; `p` of the permutation test between them, `q` after
    Benjamini and Hochberg over all columns, parts and kinds of error; `note` says why there is no p.
    """

    outcome: str
    n: int
    errors: int
    groups: tuple[int, int]
    rate: Estimate
    rest: Estimate
    p: float | None
    q: float | None = None
    finding: bool = False
    note: str = ""

    @property
    def is_higher(self) -> bool:
        """Whether the part is wrong more often than the others."""
        return (self.rate.value or 0) > (self.rest.value or 0)


@dataclass(frozen=True, eq=False)
class PartErrors:
    """A part's images and groups, its AUC and its error rates.

    Where its images are all of one class, the AUC is of them against all images of the other: `against_all`.
    """

    part: Part
    n: int
    groups: int
    auc: Estimate
    against_all: bool
    rates: tuple[ErrorRate, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, of the part all but which images are inside."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "part"}
        return {**self.part.to_json(), **given}


@dataclass(frozen=True)
class Breakdown:
    """A column, and the errors of each of its parts; `note` says what the parts are if not all the values."""

    column: str
    parts: tuple[PartErrors, ...] = field(repr=False)
    note: str = ""


def break_down(images: pd.DataFrame, columns: Sequence[str], judged: Judged) -> tuple[Breakdown, ...]:
    """The errors of scored `images` by each of their `columns`, tested over whole groups as one family.

    A rate is tested against that of all other images of the same truth, so that a value that only forged
    images have isn't compared with real ones. Fewer than 10 groups on a side, and rare values taken
    together, are not tested.
    """
    found = []
    for column in columns:
        parts = parts_of(column, images[column].fillna("").astype(str).to_list())
        if not parts:
            found.append(Breakdown(column, (), "no image has a score"))
            continue
        rates = zip(*(_rates(parts, outcome, judged) for outcome in TRUTHS), strict=True)
        scores = images["score"].to_numpy(np.float64)
        rows = (_part(part, both, scores, judged) for part, both in zip(parts, rates, strict=True))
        found.append(Breakdown(column, tuple(rows), _note(parts)))
    return _corrected(found)


def _rates(parts: Sequence[Part], outcome: str, judged: Judged) -> list[ErrorRate]:
    """One kind of error in each part, uncorrected."""
    among, errors = np.isin(judged.outcomes, TRUTHS[outcome]), judged.outcomes == outcome
    inside = np.stack([part.inside for part in parts], axis=1)
    ps = permute(inside[among], errors[among], judged.codes[among]).p_values()
    return [
        _rate(part, outcome, among, errors, judged, p) for part, p in zip(parts, ps.tolist(), strict=True)
    ]


def _rate(part: Part, outcome: str, among: Mask, errors: Mask, judged: Judged, p: float) -> ErrorRate:
    within, without = among & part.inside, among & ~part.inside
    groups = (len(np.unique(judged.codes[within])), len(np.unique(judged.codes[without])))
    here, rest = (rate(errors, side, judged.codes) for side in (within, without))
    found = ErrorRate(outcome, int(within.sum()), int(errors[within].sum()), groups, here, rest, finite(p))
    if note := _untested(part, found):
        return replace(found, p=None, note=f"{note}{UNTESTED}")
    return found


def _untested(part: Part, found: ErrorRate) -> str:
    if part.kind == "others":
        return "several values together"
    if not min(found.groups):
        return "no such image here" if not found.groups[0] else "all such images are here"
    if min(found.groups) < LEAST_GROUPS:
        here, there = found.groups
        which = f"{here} here" if here <= there else f"{there} elsewhere"
        return f"fewer than {LEAST_GROUPS} groups: {which}"
    return "nothing varies" if found.p is None else ""


def _part(part: Part, rates: tuple[ErrorRate, ...], scores: FloatArray, judged: Judged) -> PartErrors:
    truth, used = judged.positive, part.inside
    alone = len(np.unique(truth[used])) == 1
    if alone:
        used = used | (truth != truth[used][0])
    codes = judged.codes[used].astype(str)
    auc = measure(truth[used], scores[used], groups=codes, metrics=["auc"])["auc"]
    groups = len(np.unique(judged.codes[part.inside]))
    return PartErrors(part, int(part.inside.sum()), groups, auc, alone, rates)


def _note(parts: Sequence[Part]) -> str:
    if len(parts) == 1:
        return "all images have one value: nothing to compare"
    joined = sum(part.joined for part in parts)
    if joined:
        return f"of {joined + MOST_VALUES:,} values the {MOST_VALUES} most frequent are shown one by one"
    return "numbers, in quarters" if any(part.kind == "numbers" for part in parts) else ""


def _corrected(found: Sequence[Breakdown]) -> tuple[Breakdown, ...]:
    rates = [each for breakdown in found for part in breakdown.parts for each in part.rates]
    qs = iter(false_discovery([each.p for each in rates if each.p is not None]))

    def judged(each: ErrorRate) -> ErrorRate:
        return each if each.p is None else replace(each, q=(q := next(qs)), finding=q <= ALPHA)

    return tuple(
        replace(breakdown, parts=tuple(
            replace(part, rates=tuple(map(judged, part.rates))) for part in breakdown.parts))
        for breakdown in found
    )  # fmt: skip


def breakdown_sentences(found: Sequence[Breakdown], judged: Judged) -> Iterator[Sentence]:
    """One for each error rate of a part that is a finding, the worst first; or that a column has none."""
    told = [(each, row) for each in found for row in _told(each)]
    for breakdown, (part, row) in sorted(told, key=lambda each: -(each[1][1].rate.value or 0)):
        rows = judged.examples((judged.outcomes == row.outcome) & part.part.inside, judged.sureness)
        yield Sentence(_text(breakdown, part, row), "by", "", f"by {breakdown.column}", rows)
    for breakdown in found:
        if not _told(breakdown):
            yield Sentence(_silence(breakdown), "none", "", f"by {breakdown.column}", ())


def _told(breakdown: Breakdown) -> list[tuple[PartErrors, ErrorRate]]:
    """What of a column is a finding; of two parts that are each the other's rest, the worse one."""
    rows = [(part, row) for part in breakdown.parts for row in part.rates if row.finding]
    both = len(breakdown.parts) == 2
    return [(part, row) for part, row in rows if row.is_higher or not both]


def _text(breakdown: Breakdown, part: PartErrors, row: ErrorRate) -> str:
    where = f"{breakdown.column} {part.part.value!r}" if part.part.kind == "value" else part.part.words
    return (
        f"With {where}, the {RATE_WORDS[row.outcome]} is {percent(row.rate.to_json())}, of all others "
        f"{percent(row.rest.to_json())} ({counted(row.n, 'image')} in {counted(row.groups[0], 'group')}, "
        f"q {row.q:.2g})."
    )


def _silence(breakdown: Breakdown) -> str:
    tested = [row for part in breakdown.parts for row in part.rates if row.p is not None]
    if tested:
        among = f"{counted(len(tested), 'comparison')} of error rates"
        return f"By {breakdown.column}: nothing significant in {among}."
    if len(breakdown.parts) < 2:
        return f"By {breakdown.column}: not tested; {breakdown.note}."
    notes = Counter(row.note for part in breakdown.parts for row in part.rates)
    why = notes.most_common(1)[0][0].removesuffix(UNTESTED)
    return f"By {breakdown.column}: not tested; {why}."
