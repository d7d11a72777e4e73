"""Draws what share, lift, coarse and card mean, from what xface finds in the faces of samples/."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

import xface
from xface.images.pictures import read_picture
from xface.preprocessing import Prepared, Preprocessing
from xface.results import ByteArray, FloatArray, RegionMeasure

FAKE = Path(__file__).resolve().parents[1] / "samples" / "fake.jpg"
AREA, SHARE = "#999999", "#0072b2"
COARSE, FINE = "#e69f00", "#56b4e9"
HALO = [withStroke(linewidth=4, foreground="black")]
TITLE = 11  # points
CELLS = 4  # fewer cells of the map's grid than this are coarse


def draw_share(path: Path) -> None:
    """One map over the face, and of three regions its share, area and lift."""
    found = xface.explain(xface.load(device="cpu"), FAKE, methods=["gradcam"])
    names = ["left_eyebrow", "background", "jaw"]
    rows = {row.region: row for row in found.regions}
    figure, (face, bars) = _figure(8.5, 3.4, [1, 1.5])
    face.imshow(_grey(found.view), cmap="gray", vmin=0, vmax=255)
    face.imshow(found.maps[0].amount(found.view.shape[:2]), cmap="viridis", alpha=0.6)
    _outline(face, found, "left_eyebrow", "white")
    face.set_title(f"{found.maps[0].method} and left_eyebrow", fontsize=TITLE)
    for place, name in enumerate(names):
        _bars(bars, place, rows[name])
    bars.set_yticks(range(len(names)), names)
    bars.set(xlim=(0, 100), xlabel="% of the whole")
    bars.set_title("lift = share / area; 1x is chance", fontsize=TITLE)
    bars.invert_yaxis()
    bars.legend(loc="lower right")
    figure.savefig(path, dpi=110)


def draw_coarse(path: Path) -> None:
    """The grid of a map over the face, one region smaller than 4 of its cells, and one larger."""
    found = xface.explain(xface.load("resnet18", device="cpu"), FAKE, methods=["gradcam"])
    height, width = found.view.shape[:2]
    grid = found.maps[0].values.shape
    figure, (face,) = _figure(6, 3.8, [1])
    face.imshow(_grey(found.view), cmap="gray", vmin=0, vmax=255)
    face.vlines(np.arange(1, grid[1]) * width / grid[1] - 0.5, -0.5, height - 0.5, "white", lw=0.6)
    face.hlines(np.arange(1, grid[0]) * height / grid[0] - 0.5, -0.5, width - 0.5, "white", lw=0.6)
    for name, top in (("left_eye", 0.3), ("jaw", 0.75)):
        [row] = [row for row in found.regions if row.region == name]
        cells, colour = row.area * np.prod(grid), COARSE if row.coarse else FINE
        assert row.coarse == (cells < CELLS)
        _outline(face, found, name, colour, line="-" if row.coarse else "--")
        text = f"{name}: {cells:.1f} cells,\n{'coarse' if row.coarse else 'not coarse'}"
        face.text(width * 1.03, height * top, text, fontsize=11, va="center", clip_on=False)
    face.set_title(f"the grid of {found.arch}'s {found.maps[0].layer}, {grid[0]}x{grid[1]}", fontsize=TITLE)
    figure.savefig(path, dpi=110)


def draw_card(path: Path) -> None:
    """One picture as the same weights take it and classify it, under their own card and under wrong ones."""
    detector = xface.load("resnet18", device="cpu")
    own = detector.card
    right = own.preprocessing
    plain = replace(right, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    cards = {
        "its own card": own,
        "no mean, no std": replace(own, preprocessing=plain),
        "not divided by 255": replace(own, preprocessing=replace(right, scale=1.0)),
        "classes in reverse order": replace(own, classes=own.classes[::-1]),
    }
    figure, cells = _figure(9, 2.9, [1] * len(cards))
    for axes, (name, card) in zip(cells, cards.items(), strict=True):
        [prediction] = replace(detector, card=card).predict(FAKE)
        assert (prediction.label == "fake") == (card is own)
        axes.imshow(_meant(card.preprocessing.prepare(read_picture(FAKE)), right))
        axes.set(xticks=[], yticks=[])
        axes.set_title(
            f"{name}:\n{prediction.label}, probability {prediction.probability:.2f}", fontsize=TITLE
        )
    figure.savefig(path, dpi=110, bbox_inches="tight", pad_inches=0.06)


def _figure(width: float, height: float, ratios: list[float]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    cells = list(np.ravel(figure.subplots(1, len(ratios), width_ratios=ratios)))
    return figure, cells


def _grey(view: ByteArray) -> FloatArray:
    return np.asarray(view.mean(axis=2))


def _meant(prepared: Prepared, right: Preprocessing) -> FloatArray:
    """What a network's input looks like to weights that were trained with the preprocessing `right`."""
    pixels = prepared.tensor.numpy().transpose(1, 2, 0)
    return np.asarray(np.clip(pixels * np.array(right.std) + np.array(right.mean), 0, 1))


def _outline(axes: Axes, found: xface.Explanation, name: str, colour: str, line: str = "-") -> None:
    for region, polygon in found.outlines:
        if region == name:
            axes.plot(*polygon[[*range(len(polygon)), 0]].T, line, color=colour, lw=2.5, path_effects=HALO)
    axes.set(xticks=[], yticks=[])


def _bars(axes: Axes, place: int, row: RegionMeasure) -> None:
    """A region's area and share, with what the lift is of them."""
    assert row.share is not None
    assert row.lift is not None
    first = place == 0
    for offset, value, colour, label in ((-0.18, row.area, AREA, "area"), (0.18, row.share, SHARE, "share")):
        axes.barh(place + offset, 100 * value, 0.32, color=colour, label=label if first else None)
    text = f"{100 * row.share:.1f} / {100 * row.area:.1f} = {row.lift:.1f}x"
    axes.text(100 * max(row.area, row.share) + 1.5, place, text, va="center", fontsize=10)
