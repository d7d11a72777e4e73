"""Finds every rectifier call of a forward pass, however it is written, and gives it a chosen backward rule.

Hooks on `nn.ReLU` miss functional calls, reused modules and every other rectifier. A `TorchFunctionMode`
sees each call of the torch API instead; nothing in the network is replaced, and the rule is read from the
run's own `Router` when the backward pass arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xface.attribution.rules import Rule, plain
from xface.attribution.shortcuts import SHORTCUTS

RECTIFIER_NAMES = (
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu",
    "silu", "gelu", "mish", "hardswish", "softplus", "hardtanh", "threshold", "_threshold",
)  # fmt: skip
"""The functions that count as rectifiers; sigmoid, hardsigmoid, tanh and GLU are gates and do not."""


def _spellings(name: str) -> list[Callable[..., Any]]:
    homes = (F, torch, Tensor, torch._C._nn, torch.ops.aten)
    found = [getattr(home, n, None) for home in homes for n in (name, f"{name}_")]
    overloads = [getattr(torch.ops.aten, name, None), getattr(torch.ops.aten, f"{name}_", None)]
    return [f for f in found + [getattr(o, "default", None) for o in overloads] if f is not None]


RECTIFIERS: dict[Callable[..., Any], str] = {
    spelling: name for name in RECTIFIER_NAMES for spelling in _spellings(name)
}


def _rectifies(name: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Hardtanh and threshold rectify only if they cut at zero: `nn.ReLU6` calls hardtanh(x, 0, 6)."""
    if name == "hardtanh":
        return bool((rest[0] if rest else kwargs.get("min_val", -1.0)) == 0)
    if name.endswith("threshold"):
        return all(bound == 0 for bound in (*rest, *kwargs.values())[:2])
    return True


class Router(TorchFunctionMode):
    """While active, sends each rectifier call on a differentiable tensor through `_Rectify`.

    Convolutions and batch norms get their cheaper gradients on the way; see `shortcuts`. `rule` is the
    backward rule in force; `seen` holds the names of the rectifiers that were met.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rule: Rule = plain
        self.seen: set[str] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in SHORTCUTS:
            return SHORTCUTS[func](func, args, kwargs)
        name = RECTIFIERS.get(func)
        if name is None:
            return func(*args, **kwargs)
        z, rest, options = _input_apart(args, kwargs)
        if not z.requires_grad or not _rectifies(name, rest, options):
            return func(*args, **kwargs)
        self.seen.add(name)
        call = _Call(func, rest, options)
        return _Rectify.apply(z, self, call, name == "relu")


def _input_apart(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    if args:
        return args[0], args[1:], kwargs
    key = "input" if "input" in kwargs else "self"
    return kwargs[key], (), {k: v for k, v in kwargs.items() if k != key}


@dataclass(frozen=True)
class _Call:
    """A rectifier with its arguments, as a function of its input alone."""

    func: Callable[..., Tensor]
    rest: tuple[Any, ...]
    options: dict[str, Any]

    def __call__(self, z: Tensor) -> Tensor:
        return self.func(z, *self.rest, **self.options)

    @property
    def may_write(self) -> bool:
        """Whether the input may be overwritten: `relu_`, `inplace=True`, or a positional True."""
        return self.func.__name__.endswith("_") or self.options.get("inplace", False) or True in self.rest

    def chain(self, z: Tensor, g: Tensor) -> Tensor:
        """Return g sigma'(z)."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            return torch.autograd.grad(self(leaf.clone()), leaf, g)[0]


class _Rectify(torch.autograd.Function):
    """sigma(z) forward, the router's rule backward; an in-place call stays in place, views included."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, router: Router, call: _Call, is_relu: bool) -> Tensor:
        ctx.router, ctx.call, ctx.is_relu = router, call, is_relu
        version = z._version
        before = z.clone() if call.may_write and not is_relu else z
        y = call(z)
        if z._version != version:
            ctx.mark_dirty(z)
        # As autograd itself does: ReLU keeps its result (y > 0 iff z > 0), any other rectifier its input.
        ctx.save_for_backward(y if is_relu else before)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (kept,) = ctx.saved_tensors
        chain = None if ctx.is_relu else partial(ctx.call.chain, kept)
        return ctx.router.rule(grads[0], kept, chain), None, None, None
