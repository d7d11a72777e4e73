"""Repairs in sentences: what is found, and what is counted only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xface.findings.contrasts import UNTESTED
from xface.findings.repairs import Repair
from xface.findings.sentences import Sentence, fixed
from xface.findings.top import is_top
from xface.results import LIKENESSES, OUTCOMES, WRONG
from xface.statistics.bootstrap import Estimate
from xface.wording import counted, listed, mirror, negative_name, percent, spaced

RIGHT_WORDS = {error: OUTCOMES[right] for error, right in LIKENESSES.values()}


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
        """One, of the finding that repairs the largest part of its errors, if it stands against all."""
        standing = [row for row in self.rows if row.finding and _p_all(row) is not None]
        if standing:
            first = max(standing, key=_gain)
            yield Sentence(
                f"{self._clause(first)}.", "repair", "", first.region, first.rows, p_all=_p_all(first)
            )

    def sentences(self) -> Iterator[Sentence]:
        """One for each part that is a finding and of which no larger gain was told; or that there is none.

        Where there is none, the part that beats its control by most is told as what it is: a count.
        """
        for error in WRONG:
            told: set[str] = set()
            findings = [row for row in self._of(error) if row.finding]
            for row in sorted(findings, key=_gain, reverse=True):
                if told.isdisjoint(names := names_of(row.region)):
                    told |= names
                    text = f"{self._clause(row)}: {_figures(row)}."
                    yield Sentence(text, "repair", "", row.region, row.rows)
            counts = [row for row in self._of(error) if row.is_more_than_control()]
            if counts and not findings:
                row = max(counts, key=_gain)
                yield Sentence(f"{self._clause(row)}; {_no_finding(row)}.", "count", "", row.region, row.rows)
        if not any(row.finding for row in self.rows):
            yield Sentence(f"Hiding parts of the face: {self._nothing()}.", "none", "", "repairs", ())

    def _of(self, error: str) -> list[Repair]:
        return [row for row in self.rows if row.outcome == error]

    def _clause(self, row: Repair) -> str:
        """What hiding the part does to errors, to right verdicts with like scores, and as much elsewhere."""
        becomes = self.negative if row.outcome == "FP" else self.positive
        like = row.like_scores.value
        right = f"; of {row.n:,} {RIGHT_WORDS[row.outcome]} with like scores it would turn about"
        beside = "" if like is None else f"{right} {like * row.n:,.0f}"
        return (
            f"Hiding the {spaced(row.region)} turns {row.turned:,} of {row.n:,} {OUTCOMES[row.outcome]} into "
            f"{becomes} (hiding as much elsewhere {row.control_turned:,}){beside}"
        )

    def _nothing(self) -> str:
        of = [row for row in self.rows if row.outcome in WRONG]
        tested = [row for row in of if row.p is not None and row.against_right and row.against_right.p]
        if not tested:
            why = [note for row in of for note in _notes(row)]
            return f"not tested ({why[0] if why else 'no image has a face'})"
        errors = [
            counted(max(row.n for row in self._of(error)), OUTCOMES[error].removesuffix("s"))
            for error in WRONG
        ]
        return (
            f"none turns more errors than right verdicts with like scores and than hiding as much elsewhere "
            f"does, in {counted(len(tested), 'comparison')} ({listed(errors)})"
        )


def names_of(part: str) -> set[str]:
    """A part's name, and that of both sides together.

    Example:
        >>> sorted(names_of("left_eye")), names_of("eyes")
        (['eyes', 'left_eye'], {'eyes'})
    """
    return {part, mirror(part)[1] or part}


def _gain(row: Repair) -> float:
    return row.difference.value or 0.0


def _p_all(row: Repair) -> float | None:
    """p against all that the run tests, of errors against right verdicts, where it is at the top's level."""
    right = row.against_right
    return right.p_all if right and is_top(right) else None


def _notes(row: Repair) -> list[str]:
    notes = (row.note, row.against_right.note if row.against_right else "")
    return [note.removesuffix(UNTESTED) for note in notes if note]


def _no_finding(row: Repair) -> str:
    right, whom = row.against_right, RIGHT_WORDS[row.outcome]
    if right is None or right.p is None:
        why = f" ({right.note.removesuffix(UNTESTED)})" if right else ""
        return f"a count only, not compared with {whom}{why}"
    return f"a count only, not reliably more than of {whom} with like scores (q {right.q:.2g})"


def _figures(row: Repair) -> str:
    right = row.against_right
    gaps = [(f"than {RIGHT_WORDS[row.outcome]}", right.difference, right.q)] if right else []
    gaps.append(("than elsewhere", row.difference, row.q))
    return f"{percent(row.rate.to_json())}, {listed([_more(*each) for each in gaps])}"


def _more(than: str, gap: Estimate, q: float | None) -> str:
    ends = "" if gap.low is None else f" ({fixed(gap.low, 2)} to {fixed(gap.high, 2)})"
    return f"{fixed(gap.value, 2)}{ends} more {than} (q {q:.2g})"
