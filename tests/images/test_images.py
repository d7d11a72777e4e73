"""Every kind of picture is written here, read back, and compared with the pixels that went in."""

import os
import random
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image

from xface.errors import ImageError, UsageError
from xface.files.names import MAX_STEM_BYTES, safe_stem
from xface.images.picture_files import find_pictures
from xface.images.pictures import EXTENSIONS, read_picture

HEIGHT, WIDTH = 40, 56
ORIENTATION = 0x0112
JPEG = {"quality": 95, "subsampling": 0}
LZW, LOSSLESS = {"compression": "tiff_lzw"}, {"lossless": True}


def smooth() -> np.ndarray:
    """A smooth picture without symmetry, so that every flip shows and JPEG keeps it."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / [[[HEIGHT]], [[WIDTH]]]
    return np.rint(255 * np.stack([x, y, (1 - x) * y], -1)).astype(np.uint8)


RGB = smooth()
GREY = RGB[:, :, 2].copy()
BITS = GREY > 90
DEEP = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
NOISE = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)
COLOURS = np.array([[250, 10, 20], [3, 200, 40], [7, 9, 130]], np.uint8)
INDEX = np.digitize(RGB[:, :, 0], [80, 160]).astype(np.uint8)
CLEAR = np.full_like(GREY, 255)
CLEAR[:9] = 0
FRAMES = [Image.fromarray(np.roll(RGB, 19 * k, axis=1)) for k in range(3)]
FEW = [Image.fromarray(RGB // 128 * 128), Image.fromarray(255 - RGB // 128 * 128)]


@pytest.fixture
def rgb() -> np.ndarray:
    return RGB.copy()


def near(found: np.ndarray, truth: np.ndarray, tolerance: int) -> bool:
    return found.shape == truth.shape and int(np.abs(found.astype(int) - truth).max()) <= tolerance


def as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, -1)


def written(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def refusal(source: object) -> str:
    with pytest.raises(ImageError) as caught:
        read_picture(source)
    return str(caught.value)


# ---------------------------------------------------------------- what is read right


class Kind(NamedTuple):
    """What is written, what is read of it, within which tolerance, and the notes beside it."""

    source: Image.Image | np.ndarray | bytes
    truth: np.ndarray
    options: Mapping[str, object] = MappingProxyType({})
    tolerance: int = 0
    notes: tuple[str, ...] = ()


def palette() -> Image.Image:
    image = Image.fromarray(INDEX)
    image.putpalette(COLOURS.tobytes())
    return image


def frames(images: list[Image.Image], **options: object) -> dict[str, object]:
    return {"save_all": True, "append_images": images[1:], **options}


SCALED, ALPHA = ("samples scaled to 8 bit",), ("alpha channel ignored",)
FIRST, FIRST_OF_2 = (("frame 1 of " + count + " read, the others ignored",) for count in "32")
COLOUR_KEY = {"transparency": tuple(int(value) for value in RGB[3, 4])}
PGM = f"P5 {WIDTH} {HEIGHT} 65535\n".encode() + DEEP.astype(">u2").tobytes()
BIG_ENDIAN = Image.frombytes("I;16B", (WIDTH, HEIGHT), DEEP.astype(">u2").tobytes())
KINDS = {
    **{f"face{end}": Kind(RGB, RGB) for end in (".png", ".bmp", ".ppm", ".tif", ".gif.png")},
    "face.tiff": Kind(RGB, RGB, LZW),
    "lossless.webp": Kind(RGB, RGB, LOSSLESS),
    "face.webp": Kind(RGB, RGB, {"quality": 95}, 16),
    "face.jpg": Kind(RGB, RGB, JPEG, 6),
    "progressive.jpeg": Kind(RGB, RGB, {**JPEG, "progressive": True}, 6),
    "png named.jpg": Kind(RGB, RGB, {"format": "PNG"}),
    "still.gif": Kind(RGB, RGB, tolerance=40),
    **{f"grey{end}": Kind(GREY, as_rgb(GREY)) for end in (".png", ".tif", ".pgm")},
    "grey.jpg": Kind(GREY, as_rgb(GREY), tolerance=3),
    "bits.png": Kind(BITS, as_rgb(BITS * np.uint8(255))),
    **{f"palette{end}": Kind(palette(), COLOURS[INDEX]) for end in (".png", ".gif", ".bmp")},
    **{f"rgba{end}": Kind(np.dstack([RGB, CLEAR]), RGB, notes=ALPHA) for end in (".png", ".tif")},
    "la.png": Kind(np.dstack([GREY, CLEAR]), as_rgb(GREY), notes=ALPHA),
    "opaque rgba.png": Kind(np.dstack([RGB, CLEAR | 255]), RGB),
    "opaque rgba.tif": Kind(np.dstack([RGB, CLEAR | 255]), RGB),
    "opaque la.png": Kind(np.dstack([GREY, CLEAR | 255]), as_rgb(GREY)),
    "colour key.png": Kind(RGB, RGB, COLOUR_KEY, notes=ALPHA),
    "16 bit.png": Kind(DEEP, as_rgb(DEEP >> 8), notes=SCALED),
    "16 bit.tif": Kind(DEEP, as_rgb(DEEP >> 8), notes=SCALED),
    "16 bit, big-endian.tif": Kind(BIG_ENDIAN, as_rgb(DEEP >> 8), notes=SCALED),
    "16 bit.pgm": Kind(PGM, as_rgb(DEEP >> 8), notes=SCALED),
    "32 bit.tif": Kind(DEEP.astype(np.int32), as_rgb(DEEP >> 8), notes=SCALED),
    "16 bit noise.png": Kind(NOISE, as_rgb(NOISE >> 8), notes=SCALED),
    "float.tif": Kind(GREY.astype(np.float32) / 255, as_rgb(GREY), notes=SCALED),
    "cmyk.tif": Kind(Image.fromarray(RGB).convert("CMYK"), RGB, tolerance=2),
    "cmyk.jpg": Kind(Image.fromarray(RGB).convert("CMYK"), RGB, JPEG, 8),  # which stores it inverted
    "moving.gif": Kind(FRAMES[0], RGB, frames(FRAMES), 40, FIRST),
    "moving.webp": Kind(FRAMES[0], RGB, frames(FRAMES, lossless=True), 0, FIRST),
    "moving.png": Kind(FRAMES[0], RGB, frames(FRAMES), 0, FIRST),
    "pages.tif": Kind(FRAMES[0], RGB, frames(FRAMES), 0, FIRST),
    "pages.tiff": Kind(FRAMES[0], RGB, frames(FRAMES, **LZW), 0, FIRST),
    "pair.mpo": Kind(FRAMES[0], RGB, frames(FRAMES, **JPEG), 6, FIRST),
    "few colours.gif": Kind(
        FEW[0], RGB // 128 * 128, frames(FEW), 0, ("frame 1 of 2 read, the others ignored",)
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_picture_is_read_as_it_was_written(tmp_path, name):
    source, truth, options, tolerance, notes = KINDS[name]
    path = tmp_path / name
    if isinstance(source, bytes):
        path.write_bytes(source)
    else:
        written(source if isinstance(source, Image.Image) else Image.fromarray(source), path, **options)
    for given in (path, str(path)):
        picture = read_picture(given)
        assert picture.name == str(path)
        assert picture.notes == notes
        assert picture.pixels.dtype == np.uint8
        assert near(picture.pixels, truth, tolerance)


def test_a_second_decoder_sees_the_same(tmp_path, rgb):
    """OpenCV reads 16 bit and inverted CMYK alike; it writes 16-bit colour, which Pillow cannot."""
    deep = written(Image.fromarray(NOISE), tmp_path / "deep.png")
    assert near(read_picture(deep).pixels, cv2.imread(str(deep)), 0)
    jpeg = written(Image.fromarray(rgb).convert("CMYK"), tmp_path / "cmyk.jpg", **JPEG)
    assert b"Adobe" in jpeg.read_bytes()
    assert near(cv2.imread(str(jpeg))[:, :, ::-1], rgb, 8)
    for name in ("deep colour.png", "deep colour.tif"):
        assert cv2.imwrite(str(tmp_path / name), rgb[:, :, ::-1].astype(np.uint16) * 256 + 200)
        assert near(read_picture(tmp_path / name).pixels, rgb, 0), name


@pytest.mark.parametrize("high", [255, 4095, 4096, 65535])
@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_samples_of_fewer_bits_come_out_dark_and_it_is_said(tmp_path, kind, high):
    values = np.linspace(0, high, HEIGHT * WIDTH).astype(kind).reshape(HEIGHT, WIDTH)
    picture = read_picture(written(Image.fromarray(values), tmp_path / "deep.tif"))
    assert near(picture.pixels, as_rgb(values // 256), 0)
    dark = f", nearly black: they go to {high} of 65535; rescale it if it should be brighter"
    assert picture.notes == ("samples scaled to 8 bit" + (dark if high < 4096 else ""),)


@pytest.mark.parametrize(
    ("bad", "kind", "range_"),
    [
        *((bad, np.float32, "0 to 1") for bad in (np.nan, np.inf, -0.5, 300.0)),
        *((bad, np.int32, "0 to 65535") for bad in (-1, 65536)),
    ],
)
def test_samples_out_of_range_are_refused(tmp_path, bad, kind, range_):
    values = np.zeros((HEIGHT, WIDTH), kind)
    values[3, 4] = bad
    assert f"not within {range_}" in refusal(written(Image.fromarray(values), tmp_path / "bad.tif"))


# ---------------------------------------------------------------- upright


def stored_for(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The stored array that shows `upright`, from the EXIF table of where row 0 and column 0 lie."""
    rows = ("top", "top", "bottom", "bottom", "left", "right", "right", "left")
    columns = ("left", "right", "right", "left", "top", "top", "bottom", "bottom")
    row_0, column_0 = rows[orientation - 1], columns[orientation - 1]
    array = upright.transpose(1, 0, 2) if row_0 in ("left", "right") else upright
    array = array[::-1] if row_0 in ("bottom", "right") else array
    return array[:, ::-1] if column_0 in ("right", "bottom") else array


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("turned.png", {}, 0),
        ("turned.tif", {}, 0),
        ("turned.tiff", LZW, 0),
        ("turned.webp", LOSSLESS, 0),
        ("turned.jpg", JPEG, 6),
    ],
)
def test_exif_orientation(tmp_path, rgb, orientation, name, options, tolerance):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(stored_for(rgb, orientation)))
    path = written(stored, tmp_path / name, exif=exif, **options)
    assert near(read_picture(path).pixels, rgb, tolerance)
    with Image.open(path) as image:
        assert near(read_picture(image).pixels, rgb, tolerance)


