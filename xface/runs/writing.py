"""A run that is being made: beside its place until it is whole, and resumable from there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from xface.errors import OutputError, UsageError
from xface.files.hashes import changed, named, sha256_of
from xface.files.json_text import written
from xface.files.paths import absolute, check_utf8, is_file, reading, status, writing
from xface.files.writing import written_aside
from xface.runs.attributes import attributes_of
from xface.runs.checking import read_json
from xface.runs.folder import RunFolder
from xface.runs.lock import LOCK, Held, held
from xface.runs.regions import regions_of
from xface.runs.schema import BegunManifest, Manifest
from xface.runs.settings import changes, settings_of
from xface.runs.shards import Parts
from xface.runs.tables import EFFECTS, TABLES
from xface.wording import counted

MANIFEST = "manifest.json"
STAGES = "stages"
FILES = "files"
PAST = ("xface", "command", "folder", "created", "versions", "device", "rules", "notes", EFFECTS, STAGES,
        "stages_note", "images_per_second", FILES)  # fmt: skip
"""What a manifest says of what has been done; all else follows from what is asked for."""


@dataclass(frozen=True)
class RunKind:
    """What the runs of one command have in their folders.

    `begun` and `whole` are what the manifest says from the beginning and in the end, `tables` are joined from
    parts, and `decided(manifest)` is what they depend on. `images` reads a whole run's table of images, with
    `row` and `sha256`, and checks that its files are as they were written.
    """

    begun: type[BaseModel]
    whole: type[BaseModel]
    tables: Sequence[str]
    decided: Callable[[Mapping[str, Any]], dict[str, Any]]
    images: Callable[[Path], pa.Table]


def _decided(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What an analysis depends on: the settings, and which attributes and regions are measured."""
    units = {name: words["unit"] for name, words in attributes_of(manifest).items()}
    regions = dict.fromkeys(regions_of(manifest), "measured")
    return {**settings_of(manifest), "attribute": units, "region": regions}


ANALYSIS = RunKind(BegunManifest, Manifest, TABLES, _decided, lambda folder: RunFolder.read(folder).images)


