"""The page's drawings as figures for a paper."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Shape

from xface.report.colours import LIFT_COLOURS, LIMIT, ink_on, lift_colour
from xface.report.html.axes import Axis
from xface.report.html.forest import Forest
from xface.report.run.face_drawing import HEIGHT, WIDTH, beneath_first, label_words, mean_lifts
from xface.report.run.forest import NEGATIVE, OUTCOME_SERIES, POSITIVE
from xface.runs.folder import Kind, RunFolder
from xface.runs.regions import Regions, regions_of
from xface.wording import drawable, outcome_words

NamedFigure: TypeAlias = tuple[str, Figure]

DPI = 200
BINS = np.linspace(0, 1, 41)
SMALLEST = 1e-6  # a logarithmic axis has no 0


def write_figures(figures: Iterable[NamedFigure], folder: Path, caution: str = "") -> None:
    """Write figures as PNG, a caution in the corner of each; ValueError for a name that two of them have."""
    folder.mkdir()
    for name, figure in figures:
        path = folder / f"{name}.png"
        if path.exists():
            raise ValueError(f"two sections of the report have a figure {name!r}; rename one")
        if caution:
            figure.text(0.995, 0.005, caution, ha="right", va="bottom", fontsize=7, color="red")
        figure.savefig(path, dpi=DPI)


def draw_forest(forest: Forest) -> Figure:
    """A forest plot, as the page draws it."""
    lines, marks, axis = len(forest.lines), len(forest.series), forest.measure
    figure = _figure(7.2, 1.4 + lines * (0.16 + 0.13 * marks))
    cell = figure.subplots()
    for index, series in enumerate(forest.series):
        offset = (index + 1) / (marks + 1)
        known = [(place + offset, line.estimates[index]) for place, line in enumerate(forest.lines)]
        _draw_series(cell, series, [(y, e) for y, e in known if e and _is_on(axis, e["value"])])
    for place, line in enumerate(forest.lines):
        cell.text(
            1.01,
            place + 0.5,
            "\n".join(map(drawable, line.remarks)),
            transform=cell.get_yaxis_transform(),
            va="center",
            fontsize=7,
        )
        cell.axhspan(place, place + 1, color="black", alpha=0.03 * (place % 2 == 0), linewidth=0)
    if axis.reference is not None:
        cell.axvline(axis.reference, color="black", linestyle="--", linewidth=0.9)
    cell.set_xscale(axis.scale)
    cell.set_xlim(axis.low, axis.high)
    cell.set_xticks(axis.ticks, list(map(axis.words, axis.ticks)))
    cell.set_ylim(lines, 0)
    cell.set_yticks(np.arange(lines) + 0.5, [drawable(line.label) for line in forest.lines])
    _dress(cell, forest.title, forest.axis)
    if marks > 1:
        _legend(cell, loc="upper center", bbox_to_anchor=(0.5, -0.5 / figure.get_figheight()), ncols=2)
    return figure


def _is_on(axis: Axis, value: float | None) -> bool:
    """Whether a value is on the axis at all: a logarithmic one has no zero."""
    return value is not None and (value > 0 or axis.scale == "linear")


def _draw_series(cell: Any, series: Any, known: list[tuple[float, Any]]) -> None:
    fill = series.colour if series.filled else "white"
    label = drawable(series.name)
    cell.plot([e["value"] for _, e in known], [y for y, _ in known], linestyle="", label=label, zorder=3,
              marker="s" if series.square else "o", markersize=4, markeredgecolor=series.colour,
              markerfacecolor=fill)  # fmt: skip
    bars = [(y, e["low"], e["high"]) for y, e in known if e["low"] is not None and e["high"] is not None]
    heights, lows, highs = np.array(bars, float).reshape(-1, 3).T
    cell.hlines(heights, np.maximum(lows, SMALLEST), highs, color=series.colour, linewidth=1.2)


def draw_faces(run: RunFolder, kind: Kind) -> Figure:
    """One face for each outcome, its regions coloured by their mean lift."""
    figure = _figure(7.2, 2.9)
    cells = figure.subplots(1, len(OUTCOME_SERIES))
    words = outcome_words(run.manifest["positive"], run.manifest["classes"])
    for cell, outcome in zip(cells, OUTCOME_SERIES, strict=True):
        _draw_face(cell, regions_of(run.manifest), mean_lifts(run, kind, outcome))
        title = textwrap.fill(drawable(f"{outcome}: {words[outcome]}"), 26)
        cell.set_title(title, fontsize=8, parse_math=False)
    scale = ScalarMappable(LogNorm(1 / LIMIT, LIMIT), LIFT_COLOURS)
    bar = figure.colorbar(
        scale, ax=list(cells), orientation="horizontal", shrink=0.5, aspect=40, extend="both"
    )
    bar.set_ticks([1 / LIMIT, 0.5, 1, 2, LIMIT], labels=["1/4", "1/2", "1 = chance", "2", "4"], fontsize=7)
    bar.ax.minorticks_off()
    figure.suptitle(drawable(f"{kind.name}: mean lift of each region"), fontsize=9, parse_math=False)
    return figure


def _draw_face(cell: Any, regions: Regions, lifts: dict[str, float | None]) -> None:
    for name, region in beneath_first(regions):
        lift = lifts.get(name)
        colour, (x, y) = lift_colour(lift), region["label"]
        shape = _shape(region["outlines"])
        cell.add_patch(PathPatch(shape, facecolor=colour, edgecolor="#555555", linewidth=0.4))
        cell.text(x, y, label_words(name, lift), ha="center", va="center", fontsize=5,
                  color=ink_on(colour))  # fmt: skip
    cell.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0), aspect="equal")
    cell.set_axis_off()


def _shape(outlines: Sequence[str]) -> Shape:
    """Closed lines as one shape, in which holes are left out."""
    lines = [[tuple(map(float, place.split(","))) for place in outline.split()] for outline in outlines]
    return Shape.make_compound_path(*(Shape([*line, line[0]], closed=True) for line in lines))


def draw_scores(run: RunFolder) -> Figure:
    """The scores of forged and of genuine images, and the threshold."""
    figure = _figure(5.4, 3.2)
    cell: Any = figure.subplots()
    positive = run.manifest["positive"]
    scores = run.numbers("score")
    forged = np.array(run.texts("label"), object) == positive
    for name, chosen, colour, hatch in (
        (positive, forged, POSITIVE, "///"), (f"not {positive}", ~forged, NEGATIVE, "...")):  # fmt: skip
        values = scores[chosen & np.isfinite(scores)]
        cell.hist(
            values,
            BINS,
            histtype="step",
            edgecolor=colour,
            hatch=hatch,
            label=f"{drawable(name)}: {len(values):,}",
        )
    cell.axvline(run.threshold, color="black", linestyle="--", linewidth=0.9, label="threshold")
    cell.set_ylabel("images", fontsize=8)
    _dress(cell, "Scores", f"score: probability of {positive}")
    _legend(cell, loc="upper center")
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _dress(cell: Any, title: str, axis: str) -> None:
    cell.set_title(drawable(title), fontsize=9, parse_math=False)
    cell.set_xlabel(drawable(axis), fontsize=8, parse_math=False)
    cell.tick_params(labelsize=7)
    for label in cell.get_yticklabels():
        label.set_parse_math(False)


def _legend(cell: Any, **where: Any) -> None:
    for text in cell.legend(fontsize=7, frameon=False, **where).get_texts():
        text.set_parse_math(False)
