"""Thresholds proposed for a stated false positive rate or cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xface.findings.columns import Judged
from xface.results import FloatArray
from xface.statistics.thresholds import (
    Criterion,
    Proposal,
    at_cost,
    at_false_positive_rate,
    propose_threshold,
)
from xface.wording import counted, number, percent


@dataclass(frozen=True)
class ProposedThreshold:
    """What was asked for, the threshold for it with its rates, and both in words."""

    asked: Mapping[str, float]
    proposal: Proposal
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"asked": dict(self.asked), **self.proposal.to_json(), "text": self.text}


def proposals(
    asked: Sequence[Mapping[str, float]], scores: FloatArray, judged: Judged
) -> tuple[ProposedThreshold, ...]:
    """A threshold for each wish, on these scores (N,).

    A wish is `{"false_positive_rate": 0.05}`, or costs: `{"false_positive": 5, "false_negative": 1}`.
    """
    found = [propose_threshold(judged.positive, scores, judged.codes, _criterion(each)) for each in asked]
    share = float(judged.positive.mean()) if len(scores) else 0.0
    return tuple(
        ProposedThreshold(each, one, _text(each, one, share)) for each, one in zip(asked, found, strict=True)
    )


def _criterion(asked: Mapping[str, float]) -> Criterion:
    if "false_positive_rate" in asked:
        return at_false_positive_rate(asked["false_positive_rate"])
    return at_cost(asked["false_positive"], asked["false_negative"])


def _text(asked: Mapping[str, float], found: Proposal, share: float) -> str:
    wish = f"Threshold {_wish(asked, share)}"
    if found.threshold is None:
        return f"{wish}: none; {found.note}."
    alarms, recall = (percent(each.to_json()) for each in (found.false_positive_rate, found.recall))
    note = f" ({found.note})" if found.note else ""
    return (
        f"{wish}: {number(found.threshold, 4)}, chosen on {counted(found.groups[0], 'group')} drawn at "
        f"random; on the other {number(found.groups[1])}: false positive rate {alarms}, recall "
        f"{recall}{note}."
    )


def _wish(asked: Mapping[str, float], share: float) -> str:
    if "false_positive_rate" in asked:
        return f"for a false positive rate of at most {percent(asked['false_positive_rate'])}"
    costs = f"{number(asked['false_positive'])}:{number(asked['false_negative'])}"
    return f"where false positives and negatives cost {costs} and {percent(share)} are positive, as here"
