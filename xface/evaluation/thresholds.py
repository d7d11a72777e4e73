"""Thresholds: from which score on an image is called positive, and who said so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xface.errors import UsageError
from xface.statistics.thresholds import DEFAULT


@dataclass(frozen=True)
class Threshold:
    """An image is called positive if its score is at least `value`; `source` says where that comes from."""

    value: float
    source: str

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise UsageError(f"threshold {self.value} is not a probability between 0 and 1")

    def to_json(self) -> dict[str, Any]:
        """Return `value` and `source`."""
        return {"value": self.value, "source": self.source}


def stated_threshold(given: float | None, on_card: float | None) -> Threshold:
    """The threshold that was given, else the card's, else 0.5; UsageError if it is not a probability.

    Example:
        >>> stated_threshold(None, 0.3)
        Threshold(value=0.3, source="the card's")
    """
    if given is not None:
        return Threshold(given, "as given")
    return Threshold(DEFAULT, "default") if on_card is None else Threshold(on_card, "the card's")
