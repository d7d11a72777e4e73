"""Leaves the caller's network and random state as they were, also when an exception passes through."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from xface.attribution.recomputation import kept


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Run a block with `model` in eval mode and gradients on; restore all of it after.

    Train or eval mode is kept per module, buffers by value; the random state of Python, NumPy and torch (CPU
    and the model's CUDA devices) is put back. Autocast, inference mode and no_grad around the block are off
    within, compiled parts run uncompiled, checkpointed segments keep their tensors.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in {"cpu", *(p.device.type for p in model.parameters())} - {"meta"}:
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_uncompiled())
        stack.enter_context(kept())
        stack.enter_context(_random_state(model))
        stack.enter_context(set_to(model.modules(), "training", False))
        stack.enter_context(_buffers(model))
        yield


def _uncompiled() -> Any:
    """A compiled network hides its calls; torch._dynamo is imported wherever one is compiled."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


_LOCK = threading.Lock()
_changed: dict[tuple[int, str], list[Any]] = {}  # what it was, and how many calls want it otherwise


@contextmanager
def set_to(things: Iterable[Any], attribute: str, value: bool) -> Iterator[None]:
    """Give an attribute of modules or parameters a value; the last of several threads to leave resets it."""
    mine: list[Any] = []
    try:
        with _LOCK:
            for thing in things:
                key = (id(thing), attribute)
                if key not in _changed and getattr(thing, attribute) == value:
                    continue
                entry = _changed.setdefault(key, [getattr(thing, attribute), 0])
                entry[1] += 1
                mine.append(thing)
                setattr(thing, attribute, value)
        yield
    finally:
        with _LOCK:
            for thing in mine:
                entry = _changed[id(thing), attribute]
                entry[1] -= 1
                if entry[1] == 0:
                    setattr(thing, attribute, entry[0])
                    del _changed[id(thing), attribute]


@contextmanager
def _buffers(model: nn.Module) -> Iterator[None]:
    """Put back what a forward pass writes into buffers even in eval mode, such as a counter."""
    before = [
        (module, name, buffer, buffer.clone(), buffer._version)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not buffer.is_inference()
    ]
    try:
        yield
    finally:
        for module, name, buffer, value, version in before:
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(value)


@contextmanager
def _random_state(model: nn.Module) -> Iterator[None]:
    before = random_state(model)
    try:
        yield
    finally:
        if not same_state(before, random_state(model)):
            _set_random_state(before)


State = dict[str, Any]


def random_state(model: nn.Module) -> State:
    """The states of the generators that a network's forward pass may draw from."""
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=True),
        "cpu": torch.random.get_rng_state(),
        **{f"cuda:{index}": torch.cuda.get_rng_state(index) for index in devices},
    }


def same_state(one: State, other: State) -> bool:
    """Whether nothing was drawn between two states."""
    torches = all(torch.equal(one[key], other[key]) for key in one if key not in ("python", "numpy"))
    numpy = all(np.array_equal(a, b) for a, b in zip(one["numpy"], other["numpy"], strict=True))
    return torches and numpy and bool(one["python"] == other["python"])


def _set_random_state(state: State) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.random.set_rng_state(state["cpu"])
    for key, value in state.items():
        if key.startswith("cuda"):
            torch.cuda.set_rng_state(value, int(key.partition(":")[2]))
