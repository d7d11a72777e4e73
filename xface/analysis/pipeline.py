"""The pipeline: images read in worker processes, explained on the device, written in parts as they come."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from xface.analysis.effects import EffectsStage
from xface.analysis.face_reading import FaceReader, ReadBatch
from xface.analysis.measuring import MapMeasurer, MeasuredImage, Said
from xface.analysis.plan import Plan
from xface.analysis.rows import Found
from xface.analysis.stopwatch import Stopwatch
from xface.attribution.maps import furthest
from xface.data.reading import read_ahead
from xface.data.workers import dead_workers_reported
from xface.detectors.detector import takes
from xface.errors import UsageError
from xface.faces.landmark_cache import LandmarkStore
from xface.files.names import safe_stem
from xface.files.writing import written_aside
from xface.runs.shards import Parts
from xface.runs.tables import EFFECTS, TABLES
from xface.runs.writing import NewRun, begin_run, is_finished

Advance: TypeAlias = Callable[[int], object]
Progress: TypeAlias = Callable[[int, str], AbstractContextManager[Advance]]
"""Told how many images there are to do, and what is done, it gives what is to be told how many more are done.

First there are all images to `analyze`, then those of whose faces the `effects` are measured."""

IMAGE_COLUMNS = ("row", "image", "label", "group", "score", "outcome", "status", "reason")
REPEATED = ("method", "layer", "status", "region")
REGION_COLUMNS = ("row", *REPEATED, "share", "lift", "coarse")
EFFECT_COLUMNS = ("row", "region", "status", "effect", "area", "control_area", "flips", "control_flips")
"""What the findings need of the tables beside attributes: the rest isn't read, as all of it is held."""

MOST_WORKERS = 16
FEWER = "resume with --resume and fewer --workers"
STAGE_NAMES = ("decode", "landmarks", "attributes", "attribution", "regions", "writing")
STAGES_NOTE = (
    "decode, landmarks and attributes are summed over the processes that read, beside attribution; "
    "images_per_second is from the first image to the last part"
)


def default_workers() -> int:
    """A worker process for each core but one, at most 16."""
    return min(max(1, (os.cpu_count() or 1) - 1), MOST_WORKERS)


def analyze(
    plan: Plan,
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    resume: bool = False,
    store: LandmarkStore | None = None,
    command: Sequence[str] = (),
    progress: Progress = lambda count, what: nullcontext(lambda done: None),
) -> Path:
    """Run an analysis into the new folder `out`, made as `out`.part and renamed when it is whole.

    Args:
        plan: from `plan_analysis`.
        out: the folder; it must not exist, unless with `resume`.
        workers: processes that read pictures; 0 reads in this one, None leaves a core for the network.
        resume: resume a run that was stopped, after its whole parts; one that is whole is left as it is.
        store: where landmarks are kept, those of the plan's face detector; the user's cache folder if None.
        command: the command line, for the manifest.
        progress: see `Progress`.

    Returns:
        The folder.

    Raises:
        UsageError: as `begin_run` and `is_finished`; or `store` is of another face detector. OutputError: it
            cannot be written. XFaceError: a worker process died, or not even one image fits into the
            device's memory.
    """
    store = _store(plan, store)
    count = default_workers() if workers is None else workers
    manifest, paths = plan.manifest(command), plan.data.samples.paths
    if resume and is_finished(Path(out), manifest, paths):
        return Path(out).absolute()
    with begin_run(Path(out), manifest, paths, plan.part_count, resume) as run, dead_workers_reported(FEWER):
        if not run.is_joined:
            parts, watch = run.parts(plan.part_count), Stopwatch()
            todo = parts.missing()
            reader = _reader(plan, [batch for number in todo for batch in plan.batches(number)], store)
            with progress(sum(map(len, reader.batches)), "analyze") as advance:
                batches = read_ahead(reader.batch, len(reader.batches), count)
                _make_parts(plan, todo, batches, PartMaker(plan, run, watch), advance)
            _join(run, parts, watch)
        if plan.effects is not None and not run.has(EFFECTS):
            EffectsStage(plan, run, lambda batches: _reader(plan, batches, store)).write(count, progress)
        run.add(**_said(run.manifest))
        run.drop_parts()
        _conclude(run)
        return run.finish()


def _store(plan: Plan, given: LandmarkStore | None) -> LandmarkStore:
    planned = plan.detector.face_detector
    if given is not None and given.detector != planned:
        raise UsageError(
            f"the store is of the face detector {given.detector!r}, the plan of {planned!r}; load the plan's "
            f"detector with face_detector={given.detector!r}"
        )
    return given or LandmarkStore(detector=planned)


def _reader(plan: Plan, batches: Sequence[Sequence[int]], store: LandmarkStore) -> FaceReader:
    preprocessing = plan.detector.card.preprocessing
    return FaceReader(plan.data.samples.paths, batches, preprocessing, plan.crop, store)


def _make_parts(
    plan: Plan, todo: Sequence[int], batches: Iterator[ReadBatch], maker: PartMaker, advance: Advance
) -> None:
    # The order of a batch's sums must not depend on what was done before.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        for number in todo:
            for batch in islice(batches, len(plan.batches(number))):
                maker.add(batch)
                advance(len(batch.faces))
            maker.write(number)


