"""What was found, in plain sentences with their numbers, and the pictures to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import floor, log10
from typing import Any

import numpy as np

from xface.findings.columns import EXAMPLES, Columns, Judged
from xface.findings.contrasts import UNTESTED, Contrast
from xface.results import CONTRASTS, LIKENESSES, OUTCOMES, FloatArray
from xface.statistics.adjustment import MARGIN
from xface.statistics.bootstrap import Estimate
from xface.statistics.effects import ALPHA
from xface.statistics.regression import Odds, Regression
from xface.statistics.slices import Slice
from xface.wording import counted, kind_name, spaced

SIDES = {**LIKENESSES, **CONTRASTS}
"""The outcomes of each contrast, in the order in which they are told."""

SIZES = {0.147: "negligible", 0.33: "small", 0.474: "medium", float("inf"): "large"}
"""What Cliff's delta below each bound is called (Romano et al. 2006)."""


@dataclass(frozen=True)
class Sentence:
    """A finding, or that there is none: `name` says of what, `rows` are images that show it.

    `top` is its place among the few that stand against all that was tested, with their least `p_all`.
    """

    text: str
    about: str
    contrast: str
    name: str
    rows: tuple[int, ...]
    top: int | None = None
    p_all: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "rows": list(self.rows)}


def region_sentences(
    rows: Sequence[Contrast], columns: Columns, judged: Judged, measure: str = "lift"
) -> Iterator[Sentence]:
    """One for each contrast of regions that is a finding, the largest effect first."""
    for row in _strongest(rows):
        one, other = (OUTCOMES[outcome] for outcome in SIDES[row.contrast])
        more = "more" if sign_of(row) > 0 else "less"
        region = spaced(row.name["region"])
        text = (
            f"For {one}, {kind_name(row.name)} puts {more} weight on the {region} than for {other}: "
            f"{measure} {_figures(row)}."
        )
        yield _sentence(text, "region", row, row.name["region"], columns, judged)


def attribute_sentences(
    rows: Sequence[Contrast],
    columns: Columns,
    judged: Judged,
    regressions: Mapping[str, Regression],
    words: Mapping[str, Mapping[str, str]],
) -> Iterator[Sentence]:
    """One for each contrast of attributes that is a finding; first those that stand beside the others.

    `words` are those of the run, see `xface.runs.attributes`.
    """
    ranked = []
    for row in _strongest(rows):
        one, other = (OUTCOMES[outcome] for outcome in SIDES[row.contrast])
        name = row.name["attribute"]
        regression = regressions.get(row.contrast)
        odds = (
            next((each for each in regression.rows if each.attribute == name), None) if regression else None
        )
        adjective = words[name]["more" if sign_of(row) > 0 else "less"]
        beside = f"; {_beside(row, odds, regression)}" if regression else ""
        text = f"{one.capitalize()} are {adjective} than {other}: {spaced(name)} {_figures(row)}{beside}."
        sentence = _sentence(text, "attribute", row, name, columns, judged)
        ranked.append((not stands(row, odds), sentence))
    yield from (sentence for _, sentence in sorted(ranked, key=lambda each: each[0]))


def stands(row: Contrast, odds: Odds | None) -> bool:
    """Whether the attribute also counts with the others held constant, in the same direction."""
    ratio = odds.odds_ratio.value if odds and odds.finding else None
    return ratio is not None and np.sign(np.log(ratio)) == sign_of(row)


def _beside(row: Contrast, odds: Odds | None, regression: Regression) -> str:
    if odds is None:
        why = (
            "left out of the regression"
            if regression.rows
            else f"regression {regression.note.split('; ')[0]}"
        )
        return f"not adjusted for the other attributes ({why})"
    figures = f"odds ratio per standard deviation {_ratio(odds.odds_ratio)}"
    if stands(row, odds):
        return f"this also holds with the other attributes held constant ({figures})"
    left = "the effect is reversed" if odds.finding else "there is no independent effect"
    return f"but with the other attributes held constant {left} ({figures})"


