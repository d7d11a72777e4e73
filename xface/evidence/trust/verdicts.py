"""Verdicts: figures of many pictures as values with intervals, against the best baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from xface.evidence.checks import CHECKS, Figure, Words
from xface.evidence.trust.grades import figures, graded, told_of_baseline
from xface.results import FloatArray
from xface.runs.trust import AnswererRecord, BaselineRecord, CheckRecord, CheckWords, PartRecord
from xface.statistics.bootstrap import LEAST_GROUPS, Estimate
from xface.statistics.means import Codes, mean_differences, widening, within

EFFECTS, UNTRAINED = "effects", "untrained"
HOME = "they are at an advantage here, as they hide with the very masks that the region was pasted with"
"""What goes with the grade of the effects where partial swaps decided it."""


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
        named = [(2 * count + k, name, None, None) for k, name in enumerate(self.answerers.baselines)]
        again = [(count + k, UNTRAINED, layer, of) for k, (of, layer) in enumerate(self.answerers.kinds)]
        return [self._baseline(*each) for each in [*named, *again]]

    def _baseline(self, place: int, name: str, layer: str | None, of: str | None) -> BaselineRecord:
        checks = self._checks(place, {})
        said = told_of_baseline(checks, self._deciding())
        return BaselineRecord(method=name, layer=layer, checks=checks, verdict=said, of=of)

    def _record(self, place: int, method: str, layer: str | None) -> AnswererRecord:
        checks = self._checks(place, self.answerers.baselines_of(place))
        found = graded(checks, self._best(place), self._deciding())
        at_home = method == EFFECTS and found.decided_by == "partial_swap"
        return AnswererRecord(
            method=method,
            layer=layer,
            checks=checks,
            grade=found.grade,
            verdict=f"{found.words}; {HOME}" if at_home else found.words,
            decided_by=found.decided_by,
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
        factor = self._widenings[name]
        wider = [_widened(each, factor, words.limits) for each in difference]
        return CheckRecord(
            value=value.value,
            interval=_interval(value),
            n=int(np.isfinite(columns[0]).sum()),
            best_baseline=best,
            difference=difference[0].value if difference else None,
            difference_interval=_interval(difference[0]) if difference else None,
            simultaneous_interval=_interval(wider[0]) if wider else None,
            parts=list(self._parts(name, words, place)),
        )

    @cached_property
    def _widenings(self) -> dict[str, float]:
        """By how much wider each figure's intervals are for those of all maps and of the effects to hold."""
        return {
            figure.name: widening(self._differences(table, figures()[figure.name]), table.groups)
            for figure, table in self.tables.items()
            if not figure.by
        }

    def _differences(self, table: Table, words: Words) -> FloatArray:
        """The difference of each map, and of the effects, from its best baseline in each case: (N, K)."""
        columns = []
        for place in (*range(len(self.answerers.kinds)), self.answerers.effects):
            against = self.answerers.baselines_of(place)
            if best := _best_baseline(table, place, against, words):
                columns.append(table.values[:, place] - table.values[:, against[best]])
        return np.stack(columns, axis=1) if columns else np.empty((len(table.values), 0))

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


def _widened(found: Estimate, factor: float, limits: tuple[float, float] | None) -> Estimate:
    """A difference with its interval `factor` times as wide, which ends where it can go no further."""
    if found.value is None or found.low is None or found.high is None:
        return found
    low, high = (found.value + factor * (end - found.value) for end in (found.low, found.high))
    wider = Estimate(found.value, low, high)
    return wider if limits is None else within(wider, limits[0] - limits[1], limits[1] - limits[0])


def _interval(found: Estimate) -> list[float] | None:
    return None if found.low is None or found.high is None else [found.low, found.high]
