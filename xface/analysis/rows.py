"""Rows: what was found about some images, as Arrow tables of the run's schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xface.analysis.face_reading import ReadFace
from xface.analysis.labelled_data import MAPPED, AnalysedData
from xface.analysis.measuring import MeasuredImage
from xface.faces import REGIONS
from xface.faces.attributes import ATTRIBUTES
from xface.faces.measures import SHARES
from xface.files.paths import as_utf8
from xface.results import outcome_of
from xface.runs.tables import REGIONS_SCHEMA, THUMBNAILS_SCHEMA, images_schema
from xface.wording import negative_name


@dataclass(frozen=True)
class Found:
    """One image: what was read of it, and what was measured, if the network could be shown it."""

    face: ReadFace
    measured: MeasuredImage | None = None

    @property
    def standing(self) -> tuple[str, str]:
        """Status and reason; no finite score outweighs no face."""
        if self.measured is not None and self.measured.reason:
            return "non_finite", self.measured.reason
        return self.face.status, self.face.reason


@dataclass(frozen=True, eq=False)
class Rows:
    """Makes the tables of a run, for any of its images.

    `kinds` are method and layer of each map, in order; `positive` is the data's label of the positive class.
    """

    data: AnalysedData
    kinds: Sequence[Mapping[str, str]]
    positive: str
    threshold: float
    groups: Sequence[str] = field(repr=False)

    def tables(self, found: Sequence[Found]) -> dict[str, pa.Table]:
        """The tables `images`, `regions` and `thumbnails` of some images, in their order."""
        return {
            "images": self._images(found),
            "regions": self._regions([one for one in found if one.measured is not None]),
            "thumbnails": self._thumbnails([one for one in found if one.face.thumbnail is not None]),
        }

    def _images(self, found: Sequence[Found]) -> pa.Table:
        rows = [one.face.row for one in found]
        sizes = [one.face.size or (None, None) for one in found]
        scores = [one.measured.score if one.measured else float("nan") for one in found]
        labels = self._column("label", rows)
        called, outcomes = zip(*map(self._judged, labels, scores), strict=True)
        statuses, reasons = zip(*(one.standing for one in found), strict=True)
        others = self.names_of_others()
        columns: dict[str, Sequence[Any]] = {
            "row": rows,
            "image": self._column("path", rows),
            "label": labels,
            "group": [as_utf8(self.groups[row]) for row in rows],
            **{name: self._column(column, rows) for column, name in others.items()},
            "sha256": [one.face.sha256 for one in found],
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
            "score": scores,
            "called": called,
            "outcome": outcomes,
            "status": statuses,
            "reason": reasons,
            **{name: [one.face.attributes[name] for one in found] for name in ATTRIBUTES},
        }
        return pa.table(columns, images_schema(list(others.values()), list(ATTRIBUTES)))

    def _judged(self, label: str, score: float) -> tuple[str, str]:
        """The class that an image is called, and its outcome; both "" without a score."""
        if np.isnan(score):
            return "", ""
        positive = score >= self.threshold
        return self.positive if positive else self._negative, outcome_of(label == self.positive, positive)

    @cached_property
    def _negative(self) -> str:
        return negative_name(self.positive, self.data.samples.table["label"])

    def _column(self, name: str, rows: Sequence[int]) -> list[str]:
        values = self.data.samples.table[name].iloc[list(rows)]
        return [as_utf8(str(value)) for value in values]

    def names_of_others(self) -> dict[str, str]:
        """What the data's further columns are called here: `given_` stands before a name that is taken."""
        taken = {*images_schema([], list(ATTRIBUTES)).names}
        others: dict[str, str] = {}
        for column in self.data.samples.table:
            if column in MAPPED:
                continue
            name = str(column)
            while name in taken:
                name = f"given_{name}"
            taken.add(name)
            others[str(column)] = name
        return others

    def _regions(self, found: Sequence[Found]) -> pa.Table:
        """A row per image, kind and region, the last changing fastest."""
        measured = [one.measured for one in found if one.measured is not None]
        rows, names = [one.face.row for one in found], list(REGIONS)
        kinds, per_image = len(self.kinds), len(self.kinds) * len(names)
        columns = {
            "row": np.repeat(rows, per_image),
            "image": _texts(self._column("path", rows)).repeat(per_image),
            "method": np.tile(_texts([k["method"] for k in self.kinds]).repeat(len(names)), len(rows)),
            "layer": np.tile(_texts([k["layer"] for k in self.kinds]).repeat(len(names)), len(rows)),
            "status": _texts([status for one in measured for status in one.statuses]).repeat(len(names)),
            "region": np.tile(_texts(names), kinds * len(rows)),
            **{
                name: np.array([one.measures[..., index] for one in measured]).ravel()
                for index, name in enumerate(SHARES)
            },
            "area": np.array([np.tile(one.area, kinds) for one in measured]).ravel(),
            "coarse": np.array([one.coarse for one in measured], bool).ravel(),
        }
        return pa.table({name: columns[name] for name in REGIONS_SCHEMA.names}, REGIONS_SCHEMA)

    def _thumbnails(self, found: Sequence[Found]) -> pa.Table:
        columns: dict[str, list[Any]] = {name: [] for name in THUMBNAILS_SCHEMA.names}
        for one in found:
            grids = one.measured.grids if one.measured else (None,) * len(self.kinds)
            columns["row"].append(one.face.row)
            columns["face"].append(one.face.thumbnail)
            columns["landmarks"].append(one.face.landmarks)
            columns["maps"].append([grid and grid.values.tobytes() for grid in grids])
            columns["shapes"].append([grid and list(grid.values.shape) for grid in grids])
            columns["peaks"].append([grid and grid.peak for grid in grids])
        return pa.table(columns, THUMBNAILS_SCHEMA)


def _texts(values: Sequence[str]) -> NDArray[np.object_]:
    return np.array(values, object)
