"""The run of `xface trust`: cases read in worker processes, examined on the device, written in parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field

from xface.data.reading import read_ahead
from xface.data.workers import dead_workers_reported
from xface.detectors.detector import takes
from xface.evidence.trust.conclusion import counts, judged, left_out
from xface.evidence.trust.examining import Examiner, Finding
from xface.evidence.trust.examples import write_examples
from xface.evidence.trust.plan import TrustPlan
from xface.evidence.trust.reading import CaseReader, ReadCase
from xface.evidence.trust.tables import TABLES, tables
from xface.faces.landmark_cache import LandmarkStore
from xface.report.trust.page import write_trust_report
from xface.runs.checking import check_hashes
from xface.runs.schema import Record
from xface.runs.trust import TRUST, TrustData, TrustRecord
from xface.runs.writing import NewRun, RunKind, begin_run, is_finished

Advance: TypeAlias = Callable[[int], object]
Progress: TypeAlias = Callable[[int], AbstractContextManager[Advance]]
"""Told how many cases there are to do, it gives what is to be told how many more are done."""

FEWER = "resume with --resume and --workers 0"


class TrustManifest(Record):
    """What a trust run's `manifest.json` says from its beginning on."""

    xface: str
    command: list[str]
    created: str
    versions: dict[str, str]
    device: str
    detector: dict[str, Any]
    seeds: dict[str, int]
    settings: dict[str, Any]
    files: dict[str, str] = Field(default={})


def _images(folder: Path) -> pa.Table:
    manifest = TrustManifest.model_validate_json((folder / "manifest.json").read_bytes())
    check_hashes(folder, manifest.files, manifest.files)
    return pq.read_table(folder / "images.parquet", columns=["row", "sha256"])


TRUST_RUN = RunKind(
    TrustManifest, TrustManifest, TABLES, lambda manifest: dict(manifest["settings"]), _images
)


def trust(
    plan: TrustPlan,
    out: str | os.PathLike[str],
    *,
    workers: int = 1,
    resume: bool = False,
    store: LandmarkStore | None = None,
    command: Sequence[str] = (),
    progress: Progress = lambda count: nullcontext(lambda done: None),
) -> Path:
    """Check the maps of a detector, into the new folder `out`, made as `out`.part and renamed when whole.

    Args:
        plan: from `plan_trust`.
        out: the folder; it must not exist, unless with `resume`.
        workers: processes that read pictures; 0 reads in this one.
        resume: resume a run that was stopped, after its whole parts; one that is whole is left as it is.
        store: where landmarks are kept; the user's cache folder if None.
        command: the command line, for the manifest.
        progress: see `Progress`.

    Returns:
        The folder: `trust.json` (see `xface.runs.trust`), the tables behind it, and its page in `report/`.

    Raises:
        UsageError: as `begin_run` and `is_finished`. OutputError: it cannot be written. XFaceError: a worker
            process died, or not even one image fits into the device's memory.
    """
    manifest = plan.manifest(command)
    if resume and is_finished(Path(out), manifest, plan.files, TRUST_RUN):
        return Path(out).absolute()
    store = store or LandmarkStore(detector=plan.detector.face_detector)
    begun = begin_run(Path(out), manifest, plan.files, plan.part_count, resume, TRUST_RUN)
    with begun as run, dead_workers_reported(FEWER):
        _make_parts(plan, run, store, workers, progress)
        parts = run.parts(plan.part_count)
        for table in TABLES:
            parts.join(table, run.table_path(table))
        _conclude(plan, run, store)
        run.add_hashes(*(run.table_path(table).name for table in TABLES), TRUST)
        write_trust_report(run.folder)
        run.drop_parts()
        return run.finish()


def _make_parts(plan: TrustPlan, run: NewRun, store: LandmarkStore, workers: int, progress: Progress) -> None:
    """Make the parts that are still missing."""
    parts, maker = run.parts(plan.part_count), PartMaker(plan)
    todo = parts.missing()
    batches = [batch for number in todo for batch in plan.batches(number)]
    cases = [[case for _, case in batch] for batch in batches]
    reader = CaseReader(cases, plan.detector.card.preprocessing, plan.crop, store)
    with progress(sum(map(len, batches))) as advance, _repeatable():
        read = read_ahead(reader.batch, len(batches), workers)
        for number in todo:
            numbered = plan.batches(number)
            done = []
            for batch, found in zip(numbered, islice(read, len(numbered)), strict=True):
                done.append(maker([(place, one) for (place, _), one in zip(batch, found, strict=True)]))
                advance(len(batch))
            run.check()
            parts.write(number, maker.tables(done), seconds={}, notes=maker.notes())


def _repeatable() -> AbstractContextManager[Any]:
    """The order of a batch's sums must not depend on what was done before."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)


class PartMaker:
    """Examines batches of cases, and makes tables of what is found."""

    def __init__(self, plan: TrustPlan) -> None:
        self.plan = plan
        self.examine = Examiner(plan.network, plan.cases.asks_of_made, plan.quick)
        self.rows = {path: row for row, path in enumerate(plan.files)}
        self.fits = cache(lambda size: takes(plan.detector.model, size))

    def __call__(
        self, batch: Sequence[tuple[int, ReadCase]]
    ) -> tuple[list[tuple[int, ReadCase]], list[Finding]]:
        """The cases, those that the network cannot take marked, and the findings on the others."""
        read = [(place, self._judged(one)) for place, one in batch]
        sizes: dict[tuple[int, ...], list[tuple[int, ReadCase]]] = {}
        for place, one in read:
            if one.face is not None:
                sizes.setdefault(tuple(one.face.image.shape), []).append((place, one))
        findings = [each for alike in sizes.values() for each in self.examine(alike)]
        return [(place, replace(one, face=None, mask=None)) for place, one in read], findings

    def _judged(self, read: ReadCase) -> ReadCase:
        if read.face is None or self.plan.detector.card.preprocessing.size is not None:
            return read
        height, width = read.face.image.shape[1:]
        if self.fits((height, width)):
            return read
        reason = f"{self.plan.detector.arch.name} cannot take its {width}x{height} pixels"
        return replace(read, status="unreadable", reason=reason, face=None)

    def tables(self, done: Sequence[tuple[list[tuple[int, ReadCase]], list[Finding]]]) -> dict[str, pa.Table]:
        """The tables of a part."""
        read, findings = ([each for one in column for each in one] for column in zip(*done, strict=True))
        return tables(read, findings, self.rows)

    def notes(self) -> list[str]:
        """What was said of the maps so far."""
        return list(self.plan.network.notes)


def _conclude(plan: TrustPlan, run: NewRun, store: LandmarkStore) -> None:
    """Write `trust.json`, and the pictures that it names."""
    cases, figures = (pq.read_table(run.table_path(name)) for name in ("cases", "figures"))
    notes = [said for note in run.parts(plan.part_count).notes() for said in note.notes]
    manifest = {name: run.manifest[name] for name in TrustManifest.model_fields if name != "files"}
    data = TrustData(
        source=os.path.abspath(plan.source),
        sha256=plan.samples.sha256,
        masks=plan.cases.masks,
        **counts(cases, figures),
        left_out=[*plan.cases.left_out, *left_out(cases)],
        notes=list(plan.samples.notes),
    )
    record = TrustRecord(
        **manifest,
        data=data,
        **judged(plan.kinds, cases, figures),
        examples=write_examples(plan, figures, store, run.folder),
        notes=list(dict.fromkeys(notes)),
    )
    run.write(TRUST, record.model_dump(mode="json"))
