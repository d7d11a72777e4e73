"""The report of a trust run: one page that opens from disk, drawn from `trust.json` and its examples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from PIL import Image

from xface.errors import ImageError
from xface.files.writing import replacing
from xface.images.pictures import read_picture
from xface.report.html.csv_tables import Table, write_tables
from xface.report.html.document import LOCK, asset, dressed, environment
from xface.report.trust.answers import EFFECTS, families, forests, parts_tables, rows_of, table_rows
from xface.report.trust.curves import curves_of
from xface.results import INFORMATIVE
from xface.runs.lock import held
from xface.runs.trust import Example, TrustRecord, read_trust
from xface.wording import method_at, sentence, spaced

PACKAGE = "xface.report.trust"
COLUMNS = ("answerer", "method", "layer", "check", "n", "value", "best_baseline", "difference",
           "simultaneous_low", "simultaneous_high")  # fmt: skip
SIDE = 320  # pixels of an example's picture, at most


def write_trust_report(run: Path) -> Path:
    """Draw the report of a trust run, `report/` in its folder, and return the page's path.

    It appears whole, in place of one that was there: the page, the examples' pictures, all figures as CSV.

    Raises:
        UsageError: the folder holds no whole `trust.json`, or another process draws its report.
        OutputError: the report cannot be written.
    """
    record, run = read_trust(run), Path(run).absolute()
    target = run / "report"
    with held(run, LOCK) as lock, lock.loss_reported("make room"), replacing(target) as part:
        write_tables([Table("checks", COLUMNS, table_rows(record))], part / "tables")
        page = TrustPage(record, run.name.removesuffix(".part"), list(_pictures(record, run, part)))
        (part / "index.html").write_text(page.html(), encoding="utf-8")
    return target / "index.html"


def _pictures(record: TrustRecord, run: Path, part: Path) -> Iterator[str]:
    """The address of each example's picture, copied below the page; "" where it cannot be shown."""
    (part / "examples").mkdir()
    for number, example in enumerate(record.examples):
        found = _picture(run, example)
        if found is None:
            yield ""
            continue
        found.thumbnail((SIDE, SIDE))
        found.save(part / "examples" / f"{number}.jpg", quality=90)
        yield f"examples/{number}.jpg"


def _picture(run: Path, example: Example) -> Image.Image | None:
    """An example's picture, if it is one, and lies in the run's folder."""
    if not example.file or "\0" in example.file:
        return None
    path = (run / example.file).resolve()
    if not path.is_relative_to(run.resolve()):
        return None
    try:
        return Image.fromarray(read_picture(path).pixels)
    except ImageError:
        return None


@dataclass(frozen=True)
class TrustPage:
    """The page itself: sections of verdicts, of each check, of examples, and of what it was made by."""

    record: TrustRecord
    name: str
    pictures: list[str]

    def html(self) -> str:
        """The page as text; whatever came from outside is escaped by the templates."""
        made = environment(PACKAGE, {"method_at": method_at})
        return made.get_template("page.html").render(
            record=self.record,
            name=self.name,
            sections=list(self._sections(made)),
            untrained="",
            **dressed(beside="'self' file:", style=asset(PACKAGE, "trust.css")),
        )

    def _sections(self, made: Environment) -> Iterator[dict[str, Any]]:
        record = self.record
        yield _section(made, "verdicts", "Verdicts", "Which maps earn belief", self._verdicts())
        for family, names in families(record).items():
            title = sentence(spaced(family)).rstrip(".")
            content = {"figures": list(map(self._figure, names)), "source": record.checks[names[0]].source}
            yield _section(made, f"check-{family}", title, title, content, "check.html")
        if record.examples:
            shown = list(zip(record.examples, self.pictures, strict=True))
            yield _section(made, "examples", "Examples", "Where answers did best and worst",
                           {"examples": shown, "record": record})  # fmt: skip
        yield _section(made, "provenance", "Provenance", "Provenance", self._provenance())

    def _verdicts(self) -> dict[str, Any]:
        record = self.record
        named = [("map", method_at(each.method, each.layer), each) for each in record.maps]
        return {
            "rows": [*(("effects", EFFECTS, each) for each in record.effects), *named],
            "grades": Counter(each.grade for each in record.maps), "maps": len(record.maps),
            "informative": INFORMATIVE,
        }  # fmt: skip

    def _figure(self, name: str) -> dict[str, Any]:
        rows = rows_of(self.record, name)
        values, differences = forests(rows)
        return {
            "name": name, "words": self.record.checks[name], "rows": rows, "values": values,
            "differences": differences, "compared": any(row.baseline is not None for row in rows),
            "parts": list(parts_tables(rows)), "curves": list(curves_of(rows)),
        }  # fmt: skip

    def _provenance(self) -> dict[str, Any]:
        record = self.record
        content = {"detector": record.detector, "settings": record.settings, "seeds": record.seeds}
        return {
            "record": record,
            "command": join(record.command),
            "full": json.dumps(content, indent=2, ensure_ascii=False),
        }


def _section(
    made: Environment, name: str, title: str, heading: str, content: Mapping[str, Any], template: str = ""
) -> dict[str, Any]:
    html = made.get_template(template or f"{name}.html").render(content)
    return {"name": name, "title": title, "heading": heading, "html": Markup(html)}
