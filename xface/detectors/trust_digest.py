"""What a card says of a detector's maps: the digest of a run of `xface trust`, and which map leads by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from xface.errors import CheckpointError
from xface.results import INFORMATIVE, NOT_CHECKED, MapTrust
from xface.wording import figure_text, method_at

if TYPE_CHECKING:
    from xface.runs.trust import AnswererRecord, CheckRecord, TrustRecord

DIGITS = 4

Interval: TypeAlias = tuple[float, float]
_STRICT: Mapping[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True)
class CheckedData:
    """What a detector's maps were checked on: see `xface.runs.trust.TrustData`.

    `source` is the name of the table or folder.
    """

    source: str
    sha256: str
    forged: int
    made: int
    pairs: int
    groups: int
    masks: str = ""
    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT


@dataclass(frozen=True)
class DigestCheck:
    """A check in words; see `xface.runs.trust.CheckWords`."""

    title: str
    better: Literal["higher", "lower"] = "higher"
    percent: bool = False
    ranks: bool = False
    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    def said(self, value: float) -> str:
        """A value of this check in words.

        Example:
            >>> DigestCheck("first", percent=True).said(0.523), DigestCheck("agreement").said(0.34)
            ('52 %', '0.34')
        """
        return figure_text(value, self.percent)


@dataclass(frozen=True)
class DigestFigure:
    """A map's value on a check, with its 95 % interval over groups, and that of the best baseline.

    `baseline` is the value of `best_baseline` on the same cases; `difference` is this value less that.
    """

    value: float
    n: int
    interval: Interval | None = None
    best_baseline: str | None = None
    baseline: float | None = None
    difference: float | None = None
    difference_interval: Interval | None = None
    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    def __post_init__(self) -> None:
        ends = [*(self.interval or ()), *(self.difference_interval or ())]
        known = [end for end in (self.value, self.baseline, self.difference, *ends) if end is not None]
        if not all(map(isfinite, known)):
            raise CheckpointError("figures must be finite numbers")


@dataclass(frozen=True)
class DigestAnswer:
    """What one map, or the region effects, earned: grade, words, and a figure for each check.

    `decided_by` is the check of which the grade was taken.
    """

    method: str
    layer: str | None
    grade: str
    words: str
    figures: Mapping[str, DigestFigure]
    decided_by: str | None = None
    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT


@dataclass(frozen=True)
class TrustDigest:
    """What the maps of one detector earned, from its `trust.json`; `weights_sha256` says whose they are.

    Raises CheckpointError for a map that occurs twice, or a figure of a check that is not described.
    """

    xface: str
    created: str
    weights_sha256: str
    data: CheckedData
    checks: Mapping[str, DigestCheck]
    maps: tuple[DigestAnswer, ...]
    effects: tuple[DigestAnswer, ...] = ()
    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    def __post_init__(self) -> None:
        if len({(each.method, each.layer) for each in self.maps}) < len(self.maps):
            raise CheckpointError("trust has a map twice")
        for each in (*self.maps, *self.effects):
            if unknown := each.figures.keys() - self.checks.keys():
                raise CheckpointError(f"trust has a figure of an unknown check {min(unknown)!r}")

    def of(self, method: str, layer: str | None) -> MapTrust:
        """What a map, or `effects` at no layer, earned; one that was not checked is graded so.

        Example:
            >>> check, data = DigestCheck("agreement", ranks=True), CheckedData("set.csv", "", 9, 0, 0, 9)
            >>> figure = DigestFigure(0.4, 9, best_baseline="gaussian", baseline=0.1)
            >>> said = ("informative", "informative: ...", {"agree": figure}, "agree")
            >>> maps = (DigestAnswer("guided", None, *said),)
            >>> digest = TrustDigest("1", "", "", data, {"agree": check}, maps)
            >>> digest.of("guided", None).few, digest.of("gradcam", "layer4").grade
            ('informative: 0.40, baseline 0.10', 'not checked')
        """
        answers = (*self.maps, *self.effects)
        found = next((each for each in answers if (each.method, each.layer) == (method, layer)), None)
        if found is None:
            return MapTrust(method, layer, NOT_CHECKED, f"{NOT_CHECKED}: xface trust left this map out")
        deciding = self._deciding(found)
        if deciding is None:
            return MapTrust(method, layer, found.grade, found.words, few=found.grade)
        name, figure = deciding
        check = self.checks[name]
        few = f"{found.grade}: {check.said(figure.value)}"
        if figure.baseline is not None:
            few += f", baseline {check.said(figure.baseline)}"
        return MapTrust(
            method, layer, found.grade, found.words, name, figure.value, figure.interval, figure.n,
            figure.best_baseline, figure.baseline, few,
        )  # fmt: skip

    def _deciding(self, answer: DigestAnswer) -> tuple[str, DigestFigure] | None:
        found = answer.figures.get(answer.decided_by or "")
        return (answer.decided_by, found) if answer.decided_by and found else None

    def leading(
        self, among: Callable[[DigestAnswer], bool] = lambda each: True
    ) -> tuple[DigestAnswer, str] | None:
        """The best of the informative maps, and by which check: the first by which any was found so."""
        informative = [each for each in self.maps if each.grade == INFORMATIVE and among(each)]
        for name, check in self.checks.items():
            known = [each for each in informative if each.decided_by == name and name in each.figures]
            if known:
                best = max if check.better == "higher" else min
                return best(known, key=lambda each: each.figures[name].value), name
        return None


def leads_as(digest: TrustDigest, answer: DigestAnswer, check: str) -> str:
    """Why a map leads, in words."""
    count = sum(each.grade == INFORMATIVE for each in digest.maps)
    value = digest.checks[check].said(answer.figures[check].value)
    of = f"the best of {count} informative maps" if count > 1 else "the only informative map"
    place = method_at(answer.method, answer.layer)
    return f"{place}, {of} by xface trust ({digest.checks[check].title}: {value})"


def digest_of(record: TrustRecord) -> TrustDigest:
    """The digest of a `trust.json`, numbers to four digits."""
    data = record.data
    return TrustDigest(
        record.xface,
        record.created,
        str(record.detector.get("weights_sha256") or ""),
        CheckedData(
            os.path.basename(data.source),
            data.sha256,
            data.forged,
            data.made,
            data.pairs,
            data.groups,
            data.masks,
        ),
        {
            name: DigestCheck(each.title, each.better, each.percent, each.ranks)
            for name, each in record.checks.items()
        },
        tuple(_answers(record.maps)),
        tuple(_answers(record.effects)),
    )


def _answers(records: Iterable[AnswererRecord]) -> Iterable[DigestAnswer]:
    for each in records:
        figures = {name: _figure(check) for name, check in each.checks.items() if check.value is not None}
        by = each.decided_by if each.decided_by in figures else None
        yield DigestAnswer(each.method, each.layer, each.grade, each.verdict, figures, by)


def _figure(check: CheckRecord) -> DigestFigure:
    assert check.value is not None
    baseline = None if check.difference is None else check.value - check.difference
    value, baseline, difference = map(_rounded, (check.value, baseline, check.difference))
    assert value is not None
    return DigestFigure(
        value, check.n, _interval(check.interval), check.best_baseline, baseline, difference,
        _interval(check.difference_interval),
    )  # fmt: skip


def _interval(ends: list[float] | None) -> Interval | None:
    return None if ends is None else (float(f"{ends[0]:.{DIGITS}g}"), float(f"{ends[1]:.{DIGITS}g}"))


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")