def regression_sentences(found: Regression, columns: Columns, judged: Judged) -> Iterator[Sentence]:
    """One for each attribute that goes with errors beside the others, strongest first; or that none does."""
    findings = sorted((row for row in found.rows if row.finding), key=lambda row: -abs(_log(row)))
    for odds in findings:
        text = (
            f"With the other attributes held constant, one standard deviation more {spaced(odds.attribute)} "
            f"multiplies the odds of an error by {_ratio(odds.odds_ratio)}, q {odds.q:.2g}."
        )
        order = np.sign(_log(odds)) * columns.where(attribute=odds.attribute).values[:, 0]
        rows = judged.examples(judged.wrong, order)
        yield Sentence(text, "regression", "", odds.attribute, rows)
    if not findings:
        among = f"{counted(found.n, 'image')}, {counted(found.groups, 'group')}"
        tested = f"nothing significant for {counted(len(found.rows), 'attribute')} ({among})"
        text = f"Errors, all attributes together: {tested if found.rows else found.note}."
        yield Sentence(text, "none", "", "regression", ())


def slice_sentences(slices: Sequence[Slice], members: Sequence[Any], judged: Judged) -> Iterator[Sentence]:
    """One for each slice that is a finding, or that none is; `members` (N,): which images are in each."""
    for number, (each, inside) in enumerate(zip(slices, members, strict=True)):
        where = " and ".join(condition.words for condition in each.conditions)
        rates = (
            f"{_percent(each.rate)} of {each.n} images are misclassified, of the rest "
            f"{_percent(Estimate(each.rest.value))}"
        )
        name = " ".join(condition.attribute for condition in each.conditions)
        if each.finding:
            beyond = " beyond the slices above" if number else ""
            rows = judged.examples(judged.wrong & inside, judged.sureness)
            yield Sentence(f"With {where}, {rates} (q {each.q:.2g}{beyond}).", "slice", "", name, rows)
        elif not number:
            text = f"Slices by one or two attributes: nothing significant; with the worst, {where}, {rates}"
            yield Sentence(f"{text} (q {each.q:.2g}).", "none", "", "slices", ())
    if not slices:
        why = "none is large enough, or no image is misclassified, or all are"
        text = f"Slices by one or two attributes: not tested; {why}."
        yield Sentence(text, "none", "", "slices", ())


def nothing_found(rows: Sequence[Contrast], family: str) -> Iterator[Sentence]:
    """One for each contrast of a family without a finding: how much was tested, on how many groups."""
    for contrast, outcomes in SIDES.items():
        of = [row for row in rows if row.contrast == contrast]
        tested = [row for row in of if row.p is not None]
        if any(row.finding for row in of) or not of or are_same(of):
            continue
        sides = " and ".join(
            f"{counted(max(row.groups[side] for row in of), 'group')} of {OUTCOMES[outcome]}"
            for side, outcome in enumerate(outcomes)
        )
        said = (
            f"nothing significant in {counted(len(tested), 'comparison')} of {family} ({sides})"
            f"{_ruled_out(of)}"
            if tested
            else f"{family} not tested ({of[0].note.removesuffix(UNTESTED)})"
        )
        text = " against ".join(OUTCOMES[outcome] for outcome in outcomes)
        yield Sentence(f"{text.capitalize()}: {said}.", "none", contrast, family, ())


def likeness_sentences(rows: Sequence[Contrast], family: str, judged: Judged) -> Iterator[Sentence]:
    """One for each predicted class whose errors are the same as its right verdicts in all numbers."""
    for contrast, (error, right) in LIKENESSES.items():
        of = [row for row in rows if row.contrast == contrast]
        if not are_same(of) or any(row.finding for row in of):
            continue
        text = (
            f"{OUTCOMES[error].capitalize()} look like {OUTCOMES[right]}: at equal scores, each of "
            f"{counted(len(_apart(of)), 'comparison')} of {family} that could be tested differs by less than "
            f"{MARGIN} standard deviations of images with one outcome and score (p {max(_apart(of)):.2g})."
        )
        pairs = zip(*(_typical(outcome, judged) for outcome in (error, right)), strict=False)
        yield Sentence(text, "same", contrast, family, tuple(row for pair in pairs for row in pair))


