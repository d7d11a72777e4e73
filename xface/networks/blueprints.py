"""Options of an architecture, checked before anything is built in earnest."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from xface.errors import UnknownNameError, UsageError
from xface.networks.architectures import Architecture
from xface.preprocessing import Preprocessing


def checked_options(arch: Architecture, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as `arch.build` takes them, lists as tuples.

    Raises:
        UnknownNameError: it has no such option. UsageError: it cannot be built with these.

    Example:
        >>> from xface.networks import architecture
        >>> checked_options(architecture("cbam_resnet"), {"depht": 8})
        Traceback (most recent call last):
        xface.errors.UnknownNameError: unknown option of cbam_resnet 'depht'; did you mean 'depth'?
    """
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    if not given:
        return given
    try:
        with torch.device("meta"):
            arch.build(2, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        if unknown := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
            raise UnknownNameError(f"option of {arch.name}", unknown[1], _names(arch)) from error
        raise UsageError(f"{arch.name} cannot be built with options {given}: {error}") from error
    return given


def _names(arch: Architecture) -> list[str]:
    with torch.device("meta"):
        kind = type(arch.build(2))
    known = inspect.signature(kind).parameters.values()
    return [each.name for each in known if each.default is not each.empty and each.name != "num_classes"]


USUAL_SIZE = (224, 224)

INITIALISERS = {
    "constant_", "fill_", "kaiming_uniform_", "normal_", "uniform_", "zero_",  # what draws the numbers
    "add_", "clamp_", "erfinv_", "mul_",  # what nn.init.trunc_normal_ does with them
}  # fmt: skip


class Undrawn(TorchFunctionMode):
    """Leaves out the drawing of initial weights: without storage it takes time and does nothing."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in INITIALISERS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def on_meta(arch: Architecture) -> nn.Module:
    """The network with two classes on the meta device: all of its shapes, none of its numbers.

    Example:
        >>> from xface.networks import architecture
        >>> parameter_count(on_meta(architecture("resnet18")))
        11177538
    """
    with torch.device("meta"), Undrawn():
        return arch.build(2).eval()


def parameter_count(model: nn.Module) -> int:
    """The numbers in all of a network's parameters; what two modules share counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def usual_size(preprocessing: Preprocessing, arch: Architecture) -> tuple[int, int]:
    """The input's (height, width): as prepared, else as `arch` usually has it, else 224 by 224 pixels.

    Example:
        >>> from xface.preprocessing import PRESETS
        >>> from xface.networks import architecture
        >>> usual_size(PRESETS["none"], architecture("meso4"))
        (256, 256)
    """
    return preprocessing.size or arch.preprocessing.size or USUAL_SIZE