def test_exif_orientation_of_16_bit(tmp_path):
    deep = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = np.ascontiguousarray(stored_for(deep[:, :, None], 6)[:, :, 0])
    path = written(Image.fromarray(stored), tmp_path / "deep.png", exif=exif)
    assert near(read_picture(path).pixels, as_rgb((deep >> 8).astype(np.uint8)), 0)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_senseless_orientation_is_upright(tmp_path, rgb, value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    assert near(read_picture(written(Image.fromarray(rgb), tmp_path / "odd.png", exif=exif)).pixels, rgb, 0)


TEXT_AS_ORIENTATION = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0"


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0no header", TEXT_AS_ORIENTATION]
)
@pytest.mark.parametrize(("name", "tolerance"), [("odd.png", 0), ("odd.jpg", 6)])
def test_broken_exif_costs_nothing(tmp_path, rgb, exif, name, tolerance):
    path = written(Image.fromarray(rgb), tmp_path / name, exif=exif, quality=95, subsampling=0)
    assert near(read_picture(path).pixels, rgb, tolerance)


# ---------------------------------------------------------------- PIL images and arrays


def test_pil_image_and_arrays(rgb):
    assert near(read_picture(Image.fromarray(rgb)).pixels, rgb, 0)
    assert near(read_picture(rgb).pixels, rgb, 0)
    assert near(read_picture(GREY).pixels, as_rgb(GREY), 0)
    assert near(read_picture(rgb[::-1, ::-1]).pixels, rgb[::-1, ::-1], 0)


