"""What a picture may cost to read: about 5 s of one core and 1 GB of memory, however small its file is.

Pillow bounds the number of pixels. A file can also have a hundred thousand frames, blocks or scans, tags that
all share one long value, or a decoder that takes many bytes or much time for each pixel.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image

from xface.errors import ImageError
from xface.files.hashes import sha256_of_open
from xface.files.paths import check_file

MOST_PIXELS = 100_000_000
MOST_BYTES = 400_000_000
MOST_MEMORY = 1_000_000_000

MOST_READS = 50_000
"""So many reads any file may take, and one more for each `BYTES_PER_READ` of its bytes."""
BYTES_PER_READ = 50
MOST_READ = 64_000_000
"""So many bytes may be read of any file, and four times as many as it has."""
READS_TO_COUNT = 20_000
"""So many reads the frames of an animation may take to be counted."""

MOST_SCANS = 100
MOST_SCANNED = 1_500_000_000
"""Pixels times scans of a JPEG: each scan goes over all blocks, though it may be a few bytes long."""
MOST_SEGMENTS = 10_000
MOST_EXIF = 1 << 17
MOST_COMMENTS = 1_000
"""So many comments a PPM in words may have: Pillow copies what it has read for each of them."""

BYTES_PER_PIXEL = {"WEBP": 17, "AVIF": 24, "HEIF": 24, "JPEG2000": 60}
"""What reading takes of memory at its height, by format: what the decoder holds, and the result."""
BYTES_OF_MODE = {"F": 24, "I": 24, "I;16": 12}
BYTES = 10
"""The same of all other pictures."""
SLOW = {"ppm": 3_000_000, "ppm_plain": 1_200_000, "bmp_rle": 12_000_000}
"""The most pixels for decoders that are written in Python."""


class BoundedFile(io.BufferedReader):
    """A picture's file that refuses to be read in ever smaller bites, or over and over.

    Raises:
        ImageError: it isn't a file, is too large, or has been read too often.
    """

    def __init__(self, path: str) -> None:
        check_file(path, ImageError, MOST_BYTES)
        self.file = io.FileIO(path)
        super().__init__(self.file)
        self.path = path
        size = self.seek(0, io.SEEK_END)
        self.seek(0)
        self.reads_left = MOST_READS + size // BYTES_PER_READ
        self.bytes_left = MOST_READ + 4 * size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on, unless that was done too often."""
        content = super().read(size)
        self.reads_left -= 1
        self.bytes_left -= len(content)
        if self.reads_left < 0 or self.bytes_left < 0:
            raise refusal(self.path, "it consists of too many small parts")
        return content

    def sha256(self) -> str:
        """The SHA-256 of all of its bytes, in hexadecimal digits."""
        self.file.seek(0)
        return sha256_of_open(self.file)


def refusal(name: str, reason: str) -> ImageError:
    """The error for a picture that would cost too much."""
    return ImageError(f"cannot read {name!r}: {reason}; save it again as a plain picture, or shrink it")


def check_content(file: BoundedFile) -> None:
    """Refuse a JPEG or a PPM in words whose parts would cost too much, before Pillow reads; rewinds the file.

    Raises:
        ImageError: it has too many segments, scans or comments, or EXIF data that is larger than EXIF can be.
    """
    check = CHECKED.get(file.peek(2)[:2])
    if check:
        content = io.BufferedReader.read(file)
        file.seek(0)
        check(file, content)


def _check_comments(file: BoundedFile, content: bytes) -> None:
    if (comments := content.count(b"#")) > MOST_COMMENTS:
        raise refusal(file.path, f"it has {comments:,} comments")


def _check_jpeg(file: BoundedFile, content: bytes) -> None:
    pixels = exif = 0
    for number, (marker, length, start) in enumerate(_segments(content)):
        if number > MOST_SEGMENTS:
            raise refusal(file.path, f"it has more than {MOST_SEGMENTS:,} segments")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and start + 7 <= len(content):
            height, width = struct.unpack_from(">HH", content, start + 1)
            pixels = min(max(pixels, height * width), MOST_PIXELS)  # more are refused by their number
        if marker == 0xE1 and content[start : start + 6] == b"Exif\0\0":
            exif += length
    if exif > MOST_EXIF:
        raise refusal(file.path, f"its EXIF data has {exif:,} bytes")
    scans = content.count(b"\xff\xda")
    if scans > MOST_SCANS or scans * pixels > MOST_SCANNED:
        raise refusal(file.path, f"it has {scans:,} scans over {pixels / 1e6:.1f} megapixels")


CHECKED = {b"\xff\xd8": _check_jpeg, **dict.fromkeys((b"P1", b"P2", b"P3"), _check_comments)}
"""By the first two bytes, what is checked."""


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, length and start of each segment of a JPEG's header."""
    at = 2
    while (at := content.find(b"\xff", at)) >= 0 and at + 4 <= len(content):
        marker = content[at + 1]
        if marker == 0xDA:
            return
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:
            yield marker, 0, at  # fill bytes
            at += 1
            continue
        (length,) = struct.unpack_from(">H", content, at + 2)
        yield marker, length, at + 4
        at += 2 + length


def check_decoder(image: Image.Image, name: str) -> None:
    """Refuse an opened picture whose decoder would take too much time or memory.

    Raises:
        ImageError: it has more pixels than its format allows here.
    """
    pixels = image.width * image.height
    tiles: list[Any] = getattr(image, "tile", [])
    decoder = str(tiles[0][0]) if tiles else ""
    each = max(BYTES_PER_PIXEL.get(str(image.format), BYTES), BYTES_OF_MODE.get(image.mode, 0))
    most = min(SLOW.get(decoder, MOST_PIXELS), MOST_MEMORY // each)
    if pixels > most:
        kind = f"{image.format} of this kind"
        raise refusal(name, f"it has {pixels / 1e6:.1f} megapixels, more than {most / 1e6:.0f} of a {kind}")
    largest = _tile_pixels(image)
    if largest > 4 * pixels + 4_000_000:
        raise refusal(name, f"it is stored in tiles of {largest / 1e6:.1f} megapixels")


def _tile_pixels(image: Image.Image) -> int:
    """The pixels of a tile of a TIFF, 0 for others."""
    tags: Any = getattr(image, "tag_v2", {})
    try:
        return int(tags.get(322, 0)) * int(tags.get(323, 0))
    except (TypeError, ValueError):
        return 0


def frame_count(image: Image.Image) -> int | None:
    """How many frames a picture has; None if there are too many to be counted."""
    if not getattr(image, "is_animated", False):
        return 1
    file = getattr(image, "_fp", None)
    if isinstance(file, BoundedFile):
        file.reads_left = READS_TO_COUNT
    try:
        return int(getattr(image, "n_frames", 1))
    except ImageError:
        return None
