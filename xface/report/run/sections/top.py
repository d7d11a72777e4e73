"""What the page begins with: how often the detector errs, and at most three sentences with their pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from xface.report.run.forest import region_name
from xface.report.run.outlines import outlines_svg
from xface.report.run.sections.findings import Sentences
from xface.report.run.sections.regions import earned
from xface.report.run.sections.section import Report, Section, beside
from xface.report.run.spreads import rates_svg, spread_svg
from xface.report.run.thumbnails import size_of
from xface.results import CONTRASTS, LIKENESSES
from xface.runs.folder import Kind
from xface.runs.regions import regions_of
from xface.runs.schema import reaches_the_top
from xface.wording import mirror, spaced

Row = Mapping[str, Any]
BACKGROUND, FACE = "background", "face"


def _data(report: Report) -> dict[str, Any]:
    sentences = Sentences.of(report.run.findings)
    top = sorted(sentences.top, key=lambda each: each["top"])
    told = [{**each, **PICTURES.get(each["about"], _none)(report, each)} for each in top]
    return {"told": told, "any_tested": sentences.any_tested}


def _none(report: Report, sentence: Row) -> dict[str, Any]:
    return {}


def _spread(report: Report, sentence: Row) -> dict[str, Any]:
    """The attribute of the errors and of what they are compared with."""
    name, error = sentence["name"], sentence["contrast"].split("-")[0]
    if name not in report.run.attributes:
        return {}
    sides = {**LIKENESSES, **CONTRASTS}
    outcomes = dict.fromkeys(each for pair in sides.values() if pair[0] == error for each in pair)
    caption = f"{report.run.label(name)}: median, middle half, and middle nine tenths of the images"
    return {"picture": Markup(spread_svg(report.run, name, list(outcomes))), "caption": caption}


def _rates(report: Report, sentence: Row) -> dict[str, Any]:
    """How often images of the slice are misclassified, and how often the rest."""
    for each in report.run.findings["slices"] or ():
        if " ".join(condition["attribute"] for condition in each["conditions"]) == sentence["name"]:
            drawn = rates_svg([("here", each["rate"]), ("rest", each["rest"])])
            return {"picture": Markup(drawn), "caption": "misclassified images, with intervals"}
    return {}


def _outlined(report: Report, sentence: Row) -> dict[str, Any]:
    """A face that shows it, the regions outlined that the sentence tells of."""
    regions = regions_of(report.run.manifest)
    kind, names = _told_regions(report, sentence)
    worth = earned(report.run, kind) if kind else ""
    names = [part for name in names for part in _parts_of(name, list(regions))]
    if not names:
        return {"earned": worth}
    for entry in _faces(report, sentence["rows"]):
        if entry["landmarks"] is not None:
            landmarks = np.array(entry["landmarks"], np.float64).reshape(-1, 2)
            drawn = outlines_svg(regions, names, landmarks, size_of(entry))
            said = (region_name(report.run, kind, name) if kind else spaced(name) for name in names)
            return {"face": report.faces[entry["row"]], "picture": Markup(drawn), "earned": worth,
                    "caption": f"outlined: {', '.join(said)}"}  # fmt: skip
    return {"earned": worth}


def _parts_of(name: str, regions: list[str]) -> list[str]:
    """A region itself; of a union, such as the eyes or the whole face, its regions."""
    if name == FACE:
        return [each for each in regions if each != BACKGROUND]
    return [each for each in regions if name in (each, mirror(each)[1])]


def _told_regions(report: Report, sentence: Row) -> tuple[Kind | None, list[str]]:
    """The first kind of map whose contrasts a sentence is made of, and their regions."""
    error = sentence["contrast"].split("-")[0]
    rows = [
        row for row in report.run.findings["contrasts"] or ()
        if row["contrast"].split("-")[0] == error
        and reaches_the_top(row.get("p_all"))
    ]  # fmt: skip
    first = next((row for row in rows if row["region"] == sentence["name"]), rows[0] if rows else None)
    if first is None:
        return None, [sentence["name"]]
    alike = [row for row in rows if (row["difference"]["value"] > 0) == (first["difference"]["value"] > 0)]
    named = dict.fromkeys([sentence["name"], *(row["region"] for row in alike)])
    return Kind(first["method"], first["layer"] or ""), [name for name in named if name != BACKGROUND]


def _faces(report: Report, rows: Iterable[int]) -> list[dict[str, Any]]:
    """The thumbnails of those rows that the page shows, in this order."""
    wanted = {row: place for place, row in enumerate(rows) if row in report.faces}
    found = [
        each for each in report.run.thumbnails(["face", "landmarks"]) if each["row"] in wanted
    ] if wanted else []  # fmt: skip
    return sorted(found, key=lambda each: wanted[each["row"]])


PICTURES: Mapping[str, Callable[[Report, Row], dict[str, Any]]] = {
    "attribute": _spread,
    "slice": _rates,
    "region": _outlined,
    "repair": _outlined,
}
"""By what a sentence is about, its picture."""

TOP = Section("In short", beside("top.html"), _data)