def test_array_is_copied(rgb):
    picture, before = read_picture(rgb), rgb.copy()
    rgb[:] = 0
    assert near(picture.pixels, before, 0)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((HEIGHT, WIDTH, 3), np.float32),
        np.zeros((HEIGHT, WIDTH), np.uint16),
        np.zeros((HEIGHT, WIDTH, 4), np.uint8),
        np.zeros((3, HEIGHT, WIDTH), np.uint8),
        np.zeros((1, HEIGHT, WIDTH, 3), np.uint8),
        np.zeros(HEIGHT, np.uint8),
        np.zeros((), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((15, 400), np.uint8),
        np.array(["face.jpg"]),
        b"face.jpg",
        None,
        7,
        ["face.jpg"],
    ],
    ids=repr,
)
def test_other_objects_are_refused(bad):
    assert "give" in refusal(bad)


def test_closed_pil_image_is_refused(tmp_path, rgb):
    image = Image.open(written(Image.fromarray(rgb), tmp_path / "face.png"))
    image.close()
    assert "face.png" in refusal(image)


# ---------------------------------------------------------------- what is refused


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header promises a size and whose data are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(10_001, 10_000), (14_000, 13_000), (60_000, 60_000), (2_000_000, 51)])
@pytest.mark.parametrize("action", ["error", "always"])
def test_too_large_is_known_from_the_header(tmp_path, size, action):
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(*size))
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter(action)
        filters = list(warnings.filters)
        message = refusal(path)
        assert warnings.filters == filters
    assert "huge.png" in message
    assert "megapixels" in message
    assert "shrink" in message
    assert heard == []
    assert limit == Image.MAX_IMAGE_PIXELS


