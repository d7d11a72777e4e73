"""What was found, what was looked for and not found, and what was not tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xface.report.html.csv_tables import Table
from xface.report.run.sections.section import Report, Section, beside

Row = Mapping[str, Any]
FAMILIES = {"regions": "contrasts", "attributes": "attributes", "slices": "slices",
            "repairs": "repairs"}  # fmt: skip


@dataclass(frozen=True)
class Sentences:
    """The sentences of a run: the top, what else was found, what was tested and not found, and what was not.

    A caution is none of these, which the page has at its head, nor is a mere count, which its section has.
    """

    top: tuple[Row, ...]
    found: tuple[Row, ...]
    absent: tuple[Row, ...]
    untested: tuple[Row, ...]
    any_tested: bool

    @classmethod
    def of(cls, findings: Mapping[str, Any]) -> Sentences:
        """Sort the sentences; each keeps its `number`."""
        numbered = [{**each, "number": number} for number, each in enumerate(findings["sentences"] or ())]
        found = [each for each in numbered if each["about"] not in ("none", "caution", "count")]
        silent = [each for each in numbered if each["about"] == "none"]
        return cls(
            tuple(each for each in found if each.get("top")),
            tuple(each for each in found if not each.get("top")),
            tuple(each for each in silent if _is_tested(each, findings)),
            tuple(each for each in silent if not _is_tested(each, findings)),
            any(row["p"] is not None for row in _all_tests(findings)),
        )


def _all_tests(findings: Mapping[str, Any]) -> Iterator[Row]:
    primary = (findings["primary"] or {}).get("result")
    yield from [primary] if primary else []
    for table in FAMILIES.values():
        yield from findings.get(table) or ()
    yield from (findings["regression"] or {}).get("rows", ())
    yield from (row for rows in _breakdowns(findings).values() for row in rows)


def _breakdowns(findings: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The error rates of each breakdown, by the name that its sentences have."""
    found = findings.get("breakdowns") or ()
    return {
        f"by {each['column']}": [row for part in each["parts"] for row in part["rates"]] for each in found
    }


def _is_tested(sentence: Row, findings: Mapping[str, Any]) -> bool:
    """Whether any row that a sentence speaks of has a p value."""
    if sentence["name"] == "regression":
        return bool((findings["regression"] or {}).get("rows"))
    if (rates := _breakdowns(findings).get(sentence["name"])) is not None:
        return any(row["p"] is not None for row in rates)
    rows = (findings.get(FAMILIES[sentence["name"]]) or ()) if sentence["name"] in FAMILIES else ()
    return any(row["p"] is not None for row in rows if row.get("contrast", "") == sentence["contrast"])


def _sentences(report: Report) -> list[Row]:
    return report.run.findings["sentences"] or []


FINDINGS = Section(
    "Findings",
    beside("findings.html"),
    lambda report: {"sentences": Sentences.of(report.run.findings)},
    heading="What was found",
    tables=lambda report: [
        Table("sentences", ("text", "about", "contrast", "name", "rows", "top", "p_all"), _sentences(report))
    ],
    subsets=lambda report: {"sentences": [each["rows"] for each in _sentences(report)]},
)
