"""Repairs: how often a verdict is turned by hiding a part of the face, and how often by as much elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xface.findings.columns import Judged
from xface.findings.contrasts import UNTESTED, Contrast, contrasts, corrected
from xface.results import LIKENESSES, OUTCOMES, WRONG, FloatArray
from xface.runs.schema import ALIKE
from xface.statistics.bootstrap import LEAST_GROUPS, Estimate, finite
from xface.statistics.effects import ALPHA, false_discovery
from xface.statistics.means import Mask, groups_with, mean_differences, within
from xface.statistics.permutation import flip_signs
from xface.statistics.rates import rate

if TYPE_CHECKING:
    import pandas as pd

BESIDE = ("difference", "p", "q", "finding", "p_family", "p_all", "note")
"""What is kept of the comparison of errors with right verdicts."""

RIGHT = {error: contrast for contrast, (error, _) in LIKENESSES.items()}
"""Of each kind of error the contrast with the right verdicts of its class."""


@dataclass(frozen=True)
class Repair:
    """How often hiding one part of the face turns the verdicts of one outcome: of errors it repairs them.

    Of the outcome's `images`, `n` in `groups` had the part hidden: `turned` of them, the `rate`, got the
    other verdict; by hiding a control area of the part's size `control_turned`, the `control_rate`.
    `difference` is that of the two rates, on the same images; `p` that there is none, `q` after Benjamini and
    Hochberg. `effect` is the mean effect on the score of the verdict, in logits. `rows` are images that show
    it.

    Errors are also compared with right verdicts of the same class: `against_right` is the difference of the
    rates at equal scores, and `like_scores` the rate that right verdicts with the errors' scores would have
    by it. A `finding` turns more errors than its control does, and than right verdicts at equal scores.
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
    against_right: Contrast | None = None
    like_scores: Estimate = Estimate(None)  # noqa: RUF009
    rows: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return its fields; those of the comparison with right verdicts begin with `right_`."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "against_right"}
        unknown = {"difference": Estimate(None), "finding": False, "note": ""}
        right = {name: getattr(self.against_right, name, unknown.get(name)) for name in BESIDE}
        return {**given, **{f"right_{name}": value for name, value in right.items()}}

    def is_more_than_control(self, level: float = ALPHA) -> bool:
        """Whether hiding the part turns more than hiding as much elsewhere does."""
        return self.q is not None and self.q <= level and (self.difference.value or 0) > 0


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
    """Each part's rate on each outcome, and for errors two tests.

    Hiding a part is compared with hiding its control area in the same images, so that a part that does what
    any area does is no finding; and errors with right verdicts of the same class at equal scores, so that
    what turns because it is near the threshold is none either.
    """
    hidden = HiddenParts.of(effects, judged)
    found = [row for outcome in OUTCOMES for row in _of_outcome(outcome, hidden, judged)]
    qs = iter(false_discovery([row.p for row in found if row.p is not None]))
    tested = [row if row.p is None else replace(row, q=next(qs)) for row in found]
    rows = with_right(tested, against_right(hidden, judged))
    return tuple(replace(row, finding=_is_finding(row, level)) for row in rows)


def against_right(hidden: HiddenParts, judged: Judged) -> tuple[Contrast, ...]:
    """How much more often hiding a part turns errors than right verdicts of their class, at equal scores."""
    names = [{"region": part} for part in hidden.parts]
    given = (names, hidden.turned, judged.outcomes, judged.codes)
    return corrected(contrasts(*given, scores=judged.scores, sides=LIKENESSES))


def with_right(rows: Sequence[Repair], compared: Sequence[Contrast]) -> tuple[Repair, ...]:
    """Errors with their comparisons with right verdicts, and the rates that these have at like scores."""
    beside = {(row.contrast, row.name["region"]): row for row in compared}
    keys = ((RIGHT.get(row.outcome, ""), row.region) for row in rows)
    return tuple(_with(row, beside.get(key)) for row, key in zip(rows, keys, strict=True))


def _with(row: Repair, right: Contrast | None) -> Repair:
    if right is None or row.rate.value is None or right.difference.value is None:
        return replace(row, against_right=right)
    rate, gap = row.rate.value, right.difference
    value, *ends = (None if each is None else rate - each for each in (gap.value, gap.high, gap.low))
    like = within(Estimate(min(max(value or 0.0, 0.0), 1.0), *ends), 0.0, 1.0)
    return replace(row, against_right=right, like_scores=like)


def _is_finding(row: Repair, level: float) -> bool:
    right = row.against_right
    return (
        row.is_more_than_control(level)
        and right is not None
        and right.finding
        and (right.difference.value or 0) > 0
    )


def _of_outcome(outcome: str, hidden: HiddenParts, judged: Judged) -> Iterator[Repair]:
    side = judged.outcomes == outcome
    gaps = hidden.turned - hidden.control
    groups = groups_with(np.isfinite(gaps[side]), judged.codes[side])
    differences, effects = (
        mean_differences(each, side, None, judged.codes) for each in (gaps, hidden.effect)
    )
    tested = outcome in WRONG and side.any()
    ps = flip_signs(gaps[side], judged.codes[side]).p_values() if tested else [np.nan] * len(hidden.parts)
    for k, part in enumerate(hidden.parts):
        measured = side & np.isfinite(hidden.turned[:, k])
        turned, control = hidden.turned[:, k] == 1, hidden.control[:, k] == 1
        compared = measured & np.isfinite(hidden.control[:, k])
        if compared.any():  # both are counted over the same images
            measured = compared
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
            p=finite(ps[k]),
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
    return replace(row, p=None, note=f"{note}{UNTESTED}") if note else row
