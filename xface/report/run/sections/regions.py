"""Regions by outcome: where the maps of each kind lie, on drawn faces, as a plot and as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from xface.files.names import safe_name
from xface.report.html.csv_tables import CONTRAST, Table
from xface.report.run.face_drawing import face_svg, mean_lifts, scale_svg
from xface.report.run.figures import NamedFigure, draw_faces, draw_forest
from xface.report.run.forest import OUTCOME_SERIES, lift_forest
from xface.report.run.sections.section import Report, Section, beside
from xface.runs.folder import Kind, RunFolder
from xface.runs.regions import regions_of
from xface.wording import UNCHECKED, spaced

OF_REGION = ("method", "layer", "region")


def _data(report: Report) -> dict[str, Any]:
    drawings = [_drawing(report.run, kind) for kind in report.run.kinds]
    return {"drawings": drawings, "scale": Markup(scale_svg())}


def _drawing(run: RunFolder, kind: Kind) -> dict[str, Any]:
    forest, regions = lift_forest(run, kind), regions_of(run.manifest)
    faces = [
        (name, Markup(face_svg(regions, mean_lifts(run, kind, name), f"{kind.name}, {name}")))
        for name in OUTCOME_SERIES
    ]
    raw = [
        (spaced(row["region"]), row)
        for row in run.findings["contrasts"] or ()
        if row.get("raw") and (row["method"], row["layer"] or "") == (kind.method, kind.layer)
    ]
    return {
        "kind": kind,
        "earned": earned(run, kind),
        "forest": forest,
        "series": forest.series,
        "faces": faces,
        "raw": raw,
    }


def earned(run: RunFolder, kind: Kind) -> str:
    """What a kind of map earned when the detector was checked; "" where nothing is to be said of it."""
    trust = run.manifest.get("trust")
    if trust is None or not run.trained:
        return ""
    found = [
        each["words"] for each in trust if (each["method"], each["layer"] or "") == (kind.method, kind.layer)
    ]
    return found[0] if found else f"maps are {UNCHECKED}"


def _figures(report: Report) -> Iterator[NamedFigure]:
    for index, kind in enumerate(report.run.kinds):
        name = f"{index}-{safe_name(kind.method)}{'-' + safe_name(kind.layer) if kind.layer else ''}"
        forest = lift_forest(report.run, kind)
        if forest.lines:
            yield f"regions-{name}", draw_forest(forest)
            yield f"faces-{name}", draw_faces(report.run, kind)


def _tables(report: Report) -> Iterator[Table]:
    found = report.run.findings
    columns = (*OF_REGION, "outcome", "n", "groups", "lift", "share")
    yield Table("regions", columns, found["regions"] or ())
    yield Table("contrasts", (*OF_REGION, *CONTRAST), found["contrasts"] or ())


REGIONS = Section("Regions", beside("regions.html"), _data, "Regions by outcome", _figures, _tables)
