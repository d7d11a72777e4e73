"""Cheaper gradients for the inputs of convolutions; forward values stay bit for bit what they were.

Weights are frozen while a network is explained, which allows what training does not:

- **Convolution, then batch norm in eval mode.** The norm's gradient is g times a constant per channel. It
  goes into the convolution's weights where these are smaller than the activation: one pass over it less.
- **A large strided kernel on a picture** (the 7x7 stem of ResNet and DenseNet). Its transpose onto 3 channels
  leaves vector units idle. With i + p = s a + r, the gradient sum_o g[o] w[i + p - s o] is, for each phase r,
  a plain convolution of g with w[s m + r]; all phases are channels of one convolution (Shi et al. 2016,
  arXiv:1609.05158).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input

PICTURE_CHANNELS, LARGE_KERNEL = 4, 5

Call = Callable[..., Tensor]


@dataclass(frozen=True)
class _Convolution:
    """A convolution that was run: what its input's gradient depends on, and its output's version after it."""

    source: Tensor
    weight: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    source_version: int
    version: int = 0

    def holds_for(self, output: Tensor) -> bool:
        """Whether neither the source nor the output has been written into since."""
        return (self.source._version, output._version) == (self.source_version, self.version)

    def gradient(self, g: Tensor, scale: Tensor | None = None) -> Tensor:
        """Return the gradient for the source, for outputs that are multiplied by `scale` (channels,)."""
        weight = self.weight if scale is None else self.weight * scale[:, None, None, None]
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


class _WithGradient(torch.autograd.Function):
    """value() forward, gradient(g) for the source backward."""

    @staticmethod
    def forward(
        ctx: Any, source: Tensor, value: Callable[[], Tensor], gradient: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.gradient = gradient
        return value()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return ctx.gradient(grads[0]), None, None


def convolve(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Run a conv2d call, and leave a note on its output for a batch norm that may follow."""
    made = _convolution(*args, **kwargs)
    if made is None:
        return func(*args, **kwargs)
    if made.has_phases():
        output: Tensor = _WithGradient.apply(made.source, partial(func, *args, **kwargs), made.gradient)
    else:
        output = func(*args, **kwargs)
    output._xface_convolution = replace(made, version=output._version)  # type: ignore[attr-defined]
    return output


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> _Convolution | None:
    if isinstance(padding, str) or input.ndim != 4 or not input.requires_grad or _learns(weight, bias):
        return None
    if torch.is_autocast_enabled(input.device.type) or input.dtype != weight.dtype:
        return None
    shape = _pair(stride), _pair(padding), _pair(dilation), groups
    return _Convolution(input, weight, *shape, source_version=input._version)


def _learns(*parameters: Tensor | None) -> bool:
    """Whether a gradient must reach one of them: a bias may be computed from the image."""
    return any(parameter is not None and parameter.requires_grad for parameter in parameters)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def normalise(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Run a batch_norm call; right after a convolution, with that convolution's gradient."""
    z: Tensor = args[0] if args else kwargs["input"]
    made: _Convolution | None = getattr(z, "_xface_convolution", None)
    scale = _scale(*args, **kwargs)
    if made is None or scale is None or not made.holds_for(z) or z.numel() < made.weight.numel():
        return func(*args, **kwargs)
    output: Tensor = _WithGradient.apply(
        made.source, partial(func, *args, **kwargs), partial(made.gradient, scale=scale)
    )
    return output


def _scale(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if training or running_var is None or _learns(weight, bias, running_mean, running_var):
        return None
    scale = (running_var + eps).rsqrt()
    return scale if weight is None else scale * weight


SHORTCUTS: dict[Call, Callable[[Call, tuple[Any, ...], dict[str, Any]], Tensor]] = {
    F.conv2d: convolve,
    F.batch_norm: normalise,
}
