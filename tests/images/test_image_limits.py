"""Small pictures that would take long or much memory: each is read or refused within 5 s and 1 GB."""

from __future__ import annotations

import io
import json
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from speed import first_quick

from xface.images.pictures import as_stored, read_picture

LIMITS = """
import json, resource, sys, time
from xface.errors import ImageError
from xface.images.pictures import read_picture
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
try:
    said = f"({read_picture(sys.argv[1]).notes}"
except ImageError as error:
    said = str(error)
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([said, time.process_time() - start, used * 1024]))
"""
SMALL = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


def _saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def _flat(side: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (side, side), 7)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(chunks: bytes) -> bytes:
    png = _saved(SMALL, "PNG")
    return png[:33] + chunks + png[33:]


def _jpeg(segments: bytes) -> bytes:
    jpeg = _saved(SMALL, "JPEG")
    return jpeg[:2] + segments + jpeg[2:]


def _scans(side: int, count: int) -> bytes:
    jpeg = _saved(_flat(side), "JPEG", progressive=True)
    return jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * count + jpeg[-2:]


def _ifd(tags: dict[int, int], following: int = 0) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def _tiff(tags: dict[int, int], content: bytes = b"") -> bytes:
    all_tags = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, **tags}
    return b"II*\0" + struct.pack("<I", 8) + _ifd(all_tags) + content


def _tiff_frames(count: int) -> bytes:
    tags = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 279: 4096}
    size = len(_ifd(tags))
    places = [8 + size * (number + 1) for number in range(count)]
    frames = (_ifd(tags, place) for place in [*places[:-1], 0])
    return b"II*\0" + struct.pack("<I", 8) + b"".join(frames) + b"\0" * 4096


def _shared_tags(count: int, size: int) -> bytes:
    """EXIF data of many tags that all have the same long value."""
    tags = (struct.pack("<HHII", 1000 + i, 7, size, 0) for i in range(count))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", count) + b"".join(tags)).ljust(size, b"\0")


def _exif_segments(exif: bytes) -> bytes:
    parts = (b"Exif\0\0" + exif[at : at + 65_000] for at in range(0, len(exif), 65_000))
    return b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)


def _gif(blocks: bytes, first: bool) -> bytes:
    gif = _saved(SMALL.quantize(256), "GIF")
    at = 13 + 768 if first else len(gif) - 1
    return gif[:at] + blocks + gif[at:]


def _rle(side: int, content: bytes) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(content), 0, 0, 256, 256)
    start = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", start + len(content), 0, 0, start) + head + b"\0" * 1024 + content


@cache
def bomb() -> bytes:
    return zlib.compress(b"\0" * 100_000_000, 9)


FRAME = b"," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\2\2\x44\1\0"
ATTACKS: dict[str, Callable[[], bytes]] = {
    "100,000 frames of a TIFF": lambda: _tiff_frames(100_000),
    "300,000 frames of a GIF": lambda: _gif(FRAME * 300_000, first=False),
    "600 scans of a JPEG of 100 megapixels": lambda: _scans(10_000, 600),
    "60,000 scans of a small JPEG": lambda: _scans(64, 60_000),
    "WebP of 100 megapixels": lambda: _saved(_flat(10_000), "WEBP", method=0),
    "WebP without loss of 100 megapixels": lambda: _saved(
        _flat(10_000, "RGBA"), "WEBP", lossless=True, method=0
    ),
    "progressive JPEG of 100 megapixels": lambda: _saved(_flat(10_000), "JPEG", progressive=True),
    "PNG with alpha of 100 megapixels": lambda: _saved(_flat(10_000, "RGBA"), "PNG", compress_level=1),
    "palette PNG of 100 megapixels": lambda: _saved(_flat(10_000, "P"), "PNG", transparency=7),
    "float TIFF of 100 megapixels": lambda: _saved(_flat(10_000, "F"), "TIFF", compression="tiff_deflate"),
    "GIF of 100 megapixels": lambda: _saved(_flat(10_000, "P"), "GIF"),
    "a million chunks of a PNG": lambda: _png(_chunk(b"teSt", b"") * 1_000_000),
    "text of a PNG that grows": lambda: _png(_chunk(b"zTXt", b"a\0\0" + bomb())),
    "international text of a PNG that grows": lambda: _png(_chunk(b"iTXt", b"a\0\1\0\0\0" + bomb())),
    "much text of a PNG that grows": lambda: _png(
        _chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 10**6)) * 1000
    ),
    "colour profile of a PNG that grows": lambda: _png(_chunk(b"iCCP", b"a\0\0" + bomb())),
    "EXIF of a PNG with shared values": lambda: _png(_chunk(b"eXIf", _shared_tags(50_000, 4_000_000))),
    "EXIF of a WebP with shared values": lambda: _saved(SMALL, "WEBP", exif=_shared_tags(50_000, 4_000_000)),
    "EXIF of a JPEG with shared values": lambda: _jpeg(_exif_segments(_shared_tags(5_000, 64_000))),
    "EXIF of a JPEG in many parts": lambda: _jpeg(_exif_segments(_shared_tags(50_000, 4_000_000))),
    "two million segments of a JPEG": lambda: _jpeg(b"\xff\xee\0\2" * 2_000_000),
    "ten million bytes between a JPEG's segments": lambda: _jpeg(b"\xff" * 10_000_000),
    "a comment of a GIF in millions of blocks": lambda: _gif(
        b"!\xfe" + b"\1a" * 3_000_000 + b"\0", first=True
    ),
    "a million extensions of a GIF": lambda: _gif(b"!\xfe\1a\0" * 1_000_000, first=True),
    "a BMP in runs of one pixel": lambda: _rle(5_000, (b"\1\5" * 5_000 + b"\0\0") * 2_000 + b"\0\1"),
    "a BMP of leaps": lambda: _rle(3_000, b"\0\2\1\0" * 3_000_000 + b"\0\1"),
    "a PPM of samples up to 100": lambda: b"P6 6000 4000 100\n" + b"\5" * 72_000_000,
    "a PPM in words": lambda: b"P3 4000 3000 255\n" + b"1 2 3 " * 12_000_000,
    "a PBM in words with five million comments": lambda: (
        b"P1 1600 1600\n" + b"#\n" * 5_000_000 + b"0" * 2_560_000
    ),
    "a PPM of 1.2 million pixels in words": lambda: b"P3 1090 1090 255\n" + b"0 " * 3_564_300,
    "a PPM with a long comment": lambda: b"P6\n#" + b"a" * 10_000_000 + b"\n64 64 255\n" + b"\5" * 12_288,
    "a TIFF in tiles of 900 megapixels": lambda: _tiff({259: 8, 322: 30_000, 323: 30_000, 324: 8, 325: 99}),
}


