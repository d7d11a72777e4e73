"""Finds every rectifier call of a forward pass, however it is written, and gives it a chosen backward rule.

Hooks on `nn.ReLU` miss functional calls, reused modules and every other rectifier. A `TorchFunctionMode`
sees each call of the torch API instead; nothing in the network is replaced, and the rule is read from the
run's own `Router` when the backward pass arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from xface.attribution import handwritten
from xface.attribution.handwritten import Assembled, Combination, Notes, Pointwise, Unit, has_no_gradient
from xface.attribution.rules import Chain, Rule, plain
from xface.attribution.shortcuts import Shortcuts
from xface.attribution.unrouted import CHOOSING, DOUBTFUL, TRIED, is_marked, mark

RECTIFIER_NAMES = (
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu",
    "silu", "gelu", "mish", "hardswish", "softplus", "hardtanh", "threshold",
)  # fmt: skip
"""The functions that count as rectifiers; sigmoid, hardsigmoid, tanh and GLU are gates and do not."""

PARTS_OF_GATES = {"relu", "relu6", "hardtanh", "softplus"}
"""Rectifiers that hand-written gates are made of: relu6(x + 3) / 6, tanh(softplus(x))."""

ENDING = {
    "no_grad",
    "_set_grad_enabled",
    "detach",
    "detach_",
    "round",
    "floor",
    "ceil",
    "trunc",
    "sign",
    "quantize",
}
"""Calls behind which a gradient may be lost."""

_HOMES = (F, torch, Tensor, torch._C._nn, torch.ops.aten)


def _spellings(name: str) -> list[Callable[..., Any]]:
    found = [getattr(home, n, None) for home in _HOMES for n in (name, f"{name}_", f"_{name}")]
    overloads = [getattr(torch.ops.aten, name, None), getattr(torch.ops.aten, f"{name}_", None)]
    return [f for f in found + [getattr(o, "default", None) for o in overloads] if f is not None]


RECTIFIERS: dict[Callable[..., Any], str] = {
    spelling: name for name in RECTIFIER_NAMES for spelling in _spellings(name)
}


@cache
def _spelled(func: Callable[..., Any]) -> tuple[str, bool]:
    """A function's bare name, and whether it writes into its first argument: `mul`, True of `Tensor.mul_`."""
    name: str = getattr(func, "__name__", "").removeprefix("special_").partition(".")[0]
    if name.startswith("__"):
        name = name.strip("_")
        in_place = name in ("imul", "iadd", "isub", "itruediv", "setitem")
        return (name[1:] if in_place and name != "setitem" else name), in_place
    return name.rstrip("_"), name.endswith("_")