@dataclass(frozen=True)
class NewRun:
    """The folder `target`.part, which becomes `target` in the end.

    Its manifest is there from the beginning, and says what the run depends on.
    """

    target: Path
    lock: Held | None = None
    kind: RunKind = ANALYSIS

    @property
    def folder(self) -> Path:
        """Where the run is made."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def manifest(self) -> dict[str, Any]:
        """What the manifest says so far; UsageError if it cannot be read."""
        return read_json(self.folder / MANIFEST, self.kind.begun, _remedy(self.folder))[0]

    def check(self) -> None:
        """Raise OutputError if the folder isn't the one any more that this process holds."""
        if self.lock is not None:
            self.lock.check()

    def parts(self, count: int) -> Parts:
        """The run's parts."""
        return Parts(self.folder / "parts", count, self.kind.tables)

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
        """Whether all tables are there as they were written, and how long they took."""
        return STAGES in self.manifest and all(map(self.has, self.kind.tables))

    def has(self, table: str) -> bool:
        """Whether one of the joined tables is there as it was written."""
        path = self.table_path(table)
        known = self.manifest.get(FILES, {}).get(path.name)
        return known is not None and known == sha256_of(path)

    def add_hashes(self, *names: str) -> None:
        """Put the hashes of files into the manifest, by which a reader knows that they are as written."""
        hashes = {name: sha256_of(self.folder / name) for name in names}
        self.add(files={**self.manifest.get(FILES, {}), **hashes})

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, whole or not at all; raises OutputError."""
        self.check()
        with written_aside(self.folder / name) as aside:
            aside.write_text(written(content), encoding="utf-8")

    def add(self, **entries: Any) -> None:
        """Add to the manifest, or replace there; raises OutputError."""
        self.write(MANIFEST, {**self.manifest, **entries})

    def drop_parts(self) -> None:
        """Remove the parts, once they are joined."""
        shutil.rmtree(self.parts(0).folder, ignore_errors=True)

    def finish(self) -> Path:
        """Give the folder its name; raises OutputError."""
        self.check()
        try:
            self.folder.rename(self.target)
        except OSError as error:
            raise OutputError(
                f"'{self.folder}' cannot be renamed to '{self.target}' ({error.strerror})"
            ) from error
        return self.target


def is_finished(
    target: Path, manifest: Mapping[str, Any], paths: Sequence[str], kind: RunKind = ANALYSIS
) -> bool:
    """Whether this very run, of these images, is there already, whole.

    Raises:
        UsageError: its folder holds another run, or one whose images or own files were changed since.
    """
    if not is_file(target / MANIFEST, OutputError):
        return False
    before, _ = read_json(target / MANIFEST, kind.whole, _remedy(target))
    if different := changes(kind.decided(before), kind.decided(manifest)):
        raise UsageError(
            f"'{target}' exists already and was made with other settings: {'; '.join(different)}; "
            "name another folder with --out, or remove it"
        )
    images = kind.images(target)
    _check_images(target, paths, zip(images["row"].to_pylist(), images["sha256"].to_pylist(), strict=True))
    return True


@contextmanager
def begin_run(
    target: Path,
    manifest: Mapping[str, Any],
    paths: Sequence[str],
    count: int,
    resume: bool = False,
    kind: RunKind = ANALYSIS,
) -> Iterator[NewRun]:
    """Make the folder of a run, or resume one that was stopped; hold it, so that no other process does.

    `paths` are those of the images by their rows, `count` is the number of parts.

    Raises:
        UsageError: the run is there already, or another process makes it; or a stopped one is there, and
            `resume` is false, or what it depends on has changed, with a list of what. OutputError: the folder
            cannot be made, or is lost or spoilt while it is held.
    """
    run = NewRun(absolute(target, OutputError), kind=kind)
    _check_free(run)
    check_utf8(run.target, UsageError, "Parquet")
    with writing(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
    with held(run.folder) as lock, lock.loss_reported("make room, then resume with --resume"):
        run = replace(run, lock=lock)
        _check_free(run)  # another process may have finished it meanwhile
        if _is_begun(run):
            _check_same(run, manifest, resume)
            _check_images(run.folder, paths, run.parts(count).hashed())
            begun = run.manifest
            run.write(MANIFEST, {**manifest, **{name: begun[name] for name in PAST if name in begun}})
        else:
            run.write(MANIFEST, manifest)
        yield run


def _check_free(run: NewRun) -> None:
    if os.path.lexists(run.target):
        raise UsageError(f"'{run.target}' exists already; name another folder with --out, or remove it")
    _is_begun(run)


def _check_same(run: NewRun, manifest: Mapping[str, Any], resume: bool) -> None:
    if not resume:
        raise UsageError(
            f"'{run.folder}' is of a run that was stopped: resume it with --resume, or remove it, or name "
            "another folder with --out"
        )
    before, _ = read_json(run.folder / MANIFEST, run.kind.begun, _remedy(run.folder))
    if different := changes(run.kind.decided(before), run.kind.decided(manifest)):
        raise UsageError(
            f"'{run.folder}' was started with other settings, so its parts would not fit together: "
            f"{'; '.join(different)}; use the original settings, or remove it to start again"
        )


def _check_images(folder: Path, paths: Sequence[str], hashed: Iterable[tuple[int, str]]) -> None:
    """Raise UsageError if images hold something else than when they were hashed: rows would be mixed."""
    known = [(paths[row], sha256) for row, sha256 in hashed if 0 <= row < len(paths)]
    if different := changed([path for path, _ in known], [sha256 for _, sha256 in known]):
        raise UsageError(
            f"{counted(len(different), 'image')} of '{folder}' changed after the run had read "
            f"{'it' if len(different) == 1 else 'them'}: {named(different)}; put back what was there, or "
            "remove the folder to start again"
        )


def _remedy(folder: Path) -> str:
    return f"remove '{folder}' to start again"


def _is_begun(run: NewRun) -> bool:
    """Whether the folder has a manifest; UsageError if it is something else's."""
    if status(run.folder, OutputError) is None:
        return False
    if is_file(run.folder / MANIFEST, OutputError):
        return True
    with reading(run.folder, OutputError):
        others = set(os.listdir(run.folder)) - {LOCK, f"{MANIFEST}.part"}
    if others:
        raise UsageError(f"'{run.folder}' is not a stopped run; remove it, or give another --out")
    return False
