"""Files that are no checkpoints: one row a format, written as its own programs do where those are at hand."""

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from xface.detectors import read_checkpoint
from xface.errors import CheckpointError

JUNK = bytes(range(200, 256)) * 5


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


def tarred(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("a.pth"))
    return buffer.getvalue()


def old_tar() -> bytes:
    """From before POSIX: no signature, but a checksum, counted as if spaces stood in its place."""
    header = bytearray(tarred("w")[:512])
    header[257:265], header[148:156] = bytes(8), b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def picture(kind: str) -> bytes:
    return written(lambda buffer: Image.new("RGB", (8, 8)).save(buffer, kind))


def repacked() -> bytes:
    """A file of torch.save after a turn in a program that compresses."""
    intact, buffer = io.BytesIO(written(lambda buffer: torch.save({}, buffer))), io.BytesIO()
    with zipfile.ZipFile(intact) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return buffer.getvalue()


def torchscript() -> bytes:
    traced = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))  # type: ignore[no-untyped-call]
    return written(lambda buffer: torch.jit.save(traced, buffer))  # type: ignore[no-untyped-call]


def exported() -> bytes:
    program = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
    return written(lambda buffer: torch.export.save(program, buffer))


INDEX = {"metadata": {}, "weight_map": {"a.w": "m-1-of-2.safetensors", "b.w": "m-2-of-2.safetensors"}}
FORMATS: dict[str, tuple[bytes | Callable[[], bytes], str, str]] = {
    "jpeg": (lambda: picture("JPEG"), "a JPEG picture", "torch.save"),
    "png": (lambda: picture("PNG"), "a PNG picture", "torch.save"),
    "gif": (lambda: picture("GIF"), "a GIF picture", "torch.save"),
    "webp": (lambda: picture("WEBP"), "a WebP picture", "torch.save"),
    "mp4": (b"\0\0\0\x18ftypisom" + JUNK, "a video", "torch.save"),
    "pdf": (b"%PDF-1.7\n" + JUNK, "a PDF file", "torch.save"),
    "rtf": (b"{\\rtf1 text}", "a text document", "torch.save"),
    "program": (b"\x7fELF" + JUNK, "a program", "torch.save"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
    "gzip": (gzip.compress(JUNK), "a gzip archive", "unpack it"),
    "bzip2": (bz2.compress(JUNK), "a bzip2 archive", "unpack it"),
    "xz": (lzma.compress(JUNK), "an xz archive", "unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd" + JUNK, "a Zstandard archive", "unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + JUNK, "a 7-Zip archive", "unpack it"),
    "rar": (b"Rar!\x1a\x07\x01\x00" + JUNK, "a RAR archive", "unpack it"),
    "tar": (lambda: tarred("w"), "a tar archive", "unpack it"),
    "tar.gz": (lambda: tarred("w:gz"), "a gzip archive", "unpack it"),
    "old tar": (old_tar, "a tar archive", "unpack it"),
    "empty zip": (zipped, "an empty zip archive", "copy or download it again"),
    "split zip": (b"PK\x07\x08" + JUNK, "a part of a split zip archive", "put its parts together"),
    "cut zip": (zipped("a/data.pkl")[:-9], "damaged or cut short", "copy or download it again"),
    "npy": (lambda: written(lambda file: np.save(file, np.ones(2))), "one NumPy array", "save_file"),
    "npz": (lambda: written(lambda file: np.savez(file, w=np.ones(2))), "NumPy arrays (.npz)", "save_file"),
    "gguf": (b"GGUF\3\0\0\0" + JUNK, "a GGUF file", "torch.save"),
    "tflite": (b"\x1c\0\0\0TFL3" + JUNK, "a TensorFlow Lite program", "state_dict()"),
    "tensorflow's list": (b'model_checkpoint_path: "a"', "TensorFlow's list", "state_dict()"),
    "tensorflow's index": (JUNK + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "the index of a", "state_dict()"),
    "savedmodel": (b"\x08\x01\x12\x90\x03" + JUNK, "a SavedModel of TensorFlow", "state_dict()"),
    "zipped savedmodel": (zipped("m/saved_model.pb"), "a SavedModel of TensorFlow", "state_dict()"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x03" + JUNK, "a network in ONNX", "state_dict()"),
    "onnx, nameless": (b"\x08\x07\x3a\x90\x03" + JUNK, "a network in ONNX", "state_dict()"),
    "torchscript": (torchscript, "a TorchScript program", "model.state_dict()"),
    "pt2": (exported, "a torch.export program", "state_dict()"),
    "torch.package": (zipped("a/.data/extern_modules", "a/b.pkl"), "a package", "state_dict()"),
    "torchserve": (zipped("MAR-INF/MANIFEST.json", "a.pth"), "a model archive of TorchServe", "unpack it"),
    "keras": (zipped("config.json", "model.weights.h5"), "a model of Keras 3", "model.weights.h5"),
    "word": (zipped("[Content_Types].xml", "word/document.xml"), "an Office document", "torch.save"),
    "zipped pth": (zipped("best/a.pth", "b.txt"), "a zip archive that holds 'best/a.pth'", "unpack it"),
    "zipped pictures": (zipped("a.jpg"), "a zip archive of other files (with 'a.jpg')", "torch.save"),
    "the inside of a pth": (zipped("data.pkl", "data/0"), "packed again", "torch.save wrote"),
    "compressed pth": (repacked, "packed again, compressed", "torch.save wrote"),
    "index": (json.dumps(INDEX).encode(), "weights in several files ('m-1-of-2.safetensors', ", "one dict"),
    "card": (b'{"arch": "meso4"}', "a JSON file", "that it belongs to"),
    "card with a mark": (b'\xef\xbb\xbf{"arch": "meso4"}', "a JSON file", "that it belongs to"),
    "cut card": (b'{"arch": ', "begins like JSON", "torch.save"),
    "web page": (b"\n<!DOCTYPE html>", "a web page", "download the file itself"),
    "text": (b"quota exceeded", "it is a text, 'quota exceeded'", "torch.save"),
    "nothing": (b"", "empty (0 bytes)", "copy or download it again"),
    "noise": (b"\xfe" + JUNK, "it begins like none", "torch.save"),
    "a broken pickle": (b"\x80\x02" + JUNK, "damaged", "copy or download it again"),
    "a broken header": (b"\xff" * 8 + b"{" + JUNK, "damaged", "copy or download it again"),
    "a broken zip": (b"PK\x03\x04" + JUNK, "damaged", "copy or download it again"),
    "broken HDF5": (b"\x89HDF\r\n\x1a\n" + JUNK, "Keras", ""),
    "long header": (struct.pack("<Q", 17 << 20) + b"{" + bytes(17 << 20), "17 MiB of names", "torch.save"),
}  # fmt: skip
"""By name: the content, what the error calls it, and a part of the remedy."""


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    return str(caught.value).removeprefix(f"cannot restore {str(path)!r}: ")


@pytest.mark.parametrize("name", FORMATS)
def test_each_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    content, what, remedy = FORMATS[name]
    (tmp_path / "a.pth").write_bytes(content if isinstance(content, bytes) else content())
    said, _, to_do = refused(tmp_path / "a.pth").rpartition("; ")
    assert what in said
    assert remedy in to_do


FOLDERS = {
    "__0_0.distcp": ("a folder of torch.distributed.checkpoint", "dcp_to_torch"),
    "zero_to_fp32.py": ("a folder of DeepSpeed", "makes one file"),
    "saved_model.pb": ("a SavedModel of TensorFlow", "state_dict()"),
    "model.ckpt.data-00000-of-00001": ("a checkpoint of TensorFlow", "state_dict()"),
    "data.pkl": ("the inside of a file of torch.save", "torch.save wrote"),
    "best.pth": ("a folder that holds 'best.pth'", "give that file itself"),
    "a.txt": ("a folder (with 'a.txt')", "torch.save"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_are_called_what_they_are(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    what, remedy = FOLDERS[name]
    said, _, to_do = refused(tmp_path).rpartition("; ")
    assert what in said
    assert remedy in to_do


def test_a_missing_file_and_an_empty_folder(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "missing.pth")
    assert "folder" in refused(tmp_path)


@pytest.mark.parametrize("is_zip", [False, True])
def test_files_that_are_a_hole_are_not_read_through(is_zip: bool, tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2, 2)}, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    try:
        os.truncate(tmp_path / "a.pth", 1 << 40)
    except OSError:
        pytest.skip("this file system has no files of 1 TiB")
    if (tmp_path / "a.pth").stat().st_blocks > 1000:
        pytest.skip("this file system has no holes")
    assert "are a hole, as of a broken download; copy or download it again" in refused(tmp_path / "a.pth")


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pth")
    (tmp_path / "b.pth").symlink_to("/dev/zero")
    for name in ("a.pth", "b.pth"):
        assert "a device or a pipe" in refused(tmp_path / name)
