"""Formats: what a file is by its content, and what to do with one whose weights xface doesn't read."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from xface.detectors.checkpoints.unpickling import MAX_PICKLE
from xface.errors import XFaceError
from xface.files.kinds import OTHER, kind_of

LISTED = 5
BEGINNING = 4096
MAX_DIRECTORY = 3 << 19
"""Bytes of a zip archive's directory; torch needs about 80 for a tensor."""
MAX_ENTRIES = 14_000
"""Of a zip archive; torch may not take longer than for so many tensors either."""
MAX_HEADER = 16 << 20
"""Bytes of a safetensors header; it has about 120 for a tensor."""
MAX_INDEX = 8 << 20
LARGE = 1 << 30
MAX_PIECES = 10_000

TORCH_SAVE = "give a .safetensors file or one of torch.save"
STATE = "load it where it comes from, and save model.state_dict() with torch.save"
UNPACK = "unpack it and give the weights file in it"
EXPORTED = "save the state_dict() of the model that it was made from"
ORIGINAL = "give the file that torch.save wrote"
WEIGHTS = r"(?i)\.(pth|pt|ckpt|safetensors|h5|hdf5|bin|pkl|pickle|tar|onnx|keras|pt2|weights)$"
AGAIN = "copy or download it again"
PLAIN = "save torch.from_numpy of each array by its name with safetensors.torch.save_file"

MAGIC: Sequence[tuple[int, bytes, str, str]] = (
    (0, b"RIFF", "a sound (RIFF)", TORCH_SAVE),
    (0, b"\x7fELF", "a program", TORCH_SAVE),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself with `git lfs pull`"),
    (0, b"PK\x05\x06", "an empty zip archive", AGAIN),
    (0, b"PK\x07\x08", "a part of a split zip archive", "put its parts together"),
    (0, b"\x93NUMPY", "one NumPy array (.npy)", PLAIN),
    (0, b"GGUF", "a GGUF file of a language model", TORCH_SAVE),
    (4, b"TFL3", "a TensorFlow Lite program", EXPORTED),
    (0, b"model_checkpoint_path:", "TensorFlow's list of its checkpoints", STATE),
    (0, b"{\\rtf", "a text document", TORCH_SAVE),
)  # fmt: skip
"""(offset, bytes there, what has them, what to do), beside the kinds of pictures, videos and archives."""

INSIDE: Sequence[tuple[str, str, str]] = (
    (r"(^|/)(constants\.pkl|code/.*)$", "a TorchScript program", "save model.state_dict()"),
    (r"(^|/)(archive_format|serialized_exported_program\.json)$", "a torch.export program (.pt2)", EXPORTED),
    (r"(^|/)\.data/(extern_modules|version)$", "a package of torch.package", EXPORTED),
    (r"(^|/)MAR-INF/", "a model archive of TorchServe (.mar)", UNPACK),
    (r"^data\.pkl$", "the inside of a file of torch.save, packed again", ORIGINAL),
    (r"^model\.weights\.h5$", "a model of Keras 3 (.keras)", "unpack model.weights.h5 from it and give that"),
    (r"(^|/)saved_model\.pb$", "a SavedModel of TensorFlow", STATE),
    (r"^\[Content_Types\]\.xml$", "an Office document", TORCH_SAVE),
    (WEIGHTS, "a zip archive that holds {}", UNPACK),
)  # fmt: skip
"""(pattern of a name in a zip archive, what has it, what to do)."""

FOLDERS: Sequence[tuple[str, str, str]] = (
    (r"\.distcp$", "a folder of torch.distributed.checkpoint",
     "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE makes one file of it"),
    (r"^zero_to_fp32\.py$", "a folder of DeepSpeed", "its zero_to_fp32.py makes one file of it"),
    (r"^saved_model\.pb$", "a SavedModel of TensorFlow", STATE),
    (r"\.data-\d+-of-\d+$", "a checkpoint of TensorFlow", STATE),
    (r"^data\.pkl$", "the inside of a file of torch.save, unpacked", ORIGINAL),
    (WEIGHTS, "a folder that holds {}", "give that file itself"),
)  # fmt: skip
"""The same of a folder."""


