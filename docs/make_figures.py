"""Draws the pictures of README.md and docs/, and fills the marked places of README.md and docs/.

    python docs/make_figures.py

Panels and the printed table are what the command line gives for the faces in samples/; the table of speeds is
read from benchmarks/results/attribution-cpu.json, that of the families from families-cpu.json;
trust_tables.py fills in what maps earned.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from definitions import draw_card, draw_coarse, draw_share
from floors import draw_floors
from marked_places import fill
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image
from trust_tables import main as fill_trust_tables

from xface.faces import REGIONS, find_face, region_labels, region_outlines
from xface.faces.face_axes import BoolArray
from xface.images.pictures import read_picture
from xface.networks import ARCHITECTURES
from xface.networks.blueprints import on_meta, parameter_count
from xface.preprocessing import PRESETS, Preprocessing, preset_name
from xface.results import ByteArray, FloatArray

ROOT = Path(__file__).resolve().parents[1]
DOCS, SAMPLES = ROOT / "docs", ROOT / "samples"
SPEEDS = ROOT / "benchmarks" / "results" / "attribution-cpu.json"
FAMILIES = ROOT / "benchmarks" / "results" / "families-cpu.json"
ATTENTION = ROOT / "benchmarks" / "results" / "attention-cpu.json"
SHOWN = "captum", "a wrapper per method", "xface", "xface, channels last", "floor"

# Okabe and Ito's palette, told apart with every kind of colour vision; left and right share a colour.
COLOURS = {
    "eye": "#56b4e9",
    "eyebrow": "#e69f00",
    "mouth": "#d55e00",
    "nose": "#f0e442",
    "forehead": "#009e73",
    "jaw": "#cc79a7",
    "cheek": "#0072b2",
}
HALO = [withStroke(linewidth=3, foreground="white")]
LABELS_AT = {  # (side of the picture, height from 0 at the top to 1)
    "right_eyebrow": (0, 0.22),
    "right_eye": (0, 0.35),
    "right_cheek": (0, 0.48),
    "nose": (0, 0.61),
    "mouth": (0, 0.74),
    "forehead": (1, 0.14),
    "left_eyebrow": (1, 0.25),
    "left_eye": (1, 0.36),
    "left_cheek": (1, 0.48),
    "jaw": (1, 0.74),
    "background": (1, 0.90),
}


def main() -> None:
    """Write every picture, and the pages where they hold results."""
    printed = draw_panel("panel.jpg", "samples/fake.jpg")
    draw_panel("untrained.jpg", "--weights", "none", "--arch", "resnet18", "samples/fake.jpg")
    draw_regions(DOCS / "regions.png")
    draw_share(DOCS / "share.png")
    draw_coarse(DOCS / "coarse.png")
    draw_card(DOCS / "card.png")
    draw_floors(DOCS / "floors.svg")
    fill(ROOT / "README.md", "output", f"```text\n{printed}\n```")
    fill(DOCS / "architectures.md", "architectures", architectures())
    if SPEEDS.exists():
        fill(DOCS / "speed.md", "benchmark", speeds(json.loads(SPEEDS.read_text(encoding="utf-8"))))
    if FAMILIES.exists():
        fill(DOCS / "training.md", "families", families(json.loads(FAMILIES.read_text(encoding="utf-8"))))
    if ATTENTION.exists():
        draw_attention(json.loads(ATTENTION.read_text(encoding="utf-8")), DOCS / "attention.png")
    fill_trust_tables()


def families(found: dict[str, Any]) -> str:
    """The table of what each family reached, from what benchmarks/families.py wrote."""
    lines = [
        "| family | network | parameters | seconds per epoch | AUC on test (95 %) |",
        "|---|---|---:|---:|---:|",
    ]
    for family, row in found["families"].items():
        auc = spread(row["auc"])
        lines.append(
            f"| {family} | `{row['arch']}` | {row['parameters']:,} | {row['seconds_per_epoch']} | {auc} |"
        )
    budget, machine = found["budget"], ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    how = f"{budget['epochs']} epochs at {budget['size']}x{budget['size']}, seed {budget['seed']}. {machine}."
    return "\n".join([*lines, "", how])


def draw_attention(found: dict[str, Any], path: Path) -> None:
    """The curves of cbam_resnet with and without attention."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = {
        "train_loss": "training loss",
        "validation_loss": "validation loss",
        "validation_auc": "validation AUC",
    }
    styles = {"with": ("#d55e00", "o-"), "without": ("#0072b2", "s--")}
    for cell, (curve, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name, row in found["attention"].items():
            colour, style = styles[name]
            cell.plot(
                range(1, len(row["curves"][curve]) + 1),
                row["curves"][curve],
                style,
                color=colour,
                label=f"{name} attention",
            )
        cell.set(title=title, xlabel="epoch")
        cell.xaxis.get_major_locator().set_params(integer=True)
    cell.axhline(0.5, color="gray", linestyle=":", label="chance")
    cell.set_ylim(0, 1)
    cell.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def architectures() -> str:
    """The registry as a table."""
    head = ("`--arch`", "parameters", "recommended layer", "stages (`--layer all`)", "preprocessing")
    rows = [head, ("---",) * len(head)]
    for name, entry in ARCHITECTURES.items():
        stages = ", ".join(f"`{stage}`" for stage in entry.stages)
        count, how = f"{parameter_count(on_meta(entry)):,}", in_words(entry.preprocessing)
        rows.append((f"`{name}`", count, f"`{entry.layer}`", stages, how))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def in_words(preprocessing: Preprocessing) -> str:
    """A preset by its name, another one by the preset that it is at another size."""
    if name := preset_name(preprocessing):
        return f"`{name}`"
    at = {"size": preprocessing.size, "shorter_side": preprocessing.shorter_side}
    names = (
        name for name, preset in reversed(list(PRESETS.items())) if replace(preset, **at) == preprocessing
    )
    return f"`{next(names)}`, {preprocessing.size[0]} px"


def spread(estimate: dict[str, float | None]) -> str:
    """A number and its interval, if it has one."""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def draw_panel(name: str, *arguments: str) -> str:
    """Run `xface explain`, keep its panel as docs/NAME, and return what it printed."""
    xface = Path(sys.executable).with_name("xface")
    with tempfile.TemporaryDirectory() as folder:
        command = [str(xface), "explain", "--device", "cpu", "--out", folder, *arguments]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        [panel] = Path(folder).glob("*-panel-*.png")
        Image.open(panel).convert("RGB").save(DOCS / name, quality=90)  # a quarter of the PNG's bytes
        return run.stdout.replace(folder, "results").strip()


def draw_regions(path: Path) -> None:
    """Draw the regions over samples/real.jpg, with their names beside it."""
    pixels = read_picture(SAMPLES / "real.jpg").pixels
    landmarks = find_face(pixels).landmarks
    assert landmarks is not None, "samples/real.jpg is a face that dlib finds"
    labels = region_labels(landmarks, pixels.shape[:2])
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(tinted(pixels, labels))
    for _, line in region_outlines(landmarks, pixels.shape[:2]):
        axes.plot(*line[[*range(len(line)), 0]].T, color="white", linewidth=1)
    axes.scatter(*landmarks.T, s=6, color="white", edgecolors="black", linewidths=0.5)
    for index, name in enumerate(REGIONS):
        add_label(axes, name, inside(labels == index), pixels.shape[0])
    axes.set_axis_off()
    figure.savefig(path, dpi=110)


def tinted(pixels: ByteArray, labels: ByteArray) -> ByteArray:
    """The face in grey, each region in its colour."""
    grey = pixels.mean(axis=2, keepdims=True).repeat(3, axis=2)
    for index, name in enumerate(REGIONS):
        if colour := COLOURS.get(name.removeprefix("right_").removeprefix("left_")):
            here = labels == index
            grey[here] = 0.55 * grey[here] + 0.45 * 255 * np.array(to_rgb(colour))
    return grey.round().astype(np.uint8)


def inside(mask: BoolArray) -> FloatArray:
    """The point (x, y) of a region that is farthest from its edge."""
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return np.array([column, row])


def add_label(axes: Axes, name: str, point: FloatArray, side: int) -> None:
    """Write a region's name beside the picture, with a line to the region."""
    right, height = LABELS_AT[name]
    axes.annotate(
        name,
        xy=(float(point[0]), float(point[1])),
        xytext=(side * (1.06 if right else -0.06), height * side),
        ha="left" if right else "right",
        va="center",
        fontsize=10,
        annotation_clip=False,
        arrowprops={"arrowstyle": "-", "linewidth": 1, "shrinkB": 0, "path_effects": HALO},
    )


def speeds(found: dict[str, Any]) -> str:
    """The table of seconds per call, from what benchmarks/attribution.py wrote."""
    rows = found["results"]
    names = [name for name in SHOWN if name in rows[0]["seconds"]]
    lines = [
        f"| network, batch | {' | '.join(names)} | xface to captum |",
        f"|---|{'---:|' * (len(names) + 1)}",
    ]
    for row in rows:
        cells = [f"{statistics.median(row['seconds'][name]):.3f}" for name in names]
        lines.append(f"| {row['arch']}, {row['batch']} | {' | '.join(cells)} | {gain(row['seconds']):.1f}x |")
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    return "\n".join(
        [*lines, "", f"Seconds per call, median of {len(rows[0]['seconds']['xface'])} rounds. {machine}."]
    )


def gain(seconds: dict[str, list[float]]) -> float:
    """How many times as fast as captum xface is, as a detector's network is placed: channels last."""
    ours = seconds.get("xface, channels last", seconds["xface"])
    return statistics.median(theirs / mine for theirs, mine in zip(seconds["captum"], ours, strict=True))


if __name__ == "__main__":
    main()
