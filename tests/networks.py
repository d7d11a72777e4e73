"""Small networks that hold one difficulty each, and the registered architectures with lively weights."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xface.detectors.detector import takes
from xface.networks import ARCHITECTURES
from xface.networks.blueprints import outline, parameter_count

UNRECTIFIED = {"cozzolino"}


@cache
def outlined(name: str) -> nn.Module:
    """A registered network without numbers, made once: modules ask for all of them when collected."""
    return outline(ARCHITECTURES[name])


def families() -> list[str]:
    """The first registered architecture of each class of network."""
    first: dict[str, str] = {}
    for name in ARCHITECTURES:
        first.setdefault(type(outlined(name)).__name__, name)
    return list(first.values())


def is_heavy(name: str) -> bool:
    """Whether a pass takes seconds: over 30 million parameters, or made for over 320 pixels."""
    return parameter_count(outlined(name)) > 30e6 or max(ARCHITECTURES[name].preprocessing.size) > 320


def marked(names: Iterable[str]) -> list[object]:
    """Architectures as parameters of a test, slow ones marked."""
    return [pytest.param(name, marks=[pytest.mark.slow] if is_heavy(name) else []) for name in names]


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


def built(name: str, classes: int = 2, seed: int = 3, dtype: torch.dtype = torch.double) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return lively(ARCHITECTURES[name].build(classes), dtype=dtype)


def images_for(name: str, count: int = 2, dtype: torch.dtype = torch.double) -> torch.Tensor:
    """A batch as small as the architecture takes: from 64 px up to its usual size.

    From 32 px where it has grouped convolutions: torch computes those slowly in double precision.
    """
    generator = torch.Generator().manual_seed(5)
    network = outlined(name)
    least = 32 if any(getattr(module, "groups", 1) > 1 for module in network.modules()) else 64
    sides = (least, 96, 160, ARCHITECTURES[name].preprocessing.size[0])
    side = next(side for side in sides if takes(network, (side, side)))
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
