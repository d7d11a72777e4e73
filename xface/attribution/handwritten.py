"""Rectifiers put together by hand: `x * sigmoid(x)`, `where(x > 0, x, 0)`, `maximum(x, 0.1 * x)`.

No function's name gives them away. What is computed from a tensor position by position, by whatever calls, is
a function of one number; so it is tried on a few numbers. It is a rectifier if it is about linear far to the
right, and far to the left vanishes, or is linear with a smaller slope (which is true of ReLU, LeakyReLU, ELU,
softplus, SiLU, GELU, Mish and hardswish). A function that rises from 0 to 1 with f(-t) = 1 - f(t) is a gate,
and a rectifier that was called on the way, as in `relu6(x + 3) / 6`, is part of it.

A gate computed from one tensor and multiplied with another makes no rectifier: they differ in origin.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from xface.attribution.rules import Chain, Rule, plain

Numbers = Callable[[Tensor], Any]

COMPARISONS = {
    "gt",
    "ge",
    "lt",
    "le",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "sign",
    "sgn",
    "heaviside",
}
CUTS = {
    "clamp", "clamp_min", "clamp_max", "clip", "maximum", "minimum", "max", "min", "fmax", "fmin", "where",
    "masked_fill", "abs", "absolute",
}  # fmt: skip
SUMS = {"add", "radd", "sub", "rsub", "subtract"}
PRODUCTS = {
    "mul",
    "multiply",
    "rmul",
    "div",
    "divide",
    "true_divide",
    "truediv",
    "addcmul",
    "addcdiv",
    "lerp",
}
LOGARITHMS = {
    "log", "log2", "log10", "log1p", "logaddexp", "logaddexp2", "logsigmoid", "log_sigmoid", "log_ndtr",
    "xlogy", "xlog1py", "logit", "asinh", "arcsinh",
}  # fmt: skip
ROOTS = {"pow", "sqrt", "rsqrt", "hypot", "float_power"}
OF_THE_FIRST = {"to", "type", "type_as", "detach"}
"""Functions of their first argument's values alone; another tensor lends its dtype."""
POINTWISE = {
    *COMPARISONS, *CUTS, *SUMS, *PRODUCTS, *LOGARITHMS, *ROOTS, *OF_THE_FIRST,
    "rdiv", "rtruediv", "neg", "negative", "positive", "square", "ndtr", "rpow", "softsign", "tanhshrink",
    "exp", "exp2", "expm1", "erf", "erfc", "tanh", "sigmoid", "expit", "hardsigmoid", "reciprocal",
    "sin", "cos", "tan", "sinh", "cosh", "atan", "arctan", "sinc", "nan_to_num", "copysign",
    "logical_not", "bitwise_not", "invert", "logical_and", "bitwise_and", "and", "logical_or",
    "bool", "int", "long", "half", "bfloat16", "float", "double", "clone", "contiguous", "hardtanh",
    "threshold", "bitwise_or", "or",
}  # fmt: skip
"""Functions whose value at a position depends on the arguments' values at that position alone."""

FAR = (-80.0, -40.0, 40.0, 80.0)
NEAR = (-2.0, -0.7, -0.1, -0.001, 0.001, 0.1, 0.7, 2.0)
VANISHED, EQUAL = 5e-7, 1e-6
TRIALS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError)
"""What a call raises when it is tried on numbers and takes none."""


@dataclass
class Unit:
    """A rectifier call that goes through the router; `is_gate` once it shows itself as part of a gate."""

    name: str
    is_gate: bool = False


@dataclass(frozen=True)
class Pointwise:
    """How a tensor came about: `function` of `source`, position by position; `units` were called on the way.

    `bends` says that a call on the way makes it worth asking whether the function is a rectifier. A mask is a
    step, whose gradient is 0; what is detached has a gradient that autograd doesn't follow.
    """

    source: weakref.ref[Tensor]
    version: int
    function: Numbers
    units: tuple[Unit, ...] = ()
    bends: bool = False
    is_mask: bool = False
    is_detached: bool = False

    def holds(self) -> bool:
        """Whether the source is still there as it was."""
        source = self.source()
        return source is not None and source._version == self.version

    def through(self, unit: Unit) -> Pointwise:
        """Return the note with one more rectifier on the way."""
        return replace(self, units=(*self.units, unit), bends=True)

    def values(self, at: Iterable[float]) -> list[float] | None:
        """Return the function at some numbers, the same at every position; None where it isn't so plain."""
        source = self.source()
        if source is None:
            return None
        points = torch.tensor(list(at), dtype=torch.double, device=source.device)
        try:
            with torch.no_grad():
                found = self.function(points)
            if found.shape == points.shape:
                return [float(value) for value in found.double().tolist()]
        except TRIALS:
            pass  # it holds tensors of the source's shape
        return self._values_at_every_position(source, points)

    def _values_at_every_position(self, source: Tensor, points: Tensor) -> list[float] | None:
        """The function holds tensors, a slope per channel say: its value must be of one kind throughout."""
        try:
            with torch.no_grad():
                each = [self.function(torch.full_like(source, float(point))).double() for point in points]
            kinds = {shape_of([float(e.flatten()[i]) for e in each]) for i in _corners(each[0].numel())}
        except TRIALS:
            return None
        return [float(e.flatten()[0]) for e in each] if len(kinds) == 1 else None


