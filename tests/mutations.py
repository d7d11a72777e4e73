"""Damaged, odd and hostile checkpoints, drawn from a seed."""

import functools
import io
import os
import pickle
import random
import struct
import subprocess
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils.collect_env import run as run_in_shell

from xface.detectors.checkpoints.state_dicts import WRAPPERS
from xface.networks import ARCHITECTURES, architecture

DTYPES = [value for value in vars(torch).values() if isinstance(value, torch.dtype)]
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
SIZES = (0, 1, -1, 2, 7, 10**6, 2**31, 2**63 - 1, -(2**62), 10**30)


class Case(NamedTuple):
    """A file: what was done to it, its name's ending, its bytes."""

    name: str
    suffix: str
    content: bytes


class Call:
    """Pickles as a call, whose result may itself be called, given a state or filled."""

    def __init__(self, function: Any, *arguments: Any, then: tuple[Any, ...] = ()) -> None:
        self.reduced = (function, arguments, *then)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced

    def __call__(self) -> None:
        raise NotImplementedError


class Woken:
    """Does as its state says when it is unpickled, as many classes of libraries do."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __setstate__(self, state: dict[str, str]) -> None:
        os.system(state["command"])


class Filled(dict[Any, Any]):
    """Does as it is told by the first entry that it gets."""

    def __setitem__(self, key: Any, value: Any) -> None:
        os.system(value)


def gadgets(canary: Path) -> dict[str, Any]:
    """Objects whose careless unpickling leaves the file `canary` behind."""
    shell, python = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    system = Call(getattr, Call(import_module, "os"), "system")
    dtype = Call(np.dtype, "f8", False, True)
    return {
        "os.system": Call(os.system, shell),
        "eval": Call(eval, python),
        "exec": Call(exec, python),
        "open": Call(open, str(canary), "w"),
        "subprocess": Call(subprocess.call, ["touch", str(canary)]),
        "Popen": Call(subprocess.getoutput, shell),
        "getattr": Call(system, shell),
        "partial": Call(Call(functools.partial, os.system, shell)),
        "map": Call(list, Call(map, exec, [python])),
        "setstate": Woken(shell),
        "setitem": Call(Filled, then=(None, None, iter([("key", shell)]))),
        "pathlib": Call(Path.touch, canary),
        "torch.load": Call(torch.storage._load_from_bytes, _zipped(Call(os.system, shell))),
        "torch's shell": Call(run_in_shell, shell),
        "numpy scalar": Call(np.float64(0).__reduce__()[0], dtype, Call(eval, f"[{python}, b'']")),
        "namespace": Namespace(model=Call(os.system, shell)),
    }


def _zipped(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _legacy(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@functools.cache
def _state(name: str) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return dict(architecture(name).build(2).state_dict())


def _lightning(state: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "epoch": 4,
        "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(4)}}}],
        "hyper_parameters": {"class_to_idx": {"fake": 0, "real": 1}},
    }


def bases() -> dict[str, Callable[[], Any]]:
    """What intact files hold."""
    found: dict[str, Callable[[], Any]] = {
        name: functools.partial(lambda name: dict(_state(name)), name)
        for name in ("meso4", "mesoinception4", "squeezenet1_0")
        if name in ARCHITECTURES
    }
    return {
        **found,
        "lightning": lambda: _lightning(_state("meso4")),
        "prefixed": lambda: {f"module._orig_mod.{k}": v for k, v in _state("meso4").items()},
        "timm": lambda: {
            "state_dict": dict(_state("timm/test_resnet")),
            "args": Namespace(model="test_resnet", lr=0.1),
            "metric": np.float64(0.9),
        },
    }


def _weights(content: Any) -> dict[str, Any]:
    """The dict of tensors in a base's content."""
    return next((v for k, v in content.items() if k == "state_dict"), content)


# What is done to the content before it is saved: (content, rng) -> content


