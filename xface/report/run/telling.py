"""How a run's findings are sorted and shortened for a reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from xface.runs.folder import RunFolder
from xface.wording import counted

Row = Mapping[str, Any]
MOST_REASONS = 12
FAMILIES = {"regions": "contrasts", "attributes": "attributes", "slices": "slices"}


@dataclass(frozen=True)
class Told:
    """The sentences of a run: what was found, what was tested and not found, and what was not tested.

    A caution is none of these: the page has it at its head.
    """

    found: tuple[Row, ...]
    absent: tuple[Row, ...]
    untested: tuple[Row, ...]
    any_tested: bool

    @classmethod
    def of(cls, findings: Mapping[str, Any]) -> Told:
        """Sort the sentences; each keeps its `number`."""
        numbered = [{**each, "number": number} for number, each in enumerate(findings["sentences"] or ())]
        silent = [each for each in numbered if each["about"] == "none"]
        return cls(
            tuple(each for each in numbered if each["about"] not in ("none", "caution")),
            tuple(each for each in silent if _is_tested(each, findings)),
            tuple(each for each in silent if not _is_tested(each, findings)),
            any(row["p"] is not None for row in _all_tests(findings)),
        )


def _all_tests(findings: Mapping[str, Any]) -> Iterator[Row]:
    primary = (findings["primary"] or {}).get("result")
    yield from [primary] if primary else []
    for table in FAMILIES.values():
        yield from findings[table] or ()
    yield from (findings["regression"] or {}).get("rows", ())


def _is_tested(sentence: Row, findings: Mapping[str, Any]) -> bool:
    """Whether any row that a sentence speaks of has a p value."""
    if sentence["name"] == "regression":
        return bool((findings["regression"] or {}).get("rows"))
    rows = (findings[FAMILIES[sentence["name"]]] or ()) if sentence["name"] in FAMILIES else ()
    return any(row["p"] is not None for row in rows if row.get("contrast", "") == sentence["contrast"])


def left_out(excluded: Sequence[Row]) -> list[Row]:
    """A row for each reason to leave images out; where reasons are too many to read, for each status.

    Example:
        >>> row = {"status": "missing", "count": 1, "by_label": {"real": 1}}
        >>> [folded] = left_out([{**row, "reason": f"no file {n}.jpg"} for n in range(6000)])
        >>> folded["reason"], folded["count"], folded["by_label"]
        ('6,000 reasons, the first: no file 0.jpg', 6000, {'real': 6000})
    """
    if len(excluded) <= MOST_REASONS:
        return list(excluded)
    in_order = sorted(excluded, key=lambda row: str(row["status"]))
    return [_together(list(rows)) for _, rows in groupby(in_order, key=lambda row: row["status"])]


def _together(rows: Sequence[Row]) -> Row:
    labels: Counter[str] = sum((Counter(row["by_label"]) for row in rows), Counter())
    first = rows[0]["reason"]
    return {
        **rows[0],
        "reason": f"{counted(len(rows), 'reason')}, the first: {first}" if len(rows) > 1 else first,
        "count": sum(row["count"] for row in rows),
        "by_label": dict(labels),
    }


def groups_of(run: RunFolder) -> str:
    """What of the run's images is not independent."""
    pairs = zip(run.texts("group"), run.rows.tolist(), strict=True)
    groups, images = len({group or row for group, row in pairs}), len(run.rows)
    if groups == images:
        return "each image by itself"
    by = run.manifest["group_by"]
    return f"{counted(groups, 'group')} of {counted(images, 'image')}{f', by {by}' if by else ''}"
