"""Provenance: what the run was made by, of what, and how it is made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from shlex import join
from typing import Any

from xface.report.run.sections.section import Report, Section, beside
from xface.runs.folder import RunFolder
from xface.wording import counted


def groups_of(run: RunFolder) -> str:
    """What of the run's images is not independent."""
    pairs = zip(run.texts("group"), run.rows.tolist(), strict=True)
    groups, images = len({group or row for group, row in pairs}), len(run.rows)
    if groups == images:
        return "each image by itself"
    by = run.manifest["group_by"]
    return f"{counted(groups, 'group')} of {counted(images, 'image')}{f', by {by}' if by else ''}"


def _data(report: Report) -> dict[str, Any]:
    manifest = report.run.manifest
    return {
        "groups": groups_of(report.run),
        "stages": _stages(report),
        "command": join(map(str, manifest["command"])),
        "detector": _in_full(manifest),
    }


def _stages(report: Report) -> dict[str, float]:
    """What each stage took; while the run is made, its report is the one that this page ends."""
    stages: dict[str, float] = report.run.manifest["stages"]
    return stages if "report" in stages else {**stages, "report": report.seconds}


def _in_full(manifest: Mapping[str, Any]) -> str:
    content = {name: manifest.get(name) for name in ("detector", "settings")}
    return json.dumps(content, indent=2, ensure_ascii=False)


PROVENANCE = Section("Provenance", beside("provenance.html"), _data, script=beside("provenance.js"))