def _corners(count: int) -> range:
    return range(0, count, max(1, count // 16))


def shape_of(values: list[float] | None) -> str | None:
    """Return what a function is by its values at FAR and NEAR: `relu`, `rectifier`, `gate`, or None.

    Example:
        >>> shape_of([max(t, 0.0) for t in (*FAR, *NEAR)]), shape_of([max(t, 0.2 * t) for t in (*FAR, *NEAR)])
        ('relu', 'rectifier')
        >>> shape_of([min(max(t + 3, 0), 6) / 6 for t in (*FAR, *NEAR)])
        'gate'
        >>> shape_of([t * t for t in (*FAR, *NEAR)]) is None
        True
    """
    if values is None:
        return None
    left, right = (values[1] - values[0]) / 40, slope_of(values)
    near = values[len(FAR) :]
    if abs(values[0]) <= VANISHED and abs(values[3] - 1) <= VANISHED:
        return "gate" if all(abs(a + b - 1) < 1e-5 for a, b in zip(near, near[::-1], strict=True)) else None
    if not right > 0:
        return None
    if all(
        v == 0 if t < 0 else abs(v / right - t) <= EQUAL * t
        for v, t in zip(values, (*FAR, *NEAR), strict=True)
    ):
        return "relu"
    straight = abs(values[3] - 2 * values[2]) <= 0.05 * abs(values[3])
    # A floor other than 0 is a guard; ELU's is none, as it bends at 0.
    vanishes = abs(values[0]) <= VANISHED and (values[0] == 0 or abs(values[0]) < abs(values[1]))
    bends_to_floor = left == 0 and -4 < values[0] < 0 and abs(near[2] + 0.1 * right) > EQUAL
    falls = (
        vanishes or bends_to_floor or (left > 0 and abs(values[0] - 2 * values[1]) <= 1e-3 * abs(values[0]))
    )
    return "rectifier" if straight and falls and -1e-9 <= left <= 0.45 * right else None


def slope_of(values: list[float]) -> float:
    """Return a function's slope far to the right."""
    return (values[3] - values[2]) / (FAR[3] - FAR[2])


@dataclass
class Notes:
    """What is known of the tensors of one forward pass, for as long as they live.

    A tensor is a pointwise function of each tensor on the way to it; `x * sigmoid(x + 1)` shows only in x.
    """

    by_id: dict[int, tuple[weakref.ref[Tensor], int, tuple[Pointwise, ...]]] = field(default_factory=dict)
    lost: dict[int, tuple[weakref.ref[Tensor], bool]] = field(default_factory=dict)
    has_read: bool = False

    def lose(self, tensor: Tensor, mixed: bool) -> None:
        """Note that a tensor (of any shape) was computed from the image, and has no gradient that says how.

        `mixed` says that a layer or a mean was on the way.
        """
        key = id(tensor)
        self.lost[key] = (weakref.ref(tensor, lambda _: self.lost.pop(key, None)), mixed)

    def is_lost(self, tensor: Tensor) -> bool:
        """Whether a tensor (of any shape) was computed from the image and has no gradient."""
        kept, _ = self.lost.get(id(tensor), (None, False))
        return kept is not None and kept() is tensor and not tensor.requires_grad

    def is_mixed(self, tensor: Tensor) -> bool:
        """Whether a lost tensor (of any shape) comes from behind a layer or a mean."""
        return self.lost[id(tensor)][1]

    def of(self, tensor: Tensor) -> tuple[Pointwise, ...]:
        """How a tensor (of any shape) came about, nearest source first; nothing if overwritten since."""
        kept, version, notes = self.by_id.get(id(tensor), (None, 0, ()))
        if kept is None or kept() is not tensor or version != tensor._version:
            return ()
        return tuple(note for note in notes if note.holds())

    def keep(self, tensor: Tensor, notes: tuple[Pointwise, ...]) -> None:
        """Note how a tensor (of any shape) came about."""
        key = id(tensor)
        gone = weakref.ref(tensor, lambda _: self.by_id.pop(key, None))
        self.by_id[key] = (gone, tensor._version, notes)

    def with_itself(self, tensor: Tensor) -> tuple[Pointwise, ...]:
        """Return how a tensor (of any shape) came about, first from itself; a mask is no source."""
        notes = self.of(tensor)
        return (
            notes
            if has_no_gradient(notes)
            else (Pointwise(weakref.ref(tensor), tensor._version, _same), *notes)
        )

    def combined(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], options: Iterable[Any] = ()
    ) -> Combination | None:
        """Return what a pointwise call makes of its arguments, if all that vary come from one tensor."""
        read = args[:1] if name in OF_THE_FIRST else args
        varying = {
            i: self.with_itself(a) for i, a in enumerate(read) if isinstance(a, Tensor) and self._varies(a)
        }
        along_a_side = name in ("max", "min") and not (len(args) > 1 and isinstance(args[-1], Tensor))
        if not varying or along_a_side or self._depends_on_more(name, (*read, *options), varying):
            return None
        by_source = [{id(note.source()): note for note in notes} for notes in varying.values()]
        shared = [key for key in by_source[0] if all(key in each for each in by_source)]
        notes = [
            _combined(func, name, args, {i: each[key] for i, each in zip(varying, by_source, strict=True)})
            for key in shared
        ]
        kinds = (
            (note, _kind(note, name, len(varying), by_source, i))
            for i, note in zip(shared, notes, strict=True)
        )
        note, kind = next(((note, kind) for note, kind in kinds if kind), (None, None))
        is_doubtful = kind is None and any(_is_doubtful(note, name, len(varying)) for note in notes)
        return Combination(tuple(notes), note, kind, is_doubtful) if notes else None

    def _depends_on_more(self, name: str, args: tuple[Any, ...], varying: dict[int, Any]) -> bool:
        """Whether a number that comes from the image, such as its mean, is among the arguments."""
        size = max(args[i].numel() for i in varying)
        read = self.has_read and any(
            isinstance(a, Tensor) and i not in varying and a.numel() == size and bool(a.any())
            if isinstance(a, Tensor)
            else name in COMPARISONS | CUTS and isinstance(a, float) and a
            for i, a in enumerate(args)
        )
        return read or any(
            isinstance(a, Tensor) and i not in varying and (a.grad_fn is not None or self.is_lost(a))
            for i, a in enumerate(args)
        )

    def _varies(self, tensor: Tensor) -> bool:
        return tensor.grad_fn is not None or has_no_gradient(self.of(tensor))


def has_no_gradient(notes: tuple[Pointwise, ...]) -> bool:
    """Whether these are the notes of a mask, or of what was detached."""
    return bool(notes) and (notes[0].is_mask or notes[0].is_detached)


def _same(t: Tensor) -> Tensor:
    return t


@dataclass(frozen=True)
class Combination:
    """A pointwise call's result as a function of each of its sources; of `known` it is of a `kind`."""

    notes: tuple[Pointwise, ...]
    known: Pointwise | None = None
    kind: str | None = None
    is_doubtful: bool = False

    @property
    def slope(self) -> float:
        """The known function's slope far to the right; rounded, as it comes from numbers such as 480 / 80."""
        values = self.known.values((*FAR, *NEAR)) if self.known else None
        return round(slope_of(values), 9) if values else 1.0

    @property
    def function(self) -> Numbers:
        """The known function."""
        return self.known.function if self.known else _same


def _combined(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], found: dict[int, Pointwise]
) -> Pointwise:
    first = next(iter(found.values()))
    product = name not in SUMS and len(found) > 1
    is_mask = name in COMPARISONS or all(each.is_mask for each in found.values())
    return Pointwise(
        first.source,
        first.version,
        _Applied(
            func,
            tuple(None if i in found else a for i, a in enumerate(args)),
            {i: each.function for i, each in found.items()},
        ),
        tuple({id(unit): unit for note in found.values() for unit in note.units}.values()),
        bends=name in CUTS | LOGARITHMS | ROOTS
        or product
        or any(each.bends or each.is_mask for each in found.values()),
        is_mask=is_mask,
        is_detached=not is_mask and (name == "detach" or any(each.is_detached for each in found.values())),
    )


