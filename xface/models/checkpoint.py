"""Checkpoints: read a stranger's weights file without running any of its code."""

from __future__ import annotations

import _codecs
import hashlib
import pathlib
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from xface.errors import CheckpointError
from xface.models.contents import Found, bare, find_state, find_under, state_keys
from xface.models.pickled import NumberType, number, pickled_names

LONGEST_REASON = 3000
NEVER = (
    "running a file's own code is never allowed; where it comes from, load the model and save its "
    "model.state_dict() with torch.save"
)

ALLOWED: list[Any] = [
    (number, "numpy.core.multiarray.scalar"),
    (number, "numpy._core.multiarray.scalar"),
    (NumberType, "numpy.dtype"),
    _codecs.encode,
    # What timm and Lightning keep of a run's settings: containers and paths that do nothing.
    (SimpleNamespace, "argparse.Namespace"),
    (dict, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (dict, "lightning_fabric.utilities.data.AttributeDict"),
    *((pathlib.PurePosixPath, f"pathlib.{name}") for name in ("PosixPath", "PurePosixPath")),
    *((pathlib.PureWindowsPath, f"pathlib.{name}") for name in ("WindowsPath", "PureWindowsPath")),
]

_BEGINNINGS = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with `git lfs pull`",
    b"<": "a web page: download the file itself",
    b"\x1f\x8b": "a gzip archive: unpack it",
}


@dataclass(frozen=True)
class Checkpoint:
    """What a weights file holds.

    `state` has each tensor by name, wrappers and prefixes taken off; `extras` is what else lay beside it
    (epoch, losses, classes, ...); `sha256` is the file's; `format` is `safetensors`, `torch`, `keras` or
    `seed` (the system that xface follows). `left_out` are the trainer's own entries, such as a loss's, and
    `state_keys` the places of other weights in the file, averaged ones for instance.
    """

    path: Path
    state: Mapping[str, Tensor] = field(repr=False)
    extras: Mapping[str, Any] = field(repr=False)
    sha256: str
    format: str
    left_out: tuple[str, ...] = ()
    state_keys: tuple[str, ...] = ()


def read_checkpoint(path: str | Path, state_key: str | None = None) -> Checkpoint:
    """Read safetensors, MesoNet's Keras files, or what `torch.save` wrote, without running any code of it.

    `state_key` picks one of several sets of weights in a file by its name there, `model_ema` for instance.

    Raises:
        CheckpointError: the file is missing, unreadable, damaged, holds no named weights, or asks for code
            (it then is refused with the names it asked for).

    Example:
        >>> read_checkpoint("missing.pth")
        Traceback (most recent call last):
        xface.errors.CheckpointError: cannot restore 'missing.pth': there is no such file; check the path
    """
    path = Path(path)
    kind, sha256 = _kind_and_hash(path)
    content = READERS[kind](path)
    state, extras = _chosen(path, content, state_key)
    if unusable := [name for name, tensor in state.items() if not _is_plain(tensor)]:
        raise refusal(path, f"these are no dense tensors: {', '.join(unusable[:10])}; save them as such")
    size = path.stat().st_size
    if too_large := [name for name, tensor in state.items() if tensor.numel() * tensor.itemsize > size]:
        raise refusal(path, f"these are larger than the file: {', '.join(too_large[:10])}; save them whole")
    weights, left_out = bare(state)
    layout = {"safetensors": "safetensors", "keras": "keras"}.get(kind, "torch")
    return Checkpoint(
        path,
        weights,
        extras,
        sha256,
        "seed" if _is_seed(content) else layout,
        left_out,
        tuple(state_keys(extras)),
    )


