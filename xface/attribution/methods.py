"""The registry of methods, and the five core ones: functions of one shared `Trace`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xface.attribution.trace import Trace
from xface.registry import Registry

Compute = Callable[..., Tensor]


@dataclass(frozen=True)
class Method:
    """An attribution method: its formula, what it reads from the trace, and where it is published.

    `compute(trace, layer)` gives (N, C, H, W) signed, or (N, h, w); `layer` is None unless `layered`.
    `rules` are the backward rules whose input gradients it reads.
    """

    name: str
    title: str
    paper: str
    compute: Compute
    layered: bool = False
    rules: frozenset[str] = frozenset()
    layer_gradients: bool = False
    core: bool = False

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.compute.__doc__ or "").strip().splitlines()[0]


METHODS: Registry[Method] = Registry("method")


def method(
    name: str,
    title: str,
    paper: str,
    *,
    layered: bool = False,
    rules: tuple[str, ...] = (),
    layer_gradients: bool = False,
    core: bool = False,
) -> Callable[[Compute], Compute]:
    """Register the decorated function as method `name`."""

    def register(compute: Compute) -> Compute:
        METHODS.add(
            name, Method(name, title, paper, compute, layered, frozenset(rules), layer_gradients, core)
        )
        return compute

    return register


def wide(tensor: Tensor) -> Tensor:
    """Return the tensor (of any shape) in float32 at least: sums overflow in half precision.

    Example:
        >>> wide(torch.ones(1, dtype=torch.float16)).dtype, wide(torch.ones(1, dtype=torch.float64)).dtype
        (torch.float32, torch.float64)
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@method("vanilla", "Vanilla backprop", "Simonyan et al. 2013, arXiv:1312.6034", rules=("plain",), core=True)
def vanilla(trace: Trace, layer: str | None) -> Tensor:
    """d score / d input."""
    return trace.input_gradients["plain"]


@method("deconvnet", "Deconvnet", "Zeiler and Fergus 2013, arXiv:1311.2901", rules=("deconvnet",), core=True)
def deconvnet(trace: Trace, layer: str | None) -> Tensor:
    """The input's gradient with max(g, 0) at every rectifier."""
    return trace.input_gradients["deconvnet"]


@method(
    "guided", "Guided backprop", "Springenberg et al. 2014, arXiv:1412.6806", rules=("guided",), core=True
)
def guided(trace: Trace, layer: str | None) -> Tensor:
    """The input's gradient with max(g, 0) [z > 0] at every rectifier."""
    return trace.input_gradients["guided"]


@method(
    "gradcam",
    "Grad-CAM",
    "Selvaraju et al. 2017, arXiv:1610.02391",
    layered=True,
    layer_gradients=True,
    core=True,
)
def gradcam(trace: Trace, layer: str) -> Tensor:
    """max(0, sum_k w_k A_k), with w_k the spatial mean of d score / d A_k."""
    weights = wide(trace.layer_gradients[layer]).mean(dim=(2, 3), keepdim=True)
    return (weights * wide(trace.activations[layer])).sum(dim=1).relu()


@method(
    "guided_gradcam",
    "Guided Grad-CAM",
    "Selvaraju et al. 2017, arXiv:1610.02391",
    layered=True,
    rules=("guided",),
    layer_gradients=True,
    core=True,
)
def guided_gradcam(trace: Trace, layer: str) -> Tensor:
    """Guided backprop times Grad-CAM, the latter upsampled bilinearly to the input."""
    size = trace.images.shape[2:]
    cam = F.interpolate(gradcam(trace, layer).unsqueeze(1), size=size, mode="bilinear", align_corners=False)
    return trace.input_gradients["guided"] * cam
