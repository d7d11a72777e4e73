"""Grades: what an answer's figures come to, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xface.evidence.checks import CHECKS, Words
from xface.results import CONTRADICTED, INFORMATIVE, NO_BETTER, NOT_CHECKED, Grade
from xface.runs.trust import CheckRecord
from xface.statistics.bootstrap import LEAST_GROUPS
from xface.wording import BASELINE_WORDS, counted, figure_range, figure_text

RANDOMISATION = "randomisation"
MOST_ALIKE = 0.5
"""A map shows little of what was learnt if its likeness to that of the untrained network, with its whole
interval, lies above this."""

SLIGHT = 0.05
"""A gain over a baseline that is worth little: 5 points of a rate, or 0.05 of a correlation or an AUC."""


@dataclass(frozen=True)
class Verdict:
    """A grade, the sentence that says why, and the figure that decided, if one did.

    The sentence names the baseline that is best, which need not be the face's centre, as the grade has it.
    """

    grade: Grade
    words: str
    decided_by: str | None = None


def figures() -> dict[str, Words]:
    """All figures of all checks."""
    return {name: words for check in CHECKS.values() for name, words in check.figures.items()}


def graded(
    checks: Mapping[str, CheckRecord], best: Mapping[str, tuple[str, float]], deciding: Sequence[str]
) -> Verdict:
    """The verdict on an answer; see docs/trust.md.

    Args:
        checks: its figures.
        best: of each figure, the best baseline and its value.
        deciding: the figures of which the first that has an interval decides.
    """
    alike = checks.get(RANDOMISATION)
    if alike and alike.value is not None and alike.interval and alike.interval[0] > MOST_ALIKE:
        said = f"with random weights the map stays much the same (rank correlation {_measured(alike, False)})"
        return Verdict(CONTRADICTED, f"{CONTRADICTED}: {said}", RANDOMISATION)
    for name in deciding:
        if name in best and checks[name].simultaneous_interval is not None:
            return _compared(name, checks[name], *best[name])
    reason = f"fewer than {LEAST_GROUPS} independent pictures tell of it"
    if all(checks[name].value is None for name in deciding):
        reason = "no picture tells of it: there is none, or the map is zero or not finite in all"
    return Verdict(NOT_CHECKED, f"{NOT_CHECKED}: {reason}")


def _compared(name: str, check: CheckRecord, baseline: str, value: float) -> Verdict:
    words = figures()[name]
    whom = BASELINE_WORDS.get(baseline, baseline)
    said = f"{words.title}: {_measured(check, words.percent)}; {whom}: {figure_text(value, words.percent)}"
    low, high = gain(check, words)
    if low > 0:
        return Verdict(INFORMATIVE, f"{INFORMATIVE}: {said}", name)
    shown = "no better than" if high <= SLIGHT else "not shown to be better than"
    return Verdict(NO_BETTER, f"{shown} {whom}: {said}; {_how_sure(low, high, check.n, words)}", name)


def gain(check: CheckRecord, words: Words) -> tuple[float, float]:
    """Between which bounds the answer is better than the best baseline, as far as is known of all at once."""
    low, high = check.simultaneous_interval or (float("-inf"), float("inf"))
    return (low, high) if words.better == "higher" else (-high, -low)


def _how_sure(low: float, high: float, count: int, words: Words) -> str:
    """Between which bounds an answer is worse and better."""
    if high < 0:
        return f"it is worse by {_points(high, words)} or more"
    return f"by {count:,} cases it may be up to {_points(low, words)} worse or {_points(high, words)} better"


def _points(value: float, words: Words) -> str:
    return counted(round(abs(100 * value)), "point") if words.percent else f"{abs(value):.2f}"


def _measured(check: CheckRecord, percent: bool) -> str:
    own = figure_text(check.value, percent)
    return own if check.interval is None else f"{own} (95 % {figure_range(check.interval, percent)})"


def told_of_baseline(checks: Mapping[str, CheckRecord], deciding: Sequence[str]) -> str:
    """What a baseline reaches on the first of the deciding figures that it has."""
    for name in deciding:
        if checks[name].value is not None:
            words = figures()[name]
            return f"baseline: {words.title}: {_measured(checks[name], words.percent)}"
    return f"baseline: {NOT_CHECKED}"