class ForeignError(XFaceError):
    """A file that holds no weights as xface reads them: what it is, and what to do."""


def _foreign(what: str, remedy: str) -> ForeignError:
    return ForeignError(f"it is not a checkpoint but {what}; {remedy}")


def _too_many() -> ForeignError:
    return _foreign("a zip archive of very many files", TORCH_SAVE)


def format_of(path: Path) -> str:
    """`zip`, `pickle`, `safetensors` or `keras` by a file's content, or "" for what begins like none of them.

    Raises:
        ForeignError: it is something else.
        OSError: it cannot be read.
    """
    if path.is_dir():
        raise _inside(FOLDERS, [entry.name for entry in islice(path.iterdir(), 1000)], "a folder")
    if not path.is_file():
        raise _foreign("a device or a pipe", "give the weights file itself")
    if path.stat().st_size == 0:  # not read: a log of the kernel's would be waited for
        raise ForeignError(f"it is empty (0 bytes); {AGAIN}")
    _check_holes(path)
    with open(path, "rb") as file:
        beginning = file.read(BEGINNING)
    if beginning.startswith(b"PK\x03\x04"):
        check_zip(path)
        return "zip"
    if beginning.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras"
    if beginning[8:9] == b"{" and not beginning.lstrip().startswith(b"{"):
        _check_header(path, beginning)
        return "safetensors"
    if (kind := kind_of(beginning)) is not OTHER:
        raise _foreign(kind.one, UNPACK if kind.name.endswith("archive") else TORCH_SAVE)
    for offset, magic, what, remedy in MAGIC:
        if beginning.startswith(magic, offset):
            raise _foreign(what, remedy)
    if _is_tar(beginning):
        raise _foreign("a tar archive", UNPACK)
    if beginning.startswith(b"\x80"):
        return "pickle"
    _check_others(path, beginning)
    return ""


def _check_holes(path: Path) -> None:
    """Refuse a large file of which hardly anything is there: a hole takes as long to hash as data."""
    size = path.stat().st_size
    if size >= LARGE and hasattr(os, "SEEK_DATA") and _written(path) < size // 10:
        raise ForeignError(f"most of its {size >> 30:,} GiB are a hole, as of a broken download; {AGAIN}")


def _written(path: Path) -> int:
    """The bytes of a file that are in no hole; all, where it has very many holes."""
    written = start = 0
    with open(path, "rb") as file:
        for _ in range(MAX_PIECES):
            try:
                start = os.lseek(file.fileno(), start, os.SEEK_DATA)
            except OSError:  # there is no more of them
                return written
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            written, start = written + end - start, end
    return path.stat().st_size


class _ZipFile(io.FileIO):
    """A zip archive's file: zipfile reads its whole directory at once, which takes long for a large one."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on, unless that is too much at once."""
        if size is not None and size > MAX_DIRECTORY:
            raise _too_many()
        return super().read(size) or b""


def check_zip(path: Path) -> None:
    """Raise ForeignError for a zip archive that torch.save did not write, or that is damaged.

    Nothing is unpacked.
    """
    try:
        with _ZipFile(path) as file, zipfile.ZipFile(file) as archive:
            _check_entries(archive.infolist())
            _check_sums(archive, path.stat().st_size)
    except ForeignError:
        raise
    except Exception as error:  # on damaged archives, zipfile raises a dozen kinds
        raise ForeignError(f"it is damaged or cut short ({str(error)[:120]}); {AGAIN}") from error


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if not any(re.search(r"^[^/]+/data\.pkl$", name) for name in names) or _is_program(names):
        raise _inside(_in_zip(names), names, "a zip archive of other files")
    if len(names) > MAX_ENTRIES:
        raise _too_many()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _foreign("a file of torch.save that was packed again, compressed", ORIGINAL)
    if sum(entry.file_size for entry in entries if "/data/" not in entry.filename) > MAX_PICKLE:
        raise ForeignError(f"what lies beside its tensors has more than {MAX_PICKLE // 10**6} MB; {STATE}")
    if len(set(names)) < len(names):
        raise ForeignError(f"it is damaged (it holds one name twice); {AGAIN}")