def _dropped(content: Any, rng: random.Random) -> Any:
    state = _weights(content)
    for name in rng.sample(sorted(state), rng.choice([1, 3, len(state) // 2, len(state)])):
        del state[name]
    return content


def _renamed(content: Any, rng: random.Random) -> Any:
    state = _weights(content)
    odd = ["", "a\nb\x1b[2J", "x" * 5000, "\ud800", "classifier.0.weight", "stage1.0.weight", 7, None, (1, 2)]
    for name in rng.sample(sorted(state), rng.choice([1, 2, 5])):
        new = rng.choice([*odd, name.upper(), f"module.{name}", name.replace(".", "..")])
        state[new] = state.pop(name)
    return content


def _reshaped(content: Any, rng: random.Random) -> Any:
    state = _weights(content)
    for name in rng.sample(sorted(state), rng.choice([1, 2, 4])):
        tensor = state[name]
        state[name] = rng.choice(
            [
                tensor.flatten(),
                tensor.sum(),
                tensor[None],
                tensor[..., :0] if tensor.ndim else tensor,
                tensor.mT if tensor.ndim > 1 else tensor,
                torch.cat([tensor, tensor]) if tensor.ndim else tensor,
                torch.zeros(1).expand(10**9),
                torch.zeros(1).expand(10**9, *tensor.shape[1:]),
            ]
        )
    return content


def _retyped(content: Any, rng: random.Random) -> Any:
    state = _weights(content)
    for name in rng.sample(sorted(state), rng.choice([1, 3])):
        dtype = rng.choice(DTYPES)
        try:
            state[name] = state[name].to(dtype)
        except (RuntimeError, NotImplementedError):  # no conversion, but a file can hold it
            state[name] = torch.empty(state[name].shape, dtype=dtype)
    return content


def _revalued(content: Any, rng: random.Random) -> Any:
    state = _weights(content)
    for name in rng.sample(sorted(state), rng.choice([1, 3])):
        value = rng.choice([float("nan"), float("inf"), 3e38, -1e30, 1e-45, 0.0])
        state[name] = torch.full_like(state[name].float(), value)
    return content


def _unusual(content: Any, rng: random.Random) -> Any:
    """Tensors of other kinds, and no tensors at all."""
    state = _weights(content)
    name = rng.choice(sorted(state))
    tensor = state[name].float()
    state[name] = rng.choice(
        [
            tensor.to_sparse(),
            tensor.to("meta"),
            torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
            torch.complex(tensor, tensor).conj(),
            torch.nested.nested_tensor([tensor.flatten()]),
            torch.nn.Parameter(tensor),
            tensor.untyped_storage(),
            [tensor],
            {"weight": tensor},
            "tensor",
            None,
            7,
        ]
    )
    return content


def _nested(content: Any, rng: random.Random) -> Any:
    depth = rng.choice([1, 3, 5, 60])
    for _ in range(depth):
        content = {rng.choice(WRAPPERS): content, "epoch": 1}
    return content


def _cyclic(content: Any, rng: random.Random) -> Any:
    """Dicts that hold themselves, under every name that a reader follows."""
    around: dict[str, Any] = {f"key{index}": index for index in range(rng.choice([0, 1000]))}
    around.update(dict.fromkeys(rng.sample(WRAPPERS, rng.choice([1, len(WRAPPERS)])), around))
    around["classes"] = around
    return {**content, "extra": around} if rng.random() < 0.5 else around


def _wrapped(content: Any, rng: random.Random) -> Any:
    odd = [[content], (content,), {1: content}, {"weights.": content}, {"model": [content]}, content, 7]
    return rng.choice([*odd, "model", None, {"model": None}, {"model": 7, "net": content}, {"ema": {}}])


def _told(content: Any, rng: random.Random) -> Any:
    """Odd values where the order of classes, the network or a trainer's notes stand."""
    key = rng.choice(
        ["classes", "class_to_idx", "idx_to_class", "id2label", "labels", "arch", "args", "epoch"]
    )
    odd = [
        ["fake"],
        ["a\nb", "c"],
        {"fake": 10**30, "real": 0},
        {"9" * 5000: "fake", "1": "real"},
        {"²": "a"},
    ]
    more = [
        "timm/resnet18",
        "timm/",
        "",
        "x" * 10_000,
        "resnet18\n",
        "timm/vit_small_patch14_dinov2",
        Namespace(),
    ]
    names = rng.choice(
        [*odd, *more, {"a": float("nan")}, [None, None], torch.zeros(2), {0: [], 1: {}}, {None: 0, (1,): 1},
         Namespace(model=rng.choice(more[:-1])), {"fake": True, "real": False}, ["\ud800", "b"]]
    )  # fmt: skip
    return {"state_dict": _weights(content), key: names}


def _misleading(content: Any, rng: random.Random) -> Any:
    """Heads of a thousand million classes that take four bytes, and names from which options are read."""
    many = rng.choice([0, 3, 10**4, 10**9, 10**15])
    one, none = torch.zeros(1), torch.zeros(())
    head = {"dense.head.weight": one.expand(many, 16), "dense.head.bias": one.expand(many)}
    widths = {f"classifier.{i}.weight": rng.choice([none, one.expand(many, 5), one[:0]]) for i in (0, 3, 6)}
    blocks = {f"stage1.{i}{rng.choice(['', '.attention.x'])}": none for i in range(rng.choice([1, 2000]))}
    return rng.choice(
        [_state("meso4") | head, widths, blocks, blocks | {"dense.head.weight": none}, widths | head]
    )


def _attributed(content: Any, rng: random.Random) -> Any:
    """An OrderedDict whose own attributes hide its methods."""
    hidden = OrderedDict(_weights(content))
    for name in rng.sample(["items", "keys", "get", "values", "__class__"], 3):
        vars(hidden)[name] = rng.choice([5, None, "x"])
    return rng.choice([hidden, {"model": hidden}, {"state_dict": _weights(content), "extra": hidden}])


CHANGES: tuple[Callable[[Any, random.Random], Any], ...] = (
    _dropped, _renamed, _reshaped, _retyped, _revalued, _unusual, _nested, _cyclic, _wrapped, _told,
    _misleading, _attributed,
)  # fmt: skip


# What is done to a file's bytes: (bytes, rng) -> bytes


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice([rng.randrange(64), rng.randrange(len(content)), len(content) - 1])]


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    reach = rng.choice([len(content), min(2000, len(content))])
    for _ in range(rng.choice([1, 4, 40])):
        place = rng.randrange(reach) if rng.random() < 0.7 else -1 - rng.randrange(reach)
        changed[place] ^= rng.choice([1, 0x80, 0xFF, rng.randrange(1, 256)])
    return bytes(changed)


def _shuffled(content: bytes, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(content)), rng.choice([1, 8, 300, 5000])
    block = rng.choice([b"", b"\x00" * length, rng.randbytes(length), content[:length], content[-length:]])
    return content[:start] + block + content[start + rng.choice([0, length]) :]


SPOILED = (_cut, _flipped, _shuffled)


def _changed(rng: random.Random) -> Iterator[Case]:
    for change in cycle(CHANGES):
        name = rng.choice(sorted(bases()))
        content = change(bases()[name](), rng)
        write = rng.choice([_zipped, _zipped, _legacy])
        yield Case(f"{change.__name__} {name} {write.__name__}", ".pth", _saved(write, content))


def _saved(write: Callable[[Any], bytes], content: Any) -> bytes:
    try:
        return write(content)
    except Exception:  # torch cannot write everything
        return _zipped({})


INTACT = (
    *(f"{name}{suffix}" for name in bases() for suffix in (".pth", ".pt")),
    *("meso4.safetensors", "squeezenet1_0.safetensors", "meso4.h5"),
)


@functools.cache
def intact() -> dict[str, bytes]:
    write = {
        ".pth": lambda name: _zipped(bases()[name]()),
        ".pt": lambda name: _legacy(bases()[name]()),
        ".safetensors": lambda name: save(_state(name)),
        ".h5": lambda name: _keras(),
    }
    return {name: write[Path(name).suffix](Path(name).stem) for name in INTACT}


def _spoiled(rng: random.Random) -> Iterator[Case]:
    for spoil in cycle(SPOILED):
        name = rng.choice(sorted(intact()))
        yield Case(f"{spoil.__name__} {name}", Path(name).suffix, spoil(intact()[name], rng))


def _hostile(rng: random.Random) -> Iterator[Case]:
    """Each gadget alone and beside weights, in every format of pickles; `CANARY` stands for its trace."""
    while True:
        for name, gadget in gadgets(CANARY).items():
            beside = {"state_dict": _state("meso4"), "hook": gadget, "args": gadget}
            content = rng.choice([gadget, beside, {**_state("meso4"), "extra": gadget}])
            protocol = rng.choice(PROTOCOLS)
            bare = functools.partial(pickle.dumps, protocol=protocol)
            write = rng.choice([_zipped, _legacy, bare])
            yield Case(f"hostile {name} {protocol}", rng.choice([".pth", ".pkl"]), write(content))


CANARY = Path("canary")


def _headers(rng: random.Random) -> Iterator[Case]:
    """Safetensors whose headers lie."""
    while True:
        size, side = rng.choice(SIZES), rng.choice(SIZES)
        entry = {"dtype": rng.choice(["F32", "F4", "F64", "X9", "", 7, "BOOL"]), "shape": [side, 2]}
        header: Any = {"a": {**entry, "data_offsets": [rng.choice(SIZES), size]}}
        if rng.random() < 0.5:
            header["b"] = {
                "dtype": "F32",
                "shape": [2],
                "data_offsets": rng.choice([[0, 8], [4, 12], [8, 0]]),
            }
        deep = '{"a":' * rng.choice([100, 100_000]) + "1" + "}" * 3
        text = rng.choice(
            [str(header).replace("'", '"'), deep, "{}", '{"__metadata__": 3}', "{" * 50]
        ).encode()
        length = rng.choice([len(text), len(text), rng.randrange(2**64), 2**63, len(text) + 9])
        yield Case("header", ".safetensors", struct.pack("<Q", length) + text + bytes(rng.choice([0, 8, 64])))


def _keras(leave_out: int = 10, links: bool = False) -> bytes:
    """Meso-4 as Keras saves its weights."""
    kernels = [(3, 3, 3, 8), (5, 5, 8, 8), (5, 5, 8, 16), (5, 5, 16, 16)]
    variables = [(f"conv2d_{i}", {"kernel": k, "bias": k[3:]}) for i, k in enumerate(kernels)]
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    variables += [(f"batch_normalization_{i}", dict.fromkeys(norm, k[3:])) for i, k in enumerate(kernels)]
    variables += [
        ("dense", {"kernel": (1024, 16), "bias": (16,)}),
        ("dense_1", {"kernel": (16, 1), "bias": (1,)}),
    ]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for layer, shapes in variables[:leave_out] + variables[leave_out:][1:]:
            for name, shape in shapes.items():
                file[f"{layer}/{layer}/{name}:0"] = np.full(shape, 0.01, np.float32)
        if links:
            file["dense_2"] = h5py.ExternalLink("/etc/passwd", "/")
    return buffer.getvalue()


def _hdf5(rng: random.Random) -> Iterator[Case]:
    while True:
        content = _keras(rng.choice([10, 10, 9, 5, 0]), links=rng.random() < 0.3)
        spoil = rng.choice([*SPOILED, lambda content, rng: content])
        yield Case("keras", ".h5", spoil(content, rng))


def _archives(rng: random.Random) -> Iterator[Case]:
    """Zip archives that torch did not write: bombs, other contents, programs."""
    while True:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])) as archive:
            with zipfile.ZipFile(io.BytesIO(_zipped(_state("meso4")))) as whole:
                spared = rng.choice(["none", *whole.namelist()])
                for name in whole.namelist():
                    if name != spared:
                        archive.writestr(name, whole.read(name))
            if rng.random() < 0.5:
                archive.writestr(
                    rng.choice([spared, "constants.pkl", "../x"]), b"\x00" * rng.choice([9, 1 << 25])
                )
        yield Case("archive", ".pth", buffer.getvalue())


KINDS = (_changed, _changed, _spoiled, _hostile, _spoiled, _changed, _headers, _hdf5, _hostile, _archives)


def mutated(seed: int, count: int) -> Iterator[Case]:
    """Cases in turn of every kind, the same for the same seed."""
    rng = random.Random(seed)
    sources = {kind: kind(rng) for kind in KINDS}
    return (next(sources[kind]) for kind in islice(cycle(KINDS), count))