def _kind(
    note: Pointwise, name: str, count: int, by_source: list[dict[int, Pointwise]], key: int
) -> str | None:
    """What a combination is, tried where it may be a rectifier: at a bend or a product, within a gate."""
    if note.is_mask or note.is_detached or not (note.bends or note.units):
        return None
    if note.units and count > 1:
        operands = [each[key] for each in by_source]
        gated = name in PRODUCTS and any(_is_linear(each) for each in operands)
        mended = name in SUMS and any(_rounds_a_corner(each) for each in operands)
        return shape_of(note.values((*FAR, *NEAR))) if gated or mended else None
    kind = shape_of(note.values((*FAR, *NEAR)))
    # A rectifier on the way is one by itself, whatever it is multiplied with.
    return kind if kind == "gate" or not note.units else None


def _is_doubtful(note: Pointwise, name: str, count: int) -> bool:
    """Whether a function of a tensor and itself can't be told from a rectifier by numbers."""
    if note.is_detached:
        return name != "detach" and bool(shape_of(note.values((*FAR, *NEAR))))
    if note.is_mask or note.units or not note.bends or count < 2:
        return False
    values = note.values((*FAR, *NEAR))
    return values is None or _is_broken_line(values)


def _is_broken_line(values: list[float]) -> bool:
    """Whether a function is linear on both sides, with different slopes; |x| and its like are even."""
    left, right = (values[1] - values[0]) / 40, slope_of(values)
    is_straight = all(
        abs(far - 2 * near) <= 0.05 * abs(far) + 5 for far, near in (values[:2], values[3:1:-1])
    )
    is_even = all(abs(a - b) <= EQUAL * abs(a) for a, b in zip(values[:4], values[3::-1], strict=True))
    return is_straight and not is_even and abs(right - left) > max(1e-3 * abs(left), 1e-3 * abs(right), EQUAL)


