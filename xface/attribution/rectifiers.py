"""Finds every rectifier call of a forward pass, however it is written, and gives it a chosen backward rule.

Hooks on `nn.ReLU` miss functional calls, reused modules and every other rectifier. A `TorchFunctionMode`
sees each call of the torch API instead; nothing in the network is replaced, and the rule is read from the
run's own `Router` when the backward pass arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xface.attribution import swish
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


CLAMP_NAMES = ("clamp", "clamp_min", "clip", "maximum")
"""Functions that are the ReLU where they cut at zero, and only below."""

RECTIFIERS: dict[Callable[..., Any], str] = {
    spelling: name for name in (*RECTIFIER_NAMES, *CLAMP_NAMES) for spelling in _spellings(name)
}


def _known_as(name: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The rectifier that a call is, or None: hardtanh, threshold and clamps are some where they cut at zero.

    `nn.ReLU6` calls hardtanh(x, 0, 6); clamp(x, 0, 6) is left out, as half the hand-written gates are that.
    """
    bounds = [*rest, *kwargs.values()]
    if name == "hardtanh":
        return name if (rest[0] if rest else kwargs.get("min_val", -1.0)) == 0 else None
    if name.endswith("threshold"):
        return name if all(bound == 0 for bound in bounds[:2]) else None
    if name in CLAMP_NAMES:
        upper = kwargs.get("max") if len(rest) < 2 else rest[1]
        lower = rest[0] if rest else kwargs.get("min", kwargs.get("other"))
        return "relu" if upper is None and _is_zero(lower) else None
    return name


def _is_zero(bound: Any) -> bool:
    return bound is not None and not (isinstance(bound, Tensor) and bound.numel() > 1) and bool(bound == 0)


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
            return self._noting(func, args, kwargs)
        z, rest, options = _input_apart(args, kwargs)
        known = _known_as(name, rest, options) if z.requires_grad else None
        if known is None:
            return func(*args, **kwargs)
        self.seen.add(known)
        call = _Call(func, rest, options)
        return _Rectify.apply(z, self, call, known == "relu")

    def _noting(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run any other call; the product of a tensor and its sigmoid, two calls, is a rectifier too."""
        if not kwargs and (factors := swish.factors(func, args)):
            self.seen.add("silu")
            return swish.multiply(*factors, self, func)
        result = func(*args, **kwargs)
        if func in swish.SIGMOIDS and "out" not in kwargs:
            swish.note(result, _input_apart(args, kwargs)[0])
        elif func is Tensor.clone:
            swish.note_on_copy(result, args[0])
        return result


_HIDDEN = re.compile(r"(Relu|Silu|Gelu|Hardswish|Elu|Mish|Softplus)\w*Backward|DifferentiableGraph")


def hidden_rectifiers(score: Tensor) -> list[str]:
    """Return the nodes of a score's graph that may be rectifiers and did not go through the router.

    These are native rectifiers that a scripted function called, and custom `autograd.Function`s.
    """
    names: set[str] = set()
    met, waiting = set(), [score.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in met:
            continue
        met.add(node)
        waiting += [following for following, _ in node.next_functions]
        custom = isinstance(node, torch.autograd.function.BackwardCFunction) and not _is_ours(node)
        if custom or _HIDDEN.search(node.name()):
            names.add(type(node).__name__)
    return sorted(names)


def _is_ours(node: Any) -> bool:
    """Whether a custom node is one of this package's; a network's own may bear the same name."""
    return bool(node._forward_cls.__module__.rpartition(".")[0] == __name__.rpartition(".")[0])


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
        return (
            self.func.__name__.endswith("_")
            or self.options.get("inplace", False)
            or any(argument is True for argument in self.rest)
        )

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
