"""Parts: the tables of a run, written piece by piece as Parquet, and joined in the end without being held.

A part is three files, of the same images: rows of images, of regions, and of thumbnails. Each file is written
aside and renamed; a part counts when all three are there, so what a killed run leaves is whole or absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xface.errors import OutputError
from xface.models.card_changes import written_aside

TABLES = ("regions", "thumbnails", "images")
NOTE = b"xface"
"""Where a part keeps its own note, among the metadata of its table of images."""

REGIONS_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        *[(name, pa.string()) for name in ("image", "method", "layer", "status", "region")],
        *[(name, pa.float64()) for name in ("share", "lift", "area", "face_share", "face_lift")],
        ("coarse", pa.bool_()),
    ]
)
THUMBNAILS_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("face", pa.binary()),
        ("landmarks", pa.list_(pa.float32())),
        ("maps", pa.list_(pa.binary())),
        ("shapes", pa.list_(pa.list_(pa.int32()))),
        ("peaks", pa.list_(pa.float32())),
    ]
)


def images_schema(others: Sequence[str], attributes: Sequence[str]) -> pa.Schema:
    """The schema of a table of images, with the data's `others` columns and the face's `attributes`."""
    return pa.schema(
        [
            ("row", pa.int64()),
            *[(name, pa.string()) for name in ("image", "label", "group", *others, "sha256")],
            ("width", pa.int64()),
            ("height", pa.int64()),
            ("score", pa.float64()),
            *[(name, pa.string()) for name in ("called", "outcome", "status", "reason")],
            *[(name, pa.float64()) for name in attributes],
        ]
    )


@dataclass(frozen=True)
class Parts:
    """The parts of a run, by number, in a folder."""

    folder: Path
    count: int

    def path(self, table: str, number: int) -> Path:
        """The file of one of a part's tables."""
        return self.folder / table / f"part-{number:06d}.parquet"

    def is_whole(self, number: int) -> bool:
        """Whether all three tables of a part are there."""
        return all(self.path(table, number).is_file() for table in TABLES)

    def missing(self) -> list[int]:
        """The numbers of the parts that are still to be made."""
        return [number for number in range(self.count) if not self.is_whole(number)]

    def write(self, number: int, tables: Mapping[str, pa.Table], note: Mapping[str, Any]) -> None:
        """Write a part and a note on it; raises OutputError."""
        noted = tables["images"].replace_schema_metadata({NOTE: json.dumps(note).encode()})
        for name, table in {**tables, "images": noted}.items():
            path = self.path(name, number)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{path.parent}: cannot be made ({error.strerror}); make room") from error
            with written_aside(path) as aside:
                pq.write_table(table, aside)

    def notes(self) -> Iterator[dict[str, Any]]:
        """The note on each part, in order."""
        for number in range(self.count):
            metadata = pq.read_schema(self.path("images", number)).metadata
            yield json.loads(metadata[NOTE])

    def join(self, table: str, target: Path) -> None:
        """Write one of the tables as one file, a part after the other; raises OutputError."""
        schema = pq.read_schema(self.path(table, 0)).remove_metadata()
        with written_aside(target) as aside, pq.ParquetWriter(aside, schema) as writer:
            for number in range(self.count):
                part = pq.ParquetFile(self.path(table, number)).read()
                writer.write_table(part.replace_schema_metadata(None))
