"""Keras' HDF5 files of MesoNet's weights, read with h5py alone: nothing of the model in them is built."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xface.errors import CheckpointError, refusal
from xface.networks.meso import MAPS, Meso4, MesoInception4

MAX_BYTES = 64 << 20  # a MesoNet with its optimizer's state has half a megabyte
MAX_ENTRIES = 10_000
MAX_NESTING = 12
MAX_FREE_BLOCKS = 100
LISTED = 10
NUMBERINGS: tuple[tuple[type[Meso4 | MesoInception4], tuple[int, ...]], ...] = (
    (Meso4, (0, 1, 2, 3)),
    (MesoInception4, tuple(range(16))),
    (MesoInception4, (1, 3, 5, 0, 2, 4, 6, 8, 10, 12, 7, 9, 11, 13, 14, 15)),
)
"""Which of the network's convolutions Keras' first, second, ... is: as created, or (Keras 3) by depth."""
KINDS: Mapping[str, type[nn.Module]] = {
    "conv2d": nn.Conv2d,
    "batch_normalization": nn.BatchNorm2d,
    "dense": nn.Linear,
}
VARIABLES: Mapping[str, Mapping[str, str]] = {
    "conv2d": {"kernel": "weight", "bias": "bias"},
    "batch_normalization": {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
    "dense": {"kernel": "weight", "bias": "bias"},
}
"""Keras' name of each variable, in Keras' order, and torch's."""

_Layer: TypeAlias = tuple[str, int]  # its kind and the number in its name
_Variable: TypeAlias = tuple[_Layer, str]
_Datasets: TypeAlias = dict[_Variable, Any]  # h5py's Dataset
_Plan: TypeAlias = dict[str, tuple[_Variable, tuple[int, ...]]]  # by the weight's name in xface
_Array: TypeAlias = NDArray[np.floating[Any]]

_NAMED = re.compile(r"(conv2d|batch_normalization|dense)(?:_v1)?(?:_(\d{1,6}))?")  # _v1: TensorFlow 1.13
_NOT_WEIGHTS = ("optimizer", "seed_generator")
_ONLY = "only the weights of Meso-4 and MesoInception-4 can be read from a Keras file"
_COUNTS = "Meso-4 has 4 conv2d, 4 batch_normalization and 2 dense, MesoInception-4 16, 4 and 2"
_BEGINNING = b"\x89HDF\r\n\x1a\n\x00"  # of HDF5 with superblock version 0, the only one that Keras writes
_SIZES = slice(13, 15)  # in that superblock: how many bytes an offset and a length have


def read_keras(path: Path) -> dict[str, Tensor]:
    """A Keras file's weights by the names, and in the layout, of `Meso4` or `MesoInception4`.

    It may come from `save_weights` or `model.save`, of Keras 2 (`.h5`) or Keras 3 (`.h5`, `.weights.h5`).
    Layers go by the number in their names, which is their order of creation; only Keras 3's `.weights.h5`
    numbers them by depth in the graph. Kernels (height, width, in, out) become (out, in, height, width),
    (in, out) become (out, in), and the first dense layer's 8 x 8 x 16 inputs, flattened channels last, are
    put in the order of channels first. The last kernel's columns are the classes.

    Only plain arrays that lie in the file itself are read: links to elsewhere, virtual, external, chunked
    and compressed datasets are refused before they are followed or unpacked.

    Raises:
        CheckpointError: the file is damaged, refers elsewhere, or holds another network.

    Example:
        >>> read_keras(Path("missing.h5"))
        Traceback (most recent call last):
        xface.errors.CheckpointError: cannot restore 'missing.h5': ...
    """
    import h5py

    try:
        _check_bytes(path)
        with h5py.File(path, "r") as file:
            return _state(path, _datasets(path, file))
    except CheckpointError:
        raise
    except Exception as error:  # on damaged files, HDF5 raises a dozen kinds
        reason = f"it is damaged, cut short or no HDF5 file ({str(error)[:120]}); copy or download it again"
        raise refusal(path, reason) from error


