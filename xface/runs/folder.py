"""A run's folder, read back: what was done, what was concluded, and the tables behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from xface.results import OUTCOMES, FloatArray
from xface.runs.attributes import attributes_of
from xface.runs.checking import check_hashes, failures_named, read_json
from xface.runs.schema import FindingsRecord, Manifest
from xface.runs.tables import (
    EFFECTS,
    EFFECTS_SCHEMA,
    OWN_COLUMNS,
    REGIONS_SCHEMA,
    TABLES,
    THUMBNAILS_SCHEMA,
    WORDS,
    conformed,
    images_schema,
)
from xface.wording import method_at, spaced

MANIFEST, FINDINGS = "manifest.json", "findings.json"
REGIONS, THUMBNAILS, EFFECTS_FILE = "regions.parquet", "thumbnails.parquet", f"{EFFECTS}.parquet"
UNSHOWN = ("unreadable", "missing")
"""Statuses of images that no network was shown."""
LARGEST = 1e12  # of any attribute or lift: more than any picture could have
POINTS = 68
JPEG = b"\xff\xd8\xff"
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
        return method_at(self.method, self.layer, self.rule)


@dataclass(frozen=True, eq=False)
class RegionArrays:
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
        """Read a run and check that its files fit together.

        Raises:
            UsageError: the folder holds no run, or one that isn't finished, or one whose files were changed.
        """
        manifest, said = read_json(path / MANIFEST, Manifest)
        check_hashes(path, said.files, [FINDINGS, *(f"{table}.parquet" for table in (*TABLES, EFFECTS))])
        findings, found = read_json(path / FINDINGS, FindingsRecord)
        with failures_named(path / "images.parquet"):
            images = pq.read_table(path / "images.parquet")
            attributes = [name for name in attributes_of(manifest) if name in images.column_names]
            images = _checked_images(images, said.data.images, attributes)
        with failures_named(path / FINDINGS):
            _check_findings(found, images, attributes)
        return cls(path, manifest, findings, images)

    @property
    def name(self) -> str:
        """The folder's name, without what it bears while it is made."""
        return Path(os.path.realpath(self.path)).name.removesuffix(".part")

    @property
    def trained(self) -> bool:
        """Whether the network's weights were trained."""
        return is_trained(self.manifest)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of maps, in the run's order."""
        return tuple(Kind(k["method"], k["layer"] or "", k["rule"]) for k in self.manifest["kinds"])

    @cached_property
    def attributes(self) -> dict[str, str]:
        """The attributes that were measured, and what tables and figures call them."""
        words = attributes_of(self.manifest)
        return {name: words[name]["label"] for name in words if name in self.images.column_names}

    def label(self, attribute: str) -> str:
        """What tables and figures call an attribute."""
        return self.attributes.get(attribute, spaced(attribute))

    @property
    def extras(self) -> tuple[str, ...]:
        """The columns that came with the labelled set."""
        return tuple(n for n in self.images.column_names if n not in OWN_COLUMNS and n not in self.attributes)

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
        """Where these rows (N,) are in the table of images."""
        order = self._order
        return np.asarray(order[np.searchsorted(self.rows, rows, sorter=order)])

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        return np.argsort(self.rows)

    @cached_property
    def regions(self) -> RegionArrays:
        """The lifts and shares of all maps; UsageError for a table that isn't one of them, each once."""
        columns = (batch["region"].unique().to_pylist() for batch in self._measures(["region"]))
        names = tuple(dict.fromkeys(name for column in columns for name in column))
        shape = (len(self.rows), len(self.kinds), len(names))
        lift, share = (np.full(shape, np.nan, np.float32) for _ in range(2))
        status, times = np.full(shape[:2], "", object), np.zeros(shape, np.uint8)
        with failures_named(self.path / REGIONS):
            for batch in self._measures(MEASURES):
                at, kind = self.positions(batch["row"].to_numpy()), self._kind_numbers(batch)
                states, regions = _codes(batch["status"]), _codes(batch["region"])
                status[at, kind] = np.array(states.names, object)[states.codes]
                place = at, kind, np.array([names.index(n) for n in regions.names], int)[regions.codes]
                np.add.at(times, place, 1)
                for values, name, most in ((lift, "lift", LARGEST), (share, "share", 1 + 1e-6)):
                    measured = batch[name].to_numpy(zero_copy_only=False)
                    _check_range(name, measured, 0.0, most)
                    values[place] = measured
            if not (times == self._measured[:, None, None]).all():
                raise ValueError("it doesn't have each map of each measured image once, region by region")
        return RegionArrays(names, lift, share, status)

    def measures(self, columns: Sequence[str]) -> pa.Table:
        """Columns of the maps' regions, as one table."""
        return pa.Table.from_batches(self._measures(columns), _of(REGIONS_SCHEMA, columns))

    @cached_property
    def effects(self) -> pa.Table | None:
        """What hiding parts of some faces does, a row for each image and part; None where the run hid none.

        Raises:
            UsageError: it names an image and a part twice, or isn't a table of effects.
        """
        if not os.path.lexists(self.path / EFFECTS_FILE):
            return None
        names = EFFECTS_SCHEMA.names
        table = pa.Table.from_batches(
            self._batches(EFFECTS_FILE, MANY, names, EFFECTS_SCHEMA), EFFECTS_SCHEMA
        )
        with failures_named(self.path / EFFECTS_FILE):
            if table.group_by(["row", "region"]).aggregate([]).num_rows < len(table):
                raise ValueError("it has a part of an image twice")
            for name in ("area", "control_area"):
                _check_range(name, table[name].to_numpy(), 0.0, 1 + 1e-6)
        return table

    @cached_property
    def _measured(self) -> NDArray[np.bool_]:
        """The images that were shown to the network."""
        return ~np.isin(np.array(self.texts("status"), object), UNSHOWN)

    def _measures(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from self._batches(REGIONS, MANY, columns, REGIONS_SCHEMA)

    def _batches(
        self, name: str, size: int, columns: Sequence[str], schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        with failures_named(self.path / name), pq.ParquetFile(self.path / name) as file:
            there = [column for column in columns if column in file.schema_arrow.names]
            for batch in file.iter_batches(size, columns=there):
                table = conformed(pa.Table.from_batches([batch]), _of(schema, columns))
                if "row" in columns and not np.isin(_whole(table["row"]), self.rows).all():
                    raise ValueError("it has rows of images that images.parquet lacks")
                yield from table.select(list(columns)).combine_chunks().to_batches()

    def _kind_numbers(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        """Which of the run's kinds every row is of."""
        methods, layers = _codes(batch["method"]), _codes(batch["layer"])
        kinds = [(each.method, each.layer) for each in self.kinds]
        pairs = [[(method, layer) for layer in layers.names] for method in methods.names]
        numbers = [[kinds.index(pair) if pair in kinds else -1 for pair in line] for line in pairs]
        found = np.array(numbers, int).reshape(len(methods.names), -1)[methods.codes, layers.codes]
        if (found < 0).any():
            raise ValueError("it has maps of a kind that manifest.json doesn't name")
        return found

    def thumbnails(self, columns: Sequence[str] = THUMBNAILS_SCHEMA.names) -> Iterator[dict[str, Any]]:
        """Every thumbnail with its landmarks and maps, a few in memory at a time.

        Raises:
            UsageError: there isn't one of each measured image, or what it holds doesn't fit together.
        """
        rows: list[int] = []
        with failures_named(self.path / THUMBNAILS):
            for batch in self._batches(THUMBNAILS, BATCH, ["row", *columns], THUMBNAILS_SCHEMA):
                for entry in batch.to_pylist():
                    _check_thumbnail(entry, len(self.kinds))
                    rows.append(entry["row"])
                    yield entry
            if sorted(rows) != sorted(self.rows[self._measured].tolist()):
                raise ValueError("it doesn't have one row of each measured image")


def _checked_images(table: pa.Table, count: int, attributes: Sequence[str]) -> pa.Table:
    """The table of images with its own columns in their types, words without nulls; raises ValueError."""
    table = conformed(
        table, _of(images_schema([], attributes), ["row", *WORDS, "sha256", "score", *attributes])
    )
    if len(set(table.column_names)) < table.num_columns:
        raise ValueError("it has a column twice")
    for name in (*WORDS, "sha256"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table[name].fill_null(""))
    rows, scores = _whole(table["row"]), table["score"].to_numpy()
    if len(rows) != count or len(set(rows.tolist())) < count or (rows < 0).any():
        raise ValueError(f"it must have {count} rows, each of another image, as manifest.json says")
    _check_range("score", scores, 0.0, 1.0)
    for name in attributes:
        _check_range(name, table[name].to_numpy(), -LARGEST, LARGEST)
    if not np.isin(table["outcome"].to_numpy(), ["", *OUTCOMES]).all():
        raise ValueError(f"an outcome is none of {', '.join(OUTCOMES)}")
    return table


def _check_range(name: str, values: FloatArray, low: float, high: float) -> None:
    if not ((values >= low) & (values <= high) | np.isnan(values)).all():
        raise ValueError(f"a value in its column {name!r} isn't from {low:g} to {high:g}")


def _check_findings(found: FindingsRecord, images: pa.Table, attributes: Sequence[str]) -> None:
    if found.summary.images != len(images):
        raise ValueError(f"it is of {found.summary.images} images, images.parquet has {len(images)}")
    if not found.rows() <= set(images["row"].to_pylist()):
        raise ValueError("it names images that images.parquet lacks")
    if strange := found.attributes_of_slices() - set(attributes):
        raise ValueError(f"it names the attribute {min(strange)!r}, which images.parquet lacks")
    if strange := found.columns() - set(images.column_names):
        raise ValueError(f"it names the column {min(strange)!r}, which images.parquet lacks")


def _check_thumbnail(entry: Mapping[str, Any], kinds: int) -> None:
    """Raise ValueError for a thumbnail whose parts don't fit; it may have a few of the columns."""
    if entry.get("landmarks") is not None and len(entry["landmarks"]) != 2 * POINTS:
        raise ValueError(f"row {entry['row']} has landmarks that aren't {POINTS} points")
    for name in ("maps", "shapes", "peaks"):
        if name in entry and len(entry[name] or ()) != kinds:
            raise ValueError(f"row {entry['row']} doesn't have {name} of {kinds} kinds")
    for grid, shape in zip(entry.get("maps", ()), entry.get("shapes", ()), strict=True):
        if not _fits(grid, shape):
            raise ValueError(f"row {entry['row']} has a map that isn't of its shape")
    if "face" in entry and (entry["face"] is None or not entry["face"].startswith(JPEG)):
        raise ValueError(f"row {entry['row']} has no JPEG as its face")


def _fits(grid: bytes | None, shape: list[int | None] | None) -> bool:
    """Whether a map has as many pixels as its shape says; both are None for a map that is not defined."""
    if grid is None or shape is None:
        return grid is None and shape is None
    sides = [side for side in shape if side is not None]
    return len(sides) == len(shape) == 2 and min(sides) > 0 and len(grid) == prod(sides)


def _of(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in dict.fromkeys(columns)])


def _whole(column: pa.ChunkedArray) -> NDArray[np.int64]:
    if column.null_count:
        raise ValueError("its column 'row' has gaps")
    return np.asarray(column.to_numpy(), np.int64)


def is_trained(manifest: Mapping[str, Any]) -> bool:
    """Whether a run's network was trained; its weights have a hash, if nothing else says so.

    Example:
        >>> is_trained({"detector": {"trained": False}}), is_trained({"detector": {"weights_sha256": "ab"}})
        (False, True)
    """
    detector = manifest.get("detector", {})
    return bool(detector.get("trained", detector.get("weights_sha256", "unknown") is not None))


@dataclass(frozen=True, eq=False)
class _Coded:
    """A column's different words, and every row's index into them."""

    names: list[str]
    codes: NDArray[np.intp]


def _codes(column: pa.Array) -> _Coded:
    coded = column.cast(pa.string()).fill_null("").dictionary_encode()
    return _Coded(coded.dictionary.to_pylist(), coded.indices.to_numpy())