def _known_as(name: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The rectifier that a call is, or None: hardtanh and threshold are some where they cut at zero."""
    if name == "hardtanh":  # `nn.ReLU6` calls hardtanh(x, 0, 6)
        low = rest[0] if rest else kwargs.get("min_val", -1.0)
        high = rest[1] if len(rest) > 1 else kwargs.get("max_val", 1.0)
        return None if low != 0 else "relu" if high == inf else name
    if name == "threshold":
        bounds = [*rest, *kwargs.values()]
        return "relu" if all(bound == 0 for bound in bounds[:2]) else None
    return name


class Router(TorchFunctionMode):
    """While active, sends each rectifier call on a differentiable tensor through `Rectify`.

    `rule` is the backward rule in force. With `routes` False it only watches; `shortcuts` are taken where it
    routes. `ends` says that a call was seen behind which a gradient may be lost, `hooked` that a tensor got a
    hook, `altered` that the rule in force gave another gradient than the plain one.
    """

    def __init__(self, routes: bool = True, shortcuts: bool = True) -> None:
        super().__init__()
        self.rule: Rule = plain
        self.altered = False
        self.routes = routes
        self.shortcuts = Shortcuts(routes and shortcuts)
        self.notes = Notes()
        self.ends = False
        self.hooked = False

    def __exit__(self, *raised: Any) -> None:
        """End the forward pass; what was noted of its tensors would keep its graph alive."""
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        self.notes = Notes()
        self.shortcuts.forget()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name, in_place = _spelled(func)
        self.ends = self.ends or name in ENDING
        self.hooked = self.hooked or name == "register_hook"
        if not self.routes:
            return func(*args, **kwargs)
        result = self._run(func, name, in_place, args, kwargs)
        if self.notes.lost or self.notes.has_read or not getattr(result, "requires_grad", False):
            self._follow(result, name, (*args, *kwargs.values()))
        return result

    def _run(
        self,
        func: Callable[..., Any],
        name: str,
        in_place: bool,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if not torch.is_grad_enabled():
            return self._watched(func, name, args, kwargs)
        if taken := self.shortcuts.find(func):
            return taken(func, args, kwargs)
        if func in RECTIFIERS:
            z, rest, options = _input_apart(args, kwargs)
            known = _known_as(RECTIFIERS[func], rest, options) if z.requires_grad else None
            if known is not None:
                return self._rectified(z, known, _Call(func, rest, options))
        if name in handwritten.POINTWISE or name == "setitem":
            return self._pointwise(func, name, in_place, args, kwargs)
        return func(*args, **kwargs)

    def _watched(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a call under no_grad: it may make a mask."""
        result = func(*args, **kwargs)
        given, options = _in_order(args, kwargs)
        if name in handwritten.COMPARISONS and given:
            known = self.notes.combined(partial(func, **options), name, given, options.values())
            return self._noted(result, known)
        return result

    def _follow(self, result: Any, name: str, given: tuple[Any, ...]) -> None:
        """Note what was computed from the image without gradient, and where it chooses what passes on."""
        if name.startswith("new_") or name.endswith(("_like", "_grad", "data_ptr")) or name in _ASKING:
            return
        read = given[:1] if name in handwritten.OF_THE_FIRST or name.endswith("_as") else given
        lost = [t for t in _tensors(read) if self.notes.is_lost(t)]
        if self.notes.has_read:  # numbers of the image may be in any tensor of its size
            size = result.numel() if isinstance(result, Tensor) and result.requires_grad else -1
            new = [t for t in _tensors(read) if t.numel() == size and not t.requires_grad]
            for each in new:
                self.notes.lose(each, mixed=True)
            lost += new
        depends = bool(lost) or any(t.grad_fn is not None for t in _tensors(read))
        if depends and name in _READING and not isinstance(result, Tensor):
            self.notes.has_read = True
        depends = depends or (self.notes.has_read and name in _FROM_NUMBERS)
        mixed = bool(_MIXING.search(name)) or any(self.notes.is_mixed(t) for t in lost)
        for each in _tensors((result,)):
            if not each.requires_grad and depends:
                self.notes.lose(each, mixed)
            elif each.grad_fn is not None and not is_marked(each, TRIED):
                for tensor in lost:
                    self._weigh(tensor, each, name)

    def _weigh(self, lost: Tensor, result: Tensor, name: str) -> None:
        """Mark a result where a lost tensor, such as a mask, chose position by position what passes."""
        is_offset = name in handwritten.SUMS and self.notes.is_mixed(lost)
        chooses = lost.numel() == result.numel() or not lost.is_floating_point()
        if name in _INDEXING:
            mark(result, DOUBTFUL if lost.dtype == torch.bool else CHOOSING)
        elif name not in _BESIDE and chooses and not is_offset:
            mark(result, DOUBTFUL)

    def _rectified(self, z: Tensor, name: str, call: _Call) -> Any:
        unit = Unit(name)
        before = self.notes.with_itself(z) if name in PARTS_OF_GATES else ()
        result = Rectify.apply(z, self, call, unit)
        self.notes.keep(result, tuple(_after(note, call, unit) for note in before if note.holds()))
        return result

    def _pointwise(
        self,
        func: Callable[..., Any],
        name: str,
        in_place: bool,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a pointwise call, which may be the last of those that make a rectifier by hand."""
        given, options = _in_order(args, kwargs)
        tried, name = (_filled, "masked_fill") if name == "setitem" else (func, name)
        tried = partial(_on_a_copy, tried) if in_place else tried
        found = None
        if "out" not in kwargs:
            found = self.notes.combined(partial(tried, **options), name, given, options.values())
        if found is None or found.known is None:
            nodes = [a.grad_fn for a in given if isinstance(a, Tensor)] if found else ()
            return self._noted(func(*args, **kwargs), found, nodes)
        for unit in found.known.units:
            unit.is_gate = True
        if found.kind == "gate":
            return self._noted(func(*args, **kwargs), found)
        source = found.known.source()
        before = source.clone() if in_place and source is given[0] else source
        result = func(*args, **kwargs)
        result = given[0] if result is None else result
        unit = Unit(str(found.kind))
        result = Assembled.apply(result, before, self, found, unit, in_place)
        # It may be part of a gate, as one by name may be.
        self.notes.keep(result, tuple(note.through(unit) for note in found.notes if note.holds()))
        return result

    def _noted(self, result: Any, found: Combination | None, nodes: Collection[Any] = ()) -> Any:
        """Keep how a result came about; it may be an argument, with one of its `nodes`, as it was."""
        if found and isinstance(result, Tensor) and (result.requires_grad or has_no_gradient(found.notes)):
            self.notes.keep(result, tuple(note for note in found.notes if note.holds()))
            if result.grad_fn not in nodes:
                mark(result, DOUBTFUL if found.is_doubtful else TRIED)
        return result

    def apply(self, unit: Unit, g: Tensor, z: Tensor, chain: Chain | None) -> Tensor:
        """Return the gradient that the rule in force makes of g (of any shape, as z) at a rectifier."""
        if unit.is_gate or self.rule is plain:
            return plain(g, z, chain)
        result = self.rule(g, z, chain)
        self.altered = self.altered or not torch.equal(result, plain(g, z, chain))
        return result


_ASKING = {
    "__get__", "size", "dim", "numel", "stride", "is_floating_point", "backward", "register_hook",
    "broadcast_tensors",
}  # fmt: skip
_READING = {"item", "tolist", "numpy", "float", "int", "array"}
_FROM_NUMBERS = {"tensor", "as_tensor", "asarray", "from_numpy", "full", "scalar_tensor"}
_INDEXING = {"getitem", "gather", "index_select", "take_along_dim", "take", "embedding"}
_BESIDE = {*handwritten.OF_THE_FIRST, "stack", "cat", "grid_sample", "max_unpool2d"}
"""Calls that lay what was lost beside other tensors, or take positions from there."""
_MIXING = re.compile(
    r"conv|linear|matmul|mm$|pool|mean|median|norm|std|var|interpolate|fft|attention|embedding"
)


def _tensors(things: Iterable[Any]) -> Iterator[Tensor]:
    for thing in things:
        if isinstance(thing, Tensor):
            yield thing
        elif isinstance(thing, list | tuple):
            yield from _tensors(thing)


IN_ORDER = ("condition", "input", "self", "other", "exponent")


def _in_order(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by position, also those that were given by name, and the options that remain."""
    named = [kwargs[key] for key in IN_ORDER if key in kwargs]
    return (*args, *named), {key: value for key, value in kwargs.items() if key not in IN_ORDER}


def _after(note: Pointwise, call: _Call, unit: Unit) -> Pointwise:
    return Pointwise(
        note.source, note.version, lambda t: call(note.function(t).clone()), (*note.units, unit), bends=True
    )


def _on_a_copy(func: Callable[..., Any], first: Tensor, *rest: Any, **kwargs: Any) -> Any:
    return func(first.clone(), *rest, **kwargs)


def _filled(tensor: Tensor, mask: Tensor, value: Any) -> Tensor:
    """What `tensor[mask] = value` leaves."""
    if not (isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == tensor.shape):
        raise TypeError("no mask")
    return tensor.masked_fill(mask, value)


def rectifiers_among(nodes: Iterable[Node]) -> frozenset[str]:
    """Return the names of the rectifiers whose rule the gradient crosses at these nodes; gates have none."""
    units = [node.unit for node in nodes if getattr(node, "_forward_cls", None) in (Rectify, Assembled)]  # type: ignore[attr-defined]
    return frozenset(unit.name for unit in units if not unit.is_gate)


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


class Rectify(torch.autograd.Function):
    """sigma(z) forward, the router's rule backward; an in-place call stays in place, views included."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, router: Router, call: _Call, unit: Unit) -> Tensor:
        """Return sigma(z)."""
        ctx.router, ctx.call, ctx.unit = router, call, unit
        ctx.set_materialize_grads(False)  # no gradient is another thing than 0
        is_relu = unit.name == "relu"
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
        """Return what the rule makes of the gradient."""
        if grads[0] is None:
            return None, None, None, None
        (kept,) = ctx.saved_tensors
        chain = None if ctx.unit.name == "relu" else partial(ctx.call.chain, kept)
        return ctx.router.apply(ctx.unit, grads[0], kept, chain), None, None, None
