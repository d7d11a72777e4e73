"""Region effects in a figure: the face with its regions coloured by them, and bars with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from xface.report.colours import BLUE, GREY, VERMILION
from xface.report.explanation.effect_table import by_effect, signed
from xface.report.explanation.title import write_title
from xface.results import ByteArray, ExplanationData, FloatArray, RegionEffect
from xface.wording import spaced

FALLS, RISES = VERMILION, BLUE
"""The colours of what lowers the score when it is hidden, and of what raises it."""

TINT = 0.75  # how much of the pixels of the region with the largest effect is colour
INK, BAND = "#333333", "#dcdcdc"
ROOM = 0.34  # of the axis' width, for the numbers right of the bars


def effect_face(findings: ExplanationData) -> ByteArray:
    """The face in grey (H, W, 3), regions with a clear effect coloured: the larger it is, the stronger."""
    grey = (findings.view @ GREY)[..., None].repeat(3, axis=2) * 0.85
    clear = {row.region: row.effect for row in findings.effects if row.status == "clear" and row.effect}
    largest, picture = max(map(abs, clear.values()), default=1.0), grey.copy()
    places = [("background", np.ones(grey.shape[:2], bool))]
    places += [(name, _inside(outline, grey.shape)) for name, outline in reversed(findings.outlines)]
    for name, inside in places:  # what lies in another region's outline comes after it
        effect = clear.get(name, 0.0)
        weight = TINT * abs(effect) / largest
        picture[inside] = (1 - weight) * grey[inside] + weight * 255 * np.array(to_rgb(_colour(effect)))
    return np.asarray(picture.round(), np.uint8)


def _colour(effect: float) -> str:
    return FALLS if effect > 0 else RISES


def draw_effect_bars(cell: Any, rows: Sequence[RegionEffect]) -> None:
    """Draw a bar per region, the largest effect first: hatched where unclear, hollow where within noise.

    A line through its end is the spread over the fills, the grey band behind it what the control does, to
    either side; the number is bold where hiding the region changes the verdict.
    """
    rows = by_effect(rows)
    low, high = _extent(rows)
    for place, row in enumerate(rows):
        if row.effect is not None:
            _draw_bar(cell, place, row, row.effect)
        said = f"{signed(row.effect)}{' flips' if row.flips else ''}"
        cell.text(high + 0.03 * (high - low), place, said, va="center", fontsize=7,
                  weight="bold" if row.flips else "normal")  # fmt: skip
    cell.axvline(0, color="black", linewidth=1)
    cell.set_yticks(range(len(rows)), [spaced(row.region) for row in rows], fontsize=7.5)
    ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    cell.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=7)
    cell.set(xlim=(low, high + ROOM * (high - low)), ylim=(len(rows) - 0.4, -0.6))
    cell.spines[["top", "right"]].set_visible(False)


def draw_mean_effects(rows: Sequence[RegionEffect], title: Sequence[str], trained: bool = True) -> Figure:
    """Return a figure of means over images as bars, with lines of a title; False writes the warning below."""
    figure = Figure(figsize=(5.5, 1.6 + 0.3 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    cell = figure.subplots()
    draw_effect_bars(cell, rows)
    words = (
        "fall of the explained class's score (log-odds)\nline: mean spread; grey: another area of its size"
    )
    cell.set_xlabel(words, fontsize=7.5)
    write_title(figure, title, trained)
    return figure


def _draw_bar(cell: Any, place: int, row: RegionEffect, effect: float) -> None:
    if row.control is not None:
        noise = abs(row.control)
        cell.barh(place, 2 * noise, 0.9, left=-noise, color=BAND, zorder=0.5)
    cell.barh(place, effect, 0.6, color=_colour(effect) if row.status == "clear" else "white",
              hatch="////" if row.status == "unclear" else "", edgecolor=INK, linewidth=0.7)  # fmt: skip
    if row.spread is not None:
        cell.errorbar(effect, place, xerr=row.spread, color=INK, linewidth=0.9, capsize=2)
    if row.shapley is not None:
        cell.plot(row.shapley, place, "D", color="black", markerfacecolor="white", markersize=4)


def _extent(rows: Sequence[RegionEffect]) -> tuple[float, float]:
    """The ends of all that is drawn, 0 among them; from -1 to 1 where nothing is."""
    ends = [0.0]
    for row in rows:
        spread, noise = row.spread or 0.0, abs(row.control or 0.0)
        if row.effect is not None:
            ends += [row.effect - spread, row.effect + spread, -noise, noise]
        ends += [] if row.shapley is None else [row.shapley]
    low, high = min(ends), max(ends)
    return (1.05 * low, 1.05 * high) if high - low > 0 else (-1.0, 1.0)


def _inside(outline: FloatArray, shape: tuple[int, ...]) -> Any:
    """Which pixels (H, W) lie in a polygon (k, 2)."""
    mask = Image.new("1", (shape[1], shape[0]))
    points = [(float(x), float(y)) for x, y in outline]
    ImageDraw.Draw(mask).polygon([*points, points[0]], fill=1)  # an outline may be a single point
    return np.asarray(mask)
