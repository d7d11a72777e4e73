"""Small charts beside sentences: how a number is spread over outcomes, and rates with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xface.report.html.svg import Node, as_text, node, wide_drawing
from xface.report.run.forest import NEGATIVE, POSITIVE
from xface.results import POSITIVES, WRONG, FloatArray
from xface.runs.folder import RunFolder
from xface.wording import number, percent

STEP, TOP, NAMES = 26, 4, 14.0
"""Pixels for each row, and above all; per cent of the width for the rows' names."""
INK, MUTED, GRID = "#1f2328", "#5b6470", "#dfe3e8"
ENDS = (5, 25, 50, 75, 95)


def spread_svg(run: RunFolder, attribute: str, outcomes: Sequence[str]) -> str:
    """An attribute of the images of each outcome: median, middle half, and middle nine tenths."""
    values, of = run.numbers(attribute), np.array(run.texts("outcome"), object)
    rows = [(name, _ends(values[of == name])) for name in outcomes]
    known = [ends for _, ends in rows if ends is not None]
    if not known:
        return ""
    low, high = min(float(each[0]) for each in known), max(float(each[-1]) for each in known)
    marks = [mark for place, (name, ends) in enumerate(rows) for mark in _row(place, name, ends, low, high)]
    words = ", ".join(f"{name} {number(ends[2])}" for name, ends in rows if ends is not None)
    height = TOP + STEP * len(rows)
    axis = _axis(height, [(low, number(low)), (high, number(high))], low, high)
    return as_text(wide_drawing(height + 18, f"Median {run.label(attribute)}: {words}", *marks, *axis))


def rates_svg(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Rates with their intervals, each with its name, on an axis from 0."""
    known = [(name, found) for name, found in rows if found["value"] is not None]
    top = max([0.01, *(found["high"] or found["value"] for _, found in known)])
    marks: list[Node] = []
    for place, (name, found) in enumerate(known):
        y = TOP + STEP * (place + 0.5)
        marks.append(node("text", text=name, x=0, y=y + 4, fill=INK, font_size=13))
        marks.append(node("rect", x=_x(0, 0, top), y=y - 6, width=_wide(found["value"], top), height=12,
                          fill=POSITIVE if place == 0 else MUTED))  # fmt: skip
        if found["low"] is not None:
            marks.append(node("line", x1=_x(found["low"], 0, top), x2=_x(found["high"], 0, top), y1=y, y2=y,
                              stroke=INK, stroke_width=2))  # fmt: skip
    height = TOP + STEP * len(known)
    words = ", ".join(f"{name} {percent(found)}" for name, found in known)
    axis = _axis(height, [(0.0, "0"), (top, percent(top))], 0.0, top)
    return as_text(wide_drawing(height + 18, f"Misclassified: {words}", *marks, *axis))


def _ends(values: FloatArray) -> FloatArray | None:
    known = values[np.isfinite(values)]
    return np.percentile(known, ENDS) if len(known) else None


def _row(place: int, name: str, ends: FloatArray | None, low: float, high: float) -> list[Node]:
    y = TOP + STEP * (place + 0.5)
    marks = [node("text", text=name, x=0, y=y + 4, fill=INK, font_size=13)]
    if ends is None:
        return marks
    colour = POSITIVE if name in POSITIVES else NEGATIVE
    first, quarter, middle, third, last = (_x(float(end), low, high) for end in ends)
    marks.append(node("line", x1=first, x2=last, y1=y, y2=y, stroke=colour, stroke_width=2))
    marks.append(node("line", x1=quarter, x2=third, y1=y, y2=y, stroke=colour, stroke_width=12,
                      stroke_opacity=1 if name in WRONG else 0.45))  # fmt: skip
    marks.append(node("line", x1=middle, x2=middle, y1=y - 9, y2=y + 9, stroke=INK, stroke_width=2))
    return marks


def _x(value: float, low: float, high: float) -> str:
    part = (value - low) / (high - low) if high > low else 0.5
    return f"{NAMES + (96 - NAMES) * part:.2f}%"


def _wide(value: float, top: float) -> str:
    return f"{(96 - NAMES) * value / top:.2f}%"


def _axis(y: float, ends: Sequence[tuple[float, str]], low: float, high: float) -> list[Node]:
    line = node("line", x1=_x(low, low, high), x2=_x(high, low, high), y1=y, y2=y, stroke=GRID)
    numbers = (
        node(
            "text", text=words, x=_x(value, low, high), y=y + 14, text_anchor=anchor, fill=MUTED, font_size=12
        )
        for (value, words), anchor in zip(ends, ("start", "end"), strict=True)
    )
    return [line, *numbers]
