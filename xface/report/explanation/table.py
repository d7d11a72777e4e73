"""The table of regions for a terminal of 80 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from xface.report.explanation.earned import trust_lines
from xface.report.explanation.effect_table import WIDTH, effect_table
from xface.report.explanation.effects_in_words import effects_sentence
from xface.results import ExplanationData, RegionMeasure
from xface.wording import origin, printable, subject, verdict

MAPS_ABREAST = 5
REGION, AREA, CELL = 14, 6, 12

UNPUBLISHED = {
    "extended": "guided and deconvnet rules are extended here: not every rectifier is a ReLU",
    "partial": "guided and deconvnet rules are partial here: some functions kept their true gradient",
}

Key = tuple[str, str | None]


def region_table(findings: ExplanationData) -> str:
    """Return each region's area, and per map its share and lift, in blocks of five maps, 80 columns wide."""
    if not findings.face.found:
        return "regions: no face"
    rules = {amap.rule for amap in findings.maps}
    said = [f"\n{words}" for rule, words in UNPUBLISHED.items() if rule in rules]
    return measure_table(findings.regions) + "".join(said)


def measure_table(rows: Sequence[RegionMeasure]) -> str:
    """Return the same for rows that need not be one image's, with what their signs mean below."""
    keys = list(dict.fromkeys((row.method, row.layer) for row in rows))
    blocks = [keys[i : i + MAPS_ABREAST] for i in range(0, len(keys), MAPS_ABREAST)]
    return "\n\n".join(_block(rows, block) for block in blocks) + "\n" + _legend(rows)


def _block(rows: Sequence[RegionMeasure], keys: list[Key]) -> str:
    by_place = {(row.region, (row.method, row.layer)): row for row in rows}
    regions = list(dict.fromkeys(row.region for row in rows))
    lines = _heading(keys)
    for region in regions:
        found = [by_place[region, key] for key in keys]
        cells = "".join(_cell(row).rjust(CELL) for row in found)
        lines.append(f"{region:<{REGION}}{short_percent(found[0].area):>{AREA}}{cells}".rstrip())
    return "\n".join(lines)


def _heading(keys: list[Key]) -> list[str]:
    titles = [_wrap(method) + _wrap(layer or "") for method, layer in keys]
    depth = max(map(len, titles))
    columns = [["region"], ["area"], *titles]
    widths = [REGION, AREA, *[CELL] * len(keys)]
    padded = [[""] * (depth - len(title)) + title for title in columns]
    lines = ["".join(_align(padded[c][r], widths[c], c) for c in range(len(columns))) for r in range(depth)]
    return [*[line.rstrip() for line in lines], "-" * sum(widths)]


def _align(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column == 0 else text.rjust(width)


def _wrap(name: str) -> list[str]:
    """Break a name after dots and underscores into lines that fit a cell.

    Example:
        >>> _wrap("integrated_gradients"), _wrap("features.denseblock3")
        (['integrated_', 'gradients'], ['features.', 'denseblock3'])
    """
    lines = [""]
    for part in re.findall(r"[^._]*[._]|[^._]+", name):
        piece = part[: CELL - 1]
        if len(lines[-1]) + len(piece) > CELL - 1:
            lines.append("")
        lines[-1] += piece
    return lines if lines != [""] else []


def _cell(row: RegionMeasure) -> str:
    if row.share is None:
        return "-  "
    return f"{short_percent(row.share)} {times(row.lift)}{'~' if row.coarse else ' '}"


def short_percent(part: float) -> str:
    """A part as a percentage in at most five letters."""
    return "100%" if part >= 0.9995 else f"{100 * part:.1f}%"


def times(lift: float | None) -> str:
    """A lift in at most four letters.

    Example:
        >>> [times(lift) for lift in (None, 0.04, 9.94, 123.4, 2345.6)]
        ['-', '0.0x', '9.9x', '123x', '2e3x']
    """
    if lift is None:
        return "-"
    if lift >= 999.5:
        return f"{lift:.0e}x".replace("e+0", "e")
    return f"{lift:.1f}x" if lift < 9.95 else f"{lift:.0f}x"


def _legend(rows: Sequence[RegionMeasure]) -> str:
    lines = ["", "share of the map in the region, and lift = share / area: 1.0x is chance"]
    if any(row.coarse for row in rows):
        lines.append("~ coarse: the region is smaller than 4 cells of this map")
    if any(row.lift is None for row in rows):
        lines.append("- undefined: the map is zero or not finite, or the region outside the picture")
    return "\n".join(lines)


def as_text(findings: ExplanationData) -> str:
    """Return the verdict, what is explained, the effects, the notes, the tables, and what maps earned."""
    lines = [
        f"{printable(findings.image)}: {verdict(findings.prediction)}",
        f"explained: {subject(findings)}; {origin(findings)}",
        *textwrap.wrap(effects_sentence(findings), WIDTH),
        *(f"note: {note}" for note in findings.notes),
    ]
    tables = filter(None, (effect_table(findings), region_table(findings), trust_lines(findings)))
    return "\n\n".join(["\n".join(lines), *tables])
