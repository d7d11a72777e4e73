"""The report of a run: one page that opens from disk, drawn from the run's folder alone."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import chain
from pathlib import Path
from shlex import join
from typing import Any

import matplotlib
import numpy as np
from jinja2 import ChainableUndefined, Environment
from markupsafe import Markup

from xface import wording as words
from xface.errors import OutputError
from xface.report.colours import HEAT_COLOURS
from xface.report.run.csv_tables import write_tables
from xface.report.run.face_drawing import face_svg, mean_lifts, scale_svg
from xface.report.run.figures import write_figures
from xface.report.run.forest import OUTCOME_SERIES, forest_svg, lift_forest, odds_forest
from xface.report.run.gallery import Gallery, most_confident_errors, rows_under
from xface.report.run.nearest import nearest_correct
from xface.report.run.page_data import as_data, as_script_lines
from xface.report.run.telling import Told, groups_of, left_out
from xface.report.run.thumbnails import embedded, face_file, tops, write_thumbnails
from xface.runs.folder import RunFolder
from xface.runs.lock import held
from xface.wording import UNTRAINED_RUN

LOCK = ".xface-report-lock"
"""Not the run's own: what makes a run holds that while its report is drawn."""
SUBSETS = ("slices", "clusters", "sentences")
SCRIPTS = ("store", "verdicts", "picture", "gallery", "detail", "matrix", "page")
SINGLE_IMAGES, SINGLE_BYTES = 200, 7_000_000
"""How many errors a page for mail shows, and its largest size: mail makes it a third larger, and many servers
refuse 10 MB."""


def write_report(
    run: Path | RunFolder, single_file: bool = False, compare: Mapping[str, Any] | None = None
) -> Path:
    """Draw the report of a run and return the page's path.

    The folder `report/` holds the page, its thumbnails, the tables as CSV and the figures as PNG; it appears
    whole, in place of one that was there. With `single_file` it is `report.html` instead, everything within,
    with the most confident errors only. `compare` is what `xface.findings.comparison` says of another run.

    Raises:
        UsageError: the folder holds no whole run, or another process draws its report.
        OutputError: the report cannot be written.
    """
    found = run if isinstance(run, RunFolder) else RunFolder.read(Path(run))
    with held(found.path, LOCK) as lock, lock.losses_told("make room"):
        return _write_single(found, compare) if single_file else _write_folder(found, compare)


