"""Forest plots: estimates with their intervals on one axis, as data and as a drawing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup

from xface.report.html.axes import Axis, ratio_axis
from xface.report.html.svg import Node, as_text, node, wide_drawing
from xface.wording import number

STEP, GAP = 13, 12
MARGIN = 5.0
"""Per cent of the drawing's width beside the axis's ends, so that their numbers fit."""
INK, MUTED, GRID = "#222222", "#5b6470", "#dddddd"


@dataclass(frozen=True)
class Series:
    """One kind of mark: round or square, filled or hollow."""

    name: str
    colour: str
    square: bool
    filled: bool


@dataclass(frozen=True)
class Line:
    """One subject's estimates, one for each series, and remarks."""

    label: str
    estimates: tuple[Mapping[str, Any] | None, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Forest:
    """A forest plot; `axis` is what its axis is called, and `scale` makes it around all values."""

    title: str
    axis: str
    series: tuple[Series, ...]
    lines: tuple[Line, ...]
    scale: Callable[[Iterable[float]], Axis] = ratio_axis

    @cached_property
    def measure(self) -> Axis:
        """The axis around all estimates and their intervals."""
        found = [each for line in self.lines for each in line.estimates if each]
        ends = [each[name] for each in found for name in ("low", "value", "high")]
        return self.scale(end for end in ends if end is not None and math.isfinite(end))


def forest_rows(forest: Forest) -> list[dict[str, Any]]:
    """What the page's template shows of each line: its label, its drawing and its remarks."""
    return [
        {"label": line.label, "drawing": Markup(line_svg(forest, line)), "remarks": line.remarks}
        for line in forest.lines
    ]


def line_svg(forest: Forest, line: Line) -> str:
    """A line's marks as a drawing as wide as its place; in words for who cannot see it."""
    tall = STEP * len(forest.series) + GAP
    marks = [*_grid(forest.measure, tall)]
    for index, (series, found) in enumerate(zip(forest.series, line.estimates, strict=True)):
        if found and found["value"] is not None:
            marks += _mark(forest.measure, series, found, GAP / 2 + STEP * (index + 0.5))
    return as_text(wide_drawing(tall, _in_words(forest, line), *marks))


def axis_svg(forest: Forest) -> str:
    """The axis's numbers, as wide as the lines' drawings."""
    axis = forest.measure
    numbers = [
        node("text", text=axis.words(tick), x=_x(axis, tick), y=14, text_anchor="middle", fill=MUTED)
        for tick in axis.ticks
    ]
    ends = " to ".join(axis.words(end) for end in (axis.low, axis.high))
    return as_text(wide_drawing(20, f"Axis from {ends}", *numbers))


def _x(axis: Axis, value: float) -> str:
    return f"{MARGIN + (100 - 2 * MARGIN) * axis.place(value):.2f}%"


def _grid(axis: Axis, height: float) -> Iterator[Node]:
    for tick in axis.ticks:
        x, is_reference = _x(axis, tick), tick == axis.reference
        yield node("line", x1=x, x2=x, y1=0, y2=height, stroke=INK if is_reference else GRID,
                   stroke_width=1.5 if is_reference else 1,
                   stroke_dasharray="4 3" if is_reference else "none")  # fmt: skip


def _mark(axis: Axis, series: Series, found: Mapping[str, Any], y: float) -> Iterator[Node]:
    if found["low"] is not None and found["high"] is not None:
        ends: dict[str, Any] = {"x1": _x(axis, found["low"]), "x2": _x(axis, found["high"])}
        yield node("line", **ends, y1=y, y2=y, stroke=series.colour, stroke_width=2)
    x, fill = _x(axis, found["value"]), series.colour if series.filled else "#ffffff"
    shape: dict[str, Any] = ({"x": x, "y": y - 4, "width": 8, "height": 8, "transform": "translate(-4)"}
             if series.square else {"cx": x, "cy": y, "r": 4.4})  # fmt: skip
    yield node(
        "rect" if series.square else "circle", **shape, fill=fill, stroke=series.colour, stroke_width=1.8
    )


def _in_words(forest: Forest, line: Line) -> str:
    return ", ".join(
        f"{series.name.split(':')[0]} {number((found or {}).get('value'), 2)}"
        for series, found in zip(forest.series, line.estimates, strict=True)
    )
