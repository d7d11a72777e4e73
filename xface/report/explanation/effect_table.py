"""The table of region effects for a terminal of 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from xface.results import ExplanationData, RegionEffect
from xface.wording import listed, printable, spaced

WIDTH = 80
HEADING = ("region", "effect", "spread", "points", "control")
WIDTHS = (14, 8, 7, 8, 8)
SHAPLEY, STATUS = 14, 14


def effect_table(findings: ExplanationData) -> str:
    """Return a line per region, the largest effect first, and what the columns mean; "" without effects."""
    if not findings.effects:
        return ""
    rows = by_effect(findings.effects)
    shapley = any(row.shapley is not None for row in rows)
    heading = _cells(HEADING) + ("shapley".rjust(SHAPLEY) if shapley else "") + "  status"
    lines = [heading, "-" * (sum(WIDTHS) + SHAPLEY * shapley + STATUS + 7)]
    lines += [_line(row, shapley) for row in rows]
    legend = (textwrap.fill(line, WIDTH) for line in _legend(findings, shapley))
    return "\n".join([*lines, "", *legend])


def by_effect(rows: Sequence[RegionEffect]) -> list[RegionEffect]:
    """The rows from the largest effect to the smallest, undefined ones last."""
    return sorted(rows, key=lambda row: math.inf if row.effect is None else -row.effect)


def _line(row: RegionEffect, shapley: bool) -> str:
    numbers = (signed(row.effect), _size(row.spread), _points(row.effect_probability), signed(row.control))
    said = _shapley(row).rjust(SHAPLEY) if shapley else ""
    flips = "flips" if row.flips else ""
    return f"{_cells((row.region, *numbers))}{said}  {spaced(row.status):<{STATUS}}{flips}".rstrip()


def _cells(texts: Sequence[str]) -> str:
    name, *numbers = texts
    cells = (text.rjust(width) for text, width in zip(numbers, WIDTHS[1:], strict=True))
    return name.ljust(WIDTHS[0]) + "".join(cells)


def signed(value: float | None) -> str:
    """A change of a score with its sign, in at most seven letters.

    Example:
        >>> [signed(value) for value in (2.134, -0.004, -123.4, 4e5, None)]
        ['+2.13', '-0.00', '-123', '+4e+05', '-']
    """
    if value is None:
        return "-"
    return f"{value:+.2f}" if abs(value) < 99.995 else f"{value:+.3g}"


def _size(value: float | None) -> str:
    return signed(value).lstrip("+")


def _points(probability: float | None) -> str:
    return "-" if probability is None else f"{100 * probability:+.1f}"


def _shapley(row: RegionEffect) -> str:
    return f"{signed(row.shapley)} ±{_size(row.shapley_error)}" if row.shapley_error else signed(row.shapley)


def _legend(findings: ExplanationData, shapley: bool) -> list[str]:
    label, statuses = printable(findings.label), {row.status for row in findings.effects}
    fills = listed(list(findings.effects[0].fills))
    lines = [
        f"effect: the fall of the {label} score (log-odds) when the region is hidden, the mean over {fills}; "
        "spread: their standard deviation; points: the fall in percentage points of probability; control: "
        "the fall when an area of about the same size is hidden elsewhere",
        *(words for status, words in MEANINGS.items() if status in statuses),
    ]
    if findings.flips:
        lines.append("flips: hiding the region changes the verdict")
    if shapley:
        lines.append("shapley: a fair division of the score, less that with the face hidden, among regions")
    return lines


MEANINGS = {
    "within_noise": "within noise: hiding another area of about the same size moves the score as far, "
    "up or down",
    "unclear": "unclear: the score falls or rises with what is put in place of the region, or no other area "
    "is large enough to compare it with, as for the background",
    "undefined": "undefined: the region is outside the picture, or the score not finite",
}
