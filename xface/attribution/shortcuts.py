"""Cheaper gradients for the inputs of convolutions; forward values stay bit for bit what they were.

Weights are frozen while a network is explained, which allows what training does not:

- **Convolution, then batch norm in eval mode.** The norm's gradient is g times a constant per channel. It
  goes into the convolution's weights where these are smaller than the activation: one pass over it less.
- **A large strided kernel on a picture** (the 7x7 stem of ResNet and DenseNet). Its transpose onto 3 channels
  leaves vector units idle. With i + p = s a + r, the gradient sum_o g[o] w[i + p - s o] is, for each phase r,
  a plain convolution of g with w[s m + r]; all phases are channels of one convolution (Shi et al. 2016,
  arXiv:1609.05158).

A shortcut is taken only where what it skips is known to change nothing: the tensor is the convolution's own
result still, it bears no hook, and no weight is overwritten before the backward pass (autograd itself checks
that). What a network does with hooks or nodes of its graph later, no such check sees: then `doubtful` is set,
and the forward pass is to be run again without shortcuts.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input

from xface.attribution.unrouted import NORMED

PICTURE_CHANNELS, LARGE_KERNEL = 4, 5

Call = Callable[..., Tensor]


@dataclass(frozen=True)
class _Convolution:
    """A convolution of `source`, which had `version` and `node` then."""

    source: Tensor
    weight: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    version: int
    node: object

    def has_its_source(self) -> bool:
        """Whether the source was neither overwritten nor detached since."""
        return self.source._version == self.version and self.source.grad_fn is self.node

    def gradient(self, g: Tensor, weight: Tensor, *norm: Tensor | float | None) -> Tensor:
        """Return the gradient for the source; `norm` has the variance, eps and weight of a norm after it."""
        if norm:
            weight = weight * _scale(*norm)[:, None, None, None]  # type: ignore[arg-type]
        size = self.source.shape
        if self.has_phases():
            return _by_phases(g, weight, self.stride[0], self.padding[0], size)
        gradient: Tensor = conv2d_input(  # type: ignore[no-untyped-call]
            list(size), weight, g, self.stride, self.padding, self.dilation, self.groups
        )
        return gradient

    def has_phases(self) -> bool:
        square = all(a == b for a, b in (self.stride, self.padding, self.weight.shape[2:]))
        plain = self.groups == 1 and self.dilation == (1, 1) and not self.weight.is_cuda
        large = self.weight.shape[1] <= PICTURE_CHANNELS and self.weight.shape[2] >= LARGE_KERNEL
        return square and plain and large and self.stride[0] > 1


def _by_phases(g: Tensor, weight: Tensor, stride: int, padding: int, size: torch.Size) -> Tensor:
    height, width = size[2:]
    taps = -(-weight.shape[2] // stride)
    phases = F.conv2d(g, _phase_weights(weight, stride, taps), padding=taps - 1)
    picture = F.pixel_shuffle(phases, stride)[:, :, padding : padding + height, padding : padding + width]
    # Rows and columns that no kernel reached have no gradient.
    return F.pad(picture, (0, width - picture.shape[3], 0, height - picture.shape[2]))


def _phase_weights(weight: Tensor, stride: int, taps: int) -> Tensor:
    out, _, kernel, _ = weight.shape
    short = taps * stride - kernel
    split = F.pad(weight, (0, short, 0, short)).reshape(out, -1, taps, stride, taps, stride)
    phases = split.permute(1, 3, 5, 0, 2, 4).flip(4, 5).reshape(-1, out, taps, taps)
    return phases.contiguous(memory_format=torch.channels_last)


def _scale(variance: Tensor, eps: float, weight: Tensor | None) -> Tensor:
    scale = (variance + eps).rsqrt()
    return scale if weight is None else scale * weight


class _WithGradient(torch.autograd.Function):
    """value() forward, gradient(g, *constants) for the source backward; constants may not be overwritten."""

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        value: Callable[[], Tensor],
        gradient: Callable[..., Tensor],
        *constants: Any,
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.gradient, ctx.constants = gradient, [None if isinstance(c, Tensor) else c for c in constants]
        ctx.save_for_backward(*(c if isinstance(c, Tensor) else None for c in constants))
        return value()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        saved = zip(ctx.saved_tensors, ctx.constants, strict=True)
        constants = [other if tensor is None else tensor for tensor, other in saved]
        gradient = None if grads[0] is None else ctx.gradient(grads[0], *constants)
        return gradient, None, None, *(None for _ in constants)


DOUBTFUL: set[Any] = {Tensor.register_hook, Tensor.retain_grad, Tensor.grad_fn.__get__}  # type: ignore[union-attr]
"""Calls by which a network sees or changes gradients that a shortcut would skip."""


class Shortcuts:
    """The shortcuts of one forward pass, none of them unless `enabled`."""

    def __init__(self, enabled: bool) -> None:
        self.doubtful = False
        self._calls: dict[Call, Call] = (
            {F.conv2d: self._convolve, F.batch_norm: self._normalise} if enabled else {}
        )
        self._made: dict[int, tuple[weakref.ref[Tensor], object, int, _Convolution]] = {}
        self._skipped: dict[int, weakref.ref[Tensor]] = {}

    def find(self, func: Call) -> Call | None:
        """Return what runs a call with a cheaper gradient: a function of func, args and kwargs."""
        if func in DOUBTFUL and self._calls:
            self.doubtful = True
        return self._calls.get(func)

    def keep_whole(self, tensor: Tensor) -> None:
        """Take no shortcut around a tensor (of any shape) whose gradient is asked for."""
        self._made.pop(id(tensor), None)
        skipped = self._skipped.get(id(tensor))
        self.doubtful = self.doubtful or (skipped is not None and skipped() is tensor)

    def forget(self) -> None:
        """Drop what was noted of the tensors of a forward pass."""
        self._made.clear()
        self._skipped.clear()

    def _convolve(self, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Run a conv2d call, and note its result for a batch norm that may follow."""
        made = _convolution(*args, **kwargs)
        if made is None:
            return func(*args, **kwargs)
        if made.has_phases():
            value = partial(func, *args, **kwargs)
            output: Tensor = _WithGradient.apply(made.source, value, made.gradient, made.weight)
        else:
            output = func(*args, **kwargs)
        key = id(output)
        gone = weakref.ref(output, lambda _: self._made.pop(key, None))
        self._made[key] = (gone, output.grad_fn, output._version, made)
        return output

    def _normalise(self, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Run a batch_norm call; right after a convolution, with that convolution's gradient."""
        z: Tensor = args[0] if args else kwargs["input"]
        made, norm = self._convolution_of(z), _norm(*args, **kwargs)
        if made is None or norm is None or z.numel() < made.weight.numel():
            return func(*args, **kwargs)
        key = id(z)
        self._skipped[key] = weakref.ref(z, lambda _: self._skipped.pop(key, None))
        output: Tensor = _WithGradient.apply(
            made.source, partial(func, *args, **kwargs), made.gradient, made.weight, *norm
        )
        node, skipped = cast(Any, output.grad_fn), cast(Any, z.grad_fn)
        node.normed = skipped.metadata.setdefault(NORMED, object())
        return output

    def _convolution_of(self, z: Tensor) -> _Convolution | None:
        """The convolution that gave z, unless z was overwritten, detached or hooked since."""
        kept, node, version, made = self._made.get(id(z), (None, None, 0, None))
        if kept is None or made is None or kept() is not z or z._backward_hooks:
            return None
        return made if z.grad_fn is node and z._version == version and made.has_its_source() else None


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> _Convolution | None:
    if isinstance(padding, str) or input.ndim != 4 or not input.requires_grad or _is_computed(weight, bias):
        return None
    if torch.is_autocast_enabled(input.device.type) or input.dtype != weight.dtype:
        return None
    shape = _pair(stride), _pair(padding), _pair(dilation), groups
    return _Convolution(input, weight, *shape, version=input._version, node=input.grad_fn)


def _is_computed(*parameters: Tensor | None) -> bool:
    """Whether a gradient must pass through one of them: a bias may be computed from the image."""
    return any(parameter is not None and parameter.grad_fn is not None for parameter in parameters)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, float, Tensor | None] | None:
    """What a batch norm's gradient depends on; None where it is more than a factor per channel."""
    if training or running_var is None or _is_computed(weight, bias, running_mean, running_var):
        return None
    return running_var, eps, weight
