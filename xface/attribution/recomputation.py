"""Keeps what checkpointed segments compute, in place of computing it again in the backward pass.

Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174) drops a segment's tensors and runs the segment
again when its gradient is needed. That second run sees neither the rules nor the taps of the first; a
reentrant checkpoint has no graph in the first place. While a network is explained, its segments simply run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch.utils.checkpoint as checkpointing

_LOCK = threading.Lock()
_HERE = threading.local()  # only the thread that explains is concerned
_users = 0
_originals: dict[str, Any] = {}


def _is_on() -> bool:
    return getattr(_HERE, "depth", 0) > 0


class _Reentrant:
    """Stands for torch's CheckpointFunction: runs the segment with its graph."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        if _is_on():
            return function(*args)
        return _originals["CheckpointFunction"].apply(function, preserve, *args)


def _not_reentrant(name: str, *args: Any, **kwargs: Any) -> Iterator[None]:
    """Stands for torch's generator around a segment: without its hooks on saved tensors."""
    if _is_on():
        yield
    else:
        yield from _originals[name](*args, **kwargs)


# The generator's name differs between releases; newer ones keep the older name beside it.
_GENERATORS = ("_checkpoint_without_reentrant_generator_impl", "_checkpoint_without_reentrant_generator")
_STAND_INS = {
    "CheckpointFunction": _Reentrant,
    **{name: partial(_not_reentrant, name) for name in _GENERATORS},
}
_REPLACED = {name: stand_in for name, stand_in in _STAND_INS.items() if hasattr(checkpointing, name)}


@contextmanager
def kept() -> Iterator[None]:
    """Within the block, and in this thread alone, checkpointed segments keep their tensors."""
    global _users
    with _LOCK:
        if _users == 0:
            _originals.update({name: getattr(checkpointing, name) for name in _REPLACED})
            for name, stand_in in _REPLACED.items():
                setattr(checkpointing, name, stand_in)
        _users += 1
    _HERE.depth = getattr(_HERE, "depth", 0) + 1
    try:
        yield
    finally:
        _HERE.depth -= 1
        with _LOCK:
            _users -= 1
            if _users == 0:
                for name, original in _originals.items():
                    setattr(checkpointing, name, original)
