"""Contents: where in what a checkpoint file holds the network's weights lie, and by which names."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from xface.detectors.checkpoints.stand_ins import Array

WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "network", "model_state", "weights", "params",
    "model_ema", "state_dict_ema", "ema",
)  # fmt: skip
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "base_model.")
COMPANIONS = re.compile(
    r"n_averaged$|(?=\w*(?:loss|criterion|metric|accuracy)|train_|val_|valid_|test_)\w+\."  # in linear time
)
"""Entries that trainers keep beside the network: counters of averaging, losses, metrics."""

INFIXES = re.compile(r"\.(module|_orig_mod)\.")
MAX_NESTING = 4
MAX_DEPTH = 8  # down to which sets of weights are looked for, to name their keys
MAX_WRAPPED = 20  # prefixes that all names share
MAX_NAME = 500


@dataclass(frozen=True)
class Unusable:
    """Stands for a tensor that is no dense array of numbers in memory, of which little can be asked."""

    kind: str


State: TypeAlias = dict[str, Any]
"""Tensors, or what stands for unusable ones, by name."""

Known: TypeAlias = dict[int, tuple[str, ...] | None]
"""The keys to the weights within a dict that was looked at already, by its identity."""

Found: TypeAlias = tuple[State, dict[str, Any]]
"""Named weights, and what else lay around them."""


def plain(content: object) -> object:
    """The content with plain dicts, each network in its own, and with mere tensors.

    A pickle can give an OrderedDict an attribute `items`, or a Parameter an attribute `numel`; each value is
    looked at once, as a file may hold a dict that contains itself.
    """
    outermost = [content]
    waiting: list[Any] = [outermost]
    seen: set[int] = set()
    while waiting:
        holder = waiting.pop()
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        for key, value in _members(holder):
            if isinstance(value, (Tensor, Array)):
                _put(holder, key, _plain_value(value))
            elif isinstance(value, (dict, list, tuple, SimpleNamespace)):
                waiting.append(value)
        if isinstance(holder, dict):
            split(holder)
    return outermost[0]


def _members(holder: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(holder, dict):
        getattr(holder, "__dict__", {}).clear()
        return list(dict.items(holder))
    if isinstance(holder, SimpleNamespace):
        return list(vars(holder).items())
    return enumerate(holder)


def _put(holder: Any, key: Any, value: object) -> None:
    if isinstance(holder, (dict, list)):
        holder[key] = value
    elif isinstance(holder, SimpleNamespace):
        vars(holder)[key] = value


def _plain_value(value: Tensor | Array) -> object:
    if isinstance(value, Array):
        return value if value.values is None else value.values
    if kind := _unusable(value):
        return Unusable(kind)
    tensor = Tensor.detach(value)  # not value.detach, which its file may have replaced
    if any(getattr(tensor, "names", ())):  # of sides, which torch dropped in 2.14
        return tensor.rename(None)  # type: ignore[attr-defined]
    return tensor


def _unusable(tensor: Tensor) -> str:
    """Why hardly anything may be asked of a tensor: of some layouts not even the shape."""
    if tensor.is_nested:
        return "nested"
    if tensor.layout is not torch.strided:
        return str(tensor.layout).removeprefix("torch.")
    if tensor.is_quantized:
        return "quantised"
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return type(tensor).__name__
    return "" if tensor.device.type == "cpu" else f"on {tensor.device.type}"


def find_state(content: object) -> Found | None:
    """The innermost wrapped dict that holds tensors, and what else lay around them."""
    place = _place(content, {})
    if place is None:
        return None
    around: dict[str, Any] = {}
    inner: Any = content
    for key in place:
        around |= _without(inner, key)
        inner = inner[key]
    state = _tensors(inner)
    return state, around | {name: value for name, value in _named(inner).items() if name not in state}


def _named(content: Mapping[Any, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if isinstance(key, str)}


def _without(content: Mapping[Any, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in _named(content).items() if name != key}


def _tensors(content: Mapping[Any, Any]) -> State:
    return {name: value for name, value in _named(content).items() if isinstance(value, (Tensor, Unusable))}


def _place(content: object, known: Known, depth: int = 0) -> tuple[str, ...] | None:
    """By which keys the innermost wrapped dict that holds tensors is reached; each dict is looked at once."""
    if not isinstance(content, Mapping) or depth == MAX_NESTING:
        return None
    if id(content) not in known:
        known[id(content)] = None  # a dict may contain itself
        within = ((key, _place(content.get(key), known, depth + 1)) for key in WRAPPERS)
        place = next(((key, *inner) for key, inner in within if inner is not None), None)
        known[id(content)] = () if place is None and _tensors(content) else place
    return known[id(content)]


def split(content: dict[Any, Any]) -> None:
    """Turn a flat dict of several networks side by side into one of their dicts, by their prefixes."""
    state = _tensors(content)
    if len(state) < 2 or max(map(len, state)) > MAX_NAME:
        return
    own, _ = bare(state)
    parts = by_prefix(own)
    if _are_several(own, parts):
        others = {key: value for key, value in content.items() if key not in state}
        alone = {name: value for name, value in own.items() if "." not in name}
        content.clear()
        content.update(others | alone | parts)


def by_prefix(state: State) -> dict[str, State]:
    """The entries by the first part of their names, those without a point left out."""
    parts: dict[str, State] = {}
    for name, value in state.items():
        prefix, point, rest = name.partition(".")
        if point:
            parts.setdefault(prefix, {})[rest] = value
    return parts


def _are_several(state: State, parts: dict[str, State]) -> bool:
    """Whether these are whole networks: each has the same names and shapes, or a wrapper's name."""
    grids = {prefix: _grids(part) for prefix, part in parts.items()}
    networks = {prefix: found for prefix, found in grids.items() if found}
    if len(networks) < 2 or sum(map(len, networks.values())) < len(_grids(state)):
        return False
    first = next(iter(networks.values()))
    return all(found == first for found in networks.values()) or networks.keys() <= set(WRAPPERS)


