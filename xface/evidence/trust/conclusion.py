"""The conclusion of a trust run: what its `trust.json` says, from its tables alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from xface.attribution.maps import Key
from xface.evidence.baselines import BASELINES
from xface.evidence.trust.reading import OF_MASK
from xface.evidence.trust.tables import by_figure
from xface.evidence.trust.verdicts import Answerers, Judge, check_words
from xface.runs.folder import UNSHOWN
from xface.runs.trust import LeftOut

NAMED = re.compile(r"cannot (?:read|prepare) ('[^']*'|\"[^\"]*\"): ")
"""What a picture's error begins with."""


def judged(kinds: Sequence[Key], cases: pa.Table, figures: pa.Table) -> dict[str, Any]:
    """The `checks`, `maps`, `baselines` and `effects` of a record; `kinds` are the maps, in their order."""
    made = set(pc.filter(cases["case"], cases["made"]).to_pylist())
    tables = by_figure(figures, cases["group"].to_pylist())
    judge = Judge(Answerers(kinds, tuple(BASELINES)), tables, _with(figures, "pixel_auc") <= made)
    return {
        "checks": check_words(),
        "maps": judge.maps(),
        "baselines": judge.baselines(),
        "effects": judge.effects(),
    }


def counts(cases: pa.Table, figures: pa.Table) -> dict[str, int]:
    """How many there are of what `xface.runs.trust.TrustData` counts."""
    rows = [row for row in cases.to_pylist() if row["status"] == "ok"]
    forged = [row for row in rows if not row["made"]]
    return {
        "forged": len(forged),
        "made": len(rows) - len(forged),
        "pairs": sum(bool(row["counterpart"]) and _has_pair(row["no_mask"]) for row in forged),
        "masked": len(_with(figures, "pixel_auc")),
        "swaps": len(_of(figures, "partial_swap")),
        "groups": len({row["group"] or f"case {row['case']}" for row in rows}),
    }


def left_out(cases: pa.Table) -> Iterator[LeftOut]:
    """Pictures that could not be asked about, and pairs and masks that don't serve, by reason."""
    for what, column in (("picture", "reason"), ("pair", "no_mask")):
        found: dict[str, list[dict[str, str]]] = {}
        for row in cases.select(["image", "status", column]).to_pylist():
            if row[column]:
                found.setdefault(_kind(row[column]), []).append(row)
        for reason, rows in sorted(found.items(), key=lambda each: -len(each[1])):
            failed = any(row["status"] in UNSHOWN for row in rows)
            yield LeftOut(
                what="mask" if reason.startswith(OF_MASK) else what,
                reason=reason,
                count=len(rows),
                example=rows[0]["image"],
                failed=failed,
            )


def _of(figures: pa.Table, name: str) -> pa.Table:
    """The rows of a figure itself, not of its parts."""
    return figures.filter(pc.and_(pc.equal(figures["figure"], name), pc.equal(figures["by"], "")))


def _with(figures: pa.Table, name: str) -> set[int]:
    """The cases that have a figure."""
    return set(_of(figures, name)["case"].to_pylist())


def _has_pair(no_mask: str) -> bool:
    return not no_mask or no_mask.startswith(OF_MASK)


def _kind(reason: str) -> str:
    """A reason without the name of one file.

    Example:
        >>> _kind("cannot read 'a.jpg': it is empty (0 bytes)")
        'it is empty (0 bytes)'
    """
    return NAMED.sub("", reason)