def _check_bytes(path: Path) -> None:
    """Refuse what HDF5 itself does not survive or Keras never writes, before HDF5 sees it."""
    if path.stat().st_size > MAX_BYTES:
        raise refusal(path, f"it is larger than {MAX_BYTES >> 20} MiB, so it is no MesoNet; {_ONLY}")
    content = path.read_bytes()
    if not content.startswith(_BEGINNING) or content[_SIZES] != b"\x08\x08":
        raise refusal(path, "it is no HDF5 file as Keras writes it; save the weights again with Keras")
    if any(_is_endless(content, heap.start()) for heap in re.finditer(b"HEAP", content)):
        raise refusal(path, "it is damaged (a list of its free space never ends); copy or download it again")


def _is_endless(content: bytes, heap: int) -> bool:
    """Whether a local heap's list of free blocks has no end: HDF5 2.0 follows it until the memory is full.

    After signature and version, a heap has its size, the first free block and the address of its data; a free
    block begins with the offset of the next one, the last with 1 (HDF5 File Format Specification, III.D).
    """
    try:
        _, block, data = struct.unpack_from("<QQQ", content, heap + 8)
        for _ in range(MAX_FREE_BLOCKS):
            if block == 1:
                return False
            (block,) = struct.unpack_from("<Q", content, data + block)
    except (struct.error, OverflowError):  # it leaves the file, which HDF5 notices
        return False
    return True


def _datasets(path: Path, file: Any) -> _Datasets:
    """The file's variables; nothing of them is read yet."""
    found: _Datasets = {}
    for name, dataset in _entries(path, file):
        variable = _variable(name)
        if variable is None:
            raise refusal(path, f"{'/'.join(name)} is not a weight of a MesoNet's layer; {_ONLY}")
        if variable in found:
            raise refusal(path, f"it holds {_written(variable)} more than once; {_ONLY}")
        if why := _unusual(dataset):
            raise refusal(path, f"{'/'.join(name)} {why}; save the weights again with Keras")
        found[variable] = dataset
    return found


