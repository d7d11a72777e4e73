"""Curves: a figure's value from point to point, of each answer by itself, beside the face's centre."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xface.report.colours import DARK_BLUE, DARK_VERMILION
from xface.report.html.axes import Axis, linear_axis
from xface.report.html.forest import GRID, INK, MUTED
from xface.report.html.svg import Node, as_text, drawing, node
from xface.report.trust.answers import Row
from xface.wording import BASELINE_WORDS

CURVES = {"fraction": "Pixels that went or stayed", "layer": "Weights made random from the top down to"}
"""What divides a figure into points of a curve, and what its points are."""
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 240.0, 120.0, 44.0, 10.0, 10.0
COMPARED = BASELINE_WORDS["gaussian"]


@dataclass(frozen=True)
class Curves:
    """The curves of a figure: what its points are, left to right, and a drawing for each answer."""

    title: str
    points: tuple[str, ...]
    drawings: tuple[tuple[str, Markup], ...]
    compared: str


def curves_of(rows: Sequence[Row]) -> Iterator[Curves]:
    """The curves of a figure, one set for each of `CURVES` that divides it."""
    for by, title in CURVES.items():
        known = [(row, values) for row in rows if len(values := _values(row, by)) > 1]
        if not known:
            continue
        points = tuple(dict.fromkeys(name for _, values in known for name in values))
        axis = linear_axis(value for _, values in known for value in values.values())
        other = next((values for row, values in known if row.answer.name == COMPARED), {})
        drawings = tuple(
            (row.answer.name, Markup(_drawn(row, points, axis, values, other)))
            for row, values in known
            if row.answer.kind != "baseline"
        )
        yield Curves(title, points, drawings, COMPARED if other else "")


def _values(row: Row, by: str) -> dict[str, float]:
    return {part.name: part.value for part in row.check.parts if part.by == by and part.value is not None}


def _drawn(
    row: Row, points: Sequence[str], axis: Axis, values: dict[str, float], other: dict[str, float]
) -> str:
    alt = f"{row.answer.name}: " + ", ".join(f"{name} {row.said(value)}" for name, value in values.items())
    marks = [*_grid(axis, row)]
    marks += _line(points, axis, other, DARK_VERMILION, dashes="4 3")
    marks += _line(points, axis, values, DARK_BLUE, dashes="none")
    return as_text(drawing(WIDTH, HEIGHT, alt, *marks))


def _y(axis: Axis, value: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - axis.place(value))


def _grid(axis: Axis, row: Row) -> Iterator[Node]:
    for tick in dict.fromkeys((axis.low, 0.0, axis.high)):
        y = _y(axis, tick)
        yield node("line", x1=LEFT, x2=WIDTH, y1=y, y2=y, stroke=INK if tick == 0 else GRID)
        yield node("text", text=row.said(tick), x=LEFT - 5, y=y + 4, text_anchor="end", fill=MUTED,
                   font_size=11)  # fmt: skip


def _line(
    points: Sequence[str], axis: Axis, values: dict[str, float], colour: str, dashes: str
) -> Iterator[Node]:
    step = (WIDTH - LEFT - 16) / max(1, len(points) - 1)
    places = [
        (LEFT + 8 + step * number, _y(axis, values[name]))
        for number, name in enumerate(points)
        if name in values
    ]
    if not places:
        return
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield node("polyline", points=path, fill="none", stroke=colour, stroke_width=2, stroke_dasharray=dashes)
    for x, y in places:
        yield node("circle", cx=x, cy=y, r=3.2, fill=colour if dashes == "none" else "#ffffff", stroke=colour)
