"""The lift of every region as bars, map beside map, from the line of chance to both sides."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from xface.report.colours import BLUE, VERMILION
from xface.report.explanation.table import Key, short_percent, times
from xface.report.explanation.title import title_lines, write_title
from xface.results import ExplanationData, RegionMeasure
from xface.wording import STATUS, map_name, spaced

ABOVE, BELOW, COARSE = VERMILION, BLUE, "#d0d0d0"

ABREAST = 5
PANEL, FIRST, LINE, FOOT, NARROWEST = 2.6, 1.2, 0.27, 0.5, 5.0  # inches
LOWEST, HIGHEST = 1 / 16, 64  # ends of the widest axis: a bar beyond ends there, its label says how far
WIDEST = 34  # letters over a panel


def lift_bars_of(findings: ExplanationData) -> Figure:
    """Return the bars of one image: a panel per map; its face must have been found."""
    names = {(amap.method, amap.layer): map_name(amap) for amap in findings.maps}
    remarks = {
        (amap.method, amap.layer): STATUS[amap.status] for amap in findings.maps if amap.status != "ok"
    }
    return draw_lift_bars(findings.regions, names, remarks, title_lines(findings), findings.trained)


def draw_lift_bars(
    rows: Sequence[RegionMeasure],
    names: Mapping[Key, str],
    remarks: Mapping[Key, str],
    title: Sequence[str],
    trained: bool = True,
) -> Figure:
    """Return a figure with a panel of bars for each method and layer in the rows.

    A bar runs from chance, lift 1, along a scale of powers of two that all panels share; it is grey and
    hatched where the region is coarse, and labelled with lift and share. A region without a lift has no bar.

    Args:
        rows: measures of one image, or means over several.
        names: what each panel is called, by (method, layer).
        remarks: what else is said over a panel.
        title: the lines over the figure.
        trained: False writes the warning below it.
    """
    keys = list(dict.fromkeys((row.method, row.layer) for row in rows))
    regions = list(dict.fromkeys(row.region for row in rows))
    columns = min(len(keys), ABREAST)
    lines = math.ceil(len(keys) / columns)
    height = (LINE * len(regions) + 0.9) * lines
    figure = Figure(
        figsize=(max(FIRST + PANEL * columns, NARROWEST), height + FOOT + 0.6), layout="constrained"
    )
    FigureCanvasAgg(figure)
    body, foot = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, FOOT])[:, 0]
    cells = body.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for cell in cells[len(keys) :]:
        cell.set_axis_off()
    limits = _limits(rows)
    for cell, key in zip(cells, keys, strict=False):
        _draw_panel(cell, [row for row in rows if (row.method, row.layer) == key], limits)
        heading = [*textwrap.wrap(names[key], WIDEST), *textwrap.wrap(remarks.get(key, ""), WIDEST)]
        cell.set_title("\n".join(heading), fontsize=9, parse_math=False)
    write_title(figure, title, trained)
    _draw_legend(foot, any(row.coarse and row.lift is not None for row in rows))
    return figure


def _limits(rows: Sequence[RegionMeasure]) -> tuple[int, int]:
    """The ends of the axis as powers of two: around all lifts, at least from a half to 2."""
    lifts = [min(max(row.lift, LOWEST), HIGHEST) for row in rows if row.lift is not None]
    powers = [math.log2(lift) for lift in lifts]
    return min([-1, *map(math.floor, powers)]), max([1, *map(math.ceil, powers)])


def _draw_panel(cell: Any, rows: Sequence[RegionMeasure], limits: tuple[int, int]) -> None:
    for place, row in enumerate(rows):
        if row.lift is not None and row.share is not None:
            length = math.log2(min(max(row.lift, 2.0 ** limits[0]), 2.0 ** limits[1]))
            colour = COARSE if row.coarse else ABOVE if length > 0 else BELOW
            cell.barh(place, length, 0.72, color=colour, hatch="////" if row.coarse else "",
                      edgecolor="#777777" if row.coarse else colour, linewidth=0.8)  # fmt: skip
        label = "-" if row.lift is None else f"{times(row.lift)}  {short_percent(row.share or 0.0)}"
        cell.text(limits[1] + 0.15, place, label, va="center", fontsize=7.5)
    cell.axvline(0, color="black", linewidth=1)
    ticks = range(limits[0], limits[1] + 1, 1 if limits[1] - limits[0] <= 6 else 2)
    cell.set_xticks(list(ticks), [_power(tick) for tick in ticks], fontsize=8)
    cell.set_yticks(range(len(rows)), [spaced(row.region) for row in rows], fontsize=8.5)
    room = 0.42 * (limits[1] - limits[0])  # for the labels, right of the longest bar
    cell.set(xlim=(limits[0], limits[1] + room), ylim=(len(rows) - 0.4, -0.6))
    cell.tick_params(labelbottom=True)
    cell.grid(axis="x", alpha=0.3)
    cell.set_axisbelow(True)
    cell.spines[["top", "right"]].set_visible(False)


def _power(exponent: int) -> str:
    return f"{2**exponent}" if exponent >= 0 else f"1/{2**-exponent}"


def _draw_legend(foot: Any, coarse: bool) -> None:
    handles = [Patch(color=ABOVE, label="above chance"), Patch(color=BELOW, label="below chance")]
    if coarse:
        words = "coarse: below 4 cells"
        handles.append(Patch(facecolor=COARSE, edgecolor="#777777", hatch="////", label=words))
    title = "lift = share / area (1 is chance), and the region's share of the map"
    foot.legend(handles=handles, title=title, title_fontsize=8.5, loc="center", ncols=len(handles),
                fontsize=8.5, frameon=False)  # fmt: skip
