"""Contents: where in what a checkpoint file holds the network's weights lie, and by which names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, TypeAlias

from torch import Tensor

WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "network", "model_state", "weights", "params",
    "model_ema", "state_dict_ema", "ema",
)  # fmt: skip
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "base_model.")
COMPANIONS = re.compile(r"n_averaged$|(\w*(loss|criterion|metric|accuracy)|train_|val_|valid_|test_)\w*\.")
"""Entries that trainers keep beside the network: counters of averaging, losses, metrics."""

INFIXES = re.compile(r"\.(module|_orig_mod)\.")
MAX_NESTING = 4

Found: TypeAlias = tuple[dict[str, Tensor], dict[str, Any]]
"""Named weights, and what else lay around them."""


def find_state(content: object, above: tuple[object, ...] = ()) -> Found | None:
    """The innermost wrapped dict that holds tensors, and what else lay around them."""
    if not isinstance(content, Mapping) or len(above) == MAX_NESTING or any(content is one for one in above):
        return None
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    for key in WRAPPERS:
        if found := find_state(named.get(key), (*above, content)):
            around = {name: value for name, value in named.items() if name != key}
            return found[0], {**around, **found[1]}
    state = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    return (state, {key: named[key] for key in named.keys() - state}) if state else None


def find_under(content: object, state_key: str) -> Found | None:
    """The weights under a key, or under a path of keys with points between them."""
    keyed = content if isinstance(content, Mapping) else {}
    first = state_key if state_key in keyed else state_key.partition(".")[0]
    rest = state_key.removeprefix(first).removeprefix(".")
    found = find_under(keyed.get(first), rest) if rest else find_state(keyed.get(first))
    if found is None:
        return None
    around = {name: value for name, value in keyed.items() if isinstance(name, str) and name != first}
    return found[0], {**around, **found[1]}


def state_keys(content: object) -> list[str]:
    """Where in a file weights lie, as `--state-key` takes it; each dict is looked at once."""
    found: list[str] = []
    waiting: list[tuple[str, object]] = [("", content)]
    seen: set[int] = set()
    while waiting:
        path, value = waiting.pop(0)
        if not isinstance(value, Mapping) or id(value) in seen:
            continue
        seen.add(id(value))
        state = find_state(value) if path else None
        if state and any(tensor.ndim > 1 for tensor in state[0].values()):  # else a random state, say
            found.append(path)
        else:
            waiting += [(f"{path}.{key}".strip("."), v) for key, v in value.items() if isinstance(key, str)]
    return found


def bare(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The network's own entries by its own names, and those that a trainer keeps beside them.

    Whatever all names begin with was put there by a wrapper (DataParallel, compile, Lightning, ...), as no
    network has its layers and its head in one module alone.
    """
    left_out: list[str] = []
    while True:
        beside = [name for name in state if COMPANIONS.match(name)]
        left_out += beside
        state = {name: tensor for name, tensor in state.items() if name not in beside}
        roots = {name.partition(".")[0] for name in state}
        if len(roots) != 1 or roots & state.keys():
            return _without_infixes(state), tuple(left_out)
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}


def _without_infixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
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
