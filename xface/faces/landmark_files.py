"""Reads landmarks that somebody else found: a .pts file, or a CSV."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from xface.errors import LandmarkError
from xface.faces.plausibility import implausible, quarter_turns, turn_note
from xface.files.csv_files import read_rows, unescaped
from xface.files.paths import MOST_TABLE, read_text, reading
from xface.files.written_paths import is_foreign, local_parts
from xface.results import Face, FloatArray
from xface.wording import counted

POINTS = 68
IMAGE_COLUMN = "image"
FORMATS = (
    f"a .pts file; a CSV with {POINTS} rows x,y; or a CSV with one row per image and the columns "
    f"{IMAGE_COLUMN},x0..x{POINTS - 1},y0..y{POINTS - 1}"
)

LISTED = 4
Read = tuple[dict[str | None, FloatArray], dict[str, str]]
"""The faces of a file, and what is wrong with its rows, by image."""

NUMBER = re.compile(
    r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?\s*|\s*[-+]?(nan|inf(inity)?)\s*", re.I
)
"""What every program reads as the same number; Python also takes `1_0` and digits of other scripts."""


@dataclass(frozen=True)
class LandmarkFile:
    """The faces of one landmark file, by the image names in it; the key None stands for "the one image".

    `faults` says by image what is wrong with the rows that cannot be read; they cost their own images.

    Example:
        >>> file = LandmarkFile("faces.csv", {"a/1.jpg": np.zeros((68, 2))})
        >>> file.of("/data/a/1.jpg").shape
        (68, 2)
        >>> file.of("/data/b/1.jpg")
        Traceback (most recent call last):
        xface.errors.LandmarkError: 'faces.csv' has no landmarks for '/data/b/1.jpg'; ...
    """

    path: str
    faces: dict[str | None, FloatArray]
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """How many rows cannot be read, and what is wrong with the first of them."""
        if not self.faults:
            return ()
        listed = "; ".join(list(self.faults.values())[:LISTED])
        more = f"; and {len(self.faults) - LISTED} more" if len(self.faults) > LISTED else ""
        count = counted(len(self.faults), "row")
        return (
            f"{self.path!r}: {count} cannot be read, and only their own images go without: {listed}{more}",
        )

    @property
    def names_images(self) -> bool:
        """Whether the file says which image each face belongs to; if not, it serves one image only."""
        return None not in self.faces

    def of(self, image: str | PathLike[str]) -> FloatArray:
        """The (68, 2) landmarks of `image`.

        Its row names it as given; else is a path to the same file; else is the end of its absolute path,
        folder by folder, written as here or as on Windows. A file name without a folder counts only where no
        other row has that file name. An absolute path of Windows is another machine's: of such rows that with
        most folders above the file in common, at least one.

        Raises:
            LandmarkError: if the file has none for it, or several, or its row cannot be read.
        """
        given = str(image)
        if not self.names_images:
            return self.faces[None]
        if given in self.faces or given in self.faults:
            return self._named(given)
        with reading(image, LandmarkError):
            matches = self._by_file.get(os.path.realpath(given)) or self._ends_of(given)
        if len(matches) == 1:
            return self._named(matches[0])
        if matches:
            listed = ", ".join(map(repr, matches[:4]))
            raise LandmarkError(f"{self.path!r} has several rows for {given!r} ({listed}); keep one of them")
        remedy = f"add a row whose {IMAGE_COLUMN} is its path"
        raise LandmarkError(f"{self.path!r} has no landmarks for {given!r}; {remedy}")

    def _named(self, image: str) -> FloatArray:
        if image in self.faults:
            raise LandmarkError(f"{self.path!r}: {self.faults[image]}; mend that row")
        return self.faces[image]

    @cached_property
    def _by_file(self) -> dict[str, list[str]]:
        return self._grouped(lambda name: os.path.realpath(os.path.join(*local_parts(name))))

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return self._grouped(lambda name: local_parts(name)[-1])

    def _grouped(self, key: Callable[[str], str]) -> dict[str, list[str]]:
        groups = defaultdict(list)
        for name in (*self.faces, *self.faults):
            if name is not None and local_parts(name):
                groups[key(name)].append(name)
        return dict(groups)

    def _ends_of(self, given: str) -> list[str]:
        whole = PurePath(os.path.abspath(given)).parts
        rows = self._by_name.get(os.path.basename(given), [])
        ends = [(row, local_parts(row)) for row in rows]
        found = [row for row, end in ends if whole[-len(end) :] == end and (len(end) > 1 or len(rows) == 1)]
        return found or _nearest([row for row in rows if is_foreign(row)], whole)


def _nearest(rows: list[str], whole: tuple[str, ...]) -> list[str]:
    """The rows whose ends have most parts in common with a path, two or more."""
    common = {row: _common_end(local_parts(row), whole) for row in rows}
    most = max(common.values(), default=0)
    return [row for row, count in common.items() if count == most > 1]


def _common_end(one: tuple[str, ...], two: tuple[str, ...]) -> int:
    pairs = zip(reversed(one), reversed(two), strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))


def read_landmarks(path: str | PathLike[str]) -> LandmarkFile:
    """Read a .pts file (one face) or a CSV (68 rows `x,y`, or one row per image).

    Coordinates are pixels of the upright original image; the centre of the first pixel is (0, 0), as in
    dlib. Tools that count from 1 (MATLAB's, hence iBUG's own files) write files that are one pixel off.

    Of a CSV with one row per image, a row that cannot be read costs its own image: see `faults`.

    Raises:
        LandmarkError: if the file is missing or holds anything else, with what is wrong in it.
    """
    readers = {".pts": _read_pts, ".csv": _read_csv}
    name, suffix = str(path), Path(path).suffix.lower()
    if suffix not in readers:
        raise LandmarkError(f"{name!r} is not a landmark file: expected {FORMATS}")
    try:
        faces, faults = readers[suffix](read_text(path, LandmarkError, MOST_TABLE))
    except (ValueError, csv.Error) as error:
        raise LandmarkError(f"{name!r}: {error}; expected {FORMATS}") from error
    return LandmarkFile(name, faces, faults)


def face_from_landmarks(points: FloatArray, source: str) -> Face:
    """The face that given landmarks describe; its box is their bounding box.

    A note says if it is turned by a quarter or more.

    Raises:
        LandmarkError: if `points` are not 68 finite pairs, or can't be a face's landmarks.

    Example:
        >>> face_from_landmarks(np.linspace(0.1, 0.9, 136).reshape(68, 2), "face.pts")
        Traceback (most recent call last):
        xface.errors.LandmarkError: 'face.pts': the landmarks can't be a face's: all coordinates ...
    """
    try:
        points = _points(points)
    except ValueError as error:
        raise LandmarkError(f"{source!r}: {error}; expected {POINTS} pairs of x and y") from error
    if reason := implausible(points):
        raise LandmarkError(f"{source!r}: the landmarks can't be a face's: {reason}")
    turns = quarter_turns(points)
    notes = (turn_note(turns),) if turns else ()
    (left, top), (right, bottom) = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    return Face(True, (int(left), int(top), int(right), int(bottom)), points, source, notes)


def _read_pts(text: str) -> Read:
    lists = re.findall(r"\{([^{}]*)\}", text)
    if len(lists) != 1:
        raise ValueError(f"{len(lists)} lists of points in braces, not one")
    points = _points([line.split() for line in lists[0].splitlines() if line.strip()])
    before, _, after = (part.strip() for part in re.split(r"(\{[^{}]*\})", text))
    if after:
        raise ValueError(f"{after.splitlines()[0][:40]!r} stands behind the points")
    _check_head(before.splitlines())
    return {None: points}, {}


def _check_head(lines: list[str]) -> None:
    """Raise ValueError for a line before the points that contradicts them, or isn't known."""
    known = {"version": 1, "n_points": POINTS}
    for line in filter(str.strip, lines):
        name, _, value = (part.strip() for part in line.lower().partition(":"))
        if name not in known:
            raise ValueError(f"the line {line[:40]!r} stands before the points, unknown or twice")
        if not NUMBER.fullmatch(value) or float(value) != known[name]:
            raise ValueError(f"{name} is {value[:40]!r}, not {known[name]}")
        del known[name]


