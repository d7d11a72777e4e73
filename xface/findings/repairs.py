"""Repairs: how often a verdict is turned by hiding a part of the face, and how often by as much elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xface.findings.columns import Judged
from xface.findings.contrasts import UNTESTED
from xface.findings.sentences import Sentence, fixed
from xface.results import LIKENESSES, OUTCOMES, WRONG, FloatArray
from xface.runs.schema import ALIKE, LEVEL_AT_THE_TOP
from xface.statistics.bootstrap import LEAST_GROUPS, Estimate, finite
from xface.statistics.effects import ALPHA, false_discovery
from xface.statistics.means import Mask, groups_with, mean_differences
from xface.statistics.permutation import flip_signs
from xface.statistics.rates import rate
from xface.wording import counted, listed, mirror, negative_name, percent, spaced

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Repair:
    """How often hiding one part of the face turns the verdicts of one outcome: of errors it repairs them.

    Of the outcome's `images`, `n` in `groups` had the part hidden: `turned` of them, the `rate`, got the
    other verdict; by hiding a control area of the part's size `control_turned`, the `control_rate`.
    `difference` is that of the two rates, on the same images. `effect` is the mean effect on the score of the
    verdict, in logits. Errors are tested: `p` of no difference, `q` after Benjamini and Hochberg, `p_family`
    against the best of the outcome's parts, `p_all` against all that the run tests. `rows` are images that
    show it.
    """

    outcome: str
    region: str
    images: int
    n: int
    groups: int
    turned: int
    rate: Estimate
    control_turned: int
    control_rate: Estimate
    difference: Estimate
    effect: Estimate
    p: float | None = None
    q: float | None = None
    finding: bool = False
    note: str = ""
    p_family: float | None = None
    p_all: float | None = None
    rows: tuple[int, ...] = ()

    @property
    def contrast(self) -> str:
        """What the family of tests is called that it belongs to."""
        return self.outcome


@dataclass(frozen=True, eq=False)
class HiddenParts:
    """What hiding K parts does to N judged images, each (N, K), NaN where it was not measured.

    `turned` and `control` are 1 where the verdict becomes the other one, `effect` is in logits. `control` is
    NaN too where the part has no control area of about its size.
    """

    parts: tuple[str, ...]
    turned: FloatArray
    control: FloatArray
    effect: FloatArray

    @staticmethod
    def of(effects: pd.DataFrame, judged: Judged) -> HiddenParts:
        """Read them from a run's table of effects."""
        import pandas as pd

        defined = effects[effects["status"] != "undefined"]
        parts = tuple(dict.fromkeys(effects["region"]))
        rows, regions = (pd.Index(defined[name]) for name in ("row", "region"))
        places = pd.Index(judged.rows).get_indexer(rows), pd.Index(parts).get_indexer(regions)
        alike = (defined["area"] < ALIKE * defined["control_area"]).to_numpy(bool)
        columns = (
            defined["flips"].to_numpy(np.float64),
            np.where(alike, defined["control_flips"].to_numpy(np.float64), np.nan),
            defined["effect"].to_numpy(np.float64),
        )
        return HiddenParts(
            parts, *(_placed(each, places, (len(judged.rows), len(parts))) for each in columns)
        )


def _placed(values: FloatArray, places: tuple[Any, Any], shape: tuple[int, int]) -> FloatArray:
    known = places[0] >= 0
    table = np.full(shape, np.nan)
    table[places[0][known], places[1][known]] = values[known]
    return table


def repairs(effects: pd.DataFrame, judged: Judged, level: float = ALPHA) -> tuple[Repair, ...]:
    """Each part's rate on each outcome, tested where verdicts are wrong.

    A finding is a part whose hiding repairs more errors than hiding its control area does, q <= `level`: the
    errors' own scores are the same for both, so how near they are to the threshold makes no finding.
    """
    hidden = HiddenParts.of(effects, judged)
    found = [row for outcome in OUTCOMES for row in _of_outcome(outcome, hidden, judged)]
    qs = iter(false_discovery([row.p for row in found if row.p is not None]))
    corrected = [row if row.p is None else replace(row, q=next(qs)) for row in found]
    return tuple(
        replace(row, finding=row.q is not None and row.q <= level and (row.difference.value or 0) > 0)
        for row in corrected
    )


def _of_outcome(outcome: str, hidden: HiddenParts, judged: Judged) -> Iterator[Repair]:
    side = judged.outcomes == outcome
    gaps = hidden.turned - hidden.control
    groups = groups_with(np.isfinite(gaps[side]), judged.codes[side])
    differences, effects = (
        mean_differences(each, side, None, judged.codes) for each in (gaps, hidden.effect)
    )
    tested = flip_signs(gaps[side], judged.codes[side]) if outcome in WRONG and side.any() else None
    ps = (tested.p_values(), tested.furthest()) if tested else np.full((2, len(hidden.parts)), np.nan)
    for k, part in enumerate(hidden.parts):
        measured = side & np.isfinite(hidden.turned[:, k])
        turned, control = hidden.turned[:, k] == 1, hidden.control[:, k] == 1
        compared = measured & np.isfinite(hidden.control[:, k])
        row = Repair(
            outcome=outcome,
            region=part,
            images=int(side.sum()),
            n=int(measured.sum()),
            groups=int(groups[k]),
            turned=int((turned & measured).sum()),
            rate=rate(turned, measured, judged.codes),
            control_turned=int((control & compared).sum()),
            control_rate=rate(control, compared, judged.codes),
            difference=differences[k],
            effect=effects[k],
            p=finite(ps[0][k]),
            p_family=finite(ps[1][k]),
            rows=judged.examples(turned & measured, hidden.effect[:, k]),
        )
        yield _noted(row, compared)


