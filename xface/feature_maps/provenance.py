"""Which tensors of a forward pass surely lie as the images do: (N, K, h, w), rows and columns in order.

What the images became by convolutions, poolings, norms, resizing and elementwise functions alone lies as
they do. Any other function (a permutation, a reshape, a matrix product) may have rearranged it, so that what
comes of it is uncertain, however its shape looks: `xface.feature_maps.layouts` decides it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

# Without the underscores of in-place calls and operators.
KEEPING = frozenset(
    """
    clone detach contiguous to type type_as float double half bfloat16 cpu cuda requires_grad
    conv2d conv_transpose2d max_pool2d max_pool2d_with_indices avg_pool2d lp_pool2d adaptive_avg_pool2d
    adaptive_max_pool2d interpolate upsample pixel_shuffle pixel_unshuffle
    batch_norm instance_norm group_norm local_response_norm dropout dropout2d alpha_dropout feature_dropout
    add sub mul div truediv radd rsub rmul iadd isub imul itruediv idiv neg abs pow exp log sqrt rsqrt square
    log1p expm1 log2 exp2 reciprocal floor ceil round frac sinh cosh atan asinh logaddexp logaddexp2 hypot
    gt lt ge le eq ne logical_not logical_and logical_or bitwise_not invert heaviside nan_to_num masked_fill
    fmax fmin clamp clamp_min clamp_max clip maximum minimum where sign sgn lerp addcmul addcdiv erf bool
    rpow rdiv rtruediv
    relu relu6 leaky_relu prelu rrelu elu selu celu silu gelu mish hardswish hardtanh threshold softplus
    softsign tanh sigmoid hardsigmoid logsigmoid tanhshrink hardshrink softshrink sin cos
    """.split()  # noqa: SIM905
)
ALONG_CHANNELS = frozenset(
    """
    cat concat concatenate chunk split softmax log_softmax cumsum glu
    mean sum amax amin max min std var logsumexp
    """.split()  # noqa: SIM905
)


WEIGHTED = frozenset(("conv2d", "conv_transpose2d", "batch_norm", "instance_norm", "group_norm", "prelu"))
"""Of their tensors only the first has positions; weights may be computed, by a spectral norm say."""


class Provenance(TorchFunctionMode):
    """While it is on, follows from `images` which tensors surely lie as (N, K, h, w); `holds` tells.

    Example:
        >>> import torch
        >>> images = torch.rand(1, 3, 8, 8)
        >>> with Provenance(images) as provenance:
        ...     convolved = nn.Conv2d(3, 8, 3, padding=1)(images).relu()
        ...     turned = convolved.transpose(2, 3)
        >>> provenance.holds(convolved), provenance.holds(turned)
        (True, False)
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.count = len(images)
        # By version: what an in-place call wrote into, also through a view, no longer counts.
        self.versions: Any = WeakIdKeyDictionary()
        self._keep(images)

    def holds(self, tensor: object) -> bool:
        """Return whether `tensor` surely lies as (N, K, h, w)."""
        return (
            isinstance(tensor, Tensor)
            and tensor in self.versions
            and self.versions[tensor] == tensor._version
        )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # Before the call, which may write into its argument.
        keeps = _may_keep(func, args, kwargs) and self._come_from_images(*_laid(func, args, kwargs))
        result = func(*args, **kwargs)
        if keeps:
            for tensor in _tensors(result):
                self._keep(tensor)
        return result

    def _keep(self, tensor: Tensor) -> None:
        if tensor.ndim == 4 and len(tensor) == self.count and not tensor.is_inference():
            self.versions[tensor] = tensor._version

    def _come_from_images(self, args: Any, kwargs: dict[str, Any]) -> bool:
        """Whether one operand came from the images, and none that has positions came another way."""
        tensors = list(_tensors((*args, *kwargs.values())))
        known = [self.holds(tensor) for tensor in tensors]
        return any(known) and all(
            sure or not _has_positions(tensor) for sure, tensor in zip(known, tensors, strict=True)
        )


def _has_positions(tensor: Tensor) -> bool:
    """Whether an operand has a value for each position; a weight, or one value for each channel, has not."""
    return not isinstance(tensor, nn.Parameter) and tensor.ndim > 1 and tensor.shape[-2:] != (1, 1)


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def _laid(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the arguments that may have positions."""
    if getattr(func, "__name__", "").strip("_") not in WEIGHTED:
        return args, kwargs
    return (args[:1], {}) if args else ((kwargs.get("input"),), {})


def _may_keep(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call lets positions stay where they are."""
    name = getattr(func, "__name__", "").strip("_")
    if name == "pad":
        return _is_centred(kwargs.get("pad", args[1] if len(args) > 1 else ()))
    if name in KEEPING:
        return True
    if name in ALONG_CHANNELS:
        dim = kwargs.get(
            "dim", kwargs.get("axis", next((a for a in args[1:][::-1] if isinstance(a, int)), None))
        )
        return dim in (1, -3, (1,), [1], (-3,), [-3])
    return name == "getitem" and _picks_channels(args[1])


def _is_centred(sides: Sequence[int]) -> bool:
    """Whether as many rows and columns are added, or cut off, at either end, but for an odd one."""
    return all(abs(sides[place] - sides[place + 1]) <= 1 for place in range(0, min(len(sides), 4), 2))


def _picks_channels(index: object) -> bool:
    """Whether an index leaves all rows and columns, or every so many, in place: `x[:, :8, ::2, ::2]`."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(isinstance(part, slice) for part in parts) and all(
        part.start is None and part.stop is None for part in parts[2:]
    )
