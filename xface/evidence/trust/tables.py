"""The tables of a trust run: files, cases, and the figures of each case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from xface.evidence.checks import Figure
from xface.evidence.trust.cases import Case
from xface.evidence.trust.examining import Finding
from xface.evidence.trust.reading import ReadCase
from xface.evidence.trust.verdicts import Table
from xface.files.paths import as_utf8
from xface.statistics.bootstrap import group_codes

TABLES = ("images", "cases", "figures")
IMAGES = pa.schema([("row", pa.int64()), ("image", pa.string()), ("sha256", pa.string())])
CASES = pa.schema(
    [
        ("case", pa.int64()),
        *[
            (name, pa.string())
            for name in ("image", "counterpart", "mask", "group", "status", "reason", "no_mask")
        ],
        ("made", pa.bool_()),
    ]
)
FIGURES = pa.schema(
    [
        *[(name, pa.int64()) for name in ("case", "swap")],
        *[(name, pa.string()) for name in ("figure", "by", "part")],
        ("values", pa.list_(pa.float64())),
    ]
)


def tables(
    read: Sequence[tuple[int, ReadCase]], findings: Sequence[Finding], rows: Mapping[str, int]
) -> dict[str, pa.Table]:
    """The tables of some cases, in their order; `rows` numbers all files."""
    files = {path: digest for _, one in read for path, digest in zip(one.case.files, one.sha256, strict=True)}
    images = {"row": [rows[path] for path in files], "image": list(map(as_utf8, files)),
              "sha256": list(files.values())}  # fmt: skip
    cases = [_case_row(place, one) for place, one in read]
    figures = [
        {"case": each.place, "swap": each.swap, "figure": each.figure.name, "by": each.figure.by,
         "part": each.figure.part, "values": each.values.tolist()}
        for each in findings
    ]  # fmt: skip
    return {
        "images": pa.table(images, IMAGES),
        "cases": pa.Table.from_pylist(cases, CASES),
        "figures": pa.Table.from_pylist(figures, FIGURES),
    }


def _case_row(place: int, read: ReadCase) -> dict[str, object]:
    case: Case = read.case
    return {
        "case": place,
        "image": as_utf8(case.path),
        "counterpart": as_utf8(case.counterpart),
        "mask": as_utf8(case.mask),
        "group": as_utf8(case.group),
        "status": read.status,
        "reason": read.reason,
        "no_mask": read.no_mask,
        "made": case.made,
    }


def by_figure(figures: pa.Table, groups: Sequence[str]) -> dict[Figure, Table]:
    """The values of each figure over all cases, in their order; `groups` are the cases'.

    A case without a group is one of its own, with all of its swaps.
    """
    codes = group_codes(groups, len(groups))
    places: dict[Figure, list[int]] = {}
    names = zip(*(figures[name].to_pylist() for name in ("figure", "by", "part")), strict=True)
    for row, name in enumerate(names):
        places.setdefault(Figure(*name), []).append(row)
    cases = figures["case"].to_numpy()
    values = np.array(figures["values"].to_pylist(), np.float64)
    return {figure: Table(values[rows], codes[cases[rows]]) for figure, rows in places.items()}
