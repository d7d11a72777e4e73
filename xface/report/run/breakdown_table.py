"""Errors by a column as text: every rate with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xface.wording import RATE_WORDS, aligned, estimate, number, percent, printable

WIDEST = 40  # letters of a value


def breakdown_table(breakdown: Mapping[str, Any]) -> str:
    """A row for each part of a breakdown of `findings.json`, `*` at a rate that is a finding.

    Example:
        >>> rate = {"rate": {"value": 0.1, "low": 0.05, "high": 0.2}, "finding": True}
        >>> part = {"words": "phone", "n": 40, "groups": 20, "rates": [rate, rate], "auc": {"value": 1.0}}
        >>> print(breakdown_table({"column": "device", "note": "", "parts": [part]}))
        device  images  groups  false positive rate  false negative rate  AUC
        phone       40      20     10 % (5 to 20) *     10 % (5 to 20) *    1
    """
    head = [breakdown["column"], "images", "groups", *RATE_WORDS.values(), "AUC"]
    rows = [[_short(part["words"]), *_cells(part)] for part in breakdown["parts"]]
    note = f"\n{breakdown['note']}" if breakdown["note"] else ""
    return aligned([[printable(cell) for cell in row] for row in (head, *rows)]) + note


def _cells(part: Mapping[str, Any]) -> list[str]:
    rates = (percent(each["rate"]) + (" *" if each["finding"] else "") for each in part["rates"])
    return [number(part["n"]), number(part["groups"]), *rates, estimate(part["auc"])]


def _short(words: str) -> str:
    return words if len(words) <= WIDEST else f"{words[: WIDEST - 3]}..."
