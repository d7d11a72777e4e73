"""The precision that a network is explained in.

In half precision a gradient loses digits at every layer and underflows to 0 at small logits; maps are off by
7 to 23 %. A network with half-precision weights is copied to float32, unless another dtype is asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from xface.attribution.graph import HALF


def in_precision(
    model: nn.Module, images: Tensor, dtype: torch.dtype | None
) -> tuple[nn.Module, Tensor, tuple[str, ...]]:
    """Return a network to compute with in `dtype` (None: float32 for a half-precision one), images and notes.

    It is the network itself where nothing is to be changed, else a copy. Weights made in inference mode are
    copied too: autograd takes no such tensors. The images (N, C, H, W) come on its device, in the
    dtype that it takes.
    """
    parameters = list(model.parameters())
    tensors = [t for t in (*parameters, *model.buffers()) if t.is_floating_point()]
    found = {t.dtype for t in tensors}
    wanted = dtype or (torch.float32 if found & HALF else None)
    changes = wanted is not None and found != {wanted} and bool(found)
    if not changes and not any(t.is_inference() for t in tensors):
        return model, _taken(parameters, images), ()
    halves = ", ".join(sorted(str(d).removeprefix("torch.") for d in found & HALF))
    copied = _copied(model, wanted if changes else None)
    if copied is None or (changes and dtype is None and not _runs(copied, images)):
        said = f"computed in the network's own {halves}: it cannot be copied to float32"
        return model, _taken(parameters, images), (said,) if halves else ()
    said = f"computed in float32: the network's weights are {halves}"
    return copied, _taken(copied.parameters(), images), (said,) if halves and dtype is None else ()


def _taken(parameters: Iterable[nn.Parameter], images: Tensor) -> Tensor:
    """Images as a network takes them: on its first weight's device, in its first convolution's dtype."""
    parameters = list(parameters)
    floating = [p for p in parameters if p.is_floating_point()]
    kernels = [p for p in floating if p.ndim == 4]
    dtype = next((p.dtype for p in (*kernels, *floating)), images.dtype)
    # A copy where the caller runs in inference mode: such tensors take part in no gradient.
    images = images.detach().clone() if images.is_inference() else images.detach()
    return images.to(parameters[0].device if parameters else images.device, dtype)


def _copied(model: nn.Module, dtype: torch.dtype | None) -> nn.Module | None:
    """A deep copy; None for a network that can't be copied, or whose hooks would write into the original."""
    if any(_holds_module(hook) for module in model.modules() for hook in _hooks(module)):
        return None
    try:
        copied = copy.deepcopy(model)
    except (RuntimeError, TypeError, NotImplementedError, AttributeError):
        return None
    for module in copied.modules():
        for name, value in vars(module).items():  # tensors that are no buffers
            if isinstance(value, Tensor) and value.is_floating_point() and dtype is not None:
                setattr(module, name, value.to(dtype))
    return copied if dtype is None else copied.to(dtype)


def _hooks(module: nn.Module) -> Iterator[Any]:
    for name, value in vars(module).items():
        if name.endswith("hooks") and isinstance(value, dict):
            yield from value.values()


def _holds_module(hook: Any) -> bool:
    """Whether a hook's closure names a module: a copy's hook would still name the original's."""
    cells = [cell.cell_contents for cell in getattr(hook, "__closure__", None) or () if _is_filled(cell)]
    return any(isinstance(content, nn.Module) for content in cells)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _runs(model: nn.Module, images: Tensor) -> bool:
    """Whether a copy takes an image: a forward pass that casts to half precision itself does not."""
    try:
        with torch.no_grad():
            model(_taken(model.parameters(), images[:1]).clone())
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError):
        return False
    return True
