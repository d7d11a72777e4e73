"""Architectures: what an entry of the zoo says of a network, and the registry of entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from xface.preprocessing import PRESETS, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn


Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
Build: TypeAlias = "Callable[..., nn.Module]"
Losses: TypeAlias = "Callable[[nn.Module, Tensor, Tensor, int], tuple[Tensor, Tensor]]"
"""From a network in training mode, images (N, 3, H, W), labels (N,) and the index of the class of real faces
to the logits (N, classes) and what is added to their loss."""


def _none(shapes: Shapes) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Architecture:
    """One network: how to build it with random weights, and which of its modules have which role.

    `build(num_classes, **options)` makes it; `options(shapes)` reads its options off the shapes of a state
    dict. `layer` is the recommended layer for Grad-CAM, one of `stages` (the last maps at each resolution,
    fine to coarse); `head` is the last linear layer, whose rows are the classes, `aux_heads` are others that
    serve in training only; all of them are names as in `named_modules()`. `preprocessing` is assumed where no
    card says otherwise. `renames` are (pattern, replacement) for the names in other people's files, `unused`
    is the pattern of weights that lie in some of them and take no part. `losses` are those that a network is
    trained with besides that of its logits.

    Example:
        >>> from xface.networks.zoo import ARCHITECTURES
        >>> ARCHITECTURES["resnet18"].layer
        'layer4'
    """

    name: str
    build: Build
    layer: str
    stages: tuple[str, ...]
    head: str
    preprocessing: Preprocessing = PRESETS["imagenet"]
    aux_heads: tuple[str, ...] = ()
    options: Callable[[Shapes], dict[str, Any]] = _none
    renames: tuple[tuple[str, str], ...] = ()
    unused: str = ""
    losses: Losses | None = None


TIMM = "timm/"