SAID = {
    "EXIF of a JPEG in many parts": "its EXIF data has 4,",
    "a TIFF in tiles of 900 megapixels": "tiles of 900",
}
LONG = {name for name in ATTACKS if name.endswith("of 100 megapixels") and "scans" not in name}


@pytest.mark.parametrize(
    "attack", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in ATTACKS]
)
def test_no_picture_takes_over_5_seconds_and_1_gigabyte(attack: str, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(ATTACKS[attack]())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

    ran = subprocess.run(
        [sys.executable, "-c", LIMITS, str(tmp_path / "picture")],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-500:]
    said, seconds, memory = json.loads(ran.stdout)
    assert seconds < 5, said
    assert memory < 1e9, said
    assert said.startswith(("(", "cannot read")), said
    assert SAID.get(attack, "") in said


@pytest.mark.parametrize(
    ("kind", "how"),
    first_quick(
        [
            ("JPEG", {"quality": 95}),
            ("PNG", {"compress_level": 1}),
            ("JPEG", {"quality": 95, "progressive": True}),
            ("WEBP", {"method": 0}),
            ("TIFF", {}),
            ("BMP", {}),
        ],
        2,
    ),
)
def test_photographs_of_24_megapixels_are_read(kind: str, how: dict[str, Any], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 750, 3), np.uint8)
    photograph = Image.fromarray(np.kron(noise, np.ones((8, 8, 1), np.uint8)))
    photograph.save(tmp_path / "photograph", kind, **how)
    with Image.open(tmp_path / "photograph") as same:
        assert np.array_equal(read_picture(tmp_path / "photograph").pixels, np.asarray(same.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK"])
def test_turned_in_strips_as_pillow_turns_it_whole(orientation: int, mode: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(orientation).integers(0, 256, (600, 40, 3), np.uint8)
    image, exif = Image.fromarray(pixels).convert(mode), Image.Exif()
    exif[0x0112] = orientation
    kind = "PNG" if mode == "P" else "JPEG"
    image.save(tmp_path / "turned", kind, exif=exif)
    found = read_picture(tmp_path / "turned")
    with Image.open(tmp_path / "turned") as same:
        upright = ImageOps.exif_transpose(same.convert("RGB"))
        assert np.array_equal(found.pixels, np.asarray(upright))
        assert np.array_equal(as_stored(found.pixels, orientation), np.asarray(same.convert("RGB")))
    assert found.pixels.flags.c_contiguous
    assert found.pixels.flags.writeable


def test_frames_are_counted_where_that_is_quick(tmp_path: Path) -> None:
    frames = [_flat(32, "L") for _ in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "a.tif").notes == ("frame 1 of 3 read, the others ignored",)
    (tmp_path / "b.tif").write_bytes(_tiff_frames(30_000))
    assert read_picture(tmp_path / "b.tif").notes == ("frame 1 of very many read, the others ignored",)