def _rounds_a_corner(note: Pointwise) -> bool:
    """Whether a summand is what makes a softplus of a ReLU: log(1 + exp(-|x|)), which vanishes far away."""
    values = note.values(FAR) if note.bends and not note.units else None
    return values is not None and max(abs(value) for value in values) <= VANISHED


def _is_linear(note: Pointwise) -> bool:
    values = note.values(FAR) if not note.units else None
    return (
        values is not None
        and abs(values[0] + values[3]) < VANISHED
        and abs(values[3] - 2 * values[2]) < VANISHED
    )


@dataclass(frozen=True)
class _Applied:
    """A call as a function of the one tensor that its varying arguments come from."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    varying: dict[int, Numbers]

    def __call__(self, t: Tensor) -> Any:
        return self.func(*(self.varying[i](t) if i in self.varying else a for i, a in enumerate(self.args)))


class Routing(Protocol):
    """What gives a rectifier its backward rule: the router that the call goes through."""

    rule: Rule

    def apply(self, unit: Unit, g: Tensor, z: Tensor, chain: Chain | None) -> Tensor:
        """Return the gradient (as g, of any shape) that the rule in force makes of g at a rectifier."""
        ...


class Assembled(torch.autograd.Function):
    """y forward; backward y's own gradient under the plain rule, else the router's rule for the source."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, source: Tensor, router: Routing, known: Combination, unit: Unit, in_place: bool
    ) -> Tensor:
        """Return y (of any shape), or a copy where it isn't written in place."""
        ctx.router, ctx.unit, ctx.slope, ctx.function = router, unit, known.slope, known.function
        ctx.set_materialize_grads(False)  # no gradient is another thing than 0
        if in_place:
            ctx.mark_dirty(y)
        result = y if in_place else y.clone()
        # The network may overwrite both, as its own calls need neither; of a ReLU a mask is enough.
        ctx.save_for_backward(result > 0 if known.kind == "relu" else source.detach().clone())
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Return the gradient for y, or for the source; a slope other than 1 is a factor outside the rule."""
        if grads[0] is None or ctx.unit.is_gate or ctx.router.rule is plain:
            return grads[0], *[None] * 5
        (z,), slope = ctx.saved_tensors, ctx.slope
        chain = None if ctx.unit.name == "relu" else partial(_chain, ctx.function, slope, z)
        g = grads[0] if slope == 1 else grads[0] * slope
        return None, ctx.router.apply(ctx.unit, g, z.to(g.dtype), chain), *[None] * 4


def _chain(function: Numbers, slope: float, z: Tensor, g: Tensor) -> Tensor:
    """Return g d(function / slope)/dz."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        return torch.autograd.grad(function(leaf), leaf, g / slope)[0]


def varying_inputs(node: Any) -> Iterator[Any]:
    """The nodes that a gradient goes on to under the other rules: past a `Assembled`, its source's."""
    inputs = [following for following, _ in node.next_functions]
    if getattr(node, "_forward_cls", None) is Assembled:
        inputs = inputs[:1] if node.unit.is_gate else inputs[1:2]
    yield from inputs
