"""Pictures: read files as upright 8-bit RGB, and name their outputs."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from xface.errors import ImageError
from xface.files.kinds import HEAD, RAW, FileKind, kind_of, read_head
from xface.images.limits import BoundedFile, check_content, check_decoder, frame_count
from xface.results import ByteArray

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
OPTIONAL = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
"""Formats that not every Pillow reads, by what it calls them among its features."""

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff",
     ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf",
     ".jpx")
)  # fmt: skip
MIN_SIDE = 16
MAX_PIXELS = 100_000_000

_ORIENTATION_TAG = 0x0112
_STORED: Mapping[int, Callable[[ByteArray], ByteArray]] = {
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: np.rot90,
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""By EXIF orientation, upright pixels as a view in which they stand as in the file."""
STRIP = 256
TRIES = 3


@dataclass(frozen=True)
class Picture:
    """One picture as the user sees it: upright, RGB, uint8 (H, W, 3).

    `name` is the path as it was given, or a label; `notes` say what reading had to leave out or change.
    `orientation` is the EXIF orientation, 1 to 8, that the stored pixels were turned upright from.
    """

    name: str
    pixels: ByteArray = field(repr=False)
    notes: tuple[str, ...] = ()
    orientation: int = 1


def read_picture(source: str | os.PathLike[str] | Image.Image | NDArray[np.uint8]) -> Picture:
    """Read a file, a PIL image or an array as upright 8-bit RGB.

    Orientation follows the EXIF tag; 16-bit samples keep their high byte, as OpenCV and Pillow do for colour;
    float samples must lie in 0..1; alpha and colour profiles are ignored, as training pipelines do; of an
    animation the first frame is read. An array is uint8, (H, W, 3) in RGB order or (H, W) grey.

    Raises:
        ImageError: for whatever cannot be read, is under 16 pixels on a side or over 100 megapixels.

    Example:
        >>> picture = read_picture(np.full((20, 30), 7, np.uint8))
        >>> picture.pixels.shape, picture.pixels[0, 0].tolist()
        ((20, 30, 3), [7, 7, 7])
        >>> read_picture("nowhere.jpg")
        Traceback (most recent call last):
        xface.errors.ImageError: cannot read 'nowhere.jpg': there is no such file; check the path
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "") or "image")
        with _failures_named(name):
            return _decode(source, name)
    if isinstance(source, (str, os.PathLike)):
        return _from_file(os.fspath(source))
    raise ImageError(
        f"cannot read a {type(source).__name__} as an image; give a path, a PIL image or an array"
    )


def read_hashed(path: str) -> tuple[Picture, str]:
    """A picture, and the SHA-256 of the very file that it was read from, which is opened once.

    Raises:
        ImageError: as `read_picture`, or because the file is changed while it is read.
    """
    for _ in range(TRIES):
        before = _stamp(path)
        with _opened_file(path) as file:
            picture, sha256 = _picture_in(file), file.sha256()
        if _stamp(path) == before:
            return picture, sha256
    raise _refusal(path, "it is changed while it is read; wait until it is written")


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def as_stored(pixels: ByteArray, orientation: int) -> ByteArray:
    """Turn upright pixels, (H, W) or (H, W, 3), back to the rows and columns of their file.

    What a codec leaves in a picture, as JPEG's blocks, lies on the grid of the file.

    Example:
        >>> as_stored(np.array([[1, 2, 3]], np.uint8), 6).tolist()
        [[3], [2], [1]]
    """
    return np.ascontiguousarray(_STORED[orientation](pixels)) if orientation in _STORED else pixels


@cache
def readable_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow can read."""
    known = {*features.modules, *features.codecs}  # an older Pillow warns of a name that it doesn't know
    lacking = {name for name, part in OPTIONAL.items() if part not in known or not features.check(part)}
    return tuple(name for name in FORMATS if name not in lacking)


def can_read(kind: FileKind) -> bool:
    """Whether pictures of a kind can be read here, perhaps by a plugin that is installed."""
    return kind.format in readable_formats() or (kind.plugin is not None and kind.plugin.use())


def _refusal(name: str, reason: str) -> ImageError:
    # repr keeps line breaks, control characters and undecodable bytes of a name out of the message
    return ImageError(f"cannot read {name!r}: {reason}")


def _from_array(array: NDArray[np.uint8]) -> Picture:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise ImageError(
            f"cannot read an array of {array.dtype} {array.shape} as an image; "
            "give uint8 of shape (H, W, 3) in RGB order, or (H, W) for grey"
        )
    _check_size("array", array.shape[1], array.shape[0])
    colour = array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2)
    return Picture("array", np.array(colour, order="C"))


def _from_file(name: str) -> Picture:
    with _opened_file(name) as file:
        return _picture_in(file)


@contextmanager
def _opened_file(name: str) -> Iterator[BoundedFile]:
    with _failures_named(name):
        _check_file(name)
        with BoundedFile(name) as file:
            yield file


def _picture_in(file: BoundedFile) -> Picture:
    check_content(file)
    with _opened(file) as image:
        return _decode(image, file.path)


