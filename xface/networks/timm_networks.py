"""Any network of timm, by its name there: its head, stages and preprocessing as timm describes them.

python -m xface.networks.timm_networks    # writes timm_index.json again, for the timm that is installed
"""

from __future__ import annotations

import re
from functools import cache, partial
from typing import Any

import timm
import torch
from torch import nn

from xface.errors import UnknownNameError, UsageError
from xface.feature_maps.layers import feature_maps
from xface.networks.architectures import TIMM, Architecture
from xface.preprocessing import INTERPOLATIONS, Preprocessing

EMBEDDING = re.compile(r"embed|stem|pos_drop")


@cache
def timm_architecture(name: str) -> Architecture:
    """The architecture `timm/<name>`, for a network that classifies three-channel images.

    Nothing is downloaded: a tag such as `.a1_in1k` names published weights and is taken off.

    Raises:
        UnknownNameError: timm has no such network. UsageError: it has no linear head, or takes no images.

    Example:
        >>> timm_architecture("timm/resnet26").stages
        ('act1', 'layer1', 'layer2', 'layer3', 'layer4')
    """
    short = name.removeprefix(TIMM).partition(".")[0]
    if not timm.is_model(short):
        raise UnknownNameError("timm network", short, timm.list_models())
    build = partial(_build, short)
    with torch.device("meta"):
        network = build(2)
    settings: dict[str, Any] = getattr(network, "pretrained_cfg", {})
    heads = _heads(name, network, settings)
    preprocessing = _preprocessing(name, settings)
    stages = _stages(network, preprocessing.size or (224, 224))
    return Architecture(
        f"{TIMM}{short}", build, _recommended(network, stages), stages, heads[0], preprocessing, heads[1:]
    )


def _build(name: str, num_classes: int) -> nn.Module:
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
    return network


def _heads(name: str, network: nn.Module, settings: dict[str, Any]) -> tuple[str, ...]:
    """The classifiers, the one of the class token first where there is one for distillation too."""
    named = settings.get("classifier") or ()
    heads = (named,) if isinstance(named, str) else tuple(named)
    state = network.state_dict()
    found = tuple(head for head in heads if f"{head}.weight" in state)
    if not found:
        raise UsageError(f"{name} has no linear classifier, so nothing of it can be called real or fake")
    return found


def _preprocessing(name: str, settings: dict[str, Any]) -> Preprocessing:
    """What timm's evaluation transform does with its published weights."""
    channels, height, width = settings.get("input_size", (3, 224, 224))
    if channels != 3:
        raise UsageError(f"{name} takes {channels} channels, not an image")
    part, mode = settings.get("crop_pct") or 1.0, settings.get("interpolation", "bilinear")
    return Preprocessing(
        (height, width),
        max(int(min(height, width) / part), height, width),
        mode if mode in INTERPOLATIONS else "bilinear",
        mean=settings.get("mean", (0.0, 0.0, 0.0)),
        std=settings.get("std", (1.0, 1.0, 1.0)),
    )


def _stages(network: nn.Module, size: tuple[int, int]) -> tuple[str, ...]:
    """The last map at each resolution, fine to coarse, of the features that timm names.

    Where it names none, of the outermost modules: inside of blocks lie attention maps too. There may be none
    at all, where only the embedding of patches, before any layer, is a map.
    """
    tappable = {layer.name: layer for layer in feature_maps(network, size)}
    named = [info["module"] for info in getattr(network, "feature_info", ())]
    features = [tappable[name] for name in named if name in tappable]
    outer = [layer for name, layer in tappable.items() if name.count(".") <= 1 and not EMBEDDING.search(name)]
    last: dict[tuple[int, ...], str] = {}
    for layer in features or outer:
        sides = layer.shape[1:]
        if layer.cells > 1 and all(sides <= earlier for earlier in last):
            last[sides] = layer.name
    return tuple(last.values())


def _recommended(network: nn.Module, stages: tuple[str, ...]) -> str:
    """The last stage; but before its last attention where the class token alone is read out afterwards.

    The other tokens of the last block then have no gradient: Grad-CAM would be zero there.
    """
    block = stages[-1] if stages else ""
    norm = f"{block}.norm1"
    has_class_token = getattr(network, "num_prefix_tokens", 0) > 0
    return norm if has_class_token and norm in dict(network.named_modules()) else block