def _write_folder(run: RunFolder, compare: Mapping[str, Any] | None) -> Path:
    start = time.perf_counter()
    target, part, old = (run.path / name for name in ("report", "report.part", "report.old"))
    shutil.rmtree(part, ignore_errors=True)
    (part / "thumbnails").mkdir(parents=True)
    chunks = write_thumbnails(run, part)
    _write_data(run, part / "data", chunks)
    write_tables(run, part / "tables", compare)
    write_figures(run, part / "figures")
    page = Page(run, {row: face_file(row) for row in chunks}, {}, compare, time.perf_counter() - start)
    (part / "index.html").write_text(page.html(), encoding="utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target / "index.html"


def _write_data(run: RunFolder, folder: Path, chunks: Mapping[int, int]) -> None:
    """What the gallery loads: of all images their columns, and for each kind of map their lifts."""
    folder.mkdir()
    gallery = Gallery(run, np.arange(len(run.rows)))
    columns = chain(gallery.columns(), [("chunk", [chunks.get(row) for row in run.rows.tolist()])])
    lifts = ((f"lifts-{kind}", gallery.lifts(kind)) for kind in range(len(run.kinds)))
    for name, entries in chain([("images", columns)], lifts):
        with open(folder / f"{name}.js", "w", encoding="ascii") as file:
            file.writelines(as_script_lines(name, entries))


def _write_single(run: RunFolder, compare: Mapping[str, Any] | None) -> Path:
    target, part = run.path / "report.html", run.path / "report.html.part"
    count = SINGLE_IMAGES
    while True:
        page = _single_page(run, compare, count).html().encode()
        if len(page) <= SINGLE_BYTES:
            part.write_bytes(page)
            return part.replace(target)
        if not count:
            size = f"{len(page) / 1e6:.1f} MB even without images, {SINGLE_BYTES / 1e6:.0f} MB at most"
            raise OutputError(f"{target}: too large for mail ({size}); pack the folder `report` instead")
        count = count * SINGLE_BYTES // len(page)


def _single_page(run: RunFolder, compare: Mapping[str, Any] | None, count: int) -> Page:
    """A page with the most confident errors and the correct images nearest to them."""
    start = time.perf_counter()
    errors = most_confident_errors(run, count)
    near = nearest_correct(run)[errors]
    gallery = Gallery(run, np.union1d(errors, near[near >= 0]))
    details = dict(embedded(run, set(run.rows[gallery.shown].tolist())))
    chunks = [0 if row in details else None for row in run.rows[gallery.shown].tolist()]
    stored = {"images": {**dict(gallery.columns()), "chunk": chunks}, "maps-0": details,
              "rest": gallery.rest()}  # fmt: skip
    stored |= {f"lifts-{kind}": dict(gallery.lifts(kind)) for kind in range(len(run.kinds))}
    faces = {row: each["face"] for row, each in details.items()}
    return Page(run, faces, stored, compare, time.perf_counter() - start)


@dataclass(frozen=True, eq=False)
class Page:
    """The page itself: a template filled in, its style and script within, and data for the script.

    `faces` are the addresses of the faces by row; `stored` is the data that comes within the page, all else
    is loaded from beside it; `seconds` is what the drawing took so far.
    """

    run: RunFolder
    faces: Mapping[int, str]
    stored: Mapping[str, Any]
    compare: Mapping[str, Any] | None
    seconds: float = 0.0

    def html(self) -> str:
        """The page as text; whatever came from outside is escaped by the template or by `as_data`."""
        environment = Environment(
            autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters |= {
            "number": words.number, "decimal": words.decimal, "estimate": words.estimate,
            "percent": words.percent, "chance": words.chance, "spaced": words.spaced,
            "attribute": self.run.label, "moment": words.moment, "counted": words.counted,
            "highest": words.highest,
            "sentence": words.sentence, "kind_name": words.kind_name,
        }  # fmt: skip
        return environment.from_string(_asset("page.html")).render(self._context())

    def _context(self) -> dict[str, Any]:
        run, stored = self.run, {**self.stored, "page": self._settings()}
        return {
            "run": run, "manifest": run.manifest, "findings": run.findings, "compare": self.compare,
            "single": bool(self.stored), "faces": self.faces, "shown": len(self._shown),
            "outcomes": words.outcome_words(run.manifest["positive"], run.manifest["classes"]),
            "negative": words.negative_name(run.manifest["positive"], run.manifest["classes"]),
            "score_words": words.SCORE_WORDS, "status_words": words.STATUS_WORDS,
            "changes": words.CHANGE_WORDS,
            "untrained": not run.trained and UNTRAINED_RUN,
            "told": Told.of(run.findings), "excluded": left_out(run.findings["summary"]["excluded"]),
            "groups": groups_of(run), "stages": self._stages(),
            "drawings": self._drawings(), "scale": Markup(scale_svg()),
            "odds": Markup(forest_svg(odds_forest(run))),
            "detector": _in_full(run.manifest),
            "command": join(map(str, run.manifest["command"])),
            "name": run.name,
            "style": Markup(self._style), "script": Markup(self._script), "policy": self._policy(),
            "data": {name: Markup(as_data(value)) for name, value in stored.items()},
        }  # fmt: skip

    def _stages(self) -> dict[str, float]:
        """What each stage took; while the run is made, its report is the one that this page ends."""
        stages: dict[str, float] = self.run.manifest["stages"]
        return stages if "report" in stages else {**stages, "report": self.seconds}

    @cached_property
    def _shown(self) -> set[int]:
        return set(self.stored["images"]["row"] if self.stored else ())

    def _drawings(self) -> list[dict[str, Any]]:
        return [
            {
                "kind": kind,
                "forest": Markup(forest_svg(lift_forest(self.run, kind))),
                "series": lift_forest(self.run, kind).series,
                "faces": [(name, Markup(face_svg(mean_lifts(self.run, kind, name), f"{kind.name}, {name}")))
                          for name, *_ in OUTCOME_SERIES],
            }
            for kind in self.run.kinds
        ]  # fmt: skip

    def _settings(self) -> dict[str, Any]:
        run = self.run
        table = (matplotlib.colormaps[HEAT_COLOURS](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
        return {
            "threshold": run.threshold, "positive": run.manifest["positive"],
            "negative": words.negative_name(run.manifest["positive"], run.manifest["classes"]),
            "outcomes": words.outcome_words(run.manifest["positive"], run.manifest["classes"]),
            "kinds": [{"name": k.name, "top": top} for k, top in zip(run.kinds, tops(run), strict=True)],
            "regions": list(run.regions.regions),
            "colours": base64.b64encode(table.tobytes()).decode("ascii"),
            "attributes": run.attributes,
            "statuses": words.STATUS_WORDS, "single": bool(self.stored),
            "subsets": {
                name: [self._present(rows) for rows in subsets] for name, subsets in self._subsets().items()
            },
        }  # fmt: skip

    def _subsets(self) -> dict[str, list[list[int]]]:
        run, compare = self.run, self.compare or {}
        slices, clusters, sentences = (run.findings[name] or () for name in SUBSETS)
        return {
            "slices": [rows_under(run, each["conditions"]) for each in slices],
            "clusters": [each["members"] for each in clusters],
            "sentences": [each["rows"] for each in sentences],
            "changes": [[row for row, _ in compare.get(name, ())] for name in words.CHANGE_WORDS],
        }

    def _present(self, rows: list[int]) -> list[int]:
        """Those of the rows that this page holds."""
        return [row for row in rows if row in self._shown] if self.stored else rows

    @cached_property
    def _style(self) -> str:
        return _asset("page.css")

    @cached_property
    def _script(self) -> str:
        bodies = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
        return f'"use strict";\n(() => {{\n{bodies}\n}})();\n'

    def _policy(self) -> str:
        """Nothing but the page's own script and style, its folder's scripts and its pictures is let in."""
        beside = "" if self.stored else "'self' file:"
        script, style = (_hash(text) for text in (self._script, self._style))
        return (f"default-src 'none'; script-src {beside} {script}; style-src {style}; "
                f"img-src {beside} data:; base-uri 'none'; form-action 'none'")  # fmt: skip


def _in_full(manifest: Mapping[str, Any]) -> str:
    content = {name: manifest.get(name) for name in ("detector", "settings")}
    return json.dumps(content, indent=2, ensure_ascii=False)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _asset(name: str) -> str:
    return files("xface.report.run").joinpath(f"template/{name}").read_text(encoding="utf-8")
