"""A drawn face whose regions are coloured by their lift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from xface.report.colours import LIMIT, ink_on, lift_colour
from xface.report.html.svg import Node, as_text, drawing, node
from xface.runs.folder import Kind, RunFolder
from xface.runs.regions import Regions
from xface.wording import number, spaced

WIDTH, HEIGHT = 200, 240
LETTERS = 8.5
STEPS = 41


def beneath_first(regions: Regions) -> list[tuple[str, Mapping[str, Any]]]:
    """The regions that the face has, in the order of drawing: of two that overlap, the earlier is above."""
    return [(name, regions[name]) for name in reversed(list(regions)) if regions[name]["outlines"]]


def mean_lifts(run: RunFolder, kind: Kind, outcome: str) -> dict[str, float | None]:
    """The mean lift of every region over the images of one outcome."""
    return {
        row["region"]: row["lift"]["value"]
        for row in run.findings["regions"]
        if (row["method"], row["layer"] or "", row["outcome"]) == (kind.method, kind.layer, outcome)
    }


def label_words(name: str, lift: float | None) -> str:
    """What stands in a region: its lift, and its name where the place doesn't tell it."""
    return f"{name} {number(lift, 2)}" if name == "background" else number(lift, 2)


def face_svg(regions: Regions, lifts: Mapping[str, float | None], title: str) -> str:
    """The face with every region's lift as colour and number; as words for who cannot see it."""
    words = ", ".join(f"{spaced(name)} {number(lift, 2)}" for name, lift in lifts.items())
    drawn = (_region(name, region, lifts.get(name)) for name, region in beneath_first(regions))
    return as_text(drawing(WIDTH, HEIGHT, f"{title}. Lift of each region: {words}.", *chain(*drawn)))


def _region(name: str, region: Mapping[str, Any], lift: float | None) -> Iterator[Node]:
    colour, lines = lift_colour(lift), "".join(f"M{outline}Z" for outline in region["outlines"])
    hint = node("title", text=f"{spaced(name)}: {number(lift, 2)}")
    yield node("path", hint, d=lines, fill=colour, stroke="#555555", stroke_width=0.6)
    (x, y), ink = region["label"], ink_on(colour)
    yield node("text", text=label_words(name, lift), x=x, y=y + LETTERS / 3, text_anchor="middle", fill=ink,
               font_size=LETTERS, stroke=colour, stroke_width=1.6, paint_order="stroke",
               pointer_events="none")  # fmt: skip


def scale_svg() -> str:
    """The scale of the face's colours."""
    width, steps = 260 / STEPS, range(STEPS)
    colours = [lift_colour(LIMIT ** (2 * step / (STEPS - 1) - 1)) for step in steps]
    bars = [
        node("rect", x=10 + step * width, y=2, width=width + 0.5, height=12, fill=colours[step])
        for step in steps
    ]
    ticks = [(10, "≤ 1/4"), (75, "1/2"), (140, "1 = chance"), (205, "2"), (270, "≥ 4")]
    anchors = ["start", *["middle"] * 3, "end"]
    names = [node("text", text=words, x=x, y=28, text_anchor=anchor, font_size=10)
             for (x, words), anchor in zip(ticks, anchors, strict=True)]  # fmt: skip
    return as_text(
        drawing(280, 34, "Colours of lift, from a quarter of chance to four times it", *bars, *names)
    )
