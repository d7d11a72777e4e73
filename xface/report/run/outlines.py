"""Outlines of regions on the picture of a face: those of the drawn face, bent onto its landmarks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from xface.faces.frontal import FRONTAL
from xface.report.html.svg import Node, as_text, drawing, node
from xface.results import FloatArray
from xface.runs.regions import Regions
from xface.wording import spaced

HALO, LINE = "#000000", "#ffffff"


def outlines_svg(regions: Regions, names: Iterable[str], landmarks: FloatArray, size: tuple[int, int]) -> str:
    """The outlines of some regions over a picture of this width and height with landmarks (68, 2)."""
    chosen = [name for name in names if name in regions]
    lines = [line for name in chosen for line in regions[name]["outlines"]]
    path = "".join(f"M{_bent(line, landmarks)}Z" for line in lines)
    return as_text(
        drawing(*size, f"Outlined: {', '.join(map(spaced, chosen))}", *_drawn(path, size[0] / 120))
    )


def _drawn(path: str, width: float) -> Iterable[Node]:
    """White on black, which is seen on any picture."""
    for colour, wide in ((HALO, 2.6 * width), (LINE, 1.2 * width)):
        yield node("path", d=path, fill="none", stroke=colour, stroke_width=wide)


def _bent(line: str, landmarks: FloatArray) -> str:
    points = np.array([place.split(",") for place in line.split()], np.float64)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in bend(points, FRONTAL, landmarks + 0.5))


def bend(points: FloatArray, source: FloatArray, target: FloatArray) -> FloatArray:
    """Points (N, 2) under the smoothest map that takes each `source` to its `target` (M, 2).

    The thin-plate spline (Bookstein, IEEE PAMI 1989): an affine map and a sum of r^2 log r of the sources.

    Example:
        >>> corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> bend(np.array([[0.5, 0.5]]), corners, 2 * corners + 1).round(6)
        array([[2., 2.]])
    """
    count = len(source)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(source, source)
    system[:count, count:] = _affine(source)
    system[count:, :count] = _affine(source).T
    weights = np.linalg.lstsq(system, np.vstack([target, np.zeros((3, 2))]), rcond=None)[0]
    return np.asarray(np.hstack([_kernel(points, source), _affine(points)]) @ weights)


def _affine(points: FloatArray) -> FloatArray:
    return np.hstack([np.ones((len(points), 1)), points])


def _kernel(points: FloatArray, source: FloatArray) -> FloatArray:
    squares = ((points[:, None] - source[None]) ** 2).sum(axis=2)
    return np.asarray(squares * np.log(np.maximum(squares, 1e-12)))
