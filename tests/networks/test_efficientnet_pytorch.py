"""The EfficientNets whose weights the package efficientnet_pytorch writes, against that package."""

from __future__ import annotations

import pytest
import reference
import torch
from speed import first_quick
from torch import nn

from xface.errors import UnknownNameError
from xface.networks.blueprints import Undrawn
from xface.networks.efficientnet_pytorch import SCALINGS, EfficientNetPytorch

# torchvision's published num_params with 1000 classes: its networks differ by no weight's shape


def packaged(name: str, classes: int) -> nn.Module:
    from efficientnet_pytorch import EfficientNet

    return EfficientNet.from_name(name, num_classes=classes)


def pair(name: str, classes: int = 2) -> tuple[nn.Module, EfficientNetPytorch]:
    """The package's network with lively weights, and ours with its state dict."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        theirs = packaged(name, classes)
        calibrate(theirs)
    ours = EfficientNetPytorch(classes, name)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours.eval()


def calibrate(network: nn.Module) -> None:
    """Weights at which the image's signal neither dies nor explodes, BatchNorm statistics near a batch's."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            module.momentum = 1.0
    nn.init.normal_(network._fc.weight, std=0.1)
    with torch.no_grad():
        network.train()(noise(128, 8))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.01
            module.running_var *= torch.empty_like(module.running_var).uniform_(1.0, 1.2)
    network.eval()


def noise(side: int, count: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """White noise around a colour of each image's own."""
    generator = torch.Generator().manual_seed(6)
    colours = torch.randn(count, 3, 1, 1, generator=generator, dtype=dtype)
    return colours + torch.randn(count, 3, side, side, generator=generator, dtype=dtype)


# Even and odd sides, the network's own and others; at each stride the padding depends on which it is


@pytest.mark.parametrize("name", first_quick(SCALINGS, 3))
def test_keys_shapes_and_constants_are_the_packages(name):
    with torch.device("meta"), Undrawn():
        theirs = packaged(name, 3)
        ours = EfficientNetPytorch(3, name)
    shapes = [[(k, v.shape) for k, v in network.state_dict().items()] for network in (theirs, ours)]
    assert shapes[0] == shapes[1]
    assert ours._dropout.p == theirs._dropout.p
    modules = dict(ours.named_modules())
    for key, module in theirs.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert modules[key].eps == module.eps
            assert modules[key].momentum == pytest.approx(module.momentum)


# Even and odd sides, the network's own and others; at each stride the padding depends on which it is
CASES = [
    *[("efficientnet-b0", side) for side in (96, 113, 224, 225)],
    *[("efficientnet-b2", side) for side in (260, 224, 131)],
    *[(f"efficientnet-b{i}", 97) for i in (1, 3, 4, 5, 6, 7)],
]


@pytest.mark.parametrize(("name", "side"), first_quick(CASES, 2))
def test_logits_are_the_packages(name, side):
    theirs, ours = pair(name, classes=3)
    images = noise(side)
    with torch.no_grad():
        assert (ours(images) - theirs(images)).abs().max() < 1e-5
        truth, found = (network.double()(images.double()) for network in (theirs, ours))
    spread = (truth[0] - truth[1]).abs().max()  # what the images change: the measure of a difference
    assert (found - truth).abs().max() < 1e-9 * spread


@pytest.mark.parametrize("name", first_quick(["efficientnet-b0", "efficientnet-b3"]))
def test_training_is_the_packages(name):
    """One seed, one step: the same branches dropped, the same dropout, the same running statistics."""
    networks = pair(name)
    logits = []
    for network in networks:
        with torch.random.fork_rng():
            torch.manual_seed(8)
            logits.append(network.double().train()(noise(64, 6, torch.float64)).detach())
    theirs, ours = (network.state_dict() for network in networks)
    assert reference.relative_error(logits[1], logits[0]) < 1e-9
    for key in theirs:
        assert torch.allclose(ours[key], theirs[key], rtol=1e-9, atol=1e-9), key


def test_an_unknown_name_is_an_error():
    with pytest.raises(UnknownNameError, match=r"efficientnet-b8.*did you mean"):
        EfficientNetPytorch(2, "efficientnet-b8")
