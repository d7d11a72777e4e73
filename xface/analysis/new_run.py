"""A run that is being made: beside its place until it is whole, and resumable from there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from xface.analysis.parts import TABLES, Parts
from xface.errors import OutputError, UsageError
from xface.files import absolute, is_file, reading, status, writing
from xface.models.card_changes import written_aside

MANIFEST = "manifest.json"
SETTINGS = "settings"
STAGES = "stages"
SHOWN = 60  # letters of a setting that has changed


@dataclass(frozen=True)
class NewRun:
    """The folder `target`.part, which becomes `target` in the end.

    Its manifest is there from the beginning, and says what the run depends on.
    """

    target: Path

    @property
    def folder(self) -> Path:
        """Where the run is made."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def manifest(self) -> dict[str, Any]:
        """What the manifest says so far; OutputError if it cannot be read."""
        return _manifest(self.folder)

    def parts(self, count: int) -> Parts:
        """The run's parts."""
        return Parts(self.folder / "parts", count)

    def maps_folder(self) -> Path:
        """Where raw maps are written, made if need be; raises OutputError."""
        path = self.folder / "maps"
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"'{path}' cannot be made ({error.strerror}); make room") from error
        return path

    def table_path(self, table: str) -> Path:
        """Where one of the joined tables lies."""
        return self.folder / f"{table}.parquet"

    def table(self, name: str, columns: Sequence[str], repeated: Sequence[str] = ()) -> pd.DataFrame:
        """Some columns of one of the joined tables; `repeated` words are kept once each, as categories."""
        found = pq.read_table(self.table_path(name), columns=list(columns), read_dictionary=list(repeated))
        table: pd.DataFrame = found.to_pandas(split_blocks=True, self_destruct=True)
        return table

    @property
    def is_joined(self) -> bool:
        """Whether all three tables are written, and how long they took."""
        return all(self.table_path(table).is_file() for table in TABLES) and STAGES in self.manifest

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, whole or not at all; raises OutputError."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        with written_aside(self.folder / name) as aside:
            aside.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")

    def add(self, **entries: Any) -> None:
        """Add to the manifest, or replace there; raises OutputError."""
        self.write(MANIFEST, {**self.manifest, **entries})

    def drop_parts(self) -> None:
        """Remove the parts, once they are joined."""
        shutil.rmtree(self.parts(0).folder, ignore_errors=True)

    def finish(self) -> Path:
        """Give the folder its name; raises OutputError."""
        try:
            self.folder.rename(self.target)
        except OSError as error:
            raise OutputError(
                f"'{self.folder}' cannot be renamed to '{self.target}' ({error.strerror})"
            ) from error
        return self.target


def is_finished(target: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether this very run is there already, whole; UsageError if its folder holds another."""
    if not is_file(target / MANIFEST, OutputError):
        return False
    if changes := list(_changes(_manifest(target).get(SETTINGS, {}), manifest[SETTINGS])):
        raise UsageError(
            f"'{target}' exists already and was made otherwise: {'; '.join(changes)}; name another folder "
            "with --out, or remove it"
        )
    return True


def begin_run(target: Path, manifest: Mapping[str, Any], resume: bool = False) -> NewRun:
    """Make the folder of a run, or go on with one that was stopped.

    Raises:
        UsageError: the run is there already; or a stopped one is, and `resume` is false, or what it depends
            on has changed, with a list of what. OutputError: the folder cannot be made.
    """
    run = NewRun(absolute(target, OutputError))
    if os.path.lexists(run.target):
        raise UsageError(f"'{target}' exists already; name another folder with --out, or remove it")
    if not _is_begun(run):
        _check_name(run.target)
        with writing(run.folder):
            run.folder.mkdir(parents=True, exist_ok=True)
        run.write(MANIFEST, manifest)
    elif not resume:
        raise UsageError(
            f"'{run.folder}' is of a run that was stopped: --resume goes on with it; or remove it, or name "
            "another folder with --out"
        )
    elif changes := list(_changes(run.manifest.get(SETTINGS, {}), manifest[SETTINGS])):
        raise UsageError(
            f"'{run.folder}' was begun otherwise, so its parts would not fit together: {'; '.join(changes)}; "
            "give what it was begun with, or remove it to start anew"
        )
    return run


def _check_name(path: Path) -> None:
    """Raise UsageError for a path that Parquet's writer cannot take."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{str(path)!r} is no text in UTF-8; name another folder with --out") from error


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot read '{path}' ({error}); remove '{folder}' to start anew") from error
    return content


def _is_begun(run: NewRun) -> bool:
    """Whether the folder has a manifest; UsageError if it is something else's."""
    if status(run.folder, OutputError) is None:
        return False
    if is_file(run.folder / MANIFEST, OutputError):
        return True
    with reading(run.folder, OutputError):
        others = set(os.listdir(run.folder)) - {f"{MANIFEST}.part"}
    if others:
        raise UsageError(f"'{run.folder}' is no run that was stopped; remove it, or give another --out")
    return False


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    flat_before, flat_now = dict(_flat(before)), dict(_flat(now))
    for name in {**flat_before, **flat_now}:
        old, new = flat_before.get(name), flat_now.get(name)
        if old != new:
            yield f"{name.replace('_', ' ')} was {_short(old)}, is {_short(new)}"


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