def are_same(rows: Sequence[Contrast]) -> bool:
    """Whether all that could be tested of a contrast is the same on both sides, and something could be.

    Each is tested at 5 %: that all are the same is claimed wrongly no more often (Berger 1982).
    """
    found = _apart(rows)
    return bool(found) and max(found) <= ALPHA


def _apart(rows: Sequence[Contrast]) -> list[float]:
    return [row.equivalence.p for row in rows if row.equivalence and row.equivalence.p is not None]


def _ruled_out(rows: Sequence[Contrast]) -> str:
    same = [row for row in rows if row.equivalence and row.equivalence.same]
    margin = f"a difference of {MARGIN} standard deviations is ruled out in {len(same)} of them"
    return f"; {margin}" if _apart(rows) else ""


def _typical(outcome: str, judged: Judged) -> tuple[int, ...]:
    return judged.examples(judged.outcomes == outcome, judged.sureness)[: EXAMPLES // 2]


def _strongest(rows: Sequence[Contrast]) -> list[Contrast]:
    return sorted((row for row in rows if row.finding), key=lambda row: -abs(row.delta or 0))


def _sentence(text: str, about: str, row: Contrast, name: str, columns: Columns, judged: Judged) -> Sentence:
    return Sentence(text, about, row.contrast, name, rows_of(row, columns, judged))


def rows_of(row: Contrast, columns: Columns, judged: Judged) -> tuple[int, ...]:
    """The errors that show a contrast most."""
    order: FloatArray = sign_of(row) * columns.where(**row.name).values[:, 0]
    return judged.examples(judged.outcomes == SIDES[row.contrast][0], order)


def sign_of(row: Contrast) -> int:
    """Whether the first side has more of it, 1, or less, -1."""
    return 1 if (row.difference.value or 0) > 0 else -1


def _log(odds: Odds) -> float:
    return float(np.log(odds.odds_ratio.value or 1))


def _figures(row: Contrast) -> str:
    """Both means, their difference with its interval, Cliff's delta, and q (or p, where tested alone)."""
    low, high, places = row.difference.low, row.difference.high, places_of(row.difference)
    one, other, gap = (fixed(each.value, places) for each in (*row.means, row.difference))
    ends = f" ({fixed(low, places)} to {fixed(high, places)})" if low is not None else ""
    equal = "at equal scores " if row.adjusted else ""
    p = f"q {row.q:.2g}" if row.q is not None else f"p {row.p:.2g}"
    size = next(name for bound, name in SIZES.items() if abs(row.delta or 0) < bound)
    delta = f"Cliff's delta {fixed(row.delta, 2)} ({size})"
    return f"{one} against {other}, {equal}difference {gap}{ends}, {delta}, {p}"


def places_of(found: Estimate) -> int:
    """So many decimals that an estimate's interval is of some tens of the last."""
    low, high = found.low, found.high
    reach = (high - low) / 2 if low is not None and high is not None else abs(found.value or 0)
    return max(0, -floor(log10(reach))) if reach > 0 else 2


def fixed(value: float | None, places: int) -> str:
    """A number to so many decimals, or a dash."""
    return "-" if value is None else f"{value:.{places}f}"


def _ratio(found: Estimate) -> str:
    value, low, high = (
        fixed(each, 2) if (each or 0) >= 0.1 else f"{each:.1g}" for each in vars(found).values()
    )
    return f"{value} ({low} to {high})"


def _percent(found: Estimate) -> str:
    if found.value is None:
        return "-"
    ends = f" ({100 * found.low:.0f} to {100 * (found.high or 0):.0f} %)" if found.low is not None else ""
    return f"{100 * found.value:.0f} %{ends}"
