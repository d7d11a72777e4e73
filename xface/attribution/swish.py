"""SiLU put together by hand, `x * torch.sigmoid(x)`: a rectifier that no function's name gives away.

The product of a tensor and its own sigmoid is SiLU (Elfwing et al. 2017, arXiv:1702.03118), whatever it was
written for. A squeeze-and-excitation gate is none: it multiplies another tensor than it was computed from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xface.attribution.rules import plain

if TYPE_CHECKING:
    from xface.attribution.rectifiers import Router

SIGMOIDS = {torch.sigmoid, Tensor.sigmoid, torch.special.expit}
PRODUCTS = {torch.mul, Tensor.mul, torch.multiply, Tensor.multiply}
PRODUCTS_IN_PLACE = {Tensor.mul_, Tensor.multiply_}


@dataclass(frozen=True)
class _Origin:
    """The tensor that a sigmoid was taken of, and both their versions then."""

    source: Tensor
    versions: tuple[int, int]

    def is_(self, source: object, gate: Tensor) -> bool:
        """Whether `gate` still holds the sigmoid of `source`, that very tensor."""
        return self.source is source and (self.source._version, gate._version) == self.versions


def note(gate: Tensor, source: Tensor) -> None:
    """Note on `gate` that it is the sigmoid of `source`."""
    if gate.requires_grad:
        gate._xface_origin = _Origin(source, (source._version, gate._version))  # type: ignore[attr-defined]


def note_on_copy(copy: Tensor, gate: Tensor) -> None:
    """Carry a note over to a copy: a tapped layer hands on a copy of its output."""
    origin: _Origin | None = getattr(gate, "_xface_origin", None)
    if origin is not None and origin.is_(origin.source, gate):
        note(copy, origin.source)


def factors(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Tensor, Tensor] | None:
    """Return x and its sigmoid if a call is their product, in either order; in place it must write into x."""
    orders = (args, args[::-1]) if func in PRODUCTS else (args,) if func in PRODUCTS_IN_PLACE else ()
    for order in orders:
        origin: _Origin | None = getattr(order[-1], "_xface_origin", None)
        if origin is not None and len(order) == 2 and origin.is_(*order):
            return order[0], order[1]
    return None


def multiply(x: Tensor, gate: Tensor, router: Router, product: Callable[..., Tensor]) -> Tensor:
    """Return product(x, gate), whose backward pass follows the router's rule."""
    y: Tensor = _Swish.apply(x, gate, router, product)
    return y


class _Swish(torch.autograd.Function):
    """x sigmoid(x) forward; backward the product's own gradients, or the router's rule for x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, router: Router, product: Callable[..., Tensor]) -> Tensor:
        ctx.router = router
        before = x.clone() if product in PRODUCTS_IN_PLACE else x
        y = product(x, gate)
        if before is not x:
            ctx.mark_dirty(x)
        ctx.save_for_backward(before, gate)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, gate = ctx.saved_tensors
        if ctx.router.rule is plain:
            return grads[0] * gate, grads[0] * x, None, None
        return ctx.router.rule(grads[0], x, partial(_chain, x)), None, None, None


def _chain(z: Tensor, g: Tensor) -> Tensor:
    """Return g d(z sigmoid(z))/dz."""
    return torch.ops.aten.silu_backward(g, z)  # type: ignore[no-any-return]
