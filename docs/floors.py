"""Draws which package of xface may import which, from the table that import-linter checks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, FLOOR = 1.9, 0.55, 0.8  # of a box, and from floor to floor, in inches
PLAIN, LIGHT = ("white", "-"), ("#cde6f5", "--")  # fill and edge: told apart without colour, too
INK = "#222222"


def floors() -> list[list[str]]:
    """The names on each floor, from the top: who may import all below, and none beside."""
    table = _contracts()
    [layers] = [contract for contract in table["contracts"] if contract["type"] == "layers"]
    [commands] = set(table["root_packages"]) - set(layers["containers"])
    return [[commands], *([name.strip() for name in floor.split("|")] for floor in layers["layers"])]


def draw_floors(path: Path) -> None:
    """Write the drawing as an SVG; its texts stay texts."""
    rows, light = floors(), _without_torch()
    widest = max(map(len, rows))
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "xface", "font.family": "sans-serif"}
    ):
        figure = Figure(figsize=(widest * (WIDTH + 0.25) + 0.7, len(rows) * FLOOR + 0.75), facecolor="white")
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, figure.get_figwidth()), ylim=(figure.get_figheight(), 0))
        axes.set_axis_off()
        for level, row in enumerate(rows):
            start = 0.7 + (widest - len(row)) * (WIDTH + 0.25) / 2
            for place, name in enumerate(row):
                style = LIGHT if name in light else PLAIN
                _box(axes, start + place * (WIDTH + 0.25), 0.15 + level * FLOOR, name, style)
        _arrow(axes, len(rows) * FLOOR)
        _legend(axes, len(rows) * FLOOR + 0.2)
        figure.savefig(path, metadata={"Date": None})


def _contracts() -> dict[str, Any]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table: dict[str, Any] = tomllib.loads(text)["tool"]["importlinter"]
    return table


def _without_torch() -> set[str]:
    """What a contract keeps from torch and dlib."""
    forbidden = [
        c for c in _contracts()["contracts"] if {"torch", "dlib"} <= {*c.get("forbidden_modules", ())}
    ]
    return {name.rpartition(".")[2] for contract in forbidden for name in contract["source_modules"]}


def _box(axes: Axes, left: float, top: float, name: str, style: tuple[str, str]) -> None:
    fill, line = style
    shape = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch((left, top), WIDTH, HEIGHT, shape, facecolor=fill, edgecolor=INK, linestyle=line)
    )
    middle = {"ha": "center", "va": "baseline"}  # one height for all names of a floor
    axes.text(left + WIDTH / 2, top + HEIGHT / 2 + 0.07, name, fontsize=14, color=INK, **middle)


def _arrow(axes: Axes, bottom: float) -> None:
    axes.annotate(
        "",
        xy=(0.35, bottom - 0.2),
        xytext=(0.35, 0.15),
        arrowprops={"arrowstyle": "->", "color": INK, "lw": 1.5},
    )
    axes.text(0.2, bottom / 2, "may import", rotation=90, ha="center", va="center", fontsize=12, color=INK)


def _legend(axes: Axes, top: float) -> None:
    for left, style, text in (
        (0.7, LIGHT, "never loads torch or dlib: checked"),
        (5.5, PLAIN, "not checked"),
    ):
        fill, line = style
        axes.add_patch(
            FancyBboxPatch(
                (left, top), 0.4, 0.26, "round,pad=0", facecolor=fill, edgecolor=INK, linestyle=line
            )
        )
        axes.text(left + 0.55, top + 0.13, text, ha="left", va="center", fontsize=12, color=INK)
