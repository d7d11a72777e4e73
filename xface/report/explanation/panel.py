"""The panel: the face with its regions and landmarks, what hiding each does, and all maps side by side."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from xface.report.colours import HEAT_COLOURS, Heat, blend, heat_of
from xface.report.explanation.earned import few_words
from xface.report.explanation.effect_cells import draw_effect_bars, effect_face
from xface.report.explanation.effects_in_words import effects_sentence
from xface.report.explanation.title import file_name, shortened, title_lines, write_title
from xface.results import AttributionMap, ExplanationData
from xface.wording import STATUS, UNCHECKED, map_name

CELL = 3.3  # inches
WIDEST, WIDEST_SMALL = 36, 46  # letters over and under a cell
INK, LANDMARK = "#ffffff", "#56b4e9"
STRONGEST = 3


def draw_panel(findings: ExplanationData) -> Figure:
    """Return a figure of the face, the effects, and all its maps, each with colour bar and top regions."""
    effects = 2 if findings.effects else 0
    count = 1 + effects + len(findings.maps)
    columns = min(count, 3 if count <= 6 else 4 if effects and count <= 8 else 5)
    rows, hidden = math.ceil(count / columns), effects_sentence(findings)
    title = [*title_lines(findings), hidden] if hidden else title_lines(findings)
    figure = Figure(
        figsize=(CELL * columns, (CELL - 0.1) * rows + 0.7 + 0.2 * bool(hidden)),
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06),
    )
    FigureCanvasAgg(figure)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    write_title(figure, title, findings.trained)
    _draw_face(cells[0], findings)
    if effects:
        _draw_effects(cells[1], cells[2], findings)
    for cell, amap in zip(cells[1 + effects :], findings.maps, strict=False):
        _draw_map(figure, cell, findings, amap)
    for cell in cells[count:]:
        cell.set_axis_off()
    return figure


def _draw_face(cell: Any, findings: ExplanationData) -> None:
    cell.imshow(findings.view)
    _draw_outlines(cell, findings, width=0.9)
    if findings.landmarks is not None:
        cell.scatter(*findings.landmarks.T, s=5, color=LANDMARK, edgecolors="black", linewidths=0.3)
    _label(cell, findings.view.shape, "input, regions, landmarks" if findings.face.found else "input")
    cell.set_xlabel(_face_lines(findings), fontsize=7.5, parse_math=False)


def _face_lines(findings: ExplanationData) -> str:
    if not findings.face.found:
        return "no face found: no regions"
    lines = [f"face by {file_name(findings.face.source)}", "below each map: highest lifts, 1x is chance"]
    lines += ["~ coarse: below 4 cells of the map"] if any(row.coarse for row in findings.regions) else []
    unchecked = findings.trained and findings.maps and not findings.trust
    return "\n".join([*lines, *([textwrap.fill(f"maps {UNCHECKED}", WIDEST)] if unchecked else [])])


def _draw_effects(face: Any, bars: Any, findings: ExplanationData) -> None:
    label = shortened(findings.label)
    face.imshow(effect_face(findings))
    _draw_outlines(face, findings, width=0.7)
    _label(face, findings.view.shape, "clear effects of hiding a region")
    face.set_xlabel(f"orange: the {label} score falls; blue: it rises", fontsize=7.5, parse_math=False)
    draw_effect_bars(bars, findings.effects)
    bars.set_title("effects of hiding each region", fontsize=9)
    bars.set_xlabel(f"fall of the {label} score (log-odds)\n{_key(findings)}", fontsize=7.5, parse_math=False)


def _key(findings: ExplanationData) -> str:
    """What is drawn in the bars, in as many lines as it takes."""
    words = ["line: spread", "grey: another area of about its size"]
    statuses = {row.status for row in findings.effects}
    words += ["white: within noise"] if "within_noise" in statuses else []
    words += ["hatched: unclear"] if "unclear" in statuses else []
    words += ["diamond: Shapley value"] if any(row.shapley is not None for row in findings.effects) else []
    return textwrap.fill("; ".join(word.replace(" ", "\xa0") for word in words), WIDEST_SMALL + 6)


def _draw_map(figure: Figure, cell: Any, findings: ExplanationData, amap: AttributionMap) -> None:
    heat = heat_of(amap, (findings.view.shape[0], findings.view.shape[1]))
    cell.imshow(findings.view // 3 if heat is None else blend(heat, findings.view))
    earned = few_words(findings, amap.method, amap.layer)
    title = [textwrap.fill(each, WIDEST) for each in (map_name(amap), earned) if each]
    _label(cell, findings.view.shape, "\n".join(title))
    if heat is None:
        where = {"ha": "center", "va": "center", "transform": cell.transAxes}
        cell.text(0.5, 0.5, STATUS[amap.status], color=INK, fontsize=11, **where)
        return
    _draw_outlines(cell, findings, width=0.5)
    cell.set_xlabel(textwrap.fill(_strongest(findings, amap), WIDEST_SMALL), fontsize=7.5)
    _draw_scale(figure, cell, heat)


def _draw_scale(figure: Figure, cell: Any, heat: Heat) -> None:
    scale = ScalarMappable(Normalize(0, heat.top), HEAT_COLOURS)
    extend = "max" if heat.clipped else "neither"
    bar = figure.colorbar(scale, ax=cell, fraction=0.046, pad=0.02, extend=extend, ticks=[0, heat.top])
    bar.ax.set_yticklabels(["0", f"{heat.top:.2g}"], fontsize=7)


def _strongest(findings: ExplanationData, amap: AttributionMap) -> str:
    lifts = [
        (row.lift, f"{row.region}\xa0{row.lift:.1f}x{'~' if row.coarse else ''}")
        for row in findings.regions
        if (row.method, row.layer) == (amap.method, amap.layer) and row.lift is not None
    ]
    # The space within a pair is one that no line breaks at.
    return ", ".join(words for _, words in sorted(lifts, reverse=True)[:STRONGEST])


def _draw_outlines(cell: Any, findings: ExplanationData, width: float) -> None:
    for _, polygon in findings.outlines:
        cell.plot(*polygon[[*range(len(polygon)), 0]].T, color="black", linewidth=width + 0.8, alpha=0.5)
        cell.plot(*polygon[[*range(len(polygon)), 0]].T, color=INK, linewidth=width)


def _label(cell: Any, shape: tuple[int, ...], title: str) -> None:
    cell.set_title(title, fontsize=9, parse_math=False)
    cell.set(xticks=[], yticks=[], xlim=(-0.5, shape[1] - 0.5), ylim=(shape[0] - 0.5, -0.5))
