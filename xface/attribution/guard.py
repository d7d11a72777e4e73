"""Leaves the caller's network and random state as they were, also when an exception passes through."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Run a block with `model` in eval mode, its weights frozen and gradients on; restore all of it after.

    Train or eval mode is kept per module, `requires_grad` per parameter, buffers by value; the random state
    of Python, NumPy and torch (CPU and the model's CUDA devices) is put back.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_random_state(model))
        stack.enter_context(_frozen(model))
        stack.enter_context(_buffers(model))
        yield


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for module, _ in modes:
            module.training = False
        for parameter in free:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in free:
            parameter.requires_grad_(True)


@contextmanager
def _buffers(model: nn.Module) -> Iterator[None]:
    """Put back what a forward pass writes into buffers even in eval mode, such as a counter."""
    kept = [
        (module, name, buffer, buffer.clone(), buffer._version)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not buffer.is_inference()
    ]
    try:
        yield
    finally:
        for module, name, buffer, value, version in kept:
            module._buffers[name] = buffer
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(value)


@contextmanager
def _random_state(model: nn.Module) -> Iterator[None]:
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=sorted(d for d in devices if d is not None)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
