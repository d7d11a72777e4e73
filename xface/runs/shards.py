"""Parts: the tables of a run, written piece by piece as Parquet, and joined in the end without being held.

A part is a file for each table (in an analysis of images, regions and thumbnails), of the same images, and a
note, written last, with their hashes. Each is written aside and renamed; a part counts when all are as the
note says, so what a killed run leaves, or what was changed after it, is complete or absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from xface.errors import OutputError
from xface.files.hashes import sha256_of
from xface.files.writing import written_aside
from xface.runs.schema import PartNote
from xface.runs.tables import TABLES


@dataclass(frozen=True)
class Parts:
    """The parts of a run, by number, in a folder; each has these `tables`."""

    folder: Path
    count: int
    tables: Sequence[str] = TABLES

    def path(self, table: str, number: int) -> Path:
        """The file of one of a part's tables."""
        return self.folder / table / f"part-{number:06d}.parquet"

    def note_path(self, number: int) -> Path:
        """The file of the note on a part."""
        return self.folder / "notes" / f"part-{number:06d}.json"

    def is_whole(self, number: int) -> bool:
        """Whether all of a part is there, as it was written."""
        note = self.note(number)
        return note is not None and all(
            note.files.get(table) == sha256_of(self.path(table, number)) for table in self.tables
        )

    def missing(self) -> list[int]:
        """The numbers of the parts that are still to be made."""
        return [number for number in range(self.count) if not self.is_whole(number)]

    def write(self, number: int, tables: Mapping[str, pa.Table], **said: Any) -> None:
        """Write a part and a note on it, which says what a `PartNote` does; raises OutputError."""
        self.note_path(number).unlink(missing_ok=True)
        for name in self.tables:
            with self._aside(self.path(name, number)) as aside:
                pq.write_table(tables[name], aside)
        files = {name: sha256_of(self.path(name, number)) for name in self.tables}
        with self._aside(self.note_path(number)) as aside:
            aside.write_text(json.dumps({"files": files, **said}), encoding="utf-8")

    def note(self, number: int) -> PartNote | None:
        """The note on a part; None if there is none, or nothing that was written here."""
        try:
            return PartNote.model_validate_json(self.note_path(number).read_bytes())
        except (OSError, ValidationError):
            return None

    def notes(self) -> list[PartNote]:
        """The notes on all parts that have one, in order."""
        return [note for note in map(self.note, range(self.count)) if note]

    def hashed(self) -> Iterator[tuple[int, str]]:
        """Row and hash of each image of the whole parts."""
        for number in range(self.count):
            if self.is_whole(number):
                table = pq.ParquetFile(self.path("images", number)).read(["row", "sha256"])
                yield from zip(table["row"].to_pylist(), table["sha256"].to_pylist(), strict=True)

    def join(self, table: str, target: Path) -> None:
        """Write one of the tables as one file, a part after the other; raises OutputError."""
        schema = pq.read_schema(self.path(table, 0)).remove_metadata()
        with written_aside(target) as aside, pq.ParquetWriter(aside, schema) as writer:
            for number in range(self.count):
                part = pq.ParquetFile(self.path(table, number)).read()
                writer.write_table(part.select(schema.names).replace_schema_metadata(None))

    def _aside(self, path: Path) -> Any:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path.parent}: cannot be made ({error.strerror}); make room") from error
        return written_aside(path)
