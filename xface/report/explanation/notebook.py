"""Findings as a piece of HTML for a notebook; everything that came from outside is escaped."""

from __future__ import annotations

import base64
import io
from html import escape

from xface.report.explanation.earned import trust_lines
from xface.report.explanation.effect_table import effect_table
from xface.report.explanation.effects_in_words import effects_sentence
from xface.report.explanation.panel import draw_panel
from xface.report.explanation.table import region_table
from xface.results import ExplanationData
from xface.wording import UNTRAINED, map_name, origin, printable, subject, verdict


def as_html(findings: ExplanationData) -> str:
    """Return the verdict, what hiding regions does, the notes, the panel as a picture, and the tables."""
    buffer = io.BytesIO()
    draw_panel(findings).savefig(buffer, dpi=80, format="png")
    picture = base64.b64encode(buffer.getvalue()).decode()
    names = escape(", ".join(map_name(amap) for amap in findings.maps), quote=True)
    warning = "" if findings.trained else f"<p><strong>{escape(UNTRAINED)}</strong></p>"
    hidden = effects_sentence(findings)
    said = f"<p><strong>{escape(hidden)}</strong></p>" if hidden else ""
    tables = "\n\n".join(
        filter(None, (effect_table(findings), region_table(findings), trust_lines(findings)))
    )
    notes = "".join(f"<p>note: {escape(printable(note))}</p>" for note in findings.notes)
    return (
        f"<p><strong>{escape(printable(findings.image))}</strong>: {escape(verdict(findings.prediction))}<br>"
        f"explained: {escape(subject(findings))}; {escape(origin(findings))}</p>{warning}{said}{notes}"
        f'<img alt="Maps of this face: {names}" src="data:image/png;base64,{picture}">'
        f"<pre>{escape(tables)}</pre>"
    )
