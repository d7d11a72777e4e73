"""The report of a run: one page that opens from disk, drawn from the run's folder alone."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from xface import wording as words
from xface.errors import OutputError
from xface.files.writing import replacing, written_aside
from xface.report.colours import HEAT_COLOURS
from xface.report.html.csv_tables import write_tables
from xface.report.html.document import LOCK, asset, closed, dressed, environment
from xface.report.run.figures import write_figures
from xface.report.run.gallery import Gallery, most_confident_errors
from xface.report.run.nearest import nearest_correct
from xface.report.run.page_data import as_data, as_script_lines
from xface.report.run.sections import SECTIONS, Report
from xface.report.run.thumbnails import embedded, face_file, tops, write_thumbnails
from xface.results import WRONG
from xface.runs.folder import RunFolder
from xface.runs.lock import held

PACKAGE = "xface.report.run"
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
    with held(found.path, LOCK) as lock, lock.loss_reported("make room"):
        return _write_single(found, compare) if single_file else _write_folder(found, compare)


def _write_folder(run: RunFolder, compare: Mapping[str, Any] | None) -> Path:
    start = time.perf_counter()
    target = run.path / "report"
    with replacing(target) as part:
        (part / "thumbnails").mkdir()
        chunks = write_thumbnails(run, part)
        _write_data(run, part / "data", chunks)
        page = Page(run, {row: face_file(row) for row in chunks}, {}, compare)
        tables = chain.from_iterable(section.tables(page) for section in SECTIONS.values())
        write_tables(tables, part / "tables")
        figures = chain.from_iterable(section.figures(page) for section in SECTIONS.values())
        write_figures(figures, part / "figures", "" if run.trained else words.UNTRAINED.split(" (")[0])
        page = replace(page, seconds=time.perf_counter() - start)
        (part / "index.html").write_text(page.html(), encoding="utf-8")
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
    target, count = run.path / "report.html", SINGLE_IMAGES
    while True:
        page = _single_page(run, compare, count).html().encode()
        if len(page) <= SINGLE_BYTES:
            with written_aside(target) as part:
                part.write_bytes(page)
            return target
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


class Page(Report):
    """The page itself: a template filled in, its style and script within, and data for the script."""

    def html(self) -> str:
        """The page as text; whatever came from outside is escaped by the templates or by `as_data`."""
        made = environment(PACKAGE, {"attribute": self.run.label})
        context = self._context()
        stored = {**self.stored, "page": self._settings()}
        return made.get_template("page.html").render(
            context,
            sections=list(self._sections(made, context)),
            name=self.run.name,
            untrained=not self.run.trained and words.UNTRAINED_RUN,
            **dressed(self._script, "" if self.is_single else "'self' file:"),
            data={name: Markup(as_data(value)) for name, value in stored.items()},
        )

    def _sections(self, made: Environment, context: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What the page's template shows of each section that this report has."""
        for name, section in SECTIONS.items():
            if (data := section.data(self)) is not None:
                html = made.from_string(section.template).render(context, **data)
                yield {"name": name, "title": section.title, "heading": section.heading, "html": Markup(html)}

    def _context(self) -> dict[str, Any]:
        """What every template can name."""
        run = self.run
        return {
            "run": run, "manifest": run.manifest, "findings": run.findings, "compare": self.compare,
            "single": self.is_single, "faces": self.faces, "outcomes": self._outcomes(),
            "wrong": list(WRONG), "negative": self._negative(), "status_words": words.STATUS_WORDS,
        }  # fmt: skip

    def _outcomes(self) -> Mapping[str, str]:
        return words.outcome_words(self.run.manifest["positive"], self.run.manifest["classes"])

    def _negative(self) -> str:
        return words.negative_name(self.run.manifest["positive"], self.run.manifest["classes"])

    def _settings(self) -> dict[str, Any]:
        run = self.run
        table = (matplotlib.colormaps[HEAT_COLOURS](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
        return {
            "threshold": run.threshold, "positive": run.manifest["positive"],
            "negative": self._negative(), "outcomes": self._outcomes(), "wrong": list(WRONG),
            "kinds": [{"name": k.name, "top": top} for k, top in zip(run.kinds, tops(run), strict=True)],
            "regions": list(run.regions.regions),
            "colours": base64.b64encode(table.tobytes()).decode("ascii"),
            "attributes": run.attributes,
            "statuses": words.STATUS_WORDS, "single": self.is_single, "subsets": self._subsets(),
        }  # fmt: skip

    def _subsets(self) -> dict[str, list[list[int]]]:
        """The rows that each section's buttons show, as far as this page holds them.

        Raises:
            ValueError: two sections give subsets of one name.
        """
        found: dict[str, list[list[int]]] = {}
        for title, section in SECTIONS.items():
            for name, subsets in section.subsets(self).items():
                if name in found:
                    raise ValueError(f"the section {title!r} has subsets {name!r}, as another section has")
                found[name] = [self._present(rows) for rows in subsets]
        return found

    def _present(self, rows: list[int]) -> list[int]:
        return [row for row in rows if row in self.shown] if self.is_single else rows

    @property
    def _script(self) -> str:
        scripts = [asset(PACKAGE, "store.js"), asset(PACKAGE, "verdicts.js")]
        scripts += [section.script for section in SECTIONS.values() if section.script]
        return closed("\n".join([*scripts, asset(PACKAGE, "page.js")]))
