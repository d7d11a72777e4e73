"""A thousand random small networks with twists: the engine against plain autograd and without shortcuts."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
import reference
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from xface.attribution import attribute, rectifiers
from xface.attribution.shortcuts import Shortcuts
from xface.errors import XFaceError


def doubled(z):
    z.register_hook(lambda g: 2 * g)
    return z


def hooked_node(z):
    z.grad_fn.register_hook(lambda inputs, outputs: tuple(None if g is None else 3 * g for g in inputs))
    return z


def kept(z):
    z.retain_grad()
    return z


def detached_in_place(z):
    return (z * 1).detach_() + z.mean()


def written_into(z):
    return z.mul_(1.3)


def without_gradient(z):
    with torch.no_grad():
        return z * 0.5


TWISTS = {
    "none": lambda z: z,
    "hook": doubled,
    "node hook": hooked_node,
    "retain_grad": kept,
    "detach_": detached_in_place,
    "in place": written_into,
    "half detached": lambda z: torch.cat([z[:, :1].detach(), z[:, 1:]], 1),
    "no_grad": lambda z: z + without_gradient(z),
    "view": lambda z: z.view(z.shape[0], z.shape[1], -1).view(z.shape),
    "flip": lambda z: z.flip(3),
    "rounded": lambda z: z + z.round(),
    "checkpoint": lambda z: checkpoint(torch.tanh, z, use_reentrant=False),
    "reentrant": lambda z: checkpoint(torch.tanh, z, use_reentrant=True),
    "hook later": lambda z: (lambda y: (z.register_hook(lambda g: -g), y)[1])(torch.sin(z)) + z,
}
ACTIVATIONS = {
    "relu": F.relu,
    "in place": lambda z: F.relu_(z * 1),
    "silu": F.silu,
    "leaky": lambda z: F.leaky_relu(z, 0.2),
    "where": lambda z: torch.where(z > 0, z, 0.0),
    "mask": lambda z: z * (z > 0),
    "swish": lambda z: z * torch.sigmoid(z),
    "skip": lambda z: F.relu(z) + 0.3 * z,
    "none": lambda z: z,
}
ON_NORM = ("as it is", "conv without gradient", "twice", "scaled weights", "source overwritten")


class Block(nn.Module):
    def __init__(self, dice: random.Random, channels: int) -> None:
        super().__init__()
        kernel = dice.choice([1, 3, 5, 7])
        groups = dice.choice([1, 1, channels]) if channels == 4 else 1
        self.conv = nn.Conv2d(
            channels, 4, kernel, dice.choice([1, 2]), kernel // 2, groups=groups, bias=dice.random() < 0.5
        )
        self.norm = nn.BatchNorm2d(4, affine=dice.random() < 0.8)
        self.before, self.after = dice.choice([*TWISTS]), dice.choice([*TWISTS])
        self.activation, self.case = dice.choice([*ACTIVATIONS]), dice.choice(ON_NORM)

    def forward(self, x):
        if self.case == "conv without gradient":
            with torch.no_grad():
                z = self.conv(x)
            z = z + self.conv(x)
        elif self.case == "scaled weights":
            z = F.conv2d(x, self.conv.weight * x.mean().detach(), None, self.conv.stride, self.conv.padding,
                         groups=self.conv.groups)  # fmt: skip
        elif self.case == "source overwritten":
            source = x * 1.0
            z = self.conv(source)
            source.add_(1)
        else:
            z = self.conv(x)
        y = self.norm(TWISTS[self.before](z))
        y = y + torch.tanh(z) if self.case == "twice" else y
        return TWISTS[self.after](ACTIVATIONS[self.activation](y))


def network(seed: int) -> nn.Module:
    dice = random.Random(seed)
    torch.manual_seed(seed)
    blocks = [Block(dice, 3 if i == 0 else 4) for i in range(dice.choice([1, 2, 3]))]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
    return model.requires_grad_(dice.random() < 0.5)


def plain_gradient(model, images):
    leaf = images.clone().requires_grad_()
    try:
        model(leaf)[:, 1].sum().backward()  # as a reentrant checkpoint needs
    except RuntimeError:
        return None
    return leaf.grad


HUNDREDS = [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(100, 1000, 100))]


@pytest.mark.parametrize("first", HUNDREDS)
def test_twisted_networks(first, monkeypatch):
    compared = 0
    for seed in range(first, first + 100):
        model = network(seed)
        images = torch.randn(2, 3, 16, 17, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        truth = plain_gradient(model, images)
        try:
            found = attribute(model, images, 1, ["vanilla"])["vanilla", None]
        except XFaceError:
            assert truth is None or not truth.any(), seed
            continue
        if truth is not None and truth.any():
            assert reference.relative_error(found, truth) < 1e-6, seed
            compared += 1
        layers = ["0.norm"]
        try:
            maps = attribute(model, images, 1, None, layers)
        except XFaceError:  # no gradient reaches it, or a twist rearranged its positions
            layers = []
            maps = attribute(model, images, 1, None, layers)
        with monkeypatch.context() as patch, suppress(XFaceError):  # autograd keeps more than a shortcut does
            patch.setattr(rectifiers, "Shortcuts", lambda enabled: Shortcuts(False))
            assert_same(maps, attribute(model, images, 1, None, layers), seed)
    assert compared > 50


def assert_same(maps, plain, seed):
    assert set(maps) == set(plain)
    for key in plain:
        assert maps.rule[key] == plain.rule[key]
        assert torch.allclose(maps[key], plain[key], rtol=1e-5, atol=1e-9), (seed, key)
