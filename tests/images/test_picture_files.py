"""What folders and globs leave out is counted and named; a picture is known by its content."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from test_cli import run

from xface.data import read_samples
from xface.errors import ImageError
from xface.files.kinds import HEIC, OTHER, VIDEO, kind_of
from xface.images.picture_files import find_pictures
from xface.images.pictures import FORMATS, read_picture, readable_formats

PIXELS = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
HEADS = {
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "heif": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
    "mp4": b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
    "mov": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
    "m4v": b"\0\0\0\x18ftypM4V \0\0\0\0M4V mp42",
    "3gp": b"\0\0\0\x18ftyp3gp4\0\0\0\x003gp4isom",
    "avi": b"RIFF\0\0\0\0AVI LIST",
    "mkv": b"\x1a\x45\xdf\xa3\x01\0\0\0",
    "webm": b"\x1a\x45\xdf\xa3\x9fB\x86\x81",
    "wmv": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "mpg": b"\0\0\x01\xba\x44\0",
    "flv": b"FLV\x01\x05",
    "jxl": b"\0\0\0\x0cJXL \r\n\x87\n",
    "psd": b"8BPS\0\x01",
    "svg": b"<svg xmlns=",
    "ico": b"\0\0\x01\0\x01\0",
    "exr": b"\x76\x2f\x31\x01",
    "cr2": b"II*\0\x10\0\0\0CR\x02\0",
    "nef": b"MM\0*\0\0\0\x08",
    "pdf": b"%PDF-1.7",
    "zip": b"PK\x03\x04",
    "tar": bytes(257) + b"ustar",
    "txt": b"no picture",
    "csv": b"path,label\n",
    "BMPs": b"BM is how this text begins, not a bitmap",
}
VIDEOS = ("mp4", "mov", "m4v", "3gp", "avi", "mkv", "webm", "wmv", "mpg", "flv")
SAVED = {"JPEG": "jpe", "PNG": "apng", "WEBP": "webp", "BMP": "dib", "TIFF": "tif", "GIF": "gif",
         "PPM": "pnm", "AVIF": "avif", "JPEG2000": "jp2"}  # fmt: skip


def saved(path, format):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(path, format)
    return path


@pytest.mark.parametrize("ending", HEADS)
def test_every_kind_of_file_is_counted_and_named(tmp_path, ending):
    saved(tmp_path / "a.png", "PNG")
    for name in (f"1.{ending}", f"sub/2.{ending.upper()}"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(HEADS[ending] + bytes(100))
    found = find_pictures([tmp_path])
    assert [path.name for path in found.paths] == ["a.png"]
    [note] = found.notes
    assert f"left out of '{tmp_path}': 2 .{ending.lower()} (" in note
    assert ("video: take frames" in note) == (ending in VIDEOS)
    assert ("pillow-heif" in note) == (ending in ("heic", "heif"))
    assert find_pictures([tmp_path / "*"]).notes != ()


@pytest.mark.parametrize("ending", [".heic", ".mp4", ".mov", ".nef", ".psd", ".jxl"])
def test_by_their_endings_where_the_content_does_not_tell(tmp_path, ending):
    (tmp_path / f"a{ending}").touch()
    assert f"1 {ending} (" in find_pictures([tmp_path]).notes[0]
    assert "no picture" not in find_pictures([tmp_path]).notes[0]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["a.{}", "a.jpg", "a.png", "a", "a.dat", "a.txt", "a.mp4", "a.PART"])
def test_a_picture_is_known_by_its_content(tmp_path, format, name):
    if format not in readable_formats():
        pytest.skip(f"this Pillow cannot read {format}")
    path = saved(tmp_path / name.format(SAVED[format]), format)
    found = find_pictures([tmp_path])
    assert found.paths == (path,)
    assert read_picture(path).pixels.shape == PIXELS.shape
    known = name.startswith("a.{") or path.suffix in (".jpg", ".png")
    assert bool(found.notes) != known
    assert known or "by their content" in found.notes[0]


@pytest.mark.parametrize("ending", [name for name in HEADS if name not in ("txt", "csv", "BMPs")])
def test_a_file_that_is_named_says_what_it_is(tmp_path, ending):
    for name in (f"a.{ending}", "a.jpg"):
        (tmp_path / name).write_bytes(HEADS[ending] + bytes(100))
        if ending == "nef" and name == "a.jpg":
            continue  # a TIFF file that is damaged, as far as one can see
        with pytest.raises(ImageError) as refused:
            read_picture(tmp_path / name)
        assert "it is a" in str(refused.value) or ending == "nef"
        assert "download" not in str(refused.value)


def test_what_is_no_plain_file_is_counted(tmp_path):
    saved(tmp_path / "set" / "a.png", "PNG")
    saved(tmp_path / "set" / ".hidden.png", "PNG")
    saved(tmp_path / "set" / ".cache" / "b.png", "PNG")
    saved(tmp_path / "elsewhere" / "c.png", "PNG")
    (tmp_path / "set" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "set" / "pipe.jpg")
    found = find_pictures([tmp_path / "set"])
    assert [path.name for path in found.paths] == ["a.png"]
    for words in ("1 .png (hidden)", "1 .cache", "1 linked", "1 .jpg", "(broken link, device or pipe)"):
        assert words in found.notes[0]


def test_a_tidy_folder_has_no_note(tmp_path):
    saved(tmp_path / "a.png", "PNG")
    saved(tmp_path / "b" / "c.jpg", "JPEG")
    assert find_pictures([tmp_path]).notes == ()
    assert find_pictures([tmp_path / "*.png", tmp_path / "b" / "c.jpg"]).notes == ()
    assert "1 b (folder: a glob takes none)" in find_pictures([tmp_path / "*"]).notes[0]


def test_labelled_folders_and_commands_say_it(tmp_path):
    for kind in ("real", "fake"):
        saved(tmp_path / kind / "a.png", "PNG")
        (tmp_path / kind / "b.heic").write_bytes(HEADS["heic"])
    assert "2 .heic (HEIC picture: it needs the package pillow-heif" in " ".join(read_samples(tmp_path).notes)
    assert "2 .heic" in run("predict", "--device", "cpu", tmp_path).err


def test_kinds():
    assert kind_of(b"") is kind_of(b"text") is OTHER
    assert kind_of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf").format == "AVIF"
    assert kind_of(b"\0\0\0\x18ftypheic\0\0\0\0", ".jpg") is HEIC
    assert kind_of(b"\x47\x40", ".ts") is VIDEO


def test_a_plugin_that_is_installed_is_used(tmp_path):
    """A stand-in for pillow-heif: a module of that name, whose opener reads what it calls HEIF."""
    (tmp_path / "pillow_heif.py").write_text(
        "from PIL import Image, ImageFile\n"
        "class Heif(ImageFile.ImageFile):\n"
        "    format = 'HEIF'\n"
        "    def _open(self):\n"
        "        self._size, self._mode = (20, 30), 'RGB'\n"
        "        self.im = Image.new('RGB', (20, 30), 'red').im\n"
        "        self.tile = []\n"
        "    def load(self): return Image.Image.load(self)\n"
        "def register_heif_opener(): Image.register_open('HEIF', Heif, lambda head: head[4:8] == b'ftyp')\n"
    )
    (tmp_path / "set").mkdir()
    for name in ("a.heic", "b.jpg"):
        (tmp_path / "set" / name).write_bytes(HEADS["heic"] + bytes(100))
    code = (
        "from xface.images.picture_files import find_pictures\n"
        "from xface.images.pictures import read_picture\n"
        f"found = find_pictures([{str(tmp_path / 'set')!r}])\n"
        "print([read_picture(path).pixels.shape for path in found.paths])"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, text=True,
                          capture_output=True, timeout=60)  # fmt: skip
    assert done.stdout == "[(30, 20, 3), (30, 20, 3)]\n", done.stderr
