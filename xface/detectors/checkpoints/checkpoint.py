"""Checkpoints: read a stranger's weights file without running any of its code."""

from __future__ import annotations

import hashlib
import re
import reprlib
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.serialization import safe_globals

from xface.detectors.checkpoints.formats import (
    AGAIN,
    PLAIN,
    STATE,
    TORCH_SAVE,
    ForeignError,
    excerpt,
    format_of,
)
from xface.detectors.checkpoints.pickled_names import MAX_BYTES, likely_cause, listed, pickled_names
from xface.detectors.checkpoints.stand_ins import allowed
from xface.detectors.checkpoints.state_dicts import (
    MAX_NAME,
    Found,
    State,
    Unusable,
    bare,
    find_state,
    find_under,
    plain,
    state_keys,
)
from xface.detectors.checkpoints.unpickling import Data, Pickle, UnboundedError, is_known
from xface.errors import CheckpointError, refusal
from xface.files.paths import check_utf8

LISTED = 10
MAX_TENSORS = 6_000  # in one set of weights; the largest of timm's networks has 3,000
MOST_SHARED = 4  # times a file's size: tied weights lie in it once
MARK = bytes.fromhex("6cfc9c46f9206aa85019")  # of torch's old format
OTHER_PROTOCOLS = (1, 3, 4, 5)
PICKLES = 5  # before the numbers in torch's old format: a mark, a version, the system, the content, the keys
NOT_IN_OLD = {
    "torch.storage.UntypedStorage": "numbers of a newer type (float8, uint16, uint32, uint64, ...)",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
}
"""What torch writes in its old format and cannot read again, by the names that stand for it."""
ARRAY = "numpy.ndarray"
NEVER = (
    "running a file's own code is never allowed; where it comes from, load the model and save its "
    "model.state_dict() with torch.save"
)


@dataclass(frozen=True)
class Checkpoint:
    """What a weights file holds.

    `state` has each tensor by name, wrappers and prefixes taken off; `extras` is what else lay beside it
    (epoch, losses, classes, ...); `sha256` is the file's; `format` is `safetensors`, `torch`, `keras` or
    `sung` (of Minsuk Sung). `left_out` are the trainer's own entries, such as a loss's, and
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
    kind, content = _content(path)
    state, extras = _chosen(path, plain(content), state_key)
    _check_tensors(path, state)
    weights, left_out = bare(state)
    layout = {"safetensors": "safetensors", "keras": "keras"}.get(kind, "torch")
    return Checkpoint(
        path,
        weights,
        extras,
        _sha256(path),
        "sung" if _is_sungs(content) else layout,
        left_out,
        tuple(state_keys(extras)),
    )


def _content(path: Path) -> tuple[str, object]:
    """The file's format, and what is in it."""
    try:
        if not path.exists():
            raise refusal(path, "there is no such file; check the path")
        check_utf8(path, CheckpointError, "PyTorch or safetensors")
        kind = format_of(path)
        return kind, READERS[kind](path)
    except ForeignError as error:
        raise refusal(path, str(error)) from error
    except (OSError, ValueError) as error:
        raise refusal(path, f"{error}; make it readable") from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            _check_count(path, len(names))
            return {name: file.get_tensor(name) for name in names}
    except CheckpointError:
        raise
    except Exception as error:  # SafetensorError, and what a hostile header makes of it
        reason = f"it is a damaged or cut short safetensors file ({error}); {AGAIN}"
        raise refusal(path, reason) from error


def _read_zip(path: Path) -> object:
    return _read_torch(path, _followed(path, _record(path), 1), mmap=True)


def _record(path: Path) -> bytes:
    """The pickle in a zip archive, as torch finds it there."""
    try:
        return torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
    except Exception as error:  # RuntimeError, and what pybind makes of odd names
        raise _damaged(path, error) from error


def _read_old(path: Path) -> object:
    """torch.save's format before 1.6: pickles, then the tensors' numbers."""
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        if MARK not in content[:32]:
            names = pickled_names(content[:MAX_BYTES])
            raise _damaged(path, EOFError()) if names is None else _bare_pickle(path, names)
        read = _followed(path, content, PICKLES)
        if lacking := [what for name, what in NOT_IN_OLD.items() if name in read.named]:
            reason = f"it holds {lacking[0]} in torch's old format, from which torch itself cannot read them"
            raise refusal(path, f"{reason}; save it in the new one")
        return _read_torch(path, read, mmap=False)