def _check_sums(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse changed bytes, which torch reads as they are; a checksum of 0 was left out by who wrote it."""
    entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > size:
        raise ForeignError(f"it is damaged (its entries are larger than the file); {AGAIN}")
    for entry in entries:
        with archive.open(entry) as content:
            while entry.CRC and content.read(1 << 20):
                pass


def _is_program(names: list[str]) -> bool:
    return any(re.search(pattern, name) for pattern, _, _ in INSIDE[:3] for name in names)


def _in_zip(names: list[str]) -> Sequence[tuple[str, str, str]]:
    """NumPy's archives hold arrays alone."""
    only_arrays = all(name.endswith(".npy") for name in names)
    return ((r"\.npy$", "NumPy arrays (.npz)", PLAIN), *INSIDE) if only_arrays else INSIDE


def _inside(kinds: Sequence[tuple[str, str, str]], names: list[str], otherwise: str) -> ForeignError:
    """The first kind of which one of the names is; else they are listed."""
    for pattern, what, remedy in kinds:
        if found := [name for name in names if re.search(pattern, name)]:
            return _foreign(what.format(_listed(found)), remedy)
    listed = f"with {_listed(names)}" if names else "with nothing in it"
    return _foreign(f"{otherwise} ({listed})", TORCH_SAVE)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(f"{name[:100]!r}" for name in names[:LISTED]) + more


def _check_header(path: Path, beginning: bytes) -> None:
    (length,) = struct.unpack("<Q", beginning[:8])
    if MAX_HEADER < length <= path.stat().st_size:
        raise _foreign(f"a safetensors file with {length >> 20} MiB of names and shapes", TORCH_SAVE)


def _is_tar(beginning: bytes) -> bool:
    """Whether the first block has a tar header's checksum, as those from before POSIX have no signature."""
    try:
        tarfile.TarInfo.frombuf(beginning[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _check_others(path: Path, beginning: bytes) -> None:
    """Formats that no few bytes at their beginning tell."""
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<"):
        raise _foreign("a web page", "download the file itself")
    if text.startswith((b"{", b"[")):
        raise _json(path)
    if _is_onnx(beginning):
        raise _foreign("a network in ONNX", EXPORTED)
    if beginning.startswith(b"\x08\x01\x12"):
        raise _foreign("a SavedModel of TensorFlow", STATE)
    if _ending(path) == b"\x57\xfb\x80\x8b\x24\x75\x47\xdb":
        raise _foreign("the index of a checkpoint of TensorFlow", STATE)


def _is_onnx(beginning: bytes) -> bool:
    """A protocol buffer whose first field is a small version, its second a producer's name or a graph."""
    if len(beginning) < 8 or beginning[0] != 0x08 or not 1 <= beginning[1] < 0x40:
        return False
    field, length = beginning[2], beginning[3]
    producer = beginning[4 : 4 + length]
    return field == 0x3A or (
        field == 0x12 and 1 < length < 0x40 and producer.isascii() and producer.decode("ascii").isprintable()
    )


def _ending(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 8))
        return file.read(8)


def _json(path: Path) -> ForeignError:
    """Settings, a card, or the index of weights that lie in several files."""
    content = None
    if path.stat().st_size <= MAX_INDEX:
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return _foreign("a text that begins like JSON", TORCH_SAVE)
    parts = content.get("weight_map") if isinstance(content, dict) else None
    if isinstance(parts, dict):
        listed = _listed(sorted({str(part) for part in parts.values()}))
        return _foreign(
            f"the index of weights in several files ({listed})",
            "load them all into one dict and save that with safetensors.torch.save_file",
        )
    return _foreign("a JSON file, such as a card or settings", "give the weights file that it belongs to")


def excerpt(beginning: bytes) -> str:
    """How what is not a checkpoint begins, where that is text, such as a server's excuse."""
    text = beginning.decode(errors="replace").strip()[:60]
    return f"it is a text, {text!r}" if text and text.isprintable() and "\ufffd" not in text else ""