class PartMaker:
    """Collects what is found about the images of a part, and writes it.

    Args:
        plan: what is asked for.
        run: where it is written.
        watch: gets the seconds of each stage.
    """

    def __init__(self, plan: Plan, run: NewRun, watch: Stopwatch) -> None:
        self.plan, self.run, self.watch = plan, run, watch
        self.rows, self.parts = plan.rows(), run.parts(plan.part_count)
        self.measure = MapMeasurer(plan.detector, plan.request, plan.keep_maps, watch)
        self.found: list[Found] = []
        self.start = time.perf_counter()
        self.fits = cache(lambda size: takes(plan.detector.model, size))

    def add(self, batch: ReadBatch) -> None:
        """Show a batch to the network, and keep what is found."""
        found = [Found(face) for face in batch.faces]
        for stack in batch.stacks:
            if not self._fits((stack.images.shape[2], stack.images.shape[3])):
                for place in stack.places:
                    found[place] = self._too_small(found[place])
                continue
            measured = self.measure(stack.images, stack.labels)
            for place, one in zip(stack.places, measured, strict=True):
                found[place] = replace(found[place], measured=one)
        self.found += found
        for face in batch.faces:
            self.watch.add(face.seconds)

    def write(self, number: int) -> None:
        """Write all that was kept as a part, raw maps first; begin the next one."""
        self.run.check()
        with self.watch("writing"):
            for one in self.found:
                if self.plan.keep_maps and one.measured is not None:
                    self._write_maps(one.face.row, one.measured)
            tables = self.rows.tables(self.found)
        now = time.perf_counter()
        seconds, said = {"wall": now - self.start, **self.watch.take()}, self.measure.said
        with self.watch("writing"):  # of this part in the next one's note, as it isn't known before
            self.parts.write(number, tables, seconds=seconds, rules=said.rules, notes=said.notes)
        self.found, self.start, self.measure.said = [], now, Said()

    def _fits(self, size: tuple[int, int]) -> bool:
        return self.plan.detector.card.preprocessing.size is not None or self.fits(size)

    def _too_small(self, found: Found) -> Found:
        width, height = found.face.size or (0, 0)
        path, arch = self.plan.data.samples.paths[found.face.row], self.plan.detector.arch.name
        reason = (
            f"cannot prepare {path!r}: {arch} cannot take its {width}x{height} pixels; give a larger "
            "picture, or a size on the card"
        )
        return Found(replace(found.face, status="unreadable", reason=reason, thumbnail=None))

    def _write_maps(self, row: int, measured: MeasuredImage) -> None:
        """A file of raw maps for one image: `method` or `method@layer` by name, float32."""
        folder = self.run.maps_folder()
        names = ["@".join(filter(None, (kind["method"], kind["layer"]))) for kind in self.plan.kinds]
        path = folder / f"{row:06d}-{safe_stem(self.plan.data.samples.paths[row])}.npz"
        with written_aside(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(file, **dict(zip(names, measured.maps, strict=True)))  # type: ignore[arg-type]


def _join(run: NewRun, parts: Parts, watch: Stopwatch) -> None:
    """Join the parts' tables, and put how long all took into the manifest, and what was said of the maps."""
    with watch("writing"):
        for table in TABLES:
            parts.join(table, run.table_path(table))
    notes = parts.notes()
    for note in notes:
        watch.add(note.seconds)
    seconds = watch.take()
    wall = seconds.pop("wall")
    stages = _rounded({stage: seconds.get(stage, 0.0) for stage in STAGE_NAMES})
    images = run.manifest["data"]["images"]
    rules = [note.rules for note in notes if len(note.rules) == len(run.manifest["kinds"])]
    run.add(
        rules=[furthest(each) for each in zip(*rules, strict=True)],
        notes=list(dict.fromkeys(said for note in notes for said in note.notes)),
    )
    run.add(stages=stages, stages_note=STAGES_NOTE, images_per_second=round(images / wall, 3))
    run.add_hashes(*(run.table_path(table).name for table in TABLES))


def _said(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's `kinds` and `detector`, with what was said of the maps of the run's own images."""
    kinds, detector = manifest["kinds"], manifest["detector"]
    each = zip(kinds, manifest.get("rules") or ["published"] * len(kinds), strict=True)
    notes = dict.fromkeys([*detector["notes"], *manifest.get("notes", [])])
    return {
        "kinds": [{**kind, "rule": furthest([kind["rule"], rule])} for kind, rule in each],
        "detector": {**detector, "notes": list(notes)},
    }


def _conclude(run: NewRun) -> None:
    """Write the findings and the report, and how long both took."""
    from xface.findings.findings import conclude
    from xface.report.run.page import write_report

    watch = Stopwatch()
    with watch("conclusions"):
        manifest = run.manifest
        images = run.table("images", [*IMAGE_COLUMNS, *manifest["attributes"], *manifest["by"]])
        regions = run.table("regions", REGION_COLUMNS, REPEATED)
        effects = run.table(EFFECTS, EFFECT_COLUMNS) if run.has(EFFECTS) else None
        run.write("findings.json", conclude(images, regions, manifest, effects).to_json())
    run.add(stages={**run.manifest["stages"], **_rounded(watch.seconds)})
    run.add_hashes("findings.json")
    with watch("report"):
        write_report(run.folder)
    run.add(stages={**run.manifest["stages"], **_rounded(watch.seconds)})


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(spent, 3) for stage, spent in seconds.items()}
