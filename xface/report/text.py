"""Findings as text for a terminal."""

from __future__ import annotations

from xface.report.table import region_table
from xface.report.wording import origin, printable, subject, verdict
from xface.results import Findings


def as_text(findings: Findings) -> str:
    """Return the verdict, what is explained, the notes, and the table of regions."""
    lines = [
        f"{printable(findings.image)}: {verdict(findings.prediction)}",
        f"explained: {subject(findings)}; {origin(findings)}",
        *(f"note: {note}" for note in findings.notes),
    ]
    return "\n".join([*lines, "", region_table(findings)])
