"""Small networks that hold one difficulty each, and the registered architectures with lively weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xface.detectors.detector import takes
from xface.networks import ARCHITECTURES
from xface.networks.blueprints import Undrawn
from xface.networks.freq_attention import FrequencyBranch

UNRECTIFIED = {"cozzolino"}

FAMILIES = (
    "resnet18", "vgg11", "vgg16_c", "densenet121", "efficientnet_b0", "efficientnet-b0", "squeezenet1_0",
    "inception_v3", "inception_resnet_v2", "xception", "meso4", "mesoinception4", "cbam_resnet",
    "freq_attention", "cozzolino", "rahmouni",
)  # fmt: skip
"""The first registered architecture of each class of network, named so that collecting tests builds none."""

KINDS = (*FAMILIES, "resnet50", "vgg11_bn")
"""One registered architecture of each set of modules that networks are made of (`test_architectures`)."""

LARGE = {"inception_resnet_v2", "cbam_resnet", "freq_attention"}
"""Those of which a pass takes seconds."""

QUICK = tuple(name for name in FAMILIES if name not in LARGE)


def marked(names: Iterable[str], without: Iterable[str] = ()) -> list[object]:
    """Architectures as parameters of a test: one of each family is quick, large and further ones are slow."""
    quick = set(QUICK) - {*without}
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in names]


@cache
def outlined(name: str, classes: int = 2) -> nn.Module:
    """A registered network without numbers, made once."""
    with torch.device("meta"), Undrawn():
        return ARCHITECTURES[name].build(classes).eval()


def lively(model: nn.Module, seed: int = 0, dtype: torch.dtype = torch.double) -> nn.Module:
    """Random batch-norm statistics and affine parts, in double: no term of the gradient is trivial."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.7, 1.3),
                (module.bias.data, -0.2, 0.2),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return model.to(dtype).eval()


def narrow_vgg(name: str, classes: int) -> nn.Module:
    """A VGG with few hidden units: the published ones are nine tenths of its numbers."""
    model = copy.deepcopy(outlined(name))
    for index, sizes in {0: (25_088, 12), 3: (12, 8), 6: (8, classes)}.items():
        model.classifier[index] = nn.Linear(*sizes)
    return drawn(model)


def drawn(model: nn.Module) -> nn.Module:
    """A network of the meta device with numbers."""
    model = model.to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model


def narrow_cbam_resnet(name: str, classes: int) -> nn.Module:
    """The attention ResNet with few hidden units: 363 of its 370 million numbers are of the first layer."""
    model = copy.deepcopy(outlined(name))
    dense, units = model.dense, (64, 32, classes)
    for layer, inputs, outputs in zip(
        ("hidden1", "hidden2", "head"), (dense.hidden1.in_features, *units), units, strict=False
    ):
        setattr(dense, layer, nn.Linear(inputs, outputs))
    return drawn(model)


def small_freq_attention(name: str, classes: int) -> nn.Module:
    """The frequency attention network for images of 96 px: its filter alone knows their size."""
    model = ARCHITECTURES[name].build(classes)
    model.frequency = FrequencyBranch(728, (6, 6))
    return model


BUILD = {"cbam_resnet": narrow_cbam_resnet, "freq_attention": small_freq_attention}
SIDES = {"freq_attention": 96}
"""The sides of images for networks that are built for others than usual."""


def built(name: str, classes: int = 2, seed: int = 3, dtype: torch.dtype = torch.double) -> nn.Module:
    build = narrow_vgg if name.startswith("vgg") else BUILD.get(name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(name, classes) if build else ARCHITECTURES[name].build(classes)
        return lively(model, dtype=dtype)


def images_for(name: str, count: int = 2, dtype: torch.dtype = torch.double) -> torch.Tensor:
    """A batch as small as the architecture takes: from 64 px up to its usual size.

    From 32 px where it has grouped convolutions: torch computes those slowly in double precision.
    """
    generator = torch.Generator().manual_seed(5)
    network = outlined(name)
    least = 32 if any(getattr(module, "groups", 1) > 1 for module in network.modules()) else 64
    sides = (least, 96, 160, ARCHITECTURES[name].preprocessing.size[0])
    side = SIDES.get(name) or next(side for side in sides if takes(network, (side, side)))
    return torch.rand(count, 3, side, side, generator=generator, dtype=dtype) - 0.3


class Small(nn.Module):
    """Two convolutions and a head; `activation` is called functionally between them."""

    def __init__(self, activation=F.relu, classes: int = 2) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.pool, self.head = nn.AdaptiveAvgPool2d(2), nn.Linear(32, classes)
        self.activation = activation

    def forward(self, x):
        x = self.activation(self.one(x))
        x = self.activation(self.two(x))
        return self.head(torch.flatten(self.pool(x), 1))


class SkipFromRectified(Small):
    """One rectified tensor feeds both a further ReLU and a skip path around it."""

    def forward(self, x):
        x = F.relu(self.one(x))
        y = F.relu(x - 0.1) + 0.5 * x
        y = F.relu(self.two(y))
        return self.head(torch.flatten(self.pool(y), 1))


class PreActivation(Small):
    """The tensor that goes into a ReLU also goes around it, unrectified."""

    def forward(self, x):
        z = self.one(x)
        y = F.relu(z) - 0.7 * z
        y = F.relu(self.two(y))
        return self.head(torch.flatten(self.pool(y), 1))


class OneModule(Small):
    """One ReLU module, used four times."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.relu, self.three = nn.ReLU(inplace=inplace), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.relu(self.one(x) + 0.05)
        x = self.relu(self.two(x) + 0.05)
        x = self.relu(self.three(x) + x)
        return self.head(self.relu(torch.flatten(self.pool(x), 1) - 0.01))


class InPlace(Small):
    """In-place calls of every spelling; each writes into a tensor that is used again, or into a view."""

    def forward(self, x):
        z = self.one(x)
        torch.relu_(z)
        z = z * 1.1
        half = z[:, :3]
        half.sub_(0.05).relu_()
        z = self.two(z)
        z += 0.1 * z.mean(dim=(1, 2, 3), keepdim=True)
        F.relu(z, inplace=True)
        return self.head(torch.flatten(self.pool(z), 1))


class OutOfPlace(InPlace):
    """What InPlace computes, with no call in place."""

    def forward(self, x):
        z = F.relu(self.one(x)) * 1.1
        z = torch.cat([F.relu(z[:, :3] - 0.05), z[:, 3:]], dim=1)
        z = self.two(z)
        z = F.relu(z + 0.1 * z.mean(dim=(1, 2, 3), keepdim=True))
        return self.head(torch.flatten(self.pool(z), 1))


HARD = {
    "skip from a rectified tensor": SkipFromRectified,
    "skip around a rectifier": PreActivation,
    "one module, many times": OneModule,
    "one module, in place": lambda: OneModule(inplace=True),
    "one-logit head": lambda: Small(classes=1),
    "Tensor.relu": lambda: Small(lambda x: x.relu()),
    "torch.relu": lambda: Small(torch.relu),
    "silu": lambda: Small(F.silu),
    "leaky_relu": lambda: Small(lambda x: F.leaky_relu(x, 0.1)),
    "gelu": lambda: Small(F.gelu),
    "hardswish": lambda: Small(F.hardswish),
    "elu": lambda: Small(F.elu),
}
