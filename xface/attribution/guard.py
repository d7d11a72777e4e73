"""Leaves the caller's network and random state as they were, also when an exception passes through."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xface.attribution.recomputation import kept


@contextmanager
def untouched(model: nn.Module) -> Iterator[RandomState]:
    """Run a block with `model` in eval mode and gradients on; restore all of it after.

    What it yields tells whether random numbers were drawn since.

    Train or eval mode is kept per module, buffers by value; the random state of Python, NumPy and torch (CPU
    and the model's CUDA devices) is put back. Autocast, inference mode and no_grad around the block are off
    within, compiled parts run uncompiled, checkpointed segments keep their tensors.
    """
    devices = {parameter.device for parameter in model.parameters()}
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu", *(device.type for device in devices)} - {"meta"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(_uncompiled())
        stack.enter_context(kept())
        state = RandomState(devices)
        stack.callback(state.restore)
        stack.enter_context(set_to(model.modules(), "training", False))
        stack.enter_context(_buffers(model))
        stack.enter_context(_without_gradients(model.parameters()))
        yield state


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
        if buffer is not None and not buffer.is_inference() and not buffer.is_meta
    ]
    try:
        yield
    finally:
        for module, name, buffer, value, version in before:
            if getattr(module, name, None) is not buffer:
                _put(module, name, buffer)
            # A batch norm in training writes its statistics without a new version.
            if buffer._version != version or not torch.equal(buffer, value):
                with torch.no_grad():
                    buffer.copy_(value)


@contextmanager
def _without_gradients(weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep what a network's own backward passes, as of a checkpoint, would add out of its weights' `.grad`.

    They add zeros, in this thread: another one may be training.
    """
    thread, reached = threading.get_ident(), set[nn.Parameter]()

    def hold_back(weight: nn.Parameter, gradient: Tensor) -> Tensor | None:
        if threading.get_ident() != thread:
            return None
        if weight.grad is None:
            reached.add(weight)
        return torch.zeros_like(gradient)

    handles = [
        weight.register_hook(partial(hold_back, weight))  # type: ignore[no-untyped-call]
        for weight in weights
        if weight.requires_grad and not weight.is_inference()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for weight in reached:
            weight.grad = None


def _put(module: nn.Module, name: str, buffer: torch.Tensor) -> None:
    if isinstance(module, torch.jit.ScriptModule):  # its buffers are a view that takes no new ones
        setattr(module, name, buffer)
    else:
        module._buffers[name] = buffer


class RandomState:
    """The states of Python's, NumPy's and torch's generators (CPU and these devices) when it was made."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._cuda = [device.index or 0 for device in devices if device.type == "cuda"]
        self._python, self._numpy, self._torch = self._now()

    def _now(self) -> tuple[Any, Any, list[Tensor]]:
        cuda = [torch.cuda.get_rng_state(index) for index in self._cuda]
        return random.getstate(), np.random.get_state(legacy=True), [torch.random.get_rng_state(), *cuda]

    def moved(self) -> bool:
        """Whether a random number was drawn since."""
        python, numpy, torches = self._now()
        same = all(torch.equal(a, b) for a, b in zip(torches, self._torch, strict=True))
        return not (
            same
            and python == self._python
            and all(np.array_equal(a, b) for a, b in zip(numpy, self._numpy, strict=True))
        )

    def restore(self) -> None:
        """Put the generators back, if a number was drawn: another thread may be drawing."""
        if self.moved():
            random.setstate(self._python)
            np.random.set_state(self._numpy)
            torch.random.set_rng_state(self._torch[0])
            for index, state in zip(self._cuda, self._torch[1:], strict=True):
                torch.cuda.set_rng_state(state, index)
