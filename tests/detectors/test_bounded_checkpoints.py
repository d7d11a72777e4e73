"""Small files that could keep a reader busy for hours or fill its memory: each is one error, soon."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_fuzz import limit

from xface.detectors import load
from xface.detectors.checkpoints.state_dicts import WRAPPERS
from xface.errors import CheckpointError

START = b"\x80\x02"
SECONDS = 20
LARGE = b"\x8a\x05" + (3 * 10**9).to_bytes(5, "little")
NEST = b"K\x01q\x00" + b"q\x00h\x00\x86" * 60  # (t, t) sixty times over
MODULO = 2**61 - 1  # of Python's hashes of numbers


def asks(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def whole(number: int) -> bytes:
    size = number.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + number.to_bytes(size, "little")


COLLIDING = [whole(index * MODULO) for index in range(1, 20_000)]
PICKLES: dict[str, Callable[[], bytes]] = {
    "a key of nested tuples": lambda: b"}" + NEST + b"K\x01s.",
    "a key of deep tuples": lambda: b"}K\x01" + b"\x85" * 100_000 + b"K\x01s.",
    "a set of nested tuples": lambda: asks("__builtin__", "set") + b"](" + NEST + b"e\x85R.",
    "a storage's key of nested tuples": lambda: b"(" + text("storage") + asks("torch", "FloatStorage") + NEST
    + text("cpu") + b"K\x01tQ.",
    "numbers that collide": lambda: b"}(" + b"N".join(COLLIDING) + b"Nu.",
    "a counter of numbers that collide": lambda: asks("collections", "Counter") + b"]("
    + b"".join(COLLIDING) + b"e\x85R.",
    "bytes of any length": lambda: asks("__builtin__", "bytearray") + LARGE + b"\x85R.",
    "bytes by another codec": lambda: asks("_codecs", "encode") + text("ab") + text("hex") + b"\x86R.",
    "a storage of any length": lambda: asks("torch.storage", "UntypedStorage") + LARGE + b"\x85R.",
    "a tensor of any length": lambda: asks("torch", "Tensor") + LARGE + b"\x85R.",
    "one list passed often": lambda: b"](](" + b"K\x01" * 300_000 + b"eq\x00" + asks("__builtin__", "set")
    + b"q\x01" + b"h\x01h\x00\x85R" * 20_000 + b"e.",
    "dicts without end": lambda: b"](" + b"}" * 3_000_000 + b"e.",
    "names without end": lambda: b"](" + b"".join(asks(f"numpy.m{i}", "a") for i in range(70_000)) + b"e.",
    "a name without end": lambda: b"c" + b"x" * 3_000_000 + b"\na\n.",
    "nested tuples": lambda: b")" + b"\x85" * 1_900_000 + b".",
    "nested lists": lambda: b"]" * 900_000 + b"a" * 899_999 + b".",
    "empty lists": lambda: b"](" + b"]" * 1_900_000 + b"e.",
    "keys of lists": lambda: b"}(" + b"".join(text(f"k{i}") + b"]" for i in range(600_000)) + b"u.",
    "tuples of marks": lambda: b"(" * 900_000 + b"t" * 900_000 + b".",
    "memories": lambda: b"N" + b"".join(b"r" + struct.pack("<I", i) for i in range(1_900_000)) + b".",
    "halves of surrogates": lambda: b"X" + struct.pack("<I", 30_000_000)
    + b"\xed\xa0\x80" * 10_000_000 + b".",
    "many classes": lambda: b"](" + b"".join(asks(f"numpy.m{i}", "a") for i in range(30_000)) + b"e.",
    "a dict of numbers that collide": lambda: asks("lightning_fabric.utilities.data", "AttributeDict") + b"]("
    + b"".join(number + b"N\x86" for number in COLLIDING) + b"e\x85R.",
    "the text of endless lists": lambda: asks("torch.torch_version", "TorchVersion") + b"](" * 40 + b"K\x01"
    + b"q\x00h\x00e" * 40 + b"\x85R.",
    "wrappers in wrappers": lambda: (b"}" + text("model")) * 4000 + b"}" + b"s" * 4000 + b".",
    "many wrappers": lambda: b"}(" + b"".join(
        text(f"d{i}") + b"}(" + b"".join(text(key) + b"}" for key in WRAPPERS) + b"u" for i in range(4000)
    ) + b"u.",
}  # fmt: skip


def zipped(content: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A file of torch.save with this pickle in it."""
    intact, buffer = io.BytesIO(), io.BytesIO()
    torch.save({}, intact)
    with zipfile.ZipFile(intact) as source, zipfile.ZipFile(buffer, "w", compression) as target:
        for name in source.namelist():
            target.writestr(name, content if name.endswith("data.pkl") else source.read(name))
    return buffer.getvalue()


def old(content: bytes) -> bytes:
    """The same in torch's old format."""
    buffer = io.BytesIO()
    torch.save({}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue().replace(START + b"}q\x00.", content, 1)


def archive(entries: int, name: str = "a/data/", extra: bytes = b"") -> bytes:
    """A file of torch.save with so many entries more, their names and extra fields in the directory."""
    buffer = io.BytesIO(zipped(START + b"}."))
    with zipfile.ZipFile(buffer, "a") as target:
        for index in range(entries):
            entry = zipfile.ZipInfo(f"{name}{index}")
            entry.extra = extra
            target.writestr(entry, b"")
    return buffer.getvalue()


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def beside_weights(content: object) -> bytes:
    return saved({"state_dict": WEIGHTS, "x": content})


WEIGHTS = {"layer1.weight": torch.zeros(2, 2)}
FILES: dict[str, Callable[[], bytes]] = {
    **{f"{name}, zip": lambda make=make: zipped(START + make()) for name, make in PICKLES.items()},
    **{f"{name}, old": lambda make=make: old(START + make()) for name, make in PICKLES.items()},
    "compressed": lambda: zipped(START + b"](" + b"N" * 50_000_000 + b"e.", zipfile.ZIP_DEFLATED),
    "many entries": lambda: archive(17_000),
    "long names of entries": lambda: archive(60, "/" * 60_000),
    "long extra fields": lambda: archive(60, extra=struct.pack("<HH", 0x9999, 0) * 16_000),
    "text beside the tensors": lambda: zipped(START + b"}" + text("x") + text("a" * 90_000_000) + b"s."),
    "a long name": lambda: saved({"a." * 100_000 + "w": torch.zeros(2, 2)}),
    "a long name of losses": lambda: saved({"loss" * 50_000: torch.zeros(2, 2), **WEIGHTS}),
    "many names of networks": lambda: saved(
        {"state_dict": WEIGHTS, "x": [{"model": f"r{i}"} for i in range(9_000)]}
    ),
    "long names of classes": lambda: saved(
        {"state_dict": WEIGHTS, "x": [{"classes": ["A" * 200_000]}] * 3_000}
    ),
    "a tensor larger than the file": lambda: saved({"a.weight": torch.zeros(1).expand(10**6, 10**6)}),
    "deep JSON": lambda: b"[" * 5_000_000,
    "text without end": lambda: b"hello " * 10_000_000,
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.endswith("old") else ()) for name in FILES]
)
def test_each_is_refused_soon(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(FILES[name]())
    with limit(SECONDS), pytest.raises(CheckpointError) as caught:
        load(tmp_path / "a.pth", device="cpu")
    assert "a.pth" in str(caught.value)
    assert "damaged" not in str(caught.value)  # it is refused for what it would cost, not for how it was made