def _grids(state: State) -> set[tuple[str, tuple[int, ...]]]:
    """Names and shapes of kernels and matrices."""
    return {(n, tuple(t.shape)) for n, t in state.items() if isinstance(t, Tensor) and t.ndim > 1}


def find_under(content: object, state_key: str) -> Found | None:
    """The weights under a key, a prefix of names, or a path of keys with points between, or its end."""
    inside = INFIXES.sub(".", f"{state_key}.").removesuffix(".")  # as `split` names its parts
    if found := _at(content, state_key) or _at(content, inside):
        return found
    ends = [path for path in state_keys(content) if path.endswith(f".{state_key}")]
    return _at(content, ends[0]) if len(ends) == 1 else None


def _at(content: Any, state_key: str) -> Found | None:
    """Those in a dict, or in one on the way to the file's weights, whose own key needn't be said."""
    if not isinstance(content, Mapping):
        return None
    around: dict[str, Any] = {}
    for key in _place(content, {}) or ():
        if found := _directly(content, state_key):
            return found[0], around | found[1]
        around |= _without(content, key)
        content = content[key]
    found = _directly(content, state_key)
    return (found[0], around | found[1]) if found else None


def _directly(content: Mapping[Any, Any], state_key: str) -> Found | None:
    for key in dict.fromkeys((state_key, state_key.partition(".")[0])):
        rest, inner = state_key.removeprefix(key).removeprefix("."), content.get(key)
        if found := _at(inner, rest) if rest else find_state(inner):
            return found[0], {**_without(content, key), **found[1]}
    return _under_prefix(content, state_key)


def _under_prefix(content: Mapping[Any, Any], prefix: str) -> Found | None:
    """Of a flat dict, the entries whose names begin so, perhaps behind what all of them begin with."""
    state = _tensors(content)
    for names in (state, bare(state)[0]):
        others = {name: value for name, value in names.items() if not name.startswith(f"{prefix}.")}
        if len(others) < len(names):
            chosen = {n.removeprefix(f"{prefix}."): value for n, value in names.items() if n not in others}
            around = {name: value for name, value in _named(content).items() if name not in state}
            return chosen, {**by_prefix(others), **around}
    return None


def state_keys(content: object) -> list[str]:
    """Where in a file weights lie, as `--state-key` takes it; each dict is looked at once."""
    found: list[str] = []
    waiting: deque[tuple[str, int, object]] = deque([("", 0, content)])
    seen: set[int] = set()
    known: Known = {}
    matrices: dict[int, bool] = {}
    while waiting:
        path, depth, value = waiting.popleft()
        if not isinstance(value, Mapping) or id(value) in seen or depth > MAX_DEPTH:
            continue
        seen.add(id(value))
        if path and _has_matrices(value, known, matrices):  # else a random state, say
            found.append(path)
        else:
            inner = ((key, part) for key, part in _named(value).items() if len(key) <= MAX_NAME)
            waiting += ((f"{path}.{key}".strip("."), depth + 1, part) for key, part in inner)
    return found


def _has_matrices(content: Any, known: Known, matrices: dict[int, bool]) -> bool:
    for key in (place := _place(content, known)) or ():
        content = content[key]
    if id(content) not in matrices:
        matrices[id(content)] = place is not None and bool(_grids(_tensors(content)))
    return matrices[id(content)]


def bare(state: State) -> tuple[State, tuple[str, ...]]:
    """The network's own entries by its own names, and those that a trainer keeps beside them.

    Whatever all names begin with was put there by a wrapper (DataParallel, compile, Lightning, ...), as no
    network has its layers and its head in one module alone.
    """
    left_out: list[str] = []
    for _ in range(MAX_WRAPPED):
        beside = {name for name in state if COMPANIONS.match(name)}
        left_out += (name for name in state if name in beside)
        state = {name: tensor for name, tensor in state.items() if name not in beside}
        roots = {name.partition(".")[0] for name in state}
        if len(roots) != 1 or roots & state.keys():
            break
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}
    return _without_infixes(state), tuple(left_out)


def _without_infixes(state: State) -> State:
    """Without what wraps a part of the network alone, as in PyTorch's example of a parallel VGG."""
    renamed = {INFIXES.sub(".", name): tensor for name, tensor in state.items()}
    return renamed if len(renamed) == len(state) else state


def mappings(extras: Mapping[str, Any]) -> Iterator[Mapping[Any, Any]]:
    """Each dict among what lies beside the weights, at any depth, settings of a run as dicts too.

    A file may hold a dict that contains itself.
    """
    waiting: list[Any] = [extras]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, SimpleNamespace):
            value = vars(value)
        if isinstance(value, Mapping):
            yield value
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += (item for item in value if isinstance(item, (Mapping, SimpleNamespace)))