def _opened(file: BoundedFile) -> Image.Image:
    head = file.peek(HEAD)[:HEAD]
    try:
        image = Image.open(file, formats=readable_formats())
    except UnidentifiedImageError:
        kind = kind_of(head)
        if not (kind.plugin and kind.plugin.use()):
            raise
        return Image.open(file, formats=(kind.format,))
    if image.format == "TIFF" and kind_of(head, Path(file.path).suffix.lower()) is RAW:
        raise _refusal(file.path, RAW.why)  # a TIFF reader finds nothing but a small preview in it
    return image


def _check_file(name: str) -> None:
    try:
        status = os.stat(name)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        missing = "no image matches" if set(name) & set("*?[") else "there is no such file"
        raise _refusal(name, f"{missing}; check the path") from error
    if stat.S_ISDIR(status.st_mode):
        os.listdir(name)  # os.walk below would take a forbidden folder for an empty one
        files = (Path(file) for _, _, below in os.walk(name) for file in below)
        there = any(file.suffix.lower() in EXTENSIONS for file in files)
        kinds = ", ".join(sorted(EXTENSIONS))
        found = "give one of its files" if there else f"there is no image in it ({kinds})"
        raise _refusal(name, f"it is a folder; {found}")
    if not stat.S_ISREG(status.st_mode):
        raise _refusal(name, "it is a device or a pipe; save the image to a file first")
    if status.st_size == 0:
        raise _refusal(name, "it is empty (0 bytes); copy or download it again")


@contextmanager
def _failures_named(name: str) -> Iterator[None]:
    """Turn whatever reading raises into an ImageError, and keep Pillow's warnings to ourselves."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    except PermissionError as error:
        raise _refusal(name, "permission denied; make it and its folder readable") from error
    except UnidentifiedImageError as error:
        raise _refusal(name, _unidentified(name)) from error
    except Image.DecompressionBombError as error:
        raise _refusal(name, "it has more than 100 megapixels; shrink or crop it first") from error
    except Exception as error:  # on damaged files, Pillow's decoders raise a dozen kinds
        reason = " ".join(str(error).split())
        raise _refusal(name, f"it is damaged or cut short ({reason}); copy or export it again") from error


def _unidentified(name: str) -> str:
    kind = kind_of(read_head(name))
    if kind.remedy and kind.format not in readable_formats():
        return kind.why
    return f"it is not an image, or damaged; give one of {', '.join(readable_formats())}"


def _decode(image: Image.Image, name: str) -> Picture:
    _check_size(name, *image.size)
    check_decoder(image, name)
    turned = _orientation(image) if image.format == "TIFF" else 1  # which Pillow turns while it loads
    image.load()
    deep = image.mode == "F" or image.mode.startswith("I")
    plain, depth_note = _to_8_bit(image, name) if deep else (image, "")
    orientation = _orientation(image)
    transparent = "alpha channel ignored" if _is_transparent(image) else ""
    pixels = _in_colour(plain, orientation)
    notes = (transparent, depth_note, _frame_note(image))
    return Picture(name, pixels, tuple(filter(None, notes)), max(orientation, turned))


def _check_size(name: str, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        remedy = f"give one of at least {MIN_SIDE} on each side"
        raise _refusal(name, f"it has {width}x{height} pixels, too few for a face; {remedy}")
    if width * height > MAX_PIXELS:
        size = f"{width}x{height} = {width * height / 1e6:.1f} megapixels"
        raise _refusal(name, f"it has {size}, more than {MAX_PIXELS // 10**6}; shrink or crop it first")


def _to_8_bit(image: Image.Image, name: str) -> tuple[Image.Image, str]:
    """Scale the grey modes I;16, I (up to 65535) and F (up to 1), which Pillow's `convert` would clip.

    Samples of fewer bits in these modes (12 in 16, say) come out dark; which they are, no file says, so the
    note does.
    """
    values = np.asarray(image)
    white = 1.0 if image.mode == "F" else 65535
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):
        raise _refusal(
            name,
            f"its samples run from {low:g} to {high:g}, not within 0 to {white:g}; save it with 8 or 16 bit",
        )
    scaled = np.rint(values * 255) if image.mode == "F" else values >> 8
    note = "samples scaled to 8 bit"
    if high < white / 16:
        note += f", nearly black: they go to {high:g} of {white:g}; rescale it if it should be brighter"
    return Image.fromarray(scaled.astype(np.uint8)), note


def _in_colour(image: Image.Image, orientation: int) -> ByteArray:
    """The pixels in RGB, turned upright: strip by strip, as Pillow would hold them all several times over."""
    width, height = image.size
    upright = np.empty((width, height, 3) if orientation >= 5 else (height, width, 3), np.uint8)
    stored = _STORED[orientation](upright) if orientation in _STORED else upright
    for top in range(0, height, STRIP):
        bottom = min(top + STRIP, height)
        stored[top:bottom] = np.asarray(image.crop((0, top, width, bottom)).convert("RGB"))
    return upright


def _is_transparent(image: Image.Image) -> bool:
    if {"A", "a"} & set(image.getbands()):
        return bool(image.getextrema()[-1] != (255, 255))
    return "transparency" in image.info and image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def _frame_note(image: Image.Image) -> str:
    frame, count = image.tell() + 1, frame_count(image)
    return f"frame {frame} of {count or 'very many'} read, the others ignored" if count != 1 else ""


def _orientation(image: Image.Image) -> int:
    try:
        value = int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a broken EXIF block does not make the pixels unreadable
        return 1
    return value if value in _STORED else 1
