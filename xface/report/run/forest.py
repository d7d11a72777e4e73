"""Forest plots: estimates with their intervals on one logarithmic axis, as data and as a drawing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xface.report.colours import DARK_BLUE, DARK_VERMILION
from xface.report.run.svg import Node, as_text, drawing, node
from xface.results import CONTRASTS, POSITIVES, WRONG
from xface.runs.folder import Kind, RunFolder
from xface.wording import number, outcome_words, p_value, spaced

POSITIVE, NEGATIVE = DARK_VERMILION, DARK_BLUE

WIDTH, LEFT, RIGHT, TOP = 860, 232, 170, 30
STEP, GAP = 13, 12
LOWEST, HIGHEST = 1 / 16, 64
INK, MUTED, GRID = "#222222", "#666666", "#dddddd"


@dataclass(frozen=True)
class Series:
    """One kind of mark: round for genuine, square for forged images, filled where the verdict was wrong."""

    name: str
    colour: str
    square: bool
    filled: bool


@dataclass(frozen=True)
class Line:
    """One subject's estimates, one for each series, and a remark."""

    label: str
    estimates: tuple[Mapping[str, Any] | None, ...]
    remark: str = ""


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
        """The powers of two on the axis."""
        low, high = (round(math.log2(end)) for end in self.limits)
        return [2.0**power for power in range(low, high + 1)]


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
             _remark(run, kind, region))
        for region in dict.fromkeys(row["region"] for row in rows)
    ]  # fmt: skip
    axis = "mean lift: times the share that chance would give (1 = chance)"
    return Forest(f"Where {kind.name} looks, by outcome", axis, tuple(series), tuple(lines))


def _remark(run: RunFolder, kind: Kind, region: str) -> str:
    return "; ".join(
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
            f"q {p_value(row['q'])}" if row["finding"] else "",
        )
        for row in (run.findings["regression"] or {}).get("rows", ())
    )
    series = (Series("odds ratio", NEGATIVE, False, True),)
    return Forest("Errors and attributes", "odds ratio of an error per standard deviation (1 = no effect)",
                  series, lines)  # fmt: skip


def forest_svg(forest: Forest) -> str:
    """The plot as a drawing for the page; its lines are named in words for who cannot see it."""
    tall = STEP * len(forest.series) + GAP
    height = TOP + tall * len(forest.lines) + 48
    parts = [*_axis(forest, height - 48)]
    for place, line in enumerate(forest.lines):
        parts += _line(forest, line, TOP + place * tall, place)
    return as_text(drawing(WIDTH, height, _in_words(forest), *parts))


def _x(forest: Forest, value: float) -> float:
    low, high = (math.log(end) for end in forest.limits)
    inside = min(max(math.log(max(value, 1e-9)), low), high)
    return LEFT + (WIDTH - LEFT - RIGHT) * (inside - low) / (high - low)


def _axis(forest: Forest, bottom: float) -> Iterator[Node]:
    for tick in forest.ticks:
        x, chance_line = _x(forest, tick), tick == 1
        yield node("line", x1=x, x2=x, y1=TOP - 8, y2=bottom, stroke=INK if chance_line else GRID,
                   stroke_width=1.5 if chance_line else 1,
                   stroke_dasharray="4 3" if chance_line else "none")  # fmt: skip
        words = f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}"
        yield node("text", text=words, x=x, y=bottom + 16, text_anchor="middle", fill=MUTED)
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield node("text", text=forest.axis, x=middle, y=bottom + 38, text_anchor="middle", fill=INK)


def _line(forest: Forest, line: Line, top: float, place: int) -> Iterator[Node]:
    tall = STEP * len(forest.series)
    if place % 2 == 0:
        yield node(
            "rect", x=0, y=top - GAP / 2, width=WIDTH, height=tall + GAP, fill="#000", fill_opacity=0.025
        )
    middle = top + tall / 2 + 4
    yield node("text", text=line.label, x=LEFT - 14, y=middle, text_anchor="end", fill=INK)
    yield node("text", text=line.remark, x=WIDTH - RIGHT + 14, y=middle, fill=INK, font_weight="600")
    for index, (series, found) in enumerate(zip(forest.series, line.estimates, strict=True)):
        if found and found["value"] is not None:
            yield from _mark(forest, series, found, top + STEP * (index + 0.5))


def _mark(forest: Forest, series: Series, found: Mapping[str, Any], y: float) -> Iterator[Node]:
    if found["low"] is not None and found["high"] is not None:
        ends: dict[str, Any] = {"x1": _x(forest, found["low"]), "x2": _x(forest, found["high"])}
        yield node("line", **ends, y1=y, y2=y, stroke=series.colour, stroke_width=2)
    x, fill = _x(forest, found["value"]), series.colour if series.filled else "#ffffff"
    shape: dict[str, Any] = ({"x": x - 4, "y": y - 4, "width": 8, "height": 8} if series.square
             else {"cx": x, "cy": y, "r": 4.4})  # fmt: skip
    yield node(
        "rect" if series.square else "circle", **shape, fill=fill, stroke=series.colour, stroke_width=1.8
    )


def _in_words(forest: Forest) -> str:
    lines = "; ".join(
        f"{line.label}: "
        + ", ".join(
            f"{series.name.split(':')[0]} {number((found or {}).get('value'), 2)}"
            for series, found in zip(forest.series, line.estimates, strict=True)
        )
        + (f", {line.remark}" if line.remark else "")
        for line in forest.lines
    )
    return f"{forest.title}. {forest.axis}. {lines}."
