"""The networks written here: one row of facts each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import pytest
import reference
import torch
from networks import lively, outlined, small_freq_attention
from torch import fx, nn

from xface.attribution import attribute
from xface.feature_maps.layers import feature_maps
from xface.networks import ARCHITECTURES
from xface.networks.blueprints import parameter_count
from xface.networks.cbam_resnet import Block
from xface.networks.vgg16_c import Vgg16C

RULES = {"vanilla": "plain", "guided": "guided", "deconvnet": "deconvnet"}


class Facts(NamedTuple):
    """A digest of its weights' names, the parameters of a class, the stages' shapes at its usual size.

    Then a small one of its kind where it's large, the (height, width) that is tried, the layers explained.
    """

    names: str
    parameters: int
    stages: tuple[tuple[int, int, int], ...]
    small: Callable[[], nn.Module] | None
    size: tuple[int, int]
    layers: tuple[str, ...]


def two_blocks() -> nn.Module:
    """The attention ResNet's blocks: the whole one has 370 million parameters."""
    blocks = Block(3, (4, 6, 5), pool=2, norm=True), Block(5, (6, 4, 7), pool=2, norm=False)
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(7 * 4 * 4, 2))


FACTS = {
    "vgg16_c": Facts(
        "85322ef2",
        2048 + 1,
        ((64, 224, 224), (128, 112, 112), (256, 56, 56), (512, 28, 28), (512, 14, 14)),
        lambda: Vgg16C(2, (12, 8)),
        (40, 40),
        ("features.29",),
    ),
    "cbam_resnet": Facts(
        "322e6554",
        147 + 1,
        ((32, 112, 112), (96, 56, 56), (256, 28, 28), (768, 14, 14)),
        two_blocks,
        (16, 16),
        ("0", "1"),
    ),
    "freq_attention": Facts(
        "d9fca1a4",
        2048 + 1,
        ((64, 147, 147), (128, 74, 74), (256, 37, 37), (728, 19, 19), (2048, 10, 10)),
        lambda: small_freq_attention("freq_attention", 2),
        (96, 96),
        ("encoder.act4",),
    ),
    "cozzolino": Facts(
        "fce17985",
        162 + 1,
        ((2, 252, 252), (162, 249, 249)),
        None,
        (20, 27),
        ("residuals", "codes"),
    ),
    "rahmouni": Facts(
        "61a8b9ca",
        1024 + 1,
        ((32, 294, 294), (64, 288, 288), (256, 3, 3)),
        None,
        (100, 100),
        ("relu2", "statistics"),
    ),
    "meso4": Facts(
        "dbd21ddf",
        16 + 1,
        ((8, 256, 256), (8, 128, 128), (16, 64, 64), (16, 32, 32)),
        None,
        (256, 256),
        ("block4.norm",),
    ),
    "mesoinception4": Facts(
        "e5112a65",
        16 + 1,
        ((11, 256, 256), (12, 128, 128), (16, 64, 64), (16, 32, 32)),
        None,
        (256, 256),
        ("block4.norm",),
    ),
    "efficientnet-b0": Facts(
        "a234fbaf",
        1280 + 1,
        ((16, 112, 112), (24, 56, 56), (40, 28, 28), (112, 14, 14), (1280, 7, 7)),
        None,
        (64, 64),
        ("_swish",),
    ),
}
ALONE = [name for name in FACTS if name != "efficientnet-b0"]  # its random weights hardly see the image


def small(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The network in double precision, and noise for it about a flat grey."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = lively(FACTS[name].small() if FACTS[name].small else ARCHITECTURES[name].build(2))
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(2, 3, *FACTS[name].size, generator=generator, dtype=torch.float64)
    return model, 0.5 + (0.02 if name == "cozzolino" else 0.3) * noise


@pytest.mark.parametrize("name", FACTS)
def test_shapes_and_heads(name: str) -> None:
    """Without storage; that parameters are as published is told in test_architectures."""
    size, facts = ARCHITECTURES[name].preprocessing.size, FACTS[name]
    shapes = {layer.name: layer.shape for layer in feature_maps(outlined(name), size)}
    assert tuple(shapes[stage] for stage in ARCHITECTURES[name].stages) == facts.stages
    names = " ".join(outlined(name).state_dict()).encode()
    assert hashlib.sha256(names).hexdigest()[:8] == facts.names  # files that were saved rely on them
    for classes in (1, 2, 5):
        network = outlined(name, classes)
        assert network(torch.empty(3, 3, *size, device="meta")).shape == (3, classes)
        more = parameter_count(network) - parameter_count(outlined(name))
        assert more == (classes - 2) * facts.parameters


@pytest.mark.parametrize("name", ALONE)
def test_images_do_not_mix_and_a_trace_says_the_same(name: str) -> None:
    model, batch = small(name)
    with torch.no_grad():
        both = model(batch)
        assert torch.equal(model(batch), both)
        assert torch.equal(fx.symbolic_trace(model)(batch), both)
        swapped = torch.cat([model(batch[1:]), model(batch[:1])]).flip(0)
    assert both.shape == (2, 2)
    assert reference.relative_error(swapped, both) < 1e-10
    assert (both[0] - both[1]).abs().min() > 1e-9 * both.abs().max()


@pytest.mark.parametrize("name", [name for name in FACTS if name != "freq_attention"])
def test_every_weight_is_trained_and_dropout_acts_in_training_only(name: str) -> None:
    model, batch = small(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one, other = model.train()(batch), model(batch)
    drops = any(isinstance(module, nn.Dropout) for module in model.modules())
    assert torch.equal(one, other) != drops
    other[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["cbam_resnet", "cozzolino", "rahmouni"])
def test_maps_match_the_slow_reference(name: str) -> None:
    """The others are in test_attribution."""
    model, batch = small(name)
    layers, classes = FACTS[name].layers, [0, 1]
    methods = [m for m in RULES if name != "cozzolino" or m == "vanilla"]  # it has no rectifier
    maps = attribute(model, batch, classes, [*methods, "gradcam"], layers)
    truth = reference.input_gradients(model, batch, classes)
    for method in methods:
        assert set(maps.status[method, None]) == {"ok"}
        assert reference.relative_error(maps[method, None], truth[RULES[method]]) < 1e-6
        assert method == "vanilla" or reference.relative_error(maps[method, None], truth["plain"]) > 0.01
    for layer, cams in reference.gradcams(model, batch, classes, layers).items():
        assert cams.max() > 0
        assert reference.relative_error(maps["gradcam", layer], cams) < 1e-6
