"""The networks that xface can build, one entry each; to add one, add it here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xface.registry import Registry

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """One network: how to build it with random weights, and which of its modules have which role.

    `layer` is the recommended layer for Grad-CAM, one of `stages` (the last maps at each resolution, fine to
    coarse); `head` is the last linear layer, whose rows are the classes; `preprocessing` names the preset
    that is assumed where no card says otherwise. All of them are names as in `named_modules()`.

    Example:
        >>> ARCHITECTURES["resnet18"].layer
        'layer4'
    """

    name: str
    build: Callable[[int], nn.Module]
    layer: str
    stages: tuple[str, ...]
    head: str
    preprocessing: str = "imagenet"


ARCHITECTURES: Registry[Architecture] = Registry("architecture")


def _add(
    name: str, build: Callable[[int], nn.Module], stages: str, head: str, preprocessing: str = "imagenet"
) -> None:
    """Register a network whose recommended layer is its last stage."""
    *_, last = names = tuple(stages.split())
    ARCHITECTURES.add(name, Architecture(name, build, last, names, head, preprocessing))


def _torchvision(name: str) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        from torchvision.models import get_model

        model: nn.Module = get_model(name, weights=None, num_classes=num_classes)
        return model

    return build


def _meso4(num_classes: int) -> nn.Module:
    from xface.models.meso import Meso4

    return Meso4(num_classes)


for _name in ("resnet18", "resnet34", "resnet50"):
    _add(_name, _torchvision(_name), "layer1 layer2 layer3 layer4", "fc")

# VGG: the ReLU before each max pooling
for _name, _relus in {
    "vgg11_bn": (2, 6, 13, 20, 27),
    "vgg16": (3, 8, 15, 22, 29),
    "vgg16_bn": (5, 12, 22, 32, 42),
}.items():
    _add(_name, _torchvision(_name), " ".join(f"features.{i}" for i in _relus), "classifier.6")

_add(
    "densenet121",
    _torchvision("densenet121"),
    "features.denseblock1 features.denseblock2 features.denseblock3 features.norm5",
    "classifier",
)
_add(
    "efficientnet_b0",
    _torchvision("efficientnet_b0"),
    "features.1 features.2 features.3 features.5 features.8",
    "classifier.1",
)
_add("meso4", _meso4, "block1.norm block2.norm block3.norm block4.norm", "dense.head", "meso")
