"""Verdicts: figures of many pictures as values with intervals, against the best baseline, and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from xface.evidence.checks import CHECKS, Figure, Words
from xface.results import FloatArray
from xface.runs.trust import (
    CONTRADICTED,
    INFORMATIVE,
    NO_BETTER,
    NOT_CHECKED,
    AnswererRecord,
    BaselineRecord,
    CheckRecord,
    CheckWords,
    Grade,
    PartRecord,
)
from xface.statistics.bootstrap import LEAST_GROUPS, Estimate
from xface.statistics.means import Codes, mean_differences, within
from xface.wording import BASELINE_WORDS

RANDOMISATION = "randomisation"
MOST_ALIKE = 0.5
"""A map shows little of what was learnt if its likeness to that of the untrained network, with its whole
interval, lies above this."""

EFFECTS, UNTRAINED = "effects", "untrained"


@dataclass(frozen=True)
class Answerers:
    """Who answered, in the order of the values: maps, the same of the untrained network, baselines, effects.

    `kinds` are method and layer of each map.
    """

    kinds: Sequence[tuple[str, str | None]]
    baselines: Sequence[str]

    def __len__(self) -> int:
        return 2 * len(self.kinds) + len(self.baselines) + 1

    @property
    def effects(self) -> int:
        """The place of the effects."""
        return len(self) - 1

    def baselines_of(self, place: int) -> dict[str, int]:
        """The places of the baselines that an answer is held against, by name."""
        count = len(self.kinds)
        own = {UNTRAINED: count + place} if place < count else {}
        return own | {name: 2 * count + k for k, name in enumerate(self.baselines)}


@dataclass(frozen=True, eq=False)
class Table:
    """One figure of N cases: `values` (N, A), NaN where undefined, and the group of each case (N,)."""

    values: FloatArray = field(repr=False)
    groups: Codes = field(repr=False)


def check_words() -> dict[str, CheckWords]:
    """All figures of all checks, in words."""
    return {
        name: CheckWords(
            family=family, title=words.title, about=words.about, better=words.better,
            percent=words.percent, ranks=words.ranks, source=check.source,
        )
        for family, check in CHECKS.items()
        for name, words in check.figures.items()
    }  # fmt: skip


def figures() -> dict[str, Words]:
    """All figures of all checks."""
    return {name: words for check in CHECKS.values() for name, words in check.figures.items()}


@dataclass(frozen=True, eq=False)
class Judge:
    """Puts the figures of all cases together, by answerer; `tables` has those that some case has.

    `made` says that all masks are of made forgeries; what a detector of others does there grades nothing.
    """

    answerers: Answerers
    tables: Mapping[Figure, Table]
    made: bool = False

    def maps(self) -> list[AnswererRecord]:
        """The record of each map."""
        return [self._record(place, *kind) for place, kind in enumerate(self.answerers.kinds)]

    def effects(self) -> list[AnswererRecord]:
        """The record of the region effects."""
        return [self._record(self.answerers.effects, EFFECTS, None)]

    def baselines(self) -> list[BaselineRecord]:
        """The record of each baseline; `untrained` has one for each map."""
        count = len(self.answerers.kinds)
        named = [(name, None, None, 2 * count + k) for k, name in enumerate(self.answerers.baselines)]
        again = [(UNTRAINED, *kind, count + k) for k, kind in enumerate(self.answerers.kinds)]
        return [
            BaselineRecord(baseline=name, method=method, layer=layer, checks=self._checks(place, {}))
            for name, method, layer, place in [*named, *again]
        ]

    def _record(self, place: int, method: str, layer: str | None) -> AnswererRecord:
        checks = self._checks(place, self.answerers.baselines_of(place))
        grade, verdict, by = graded(checks, self._best(place), self._deciding())
        return AnswererRecord(
            method=method, layer=layer, checks=checks, grade=grade, verdict=verdict, decided_by=by
        )

    def _deciding(self) -> list[str]:
        """The figures that decide a grade, the first first."""
        return [
            name
            for check in CHECKS.values()
            for name, words in check.figures.items()
            if words.ranks and not (self.made and check.of == "mask")
        ]

    def _best(self, place: int) -> dict[str, tuple[str, float]]:
        """Of each figure, the best baseline and its value on the cases of this answer."""
        against = self.answerers.baselines_of(place)
        found = {}
        for figure, table in self.tables.items():
            if not figure.by and (name := _best_baseline(table, place, against, figures()[figure.name])):
                both = np.isfinite(table.values[:, [place, against[name]]]).all(axis=1)
                found[figure.name] = (name, float(table.values[both, against[name]].mean()))
        return found

    def _checks(self, place: int, against: Mapping[str, int]) -> dict[str, CheckRecord]:
        return {name: self._check(name, words, place, against) for name, words in figures().items()}

    def _check(self, name: str, words: Words, place: int, against: Mapping[str, int]) -> CheckRecord:
        table = self.tables.get(Figure(name))
        if table is None or not np.isfinite(table.values[:, place]).any():
            return CheckRecord(value=None, interval=None, n=0)
        best = _best_baseline(table, place, against, words)
        columns = [table.values[:, place]]
        if best:
            columns.append(table.values[:, place] - table.values[:, against[best]])
        value, *difference = estimates(columns, table.groups, words.limits)
        return CheckRecord(
            value=value.value,
            interval=_interval(value),
            n=int(np.isfinite(columns[0]).sum()),
            best_baseline=best,
            difference=difference[0].value if difference else None,
            difference_interval=_interval(difference[0]) if difference else None,
            parts=list(self._parts(name, words, place)),
        )

    def _parts(self, name: str, words: Words, place: int) -> Iterator[PartRecord]:
        for figure, table in self.tables.items():
            column = table.values[:, place]
            if figure.name == name and figure.by and np.isfinite(column).any():
                [found] = estimates([column], table.groups, words.limits)
                yield PartRecord(
                    by=figure.by, name=figure.part, value=found.value, interval=_interval(found),
                    n=int(np.isfinite(column).sum()),
                )  # fmt: skip


def _best_baseline(table: Table, place: int, against: Mapping[str, int], words: Words) -> str | None:
    """The baseline that does best on the cases where the answer is defined; the first of equals."""
    means = {}
    for name, other in against.items():
        both = np.isfinite(table.values[:, [place, other]]).all(axis=1)
        if both.any():
            means[name] = float(table.values[both, other].mean())
    if not means:
        return None
    return (max if words.better == "higher" else min)(means, key=lambda name: means[name])


def estimates(
    columns: Sequence[FloatArray], groups: Codes, limits: tuple[float, float] | None
) -> list[Estimate]:
    """The mean of each column (N,) with a 95 % interval over groups; the first's lies within `limits`.

    The others are differences of two such columns. Where all cases agree, the bootstrap knows nothing of what
    else there is; then the interval allows for others that would show in none of so many groups once in
    twenty (the rule of three), as far as the limits bound what they do.

    Example:
        >>> [found] = estimates([np.ones(30)], np.arange(30), (0.0, 1.0))
        >>> found.value, round(found.low, 3), found.high
        (1.0, 0.905, 1.0)
    """
    stacked = np.stack(columns, axis=1)
    found = mean_differences(stacked, np.ones(len(stacked), bool), None, groups)
    if limits is None:
        return found
    spread = limits[1] - limits[0]
    bounds = [limits, *[(-spread, spread)] * (len(found) - 1)]
    return [
        _bounded(each, column, groups, *bound)
        for each, column, bound in zip(found, columns, bounds, strict=True)
    ]


def _bounded(found: Estimate, column: FloatArray, groups: Codes, least: float, most: float) -> Estimate:
    known = np.isfinite(column)
    count = len(np.unique(groups[known]))
    if found.value is None or count < LEAST_GROUPS:
        return found
    if found.low is None and np.ptp(column[known]) < 1e-9:
        unseen = 1 - 0.05 ** (1 / count)
        low, high = (found.value + unseen * (end - found.value) for end in (least, most))
        return Estimate(found.value, low, high)
    return within(found, least, most)


def _interval(found: Estimate) -> list[float] | None:
    return None if found.low is None or found.high is None else [found.low, found.high]


def graded(
    checks: Mapping[str, CheckRecord], best: Mapping[str, tuple[str, float]], deciding: Sequence[str]
) -> tuple[Grade, str, str | None]:
    """The grade of an answer, the sentence that says why, and the figure that decided; see docs/trust.md.

    Args:
        checks: its figures.
        best: of each figure, the best baseline and its value.
        deciding: the figures of which the first that has an interval decides.
    """
    alike = checks.get(RANDOMISATION)
    if alike and alike.value is not None and alike.interval and alike.interval[0] > MOST_ALIKE:
        low, high = alike.interval
        return (
            CONTRADICTED,
            f"{CONTRADICTED}: with random weights the map stays much the same (rank correlation "
            f"{alike.value:.2f}, 95 % {low:.2f} to {high:.2f})",
            RANDOMISATION,
        )
    named = figures()
    for name in deciding:
        check = checks[name]
        if check.difference is None or check.difference_interval is None or name not in best:
            continue
        low, high = check.difference_interval
        wins = low > 0 if named[name].better == "higher" else high < 0
        grade: Grade = INFORMATIVE if wins else NO_BETTER
        return grade, f"{grade}: {_against(named[name], check, *best[name])}", name
    return NOT_CHECKED, f"{NOT_CHECKED}: fewer than {LEAST_GROUPS} independent pictures tell of it", None


def _against(words: Words, check: CheckRecord, baseline: str, value: float) -> str:
    own = f"{words.title}: {said(check.value, words)}"
    if check.interval:
        low, high = (said(end, words) for end in check.interval)
        own += f" (95 % {low.removesuffix(' %')} to {high})"
    return f"{own}; {BASELINE_WORDS.get(baseline, baseline)}: {said(value, words)}"


def said(value: float | None, words: Words) -> str:
    """A figure's value in words.

    Example:
        >>> said(0.523, figures()["partial_swap"]), said(0.523, figures()["pixel_auc"])
        ('52 %', '0.52')
    """
    if value is None:
        return "undefined"
    return f"{100 * value:.0f} %" if words.percent else f"{value:.2f}"