def _read_csv(text: str) -> Read:
    if "\0" in text:  # no path may hold it
        raise ValueError("it holds null characters")
    rows = list(read_rows(io.StringIO(text, newline="")).values())
    if not rows:
        raise ValueError("the file is empty")
    header = [cell.strip().lower().replace("_", "") for cell in rows[0]]
    if "x0" in header:
        return _read_table(header, rows[1:])
    return {None: _points(rows[1:] if header == ["x", "y"] else rows)}, {}


def _read_table(header: list[str], rows: list[list[str]]) -> Read:
    wanted = [f"{axis}{index}" for index in range(POINTS) for axis in "xy"]
    if missing := [column for column in wanted if column not in header]:
        raise ValueError(f"the columns {', '.join(missing[:4])} are missing")
    if more := [name for name in header if re.fullmatch("[xy][0-9]+", name) and name not in wanted]:
        raise ValueError(f"the columns {', '.join(more[:4])} are of more than {POINTS} points")
    if twice := [column for column in (*wanted, IMAGE_COLUMN) if header.count(column) > 1]:
        raise ValueError(f"the columns {', '.join(twice[:4])} occur twice")
    named = IMAGE_COLUMN in header
    if not named and len(rows) != 1:
        raise ValueError(f"{len(rows)} rows but no column {IMAGE_COLUMN}")
    if not named:
        return {None: _read_row(header, rows[0], "")}, {}
    faces: dict[str | None, FloatArray] = {}
    faults: dict[str, str] = {}
    place = header.index(IMAGE_COLUMN)
    for number, row in enumerate(rows, start=1):
        image = unescaped(row[place]) if len(row) > place else ""
        where = f"row {number} ({image!r})" if image else f"row {number}"
        try:
            if image in faces or image in faults:
                raise ValueError(f"{where}: image {image!r} occurs twice")
            faces[image] = _read_row(header, row, f"{where}: ")
        except ValueError as error:
            faults[image or where] = str(error)
            faces.pop(image, None)
    if faults and not faces:
        raise ValueError(f"no row can be read: {next(iter(faults.values()))}")
    return faces, faults


def _read_row(header: list[str], row: list[str], where: str) -> FloatArray:
    if len(row) != len(header):
        raise ValueError(f"{where}{len(row)} cells, not {len(header)}")
    cells = dict(zip(header, row, strict=True))
    return _points([(cells[f"x{i}"], cells[f"y{i}"]) for i in range(POINTS)], where)


def _points(rows: Any, where: str = "") -> FloatArray:
    try:
        points = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}not every point is a pair of numbers") from error
    if odd := [cell for row in rows for cell in row if isinstance(cell, str) and not NUMBER.fullmatch(cell)]:
        raise ValueError(f"{where}{odd[0][:40]!r} is not a number")
    if points.shape != (POINTS, 2):
        raise ValueError(f"{where}{counted(len(rows), 'point')}, not {POINTS}")
    if not np.isfinite(points).all():
        raise ValueError(f"{where}a coordinate is not finite")
    return points
