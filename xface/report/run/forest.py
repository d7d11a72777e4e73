"""Forest plots: estimates with their intervals on one logarithmic axis, as data and as a drawing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from xface.report.colours import DARK_BLUE, DARK_VERMILION
from xface.report.run.svg import Node, as_text, node, wide_drawing
from xface.results import CONTRASTS, POSITIVES, WRONG
from xface.runs.folder import Kind, RunFolder
from xface.wording import number, outcome_words, p_value, spaced

POSITIVE, NEGATIVE = DARK_VERMILION, DARK_BLUE

STEP, GAP = 13, 12
MARGIN = 5.0
"""Per cent of the drawing's width beside the axis's ends, so that their numbers fit."""
LOWEST, HIGHEST = 1 / 16, 64
MOST_TICKS = 7
INK, MUTED, GRID = "#222222", "#5b6470", "#dddddd"


@dataclass(frozen=True)
class Series:
    """One kind of mark: round for genuine, square for forged images, filled where the verdict was wrong."""

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
    """A forest plot around the value 1."""

    title: str
    axis: str
    series: tuple[Series, ...]
    lines: tuple[Line, ...]

    @property
    def limits(self) -> tuple[float, float]:
        """The axis's ends: powers of two around all intervals, within 1/16 and 64."""
        ends = [
            e[name] for line in self.lines for e in line.estimates if e for name in ("low", "value", "high")
        ]
        known = [v for v in ends if v is not None and math.isfinite(v)]
        low = min([0.5, *(max(v, LOWEST) for v in known)])
        high = max([2.0, *(min(v, HIGHEST) for v in known)])
        return 2.0 ** math.floor(math.log2(low)), 2.0 ** math.ceil(math.log2(high))

    @property
    def ticks(self) -> list[float]:
        """Powers of two on the axis, 1 among them; every second or third where they are many."""
        low, high = (round(math.log2(end)) for end in self.limits)
        step = -(-(high - low + 1) // MOST_TICKS)
        return [2.0**power for power in range(low, high + 1) if power % step == 0]


OUTCOME_SERIES = tuple(outcome for sides in CONTRASTS.values() for outcome in sides)


def lift_forest(run: RunFolder, kind: Kind) -> Forest:
    """The mean lift of every region for each outcome, in the maps of one kind."""
    words = outcome_words(run.manifest["positive"], run.manifest["classes"])
    series = [
        Series(
            f"{name}: {words[name]}",
            POSITIVE if name in POSITIVES else NEGATIVE,
            name in POSITIVES,
            name in WRONG,
        )
        for name in OUTCOME_SERIES
    ]
    rows = [
        r for r in run.findings["regions"] if (r["method"], r["layer"] or "") == (kind.method, kind.layer)
    ]
    found = {(row["region"], row["outcome"]): row["lift"] for row in rows}
    lines = [
        Line(spaced(region), tuple(found.get((region, name)) for name in OUTCOME_SERIES),
             _remarks(run, kind, region))
        for region in dict.fromkeys(row["region"] for row in rows)
    ]  # fmt: skip
    axis = "mean lift: times the share that chance would give (1 = chance)"
    return Forest(f"Where {kind.name} looks, by outcome", axis, tuple(series), tuple(lines))


def _remarks(run: RunFolder, kind: Kind, region: str) -> tuple[str, ...]:
    return tuple(
        f"{row['contrast'].replace('-', ' > ' if row['difference']['value'] > 0 else ' < ')}"
        f" (q {p_value(row['q'])})"
        for row in run.findings["contrasts"]
        if row["finding"]
        and (row["method"], row["layer"] or "", row["region"]) == (kind.method, kind.layer, region)
    )


def odds_forest(run: RunFolder) -> Forest:
    """How the odds of an error change per standard deviation of each attribute, the others held constant."""
    lines = tuple(
        Line(
            run.label(row["attribute"]),
            (row["odds_ratio"],),
            (f"q {p_value(row['q'])}",) if row["finding"] else (),
        )
        for row in (run.findings["regression"] or {}).get("rows", ())
    )
    series = (Series("odds ratio", NEGATIVE, False, True),)
    return Forest("Errors and attributes", "odds ratio of an error per standard deviation (1 = no effect)",
                  series, lines)  # fmt: skip


def tick_words(tick: float) -> str:
    """A power of two as the axis has it.

    Example:
        >>> tick_words(4.0), tick_words(0.25)
        ('4', '1/4')
    """
    return f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}"


def forest_rows(forest: Forest) -> list[dict[str, Any]]:
    """What the page's template shows of each line: its label, its drawing and its remarks."""
    return [
        {"label": line.label, "drawing": Markup(line_svg(forest, line)), "remarks": line.remarks}
        for line in forest.lines
    ]


def line_svg(forest: Forest, line: Line) -> str:
    """A line's marks as a drawing as wide as its place; in words for who cannot see it."""
    tall = STEP * len(forest.series) + GAP
    marks = [*_grid(forest, tall)]
    for index, (series, found) in enumerate(zip(forest.series, line.estimates, strict=True)):
        if found and found["value"] is not None:
            marks += _mark(forest, series, found, GAP / 2 + STEP * (index + 0.5))
    return as_text(wide_drawing(tall, _in_words(forest, line), *marks))


def axis_svg(forest: Forest) -> str:
    """The axis's numbers, as wide as the lines' drawings."""
    numbers = [
        node("text", text=tick_words(tick), x=_x(forest, tick), y=14, text_anchor="middle", fill=MUTED)
        for tick in forest.ticks
    ]
    ends = " to ".join(tick_words(end) for end in forest.limits)
    return as_text(wide_drawing(20, f"Axis from {ends}", *numbers))


def _x(forest: Forest, value: float) -> str:
    low, high = (math.log(end) for end in forest.limits)
    inside = min(max(math.log(max(value, 1e-9)), low), high)
    return f"{MARGIN + (100 - 2 * MARGIN) * (inside - low) / (high - low):.2f}%"


def _grid(forest: Forest, height: float) -> Iterator[Node]:
    for tick in forest.ticks:
        x, chance_line = _x(forest, tick), tick == 1
        yield node("line", x1=x, x2=x, y1=0, y2=height, stroke=INK if chance_line else GRID,
                   stroke_width=1.5 if chance_line else 1,
                   stroke_dasharray="4 3" if chance_line else "none")  # fmt: skip


def _mark(forest: Forest, series: Series, found: Mapping[str, Any], y: float) -> Iterator[Node]:
    if found["low"] is not None and found["high"] is not None:
        ends: dict[str, Any] = {"x1": _x(forest, found["low"]), "x2": _x(forest, found["high"])}
        yield node("line", **ends, y1=y, y2=y, stroke=series.colour, stroke_width=2)
    x, fill = _x(forest, found["value"]), series.colour if series.filled else "#ffffff"
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
