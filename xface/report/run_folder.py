"""A run's folder, read back: what was done, what was concluded, and the tables behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from xface.errors import UsageError
from xface.results import FloatArray

OUTCOMES = ("TP", "FP", "TN", "FN")
OWN_COLUMNS = {"row", "image", "label", "group", "sha256", "width", "height", "score", "called", "outcome",
               "status", "reason"}  # fmt: skip
ATTRIBUTES = ("sharpness", "eye_sharpness", "brightness", "contrast", "exposure", "blockiness", "face_size",
              "eye_openness", "mouth_openness", "yaw", "pitch", "roll")  # fmt: skip
MEASURES = ("row", "method", "layer", "status", "region", "share", "lift")
BATCH = 256
MANY = 65_536  # rows of regions.parquet in memory at a time


@dataclass(frozen=True)
class Kind:
    """One kind of map of a run; `layer` is "" where the method has none."""

    method: str
    layer: str
    rule: str = "published"

    @property
    def name(self) -> str:
        """What headings and choices call it.

        Example:
            >>> Kind("gradcam", "layer4").name, Kind("guided", "", "extended").name
            ('gradcam at layer4', 'guided (extended rule)')
        """
        place = f" at {self.layer}" if self.layer else ""
        return f"{self.method}{place}{' (extended rule)' if self.rule == 'extended' else ''}"


@dataclass(frozen=True, eq=False)
class RegionTable:
    """Per image, kind of map and region: `lift` and `share`, NaN where undefined; each map's `status`.

    Arrays are (images, kinds, regions) and (images, kinds), in the order of the images' table.
    """

    regions: tuple[str, ...]
    lift: FloatArray
    share: FloatArray
    status: NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class RunFolder:
    """What `xface analyze` left in a folder: its manifest, its findings and its table of images."""

    path: Path
    manifest: dict[str, Any]
    findings: dict[str, Any]
    images: pa.Table

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """Read a run; UsageError if the folder holds none, or one that isn't finished."""
        manifest, findings = (_read_json(path, f"{name}.json") for name in ("manifest", "findings"))
        return cls(path, manifest, findings, _read_table(path, "images.parquet"))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of maps, in the run's order."""
        return tuple(Kind(k["method"], k["layer"] or "", k["rule"]) for k in self.manifest["kinds"])

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that were measured."""
        return tuple(name for name in ATTRIBUTES if name in self.images.column_names)

    @property
    def extras(self) -> tuple[str, ...]:
        """The columns that came with the labelled set."""
        return tuple(n for n in self.images.column_names if n not in OWN_COLUMNS and n not in ATTRIBUTES)

    @property
    def threshold(self) -> float:
        """From this score on an image is called positive."""
        return float(self.manifest["threshold"]["value"])

    def texts(self, column: str) -> list[str]:
        """A column of words; what is null is empty."""
        return ["" if each is None else str(each) for each in self.images[column].to_pylist()]

    def numbers(self, column: str) -> FloatArray:
        """A column of numbers; what is null is NaN."""
        return np.asarray(self.images[column].to_numpy(), np.float64)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Every image's row in the labelled set: its key in all tables."""
        return np.asarray(self.images["row"].to_numpy(), np.int64)

    def positions(self, rows: NDArray[np.int64]) -> NDArray[np.intp]:
        """Where these rows are in the table of images."""
        order = self._order
        return np.asarray(order[np.searchsorted(self.rows, rows, sorter=order)])

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        return np.argsort(self.rows)

    @cached_property
    def regions(self) -> RegionTable:
        """The lifts and shares of all maps."""
        columns = (batch["region"].unique().to_pylist() for batch in self._measures(["region"]))
        names = tuple(dict.fromkeys(name for column in columns for name in column))
        shape = (len(self.rows), len(self.kinds), len(names))
        lift, share = (np.full(shape, np.nan, np.float32) for _ in range(2))
        status = np.full(shape[:2], "", object)
        for batch in self._measures(MEASURES):
            at, kind = self.positions(batch["row"].to_numpy()), self._kind_numbers(batch)
            states, regions = _codes(batch["status"]), _codes(batch["region"])
            status[at, kind] = np.array(states.names, object)[states.codes]
            place = at, kind, np.array([names.index(name) for name in regions.names], int)[regions.codes]
            for values, name in ((lift, "lift"), (share, "share")):
                values[place] = batch[name].to_numpy(zero_copy_only=False)
        return RegionTable(names, lift, share, status)

    def _measures(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        path = self.path / "regions.parquet"
        with _failures_named(path), pq.ParquetFile(path) as file:
            yield from file.iter_batches(MANY, columns=list(columns))

    def _kind_numbers(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        """Which of the run's kinds every row is of."""
        methods, layers = _codes(batch["method"]), _codes(batch["layer"])
        kinds = [(each.method, each.layer) for each in self.kinds]
        pairs = [[(method, layer) for layer in layers.names] for method in methods.names]
        numbers = [[kinds.index(pair) if pair in kinds else 0 for pair in line] for line in pairs]
        return np.array(numbers, int).reshape(len(methods.names), -1)[methods.codes, layers.codes]

    def thumbnails(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Every thumbnail with its landmarks and maps, a few in memory at a time."""
        path = self.path / "thumbnails.parquet"
        with _failures_named(path), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH, columns=columns and list(columns)):
                yield from batch.to_pylist()


@dataclass(frozen=True, eq=False)
class _Coded:
    """A column's different words, and every row's index into them."""

    names: list[str]
    codes: NDArray[np.intp]


def _codes(column: pa.Array) -> _Coded:
    coded = column.cast(pa.string()).fill_null("").dictionary_encode()
    return _Coded(coded.dictionary.to_pylist(), coded.indices.to_numpy())


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    with _failures_named(folder / name):
        content: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
        return content


def _read_table(folder: Path, name: str) -> pa.Table:
    with _failures_named(folder / name):
        return pq.read_table(folder / name)


@contextmanager
def _failures_named(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        reason = "is absent; give the folder that `xface analyze --out` made, and finish it by --resume"
        raise UsageError(f"{file}: {reason}") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UsageError(f"{file}: cannot be read ({error}); make the run again") from error