def _entries(path: Path, file: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each dataset that may be a weight, by the names on its way; links are looked at, never followed."""
    import h5py

    groups: list[tuple[tuple[str, ...], Any]] = [((), file)]
    visited = 0
    while groups:
        above, group = groups.pop()
        for link in (link for link in group if not link.startswith(_NOT_WEIGHTS)):
            name, visited = (*above, link), visited + 1
            if visited > MAX_ENTRIES or len(name) > MAX_NESTING:
                raise refusal(path, f"it holds too many groups, or too deep ones; {_ONLY}")
            if not _is_hard(group, link):
                raise refusal(path, f"{'/'.join(name)} is a link to elsewhere, which is never followed")
            entry = group[link]
            if isinstance(entry, h5py.Group):
                groups.append((name, entry))
            elif isinstance(entry, h5py.Dataset):
                yield name, entry


def _is_hard(group: Any, link: str) -> bool:
    """Whether a name stands for an object here; with a slash in it, it would lead through other names."""
    import h5py

    return "/" not in link and link != "." and isinstance(group.get(link, getlink=True), h5py.HardLink)


def _unusual(dataset: Any) -> str:
    """How an array differs from those of Keras, if it does, which all lie in the file as they are.

    Its shape is asked for last: that of a virtual dataset may depend on other files, which HDF5 then opens.
    """
    from h5py import h5d

    created = dataset.id.get_create_plist()
    if created.get_layout() not in (h5d.COMPACT, h5d.CONTIGUOUS):
        return "is virtual, compressed or in chunks"
    if created.get_external_count():
        return "lies in another file, which is never read"
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (2, 4, 8):
        return f"holds {dataset.dtype}, not floating-point weights"
    shape = dataset.shape
    whole = shape is not None and prod(shape) * dataset.dtype.itemsize == dataset.id.get_storage_size()
    return "" if whole and dataset.id.get_storage_size() <= MAX_BYTES else "is not wholly in the file"


def _variable(name: tuple[str, ...]) -> _Variable | None:
    """`conv2d_5/conv2d_5/kernel:0` (Keras 2) or `layers/conv2d_5/vars/0` (Keras 3): layer and variable."""
    layers = [layer for part in name[:-1] if (layer := _NAMED.fullmatch(part))]
    if not layers:
        return None
    kind, number = layers[-1].groups()
    variable = name[-1].removesuffix(":0")
    if name[-2] == "vars":
        variable = dict(zip("0123", VARIABLES[kind], strict=False)).get(variable, variable)
    return ((kind, int(number or 0)), variable) if variable in VARIABLES[kind] else None


def _state(path: Path, datasets: _Datasets) -> dict[str, Tensor]:
    """The weights for that network, and that way of numbering its layers, with the fewest misfits."""
    layers = {kind: sorted({layer for layer, _ in datasets if layer[0] == kind}) for kind in KINDS}
    class_count = _class_count(datasets, layers["dense"])
    plans = [_plan(network, order, layers, class_count) for network, order in NUMBERINGS]
    fewest = min(
        (plan for plan in plans if plan), key=lambda plan: len(_misfits(plan, datasets)), default=None
    )
    if fewest is None:
        counts = ", ".join(f"{len(found)} {kind}" for kind, found in layers.items())
        raise refusal(path, f"its layers are {counts}; {_COUNTS}")
    if wrong := _misfits(fewest, datasets):
        more = f" and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        raise refusal(path, f"its layers do not fit; {', '.join(wrong[:LISTED])}{more}; {_ONLY}")
    return {name: _tensor(name, datasets[variable][()]) for name, (variable, _) in fewest.items()}


def _class_count(datasets: _Datasets, dense: list[_Layer]) -> int:
    """The columns of the last dense kernel; 1 if it has none, which then is a misfit."""
    kernel = datasets.get((dense[-1], "kernel")) if dense else None
    return int(kernel.shape[1]) or 1 if kernel is not None and len(kernel.shape) == 2 else 1


def _plan(
    network: type[Meso4 | MesoInception4],
    order: tuple[int, ...],
    layers: Mapping[str, list[_Layer]],
    class_count: int,
) -> _Plan:
    """For each weight of the network, the file's variable and its shape in Keras; empty if counts differ."""
    with torch.device("meta"):
        model = network(class_count)
    modules = {k: [n for n, m in model.named_modules() if isinstance(m, kind)] for k, kind in KINDS.items()}
    modules["conv2d"] = [modules["conv2d"][index] for index in order]
    if any(len(modules[kind]) != len(layers[kind]) for kind in KINDS):
        return {}
    variables = {
        f"{module}.{torch_name}": (layer, keras_name)
        for kind, names in VARIABLES.items()
        for layer, module in zip(layers[kind], modules[kind], strict=True)
        for keras_name, torch_name in names.items()
    }
    shapes = {name: _keras_shape(tensor) for name, tensor in model.state_dict().items()}
    return {name: (variables[name], shape) for name, shape in shapes.items() if name in variables}


def _keras_shape(tensor: Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    return shape[2:] + shape[1::-1] if len(shape) == 4 else shape[::-1]


def _misfits(plan: _Plan, datasets: _Datasets) -> list[str]:
    """What the plan needs and the file lacks, or has in another shape."""
    wrong = []
    for variable, shape in plan.values():
        dataset = datasets.get(variable)
        if dataset is None:
            wrong.append(f"{_written(variable)} is missing")
        elif dataset.shape != shape:
            wrong.append(f"{_written(variable)} is {_sides(dataset.shape)} instead of {_sides(shape)}")
    return wrong


def _tensor(name: str, array: _Array) -> Tensor:
    """A variable as torch lays it out."""
    if name == "dense.hidden.weight":
        channels, height, width = MAPS
        array = array.reshape(height, width, channels, -1).transpose(3, 2, 0, 1).reshape(array.shape[::-1])
    elif array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    else:
        array = array.T
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _written(variable: _Variable) -> str:
    (kind, number), name = variable
    return f"{kind}_{number}/{name}" if number else f"{kind}/{name}"


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
