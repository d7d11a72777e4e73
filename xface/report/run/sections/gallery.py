"""The gallery of images, filtered and sorted, and each image by itself."""

from __future__ import annotations

from collections.abc import Iterator

from xface.report.html.csv_tables import Table
from xface.report.run.sections.section import Report, Section, beside
from xface.runs.folder import BATCH

SCRIPTS = ("picture", "gallery", "detail")


def _tables(report: Report) -> Iterator[Table]:
    images = report.run.images
    rows = (row for batch in images.to_batches(max_chunksize=BATCH) for row in batch.to_pylist())
    yield Table("images", images.column_names, rows)


GALLERY = Section(
    "Gallery",
    beside("gallery.html"),
    lambda report: {"shown": len(report.shown)},
    tables=_tables,
    script="\n".join(beside(f"{name}.js") for name in SCRIPTS),
)