def test_95_megapixels_are_not_too_large(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_header(9_500, 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "cut short" in refusal(path)


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (200, 15)])
def test_too_small(tmp_path, size):
    path = written(Image.new("RGB", size), tmp_path / "tiny.png")
    message = refusal(path)
    assert repr(str(path)) in message
    assert f"{size[0]}x{size[1]}" in message
    assert read_picture(written(Image.new("RGB", (16, 16)), path)).pixels.shape == (16, 16, 3)


REASONS = {
    "missing.jpg": "no such file",
    "*.webp": "no image matches",
    "text.jpg/face.jpg": "no such file",
    "x" * 300: "no such file",
    "nul\0.jpg": "no such file",
    "empty.jpg": "0 bytes",
    "text.jpg": "not an image",
    "vector.eps": "a picture of an unsupported format; export it",
    "bare": "no image in it",
    "full": "is a folder; give one of its files",
    "pipe.jpg": "a pipe",
}


def test_missing_folder_empty_text(tmp_path, rgb):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("This is no image.\n" * 9)
    (tmp_path / "vector.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n")
    for name in ("bare", "full"):
        (tmp_path / name).mkdir()
    written(Image.fromarray(rgb), tmp_path / "full" / "face.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in REASONS.items():
        message = refusal(f"{tmp_path}/{name}")
        assert reason in message
        assert repr(f"{tmp_path}/{name}") in message
    assert "no such file" in refusal("")


def test_message_is_one_line_for_any_name(tmp_path):
    for name in ("a\nb.jpg", "quo\"te's.jpg", "\udcff.jpg", "naïve 脸.jpg", "\x1b[31m.jpg"):
        path = tmp_path / name
        path.write_text("no image")
        for message in (refusal(path), refusal(f"{path}.missing")):
            assert message.isprintable()


@pytest.mark.parametrize("name", ["face.jpg", "face.png", "face.bmp", "face.tif"])
def test_damaged(tmp_path, name):
    """Cut short anywhere, and zeros in the midst of what has a checksum."""
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    content = written(Image.fromarray(noise), tmp_path / name).read_bytes()
    damaged = [content[: int(kept * len(content))] for kept in (0.2, 0.5, 0.9)]
    if name.endswith(".png"):
        damaged.append(content[:300] + bytes(1700) + content[2000:])
    for bad in damaged:
        (tmp_path / name).write_bytes(bad)
        message = refusal(tmp_path / name)
        assert repr(str(tmp_path / name)) in message
        assert "damaged" in message


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users may enter, unlike `tmp_path`."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_permission_denied(public, rgb):
    path = written(Image.fromarray(rgb), public / "secret.png")
    locked = public / "locked"
    locked.mkdir()
    inside = written(Image.fromarray(rgb), locked / "face.png")
    path.chmod(0)
    locked.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:  # for whom nothing is forbidden
            os.seteuid(65534)
        for denied in (path, inside, locked):
            assert "permission denied" in refusal(denied)
        assert find_pictures([path, inside, locked]).paths == (path, inside, locked)
    finally:
        if root:
            os.seteuid(0)
        locked.chmod(0o700)


# ---------------------------------------------------------------- fuzz


def seeds(rgb: np.ndarray) -> list[bytes]:
    """One file of each kind, in memory."""
    image, grey = Image.fromarray(rgb), Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    kinds = [
        (image, {"format": "JPEG", "exif": exif}),
        (image, {"format": "JPEG", "progressive": True}),
        (image.convert("CMYK"), {"format": "JPEG"}),
        (image, {"format": "PNG", "exif": exif}),
        (image.quantize(16), {"format": "PNG", "transparency": 3}),
        (grey, {"format": "PNG"}),
        (grey, {"format": "TIFF"}),
        (image, {"format": "TIFF", "compression": "tiff_lzw", "exif": exif}),
        (image, {"format": "TIFF", "compression": "jpeg"}),
        (image, {"format": "WEBP"}),
        (image, {"format": "BMP"}),
        (image, {"format": "PPM"}),
        (image, {"format": "GIF", "save_all": True, "append_images": [image.rotate(90)]}),
        (image, {"format": "PNG", "save_all": True, "append_images": [image.rotate(90)]}),
    ]
    files = []
    for kind, options in kinds:
        kind.save(stream := BytesIO(), **options)
        files.append(stream.getvalue())
    return files


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Flip, overwrite, drop or repeat bytes, mostly near the start, where the headers are."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        at = (
            min(int(chance.expovariate(1 / 60)), len(data) - 1)
            if chance.random() < 0.7
            else chance.randrange(len(data))
        )
        length = chance.choice([1, 1, 2, 4, 16])
        kind = chance.randrange(5)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at : at + length] = chance.randbytes(length)
        elif kind == 2:
            data[at : at + length] = chance.choice([b"\0", b"\xff"]) * length
        elif kind == 3:
            del data[at : at + length]
        else:
            data[at:at] = data[at : at + length]
    return bytes(data[: chance.randrange(1, len(data))] if chance.random() < 0.2 else data) or b"\0"