def _read_torch(path: Path, read: Pickle, mmap: bool) -> object:
    """What torch reads of a file whose pickles were followed first."""
    try:
        with safe_globals(allowed(read.harmless)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # on damaged files, the unpickler raises a dozen kinds
        cause = error.__context__ or error  # torch wraps it into advice that must not be followed
        if asked := re.findall(r"(?:GLOBAL |<class '|function )([\w.]+)", str(cause))[:1]:
            raise _asking(path, asked) from error
        raise _damaged(path, cause) from error


def _followed(path: Path, content: Data, count: int) -> Pickle:
    """What so many pickles at the file's beginning ask for, which is harmless."""
    read = Pickle(content)
    try:
        for _ in range(count):
            read.follow()
    except UnboundedError as error:
        if not read.asked and ARRAY in read.named:
            raise refusal(path, f"it holds NumPy arrays that are too large or too many; {PLAIN}") from error
        reason = f"it would take too long to read, or too much memory ({error})"
        raise refusal(path, f"{reason}; save model.state_dict() alone") from error
    except Exception as error:  # on damaged pickles, a dozen kinds
        if not read.asked:
            raise _unfollowed(path, content[:MAX_BYTES], error) from error
    if read.asked:
        raise _asking(path, read.asked)
    read.forget()  # what it holds may be large, and torch makes its own
    return read


def _unfollowed(path: Path, content: bytes, error: Exception) -> CheckpointError:
    """Why a pickle could not be followed to its end: of other protocols, torch reads none."""
    names = [name for name in pickled_names(content) or () if not is_known(name)]
    if names:
        return _asking(path, names)
    if isinstance(error, KeyError) and content[:1] == b"\x80" and content[1] in OTHER_PROTOCOLS:
        reason = f"it is pickled by protocol {content[1]}, of which not all can be read"
        return refusal(path, f"{reason}; save it again with torch.save as it is, without pickle_protocol")
    return _damaged(path, error)


def _asking(path: Path, names: Collection[str]) -> CheckpointError:
    return refusal(path, f"{likely_cause(names)}; it asks for {listed(names)}, and {NEVER}")


def _damaged(path: Path, error: BaseException) -> CheckpointError:
    first_line = str(error).partition("\n")[0][:120]
    return refusal(path, f"it is damaged or cut short ({first_line or 'it ends too early'}); {AGAIN}")


def _read_other(path: Path) -> object:
    """A pickle without the mark of its protocol, or no checkpoint."""
    with open(path, "rb") as file:
        beginning = file.read(MAX_BYTES)
    if names := pickled_names(beginning):
        raise _bare_pickle(path, names)
    looks = excerpt(beginning) or "it begins like none"
    raise refusal(path, f"it is not a checkpoint ({looks}); {TORCH_SAVE}")


def _bare_pickle(path: Path, names: Collection[str]) -> CheckpointError:
    what = "it is a bare pickle, not one of torch.save"
    if not names:
        return refusal(path, f"{what}, and holds no tensors; {STATE}")
    if all(is_known(name) for name in names) and ARRAY in names:
        return refusal(path, f"{what}, and holds NumPy arrays; {PLAIN}")
    return refusal(path, f"{what}: {likely_cause(names)}; it asks for {listed(names)}, and {NEVER}")


def _read_keras(path: Path) -> object:
    from xface.detectors.checkpoints.keras import read_keras

    return read_keras(path)


READERS: Mapping[str, Callable[[Path], object]] = {
    "safetensors": _read_safetensors,
    "keras": _read_keras,
    "zip": _read_zip,
    "pickle": _read_old,
    "": _read_other,
}


def _check_count(path: Path, count: int) -> None:
    if count > MAX_TENSORS:
        raise refusal(path, f"it holds {count:,} tensors, more than any network that is known; {STATE}")


def _check_tensors(path: Path, state: State) -> None:
    """Refuse weights that are no dense tensors, not wholly in the file, or too many."""
    _check_count(path, len(state))
    if too_long := [name for name in state if len(name) > MAX_NAME]:
        raise refusal(path, f"a name in it has {len(too_long[0]):,} letters, which no weight has; {STATE}")
    if unusable := [f"{name} ({t.kind})" for name, t in state.items() if isinstance(t, Unusable)]:
        raise refusal(path, f"these are not dense tensors: {', '.join(unusable[:LISTED])}; save them as such")
    size = path.stat().st_size
    sizes = {name: tensor.numel() * tensor.itemsize for name, tensor in state.items()}
    if too_large := [name for name in sizes if sizes[name] > size]:
        larger = ", ".join(too_large[:LISTED])
        raise refusal(path, f"these are larger than the file: {larger}; save them whole")
    if sum(sizes.values()) > MOST_SHARED * size:
        raise refusal(path, "its tensors share their numbers and are larger than the file; save them whole")


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


def _is_sungs(content: object) -> bool:
    """Whether the followed system wrote this: `model`, `epoch`, lists of losses that are NumPy scalars."""
    if not isinstance(content, Mapping) or not {"model", "epoch"} <= content.keys():
        return False
    losses = [value for key, value in content.items() if "loss" in str(key) and isinstance(value, list)]
    return sum(any(isinstance(number, np.generic) for number in values) for values in losses) >= 2


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a dict with {', '.join(map(reprlib.repr, list(content)[:8])) or 'nothing in it'}"
    return f"one {type(content).__name__}"
