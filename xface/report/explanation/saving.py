"""Writes findings to a folder: a picture per map, the panel, and the raw maps on request."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from xface.errors import OutputError
from xface.files.names import safe_name, safe_stem
from xface.files.paths import is_file, writing
from xface.files.writing import written_aside
from xface.report.explanation.lift_bars import lift_bars_of
from xface.report.explanation.panel import draw_panel
from xface.report.explanation.picture import draw_picture
from xface.results import ByteArray, ExplanationData

Key = tuple[str, str | None]
DPI = 110
LEVEL = {"compress_level": 4}  # takes half the time of Pillow's 6, for 2 % more bytes


@dataclass(frozen=True)
class SavedFiles:
    """Where findings were written: `pictures` by (method, layer), `panel`, `arrays` if asked for.

    `replaced` counts the files of the same names that were there before.
    """

    pictures: dict[Key, Path]
    panel: Path
    arrays: Path | None
    replaced: int


@dataclass(frozen=True)
class SavedChart:
    """Where a chart was written; `replaced` is 1 if a file of its name was there before, else 0."""

    path: Path
    replaced: int


def save(
    findings: ExplanationData, folder: str | os.PathLike[str], index: int = 0, maps: bool = False
) -> SavedFiles:
    """Write a picture per map, the panel, and with `maps` the raw arrays as npz.

    Pictures are named `{index}-{stem}-{arch}-{method}[-{layer}]-{Class}.png`. The npz holds a float32 array
    per map, under `method` or `method@layer`. Each file appears whole or not at all. Raises OutputError for a
    folder that cannot be written.
    """
    writer = _Writer(ensure_folder(folder), findings, index)
    pictures = {
        (amap.method, amap.layer): writer.picture(amap.method, amap.layer, draw_picture(findings, amap))
        for amap in findings.maps
    }
    panel = writer.figure("panel", draw_panel(findings))
    arrays = None
    if maps:
        named: dict[str, Any] = {
            f"{m.method}@{m.layer}" if m.layer else m.method: m.values for m in findings.maps
        }
        arrays = writer.write("maps", "npz", lambda file: np.savez_compressed(file, **named))
    return SavedFiles(pictures, panel, arrays, writer.replaced)


def save_chart(
    findings: ExplanationData, folder: str | os.PathLike[str], index: int = 0
) -> SavedChart | None:
    """Write the lift of every region as bars, `{index}-{stem}-{arch}-regions-{Class}.png`.

    It appears whole or not at all; without a face there is none. Raises OutputError for a folder that cannot
    be written.
    """
    if not findings.face.found:
        return None
    writer = _Writer(ensure_folder(folder), findings, index)
    return SavedChart(writer.figure("regions", lift_bars_of(findings)), writer.replaced)


def ensure_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the folder, made if need be; raises OutputError where it cannot be made or written."""
    path = Path(folder)
    with writing(folder):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path


class _Writer:
    """Names and writes the files of one image."""

    def __init__(self, folder: Path, findings: ExplanationData, index: int) -> None:
        self.folder, self.replaced = folder, 0
        self.start = f"{index}-{safe_stem(findings.image)}-{safe_name(findings.arch)}"
        self.end = safe_name(findings.label.capitalize())

    def picture(self, method: str, layer: str | None, pixels: ByteArray) -> Path:
        what = f"{method}-{safe_name(layer)}" if layer else method
        return self.write(what, "png", lambda file: Image.fromarray(pixels).save(file, "PNG", **LEVEL))

    def figure(self, what: str, figure: Figure) -> Path:
        return self.write(
            what, "png", lambda file: figure.savefig(file, dpi=DPI, format="png", pil_kwargs=LEVEL)
        )

    def write(self, what: str, ending: str, fill: Callable[[BinaryIO], object]) -> Path:
        path = self.folder / f"{self.start}-{what}-{self.end}.{ending}"
        self.replaced += is_file(path, OutputError)
        with written_aside(path) as part, open(part, "wb") as file:
            fill(file)
        return path