def _noted(row: Repair, compared: Mask) -> Repair:
    """Without a p where it would mean nothing, and why."""
    if row.outcome not in WRONG:
        return row
    if not compared.any():
        note = "there is no area of its size elsewhere"
    elif row.groups < LEAST_GROUPS:
        note = f"fewer than {LEAST_GROUPS} groups: {row.groups} of {OUTCOMES[row.outcome]}"
    else:
        note = "" if row.p is not None else "nothing varies"
    return replace(row, p=None, p_family=None, note=f"{note}{UNTESTED}") if note else row


@dataclass(frozen=True)
class RepairWords:
    """Puts repairs into sentences; `positive` and `negative` are what verdicts are called."""

    rows: Sequence[Repair]
    positive: str = "positive"
    negative: str = "negative"

    @classmethod
    def of(cls, rows: Sequence[Repair], manifest: Mapping[str, Any]) -> RepairWords:
        """With the names of a run's classes, where its manifest says which they are."""
        if "positive" not in manifest or "classes" not in manifest:
            return cls(rows)
        positive = manifest["positive"]
        return cls(rows, positive, negative_name(positive, manifest["classes"]))

    def top(self) -> Iterator[Sentence]:
        """One, of the part that repairs most errors of each kind, as far as it stands against all."""
        best = [
            max(standing, key=_gain)
            for error in WRONG
            if (standing := [row for row in self.rows if row.outcome == error and is_top(row)])
        ]
        if best:
            first = max(best, key=_gain)
            text = " ".join(f"{self._clause(row)}." for row in best)
            least = min(row.p_all for row in best if row.p_all is not None)
            yield Sentence(text, "repair", "", first.region, first.rows, p_all=least)

    def sentences(self) -> Iterator[Sentence]:
        """One for each part that is a finding and of which no larger gain was told; or that there is none."""
        for error in WRONG:
            told: set[str] = set()
            findings = [row for row in self.rows if row.outcome == error and row.finding]
            for row in sorted(findings, key=_gain, reverse=True):
                if told.isdisjoint(names := names_of(row.region)):
                    told |= names
                    text = f"{self._clause(row)}: {self._figures(row)}."
                    yield Sentence(text, "repair", "", row.region, row.rows)
        if not any(row.finding for row in self.rows):
            yield Sentence(f"Hiding parts of the face: {self._nothing()}.", "none", "", "repairs", ())

    def _clause(self, row: Repair) -> str:
        """What hiding the part does to errors and to right verdicts of their class, and as much elsewhere."""
        becomes = self.negative if row.outcome == "FP" else self.positive
        also = "".join(f", and {_counts(each)}" for each in self._right(row))
        return (
            f"Hiding the {spaced(row.region)} turns {_counts(row)} into {becomes} (hiding as much elsewhere "
            f"{row.control_turned}){also}"
        )

    def _right(self, row: Repair) -> list[Repair]:
        """The same part on the right verdicts of the class that the errors are called."""
        [right] = [sides[1] for sides in LIKENESSES.values() if sides[0] == row.outcome]
        return [each for each in self.rows if (each.outcome, each.region) == (right, row.region) and each.n]

    def _figures(self, row: Repair) -> str:
        gap = row.difference
        ends = "" if gap.low is None else f" ({fixed(gap.low, 2)} to {fixed(gap.high, 2)})"
        return f"{percent(row.rate.to_json())}, difference {fixed(gap.value, 2)}{ends}, q {row.q:.2g}"

    def _nothing(self) -> str:
        of = [row for row in self.rows if row.outcome in WRONG]
        tested = [row for row in of if row.p is not None]
        if not tested:
            return (
                f"not tested ({of[0].note.removesuffix(UNTESTED)})"
                if of
                else "not tested (no image has a face)"
            )
        errors = [
            counted(max(row.n for row in of if row.outcome == error), OUTCOMES[error].removesuffix("s"))
            for error in WRONG
        ]
        return (
            f"none repairs more errors than hiding as much elsewhere does, in "
            f"{counted(len(tested), 'comparison')} ({listed(errors)})"
        )


def is_top(row: Repair) -> bool:
    """Whether it stands against all that was tested."""
    return row.p_all is not None and row.p_all <= LEVEL_AT_THE_TOP and _gain(row) > 0


def names_of(part: str) -> set[str]:
    """A part's name, and that of both sides together.

    Example:
        >>> sorted(names_of("left_eye")), names_of("eyes")
        (['eyes', 'left_eye'], {'eyes'})
    """
    return {part, mirror(part)[1] or part}


def _gain(row: Repair) -> float:
    return row.difference.value or 0.0


def _counts(row: Repair) -> str:
    return f"{row.turned:,} of {row.n:,} {OUTCOMES[row.outcome]}"