def test_damaged_files_give_a_picture_or_an_image_error(tmp_path, rgb):
    chance, files = random.Random(20), seeds(rgb)
    path, outcomes = tmp_path / "mutant", []
    for number in range(200):
        path.write_bytes(mutated(files[number % len(files)], chance))
        try:
            picture = read_picture(path)
        except ImageError:
            outcomes.append("refused")
        else:
            assert picture.pixels.dtype == np.uint8
            assert picture.pixels.shape[2:] == (3,)
            outcomes.append("read")
    assert min(outcomes.count("read"), outcomes.count("refused")) >= 20


# ---------------------------------------------------------------- finding


@pytest.fixture
def tree(tmp_path, rgb, monkeypatch) -> Path:
    names = [
        "face10.png",
        "face2.png",
        "FACE3.JPG",
        "notes.txt",
        ".hidden.png",
        "deep/er/a b.png",
        "deep/.cache/c.png",
        "set[1]/x1.png",
        "set1/x2.png",
        "star*.png",
        "starry.png",
        "texts/readme.md",
    ]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content is not looked at here")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*arguments: str | Path) -> list[str]:
    return [str(path) for path in find_pictures(arguments).paths]


def test_folder_is_searched_below_in_natural_order(tree):
    everything = [
        "deep/er/a b.png",
        "face2.png",
        "FACE3.JPG",
        "face10.png",
        "set1/x2.png",
        "set[1]/x1.png",
        "star*.png",
        "starry.png",
    ]
    assert found(".") == everything
    assert found(tree) == [str(tree / name) for name in everything]
    assert found("deep/") == ["deep/er/a b.png"]
    assert found("set[1]") == ["set[1]/x1.png"]


