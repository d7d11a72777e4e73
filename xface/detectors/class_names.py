"""Class names: what a checkpoint says of the order of its classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from xface.detectors.card import card_path
from xface.detectors.checkpoints.checkpoint import Checkpoint
from xface.detectors.checkpoints.state_dicts import Unusable, mappings
from xface.errors import refusal

KEYS = (
    "classes", "CLASSES", "class_names", "class_to_idx", "class_to_index", "class2idx", "idx_to_class",
    "index_to_class", "idx2class", "labels", "label_map", "id2label", "idx2label", "label2id", "label_to_idx",
)  # fmt: skip
LONGEST = 200


def class_names(checkpoint: Checkpoint, count: int) -> tuple[str, ...] | None:
    """The names in the order of the logits; None where the file says nothing of them.

    They stand under one of `KEYS`, at any depth of what lies beside the weights: as a list, or as a dict from
    name to index or from index to name.

    Raises:
        CheckpointError: such a key is not understood, names another number of classes, or two of them differ.
    """
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    remedy = f"write a card {card_path(checkpoint.path).name} beside it, with `classes`"
    for key, value in _entries(checkpoint.extras):
        names = _in_order(value)
        if names is None:
            raise refusal(checkpoint.path, f"its {key!r} does not give its classes in order; {remedy}")
        folded = tuple(name.casefold() for name in names)
        if not len(set(folded)) == len(folded) == count:
            reason = f"its head has {count} classes and nothing names so many; {remedy}"
            raise refusal(checkpoint.path, reason)
        found.setdefault(folded, names)
    if len(found) > 1:
        orders = " and ".join(", ".join(names) for names in found.values())
        raise refusal(checkpoint.path, f"it gives its classes in several orders ({orders}); {remedy}")
    return next(iter(found.values()), None)


def _entries(extras: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What stands under `KEYS`, at any depth."""
    seen: set[int] = set()
    for mapping in mappings(extras):
        for key in KEYS:
            if key in mapping and id(mapping[key]) not in seen and not _is_silent(key, mapping[key]):
                seen.add(id(mapping[key]))
                yield key, mapping[key]


def _is_silent(key: str, value: object) -> bool:
    """Nothing, or a mere count; and labels that are numbers are a data set's, not names."""
    if value is None or isinstance(value, (int, np.integer)):
        return True
    if isinstance(value, (list, tuple, dict)) and not value:
        return True
    is_plain = isinstance(value, (list, tuple)) and not any(isinstance(item, str) for item in value)
    is_array = isinstance(value, (Tensor, Unusable)) or (
        isinstance(value, np.ndarray) and value.dtype.kind != "U"
    )
    return key == "labels" and (is_plain or is_array)


def _in_order(value: object) -> tuple[str, ...] | None:
    if isinstance(value, Mapping):
        index_of = dict(value) if all(map(_is_index, value.values())) else _inverted(value)
        if sorted(index_of.values()) != list(range(len(value))):
            return None
        value = sorted(index_of, key=index_of.__getitem__)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if isinstance(value, (list, tuple)) and all(_is_name(name) for name in value):
        return tuple(value)
    return None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()


def _inverted(names: Mapping[Any, Any]) -> dict[Any, int]:
    """Name to index from index to name, where indices may be digits, as JSON has them; else empty."""
    if not all(_is_index(k) or (isinstance(k, str) and re.fullmatch("[0-9]{1,9}", k)) for k in names):
        return {}
    return {name: int(k) for k, name in names.items() if isinstance(name, str)}


def _is_index(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
