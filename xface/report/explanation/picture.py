"""One map as a picture: the face in grey, the map's colours over it, what it is in the strip below."""

from __future__ import annotations

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xface.report.colours import blend, heat_of
from xface.results import AttributionMap, ByteArray, ExplanationData
from xface.wording import STATUS, UNTRAINED, map_name, verdict

SIDE = 512
LINE, FONT_SIZE, WIDEST = 20, 15, 58
WARNING = ((0, 0, 0), (255, 214, 10))


def draw_picture(findings: ExplanationData, amap: AttributionMap) -> ByteArray:
    """Return one map of the findings as an RGB picture, 512 px wide, its name and verdict written below."""
    face = _face(findings, amap)
    warning = [] if findings.trained else textwrap.wrap(UNTRAINED, WIDEST)
    strips = [_strip(line, face.shape[1], *WARNING) for line in warning]
    label = f"{map_name(amap)}; explains {findings.label}; predicted {verdict(findings.prediction)}"
    strips += [_strip(line, face.shape[1]) for line in textwrap.wrap(label, WIDEST)]
    return np.concatenate([face, *strips])


def _face(findings: ExplanationData, amap: AttributionMap) -> ByteArray:
    height, width = findings.view.shape[:2]
    heat = heat_of(amap, (height, width))
    pixels = findings.view // 3 if heat is None else blend(heat, findings.view)
    picture = Image.fromarray(pixels).resize((SIDE, round(SIDE * height / width)), Image.Resampling.BICUBIC)
    if heat is None:
        draw = ImageDraw.Draw(picture)
        middle = (picture.width // 2, picture.height // 2)
        draw.text(middle, STATUS[amap.status], fill=(255, 255, 255), font=_font(24), anchor="mm")
    return np.asarray(picture)


def _strip(
    text: str,
    width: int,
    ink: tuple[int, int, int] = (0, 0, 0),
    paper: tuple[int, int, int] = (255, 255, 255),
) -> ByteArray:
    strip = Image.new("RGB", (width, LINE), paper)
    ImageDraw.Draw(strip).text((6, LINE // 2), text, fill=ink, font=_font(FONT_SIZE), anchor="lm")
    return np.asarray(strip)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