def test_all_extensions_are_found(tmp_path):
    for extension in EXTENSIONS:
        (tmp_path / f"a{extension}").touch()
        (tmp_path / f"b{extension.upper()}").touch()
    assert len(find_pictures([tmp_path])) == 2 * len(EXTENSIONS)


def test_what_exists_is_literal(tree):
    assert found("star*.png") == ["star*.png"]
    assert found("notes.txt") == ["notes.txt"]
    assert found(".hidden.png") == [".hidden.png"]


def test_globs(tree):
    assert found("face*.png") == ["face2.png", "face10.png"]
    assert found("**") == found(".")
    assert found("**/*.png") == [name for name in found(".") if name != "FACE3.JPG"]
    assert found("**/x?.png") == ["set1/x2.png", "set[1]/x1.png"]
    assert found("set[1]/*.png") == ["set[1]/x1.png"]
    assert found("set[12]/*.png") == ["set1/x2.png"]
    assert found(f"{tree}/face?.png") == [f"{tree}/face2.png"]


def test_arguments_without_an_image_cost_only_themselves(tree):
    arguments = ["texts", "face2.png", "missing.png", "*.webp", "texts/*", "face2.png", "a\0/*"]
    assert found(*arguments) == arguments
    reasons = [
        "no image in it",
        None,
        "no such file",
        "no image matches",
        "no image matches",
        None,
        "no image",
    ]
    for path, reason in zip(find_pictures(arguments).paths, reasons, strict=True):
        if reason:
            assert reason in refusal(path)


def test_order_of_arguments_is_kept(tree):
    assert found("starry.png", "face*.png", "deep") == [
        "starry.png",
        "face2.png",
        "face10.png",
        "deep/er/a b.png",
    ]


def test_looping_links_end(tree):
    (tree / "deep" / "loop").symlink_to(tree)
    assert found("deep") == ["deep/er/a b.png"]


def test_empty_argument(tree):
    with pytest.raises(UsageError, match="empty"):
        find_pictures(["face2.png", ""])
    assert find_pictures([]).paths == ()


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("a/b/face.jpg", "face"),
        ("face", "face"),
        ("archive.tar.gz", "archive.tar"),
        ("two words.png", "two_words"),
        ('Zoë\'s "best".png', "Zoë_s__best_"),
        ("Zoe\u0308.png", "Zoë"),
        ("हिन्दी 脸.jpg", "हिन्दी_脸"),
        ("line\nbreak\ttab.jpg", "line_break_tab"),
        ("..", "_."),
        (".jpg", "_jpg"),
        ("-rf.png", "_rf"),
        ("$(reboot);`ls`|*.png", "__reboot___ls___"),
        ("a\\b:c.png", "a_b_c"),
        ("\udcff\udcfe.jpg", "__"),
        ("😀.png", "_"),
        ("", "_"),
        ("/", "_"),
    ],
)
def test_safe_stem(path, stem):
    assert safe_stem(path) == stem
    assert safe_stem(Path(path)) == stem


def test_safe_stem_of_any_name(tmp_path):
    chance = random.Random(5)
    alphabets = [
        range(1, 128),
        range(128, 0x3000),
        range(0x3000, 0x11000),
        range(0xD800, 0xE000),
        b"./-_ '\"\n",
    ]
    for _ in range(2000):
        letters = [chr(chance.choice(chance.choice(alphabets))) for _ in range(chance.randint(0, 80))]
        name = "".join(letters)
        stem = safe_stem(name)
        assert 0 < len(stem.encode()) <= MAX_STEM_BYTES
        assert stem[0] not in ".-"
        assert all(c in "._-" or unicodedata.category(c)[0] in "LMN" for c in stem)
        assert stem == safe_stem(name)
    (tmp_path / f"0001-{stem}-resnet18-guided_gradcam-layer4-Fake.png").touch()


def test_safe_stem_is_cut_between_characters():
    assert safe_stem("é" * 300) == "é" * 50
    assert safe_stem("x" + "脸" * 300) == "x" + "脸" * 33