def refusal(path: Path, reason: str) -> CheckpointError:
    """The error that says why a weights file cannot be restored, however odd the names in it are."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in reason[:LONGEST_REASON])
    return CheckpointError(f"cannot restore {str(path)!r}: {printable}")


def _kind_and_hash(path: Path) -> tuple[str, str]:
    try:
        if not path.exists():
            raise refusal(path, "there is no such file; check the path")
        if not path.is_file():
            raise refusal(path, "it is a folder or a device; give the weights file itself")
        with open(path, "rb") as file:
            beginning = file.read(32)
            file.seek(0)
            return _kind(path, beginning), _sha256(file)
    except (OSError, ValueError) as error:
        raise refusal(path, f"{error}; make it readable") from error


def _kind(path: Path, beginning: bytes) -> str:
    if not beginning:
        raise refusal(path, "it is empty (0 bytes); copy or download it again")
    if beginning.startswith(b"PK\x03\x04"):
        return "zip"
    if beginning.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras"
    if beginning[8:9] == b"{":
        return "safetensors"
    if names := pickled_names(path):
        raise refusal(
            path, f"it is a bare pickle, not one of torch.save; it asks for {', '.join(names)}, and {NEVER}"
        )
    if beginning.startswith(b"\x80"):
        return "pickle"
    looks = next(
        (what for magic, what in _BEGINNINGS.items() if beginning.startswith(magic)), "it begins like none"
    )
    raise refusal(path, f"it is no checkpoint ({looks}); give a .safetensors file or one of torch.save")


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # SafetensorError, and what a hostile header makes of it
        reason = f"it is a damaged or cut short safetensors file ({error}); copy or download it again"
        raise refusal(path, reason) from error


def _read_torch(path: Path, mmap: bool) -> object:
    try:
        with safe_globals(ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
            return _without_attributes(content)
    except Exception as error:  # on damaged files, the unpickler raises a dozen kinds
        cause = error.__context__ or error  # torch wraps it into advice that must not be followed
        raise refusal(path, _reason(path, str(cause), is_zip=mmap)) from error


def _without_attributes(content: object) -> object:
    """Plain dicts, at any depth of dicts: those of a pickle may have attributes that hide their methods."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and id(value) not in seen:
            seen.add(id(value))
            getattr(value, "__dict__", {}).clear()
            waiting += dict.values(value)
    return content


def _reason(path: Path, message: str, is_zip: bool) -> str:
    if "TorchScript" in message:
        return "it is a TorchScript program, not weights; save model.state_dict()"
    if names := _asked_for(path, message, is_zip):
        return f"it asks for {', '.join(names)}, and {NEVER}"
    first_line = message.partition("\n")[0][:120]
    return f"it is damaged or cut short ({first_line or 'it ends too early'}); copy or download it again"


def _asked_for(path: Path, message: str, is_zip: bool) -> list[str]:
    """The names of the functions and classes that a refused file wanted to use."""
    if is_zip:
        with suppress(Exception), safe_globals(ALLOWED):
            return sorted(get_unsafe_globals_in_checkpoint(path))
    return re.findall(r"(?:GLOBAL |<class '|function )([\w.]+)", message)[:1]


def _read_keras(path: Path) -> object:
    from xface.models.keras import read_keras

    return read_keras(path)


READERS: Mapping[str, Callable[[Path], object]] = {
    "safetensors": _read_safetensors,
    "keras": _read_keras,
    "zip": partial(_read_torch, mmap=True),
    "pickle": partial(_read_torch, mmap=False),
}


def _chosen(path: Path, content: object, state_key: str | None) -> Found:
    """The weights in a file's content, those under `state_key` if it is given, and what lay around them."""
    found = find_state(content) if state_key is None else find_under(content, state_key)
    if found is not None:
        return found
    listed = ", ".join(map(repr, state_keys(content)))
    if state_key is not None:
        raise refusal(path, f"it holds no named weights under {state_key!r}, but under {listed or 'no key'}")
    if listed:
        raise refusal(path, f"it holds several sets of weights ({listed}); --state-key takes one of them")
    raise refusal(path, f"it holds {_describe(content)}, no named weights; save model.state_dict()")


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta


def _is_seed(content: object) -> bool:
    """Whether the followed system wrote this: `model`, `epoch`, lists of losses that are NumPy scalars."""
    if not isinstance(content, Mapping) or not {"model", "epoch"} <= content.keys():
        return False
    losses = [value for key, value in content.items() if "loss" in str(key) and isinstance(value, list)]
    return sum(any(isinstance(number, np.generic) for number in values) for values in losses) >= 2


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a dict with {', '.join(map(repr, list(content)[:8])) or 'nothing in it'}"
    return f"one {type(content).__name__}"
