"""Kinds of files: what a file is by its first bytes, whatever its name says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

HEAD = 262
"""So many bytes tell what a file is."""


AN = ("a", "A", "xz")
"""How names begin that take "an"."""


@dataclass(frozen=True)
class Plugin:
    """A package that teaches Pillow a format; `module.register()`, if named, must be called."""

    package: str
    module: str
    register: str = ""

    def use(self) -> bool:
        """Register it with Pillow, if it is installed; whether it is."""
        if find_spec(self.module) is None:
            return False
        module = import_module(self.module)
        if self.register:
            getattr(module, self.register)()
        return True


@dataclass(frozen=True)
class FileKind:
    """What a file is, and what to do about it.

    `format` is Pillow's name of a picture that it can read, perhaps with a `plugin`, else "".
    """

    name: str
    remedy: str = ""
    format: str = ""
    plugin: Plugin | None = None

    @property
    def one(self) -> str:
        """Its name with an article."""
        return f"{'an' if self.name.startswith(AN) else 'a'} {self.name}"

    @property
    def why(self) -> str:
        """What it is, and what to do."""
        return f"it is {self.one}; {self.remedy}"


EXPORT = "export it as PNG or JPEG"
UPGRADE = "this Pillow cannot read it: upgrade Pillow, or export it as PNG or JPEG"


def _picture(name: str, format: str) -> FileKind:
    return FileKind(f"{name} picture", UPGRADE, format)


def _with_plugin(name: str, format: str, plugin: Plugin) -> FileKind:
    remedy = f"it needs the package {plugin.package}: pip install {plugin.package}, or {EXPORT}"
    return FileKind(f"{name} picture", remedy, format, plugin)


BMP = _picture("BMP", "BMP")
AVIF = _picture("AVIF", "AVIF")
JPEG_2000 = _picture("JPEG 2000", "JPEG2000")
HEIC = _with_plugin("HEIC", "HEIF", Plugin("pillow-heif", "pillow_heif", "register_heif_opener"))
JPEG_XL = _with_plugin("JPEG XL", "JXL", Plugin("pillow-jxl-plugin", "pillow_jxl"))
VIDEO = FileKind("video", "take frames out of it first: ffmpeg -i VIDEO frame-%05d.png")
RAW = FileKind("camera raw file", "develop it, and export it as PNG or JPEG")
UNSUPPORTED = FileKind("picture of an unsupported format", EXPORT)
OTHER = FileKind("no picture")

STARTS: tuple[tuple[int, bytes, FileKind], ...] = (
    (0, b"\xff\xd8\xff", _picture("JPEG", "JPEG")),
    (0, b"\x89PNG\r\n\x1a\n", _picture("PNG", "PNG")),
    (0, b"GIF8", _picture("GIF", "GIF")),
    (8, b"WEBP", _picture("WebP", "WEBP")),
    (8, b"CR\x02", RAW),
    (0, b"FUJIFILMCCD-RAW", RAW),
    (0, b"IIRO", RAW),
    (0, b"IIU\0", RAW),
    *((0, start, _picture("TIFF", "TIFF")) for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((0, b"P%d%c" % (n, c), _picture("PNM", "PPM")) for n in range(1, 7) for c in b" \t\r\n"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", JPEG_2000),
    (0, b"\xff\x4f\xff\x51", JPEG_2000),
    (0, b"\xff\x0a", JPEG_XL),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", JPEG_XL),
    (8, b"AVI ", VIDEO),
    (0, b"\x1a\x45\xdf\xa3", VIDEO),
    (0, b"\0\0\x01\xba", VIDEO),
    (0, b"\0\0\x01\xb3", VIDEO),
    (0, b"FLV\x01", VIDEO),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", VIDEO),
    *((0, start, UNSUPPORTED) for start in (
        b"8BPS", b"%!PS", b"<svg", b"\0\0\x01\0", b"\0\0\x02\0", b"DDS ", b"qoif", b"\x76\x2f\x31\x01",
        b"#?RADIANCE", b"icns", b"gimp xcf", b"\x59\xa6\x6a\x95", b"SIMPLE  =", b"BPG\xfb", b"P7\n", b"PF\n",
        b"Pf\n", b"II\xbc\x01",
    )),
    (0, b"%PDF-", FileKind("PDF file", "take the pictures out of it first: pdfimages -png FILE faces")),
    *((place, start, FileKind(f"{name} archive", "unpack it first")) for place, start, name in (
        (0, b"PK\x03\x04", "zip"), (0, b"Rar!\x1a\x07", "RAR"), (0, b"7z\xbc\xaf\x27\x1c", "7-Zip"),
        (0, b"\x1f\x8b", "gzip"), (0, b"BZh", "bzip2"), (0, b"\xfd7zXZ", "xz"),
        (0, b"\x28\xb5\x2f\xfd", "Zstandard"), (257, b"ustar", "tar"),
    )),
)  # fmt: skip
"""Place and bytes by which a file is known, and what it then is."""

BRANDS: Mapping[FileKind, tuple[bytes, ...]] = {
    AVIF: (b"avif", b"avis"),
    HEIC: (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"),
    RAW: (b"crx ",),
}
"""The brands of ISO media files that are pictures; those of all others are videos."""

ENDINGS: Mapping[str, FileKind] = {
    **dict.fromkeys((".heic", ".heif", ".hif", ".heics"), HEIC),
    ".jxl": JPEG_XL,
    **dict.fromkeys(
        (".mp4", ".m4v", ".mov", ".qt", ".avi", ".mkv", ".webm", ".wmv", ".flv", ".mpg", ".mpeg", ".mts",
         ".m2ts", ".3gp", ".3g2", ".ogv", ".vob", ".asf", ".y4m", ".mjpeg", ".mjpg", ".f4v", ".divx"),
        VIDEO,
    ),
    **dict.fromkeys(
        (".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw", ".raw", ".3fr"),
        RAW,
    ),
    **dict.fromkeys(
        (".psd", ".psb", ".svg", ".svgz", ".eps", ".ps", ".ai", ".ico", ".cur", ".icns", ".tga", ".dds",
         ".pcx", ".exr", ".hdr", ".xcf", ".qoi", ".sgi", ".pfm", ".pam", ".fits", ".fit", ".jxr", ".wdp",
         ".bpg", ".xbm", ".xpm", ".wmf", ".emf", ".ras", ".jls"),
        UNSUPPORTED,
    ),
}  # fmt: skip
"""What files are by their endings, where their content doesn't tell."""


def kind_of(head: bytes, ending: str = "") -> FileKind:
    """What a file is by its first bytes, else by its ending in lower case; `OTHER` if neither tells.

    Example:
        >>> kind_of(b"\\xff\\xd8\\xff\\xe0").format, kind_of(b"\\0\\0\\0 ftypavif").name
        ('JPEG', 'AVIF picture')
    """
    if ENDINGS.get(ending) is RAW:  # many are TIFF files, in which Pillow finds a small preview
        return RAW
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    if head[:2] == b"BM" and head[15:18] == b"\0\0\0":
        return BMP
    if head[:1] == b"\x47" and ending in (".ts", ".mts", ".m2ts"):
        return VIDEO
    found = (kind for place, start, kind in STARTS if head[place : place + len(start)] == start)
    return next(found, ENDINGS.get(ending, OTHER))


def _of_brands(head: bytes) -> FileKind:
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[place : place + 4] for place in range(16, size, 4))}
    return next((kind for kind, known in BRANDS.items() if brands & set(known)), VIDEO)


def read_head(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""
