"""Effects: when all images are scored, the parts of some faces of each outcome are hidden in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from xface.analysis.face_reading import FaceReader, ReadBatch, ReadFace
from xface.analysis.plan import Plan
from xface.data.reading import read_ahead
from xface.detectors.requests import positive_class
from xface.errors import UsageError
from xface.evidence.effects import over_fills
from xface.evidence.hiding import NEUTRAL, ShownFace
from xface.evidence.verdicts import VerdictEffects, verdict_effects
from xface.results import OUTCOMES
from xface.runs.shards import Parts
from xface.runs.tables import EFFECTS, effects_schema
from xface.runs.writing import NewRun

SEED = 0
"""Of the images that are drawn."""

PART = 16
"""Images in a part: what a killed run has to hide again."""

COLUMNS = ("row", "image", "sha256", "outcome", "status")


def chosen_rows(images: pd.DataFrame, limit: int | Literal["all"]) -> list[int]:
    """The rows of the images whose faces are hidden in parts: `limit` of each outcome, drawn at random.

    What is drawn depends on the paths and a fixed seed, and a larger limit adds to it. Images without a face
    or a score are left out. `images` has `row`, `image`, `outcome` and `status`.

    Example:
        >>> images = {"row": [0, 1, 2], "image": ["a", "b", "c"], "outcome": "FP", "status": "ok"}
        >>> chosen_rows(pd.DataFrame(images), "all"), len(chosen_rows(pd.DataFrame(images), 2))
        ([0, 1, 2], 2)
    """
    usable = images[images["status"] == "ok"].sort_values(["image", "row"])
    chosen: list[int] = []
    for outcome in OUTCOMES:
        rows = usable.loc[usable["outcome"] == outcome, "row"].tolist()
        drawn = np.random.default_rng(SEED).permutation(rows)
        chosen += drawn[: None if limit == "all" else limit].tolist()
    return sorted(chosen)


@dataclass(frozen=True, eq=False)
class EffectsStage:
    """Hides the parts of the chosen faces of a run, and writes the table of effects, piece by piece.

    `reader` makes what reads the pictures at some rows, batch by batch, as they were read before.
    """

    plan: Plan
    run: NewRun
    reader: Callable[[Sequence[Sequence[int]]], FaceReader]

    def batches(self, images: pd.DataFrame) -> list[list[int]]:
        """The rows of each part; one without rows where there are no images."""
        rows = chosen_rows(images, self.plan.effects or "all")
        return [rows[start : start + PART] for start in range(0, max(1, len(rows)), PART)]

    def write(self, workers: int, progress: Callable[[int, str], Any]) -> None:
        """Make the parts that are missing, join all, and say in the manifest what was done.

        Raises:
            UsageError: a picture isn't the one that was scored. OutputError: it cannot be written.
        """
        images = self.run.table("images", COLUMNS)
        batches = self.batches(images)
        parts = Parts(self.run.parts(0).folder / EFFECTS, len(batches), (EFFECTS,))
        todo = parts.missing()
        reader = self.reader([batches[number] for number in todo])
        names = dict(zip(images["row"], images["image"], strict=True))
        hashes = dict(zip(images["row"], images["sha256"], strict=True))
        with progress(sum(map(len, reader.batches)), EFFECTS) as advance:
            start = time.perf_counter()
            for number, read in zip(todo, read_ahead(reader.batch, len(todo), workers), strict=True):
                self.run.check()
                self._check(read.faces, hashes)
                table = effects_table(self._hidden(read), names)
                spent = time.perf_counter() - start
                parts.write(number, {EFFECTS: table}, seconds={EFFECTS: spent})
                start += spent
                advance(len(read.faces))
        parts.join(EFFECTS, self.run.table_path(EFFECTS))
        self._say(parts, images, [row for batch in batches for row in batch])

    def _check(self, faces: Sequence[ReadFace], hashes: Mapping[int, str]) -> None:
        for face in faces:
            if face.sha256 != hashes[face.row]:
                raise UsageError(
                    f"'{self.plan.data.samples.paths[face.row]}' changed after the run had read it; put back "
                    f"what was there and resume, or remove '{self.run.folder}' to start again"
                )

    def _hidden(self, read: ReadBatch) -> Iterator[tuple[int, VerdictEffects]]:
        """The effects of each face of a batch, by rows."""
        detector, threshold = self.plan.detector, self.plan.threshold.value
        positive = detector.class_index(positive_class(detector))
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            for stack in read.stacks:
                for each in zip(stack.places, stack.images, stack.labels, stack.iods, strict=True):
                    place, image, labels, iod = each
                    shown = ShownFace(image.to(detector.device), labels, iod)
                    yield read.faces[place].row, verdict_effects(detector, shown, positive, threshold)

    def _say(self, parts: Parts, images: pd.DataFrame, rows: Sequence[int]) -> None:
        """Put into the manifest how many images of each outcome were chosen, of how many, and the time."""
        hidden = images["row"].isin(rows)
        counts = {
            outcome: [int((hidden & (of := images["outcome"] == outcome)).sum()), int(of.sum())]
            for outcome in OUTCOMES
        }
        seconds = round(sum(note.seconds.get(EFFECTS, 0.0) for note in parts.notes()), 3)
        self.run.add(
            effects={"limit": self.plan.effects, "seed": SEED, "fills": list(NEUTRAL), "images": counts},
            stages={**self.run.manifest["stages"], EFFECTS: seconds},
        )
        self.run.add_hashes(self.run.table_path(EFFECTS).name)


Hidden: TypeAlias = Iterable[tuple[int, VerdictEffects]]


def effects_table(hidden: Hidden, names: Mapping[int, str]) -> pa.Table:
    """A row per face and part, the part changing fastest; `names` are the images' by their rows."""
    schema = effects_schema(NEUTRAL)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for row, found in sorted(hidden, key=lambda each: each[0]):
        for name, values in _columns(row, names[row], found).items():
            columns[name] += list(values)
    return pa.table(columns, schema)


def _columns(row: int, image: str, found: VerdictEffects) -> Mapping[str, Sequence[Any]]:
    effects, count = found.effects, len(found.parts)
    return {
        "row": [row] * count,
        "image": [image] * count,
        "region": found.parts,
        "status": effects.status,
        "effect": effects.effect,
        "effect_positive": found.sign * effects.effect,
        "effect_probability": over_fills(effects.probabilities),
        "spread": effects.values.std(axis=0, ddof=1),
        "control": over_fills(effects.controls),
        "area": effects.areas,
        "control_area": found.control_areas,
        "flips": effects.flips,
        "control_flips": found.control_flips,
        **{f"effect_{fill}": effects.values[place] for place, fill in enumerate(effects.fills)},
    }
