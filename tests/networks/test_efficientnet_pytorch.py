"""The EfficientNets whose weights the package efficientnet_pytorch writes, against that package."""

from __future__ import annotations

import efficientnet_pytorch
import pytest
import reference
import torch
from networks import lively
from torch import fx, nn

from xface.attribution import CORE_METHODS, attribute
from xface.errors import UnknownNameError
from xface.networks import ARCHITECTURES
from xface.networks.efficientnet_pytorch import SCALINGS, EfficientNetPytorch

# torchvision's published num_params with 1000 classes: its networks differ by no weight's shape
PARAMETERS = {
    "efficientnet-b0": 5_288_548,
    "efficientnet-b1": 7_794_184,
    "efficientnet-b2": 9_109_994,
    "efficientnet-b3": 12_233_232,
    "efficientnet-b4": 19_341_616,
    "efficientnet-b5": 30_389_784,
    "efficientnet-b6": 43_040_704,
    "efficientnet-b7": 66_347_960,
}
B0_STAGES = ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.10", "_swish")
EXACT = 1e-6  # relative to the largest value; maps are float32 roundings of a float64 run


def pair(name: str, classes: int = 2) -> tuple[nn.Module, EfficientNetPytorch]:
    """The package's network with lively weights, and ours with its state dict."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        theirs = efficientnet_pytorch.EfficientNet.from_name(name, num_classes=classes)
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


@pytest.mark.parametrize("classes", [1, 2, 1000])
@pytest.mark.parametrize("name", SCALINGS)
def test_keys_and_shapes_are_the_packages(name, classes):
    with torch.device("meta"):
        theirs = efficientnet_pytorch.EfficientNet.from_name(name, num_classes=classes)
        ours = EfficientNetPytorch(classes, name)
    shapes = [{k: v.shape for k, v in network.state_dict().items()} for network in (theirs, ours)]
    assert shapes[0] == shapes[1]
    assert list(shapes[0]) == list(shapes[1])


@pytest.mark.parametrize("name", SCALINGS)
def test_constants_are_the_packages(name):
    """What no state dict holds."""
    with torch.device("meta"):
        theirs, ours = efficientnet_pytorch.EfficientNet.from_name(name), EfficientNetPytorch(1000, name)
    assert ours._dropout.p == theirs._dropout.p
    modules = dict(ours.named_modules())
    for key, module in theirs.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert modules[key].eps == module.eps
            assert modules[key].momentum == pytest.approx(module.momentum)


@pytest.mark.parametrize("name", SCALINGS)
def test_parameter_count_is_the_published_one(name):
    with torch.device("meta"):
        network = EfficientNetPytorch(1000, name)
    assert sum(weight.numel() for weight in network.parameters()) == PARAMETERS[name]


# Even and odd sides, the network's own and others; at each stride the padding depends on which it is
CASES = [
    *[("efficientnet-b0", side) for side in (224, 225, 96, 113)],
    *[("efficientnet-b2", side) for side in (260, 224, 131)],
    ("efficientnet-b1", 240),
    *[(f"efficientnet-b{i}", 97) for i in (1, 3, 4, 5, 6, 7)],
]


@pytest.mark.parametrize(("name", "side"), CASES)
def test_logits_are_the_packages(name, side):
    theirs, ours = pair(name, classes=3)
    images = noise(side)
    with torch.no_grad():
        assert (ours(images) - theirs(images)).abs().max() < 1e-5
        truth, found = (network.double()(images.double()) for network in (theirs, ours))
    spread = (truth[0] - truth[1]).abs().max()  # what the images change: the measure of a difference
    assert (found - truth).abs().max() < 1e-9 * spread


@pytest.mark.parametrize("classes", [1, 5])
def test_heads_of_one_and_many_logits(classes):
    theirs, ours = pair("efficientnet-b0", classes)
    with torch.no_grad():
        assert ours(noise(64)).shape == (2, classes)
        assert torch.allclose(ours(noise(64)), theirs(noise(64)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b3"])
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


def test_branches_drop_more_often_the_deeper():
    """Where a branch is dropped, the block's output equals its input."""
    _, ours = pair("efficientnet-b0")
    ours.train()
    rates = {i: block.drop_rate for i, block in enumerate(ours._blocks) if block.skips}
    assert rates == pytest.approx({i: 0.2 * i / 16 for i in (2, 4, 6, 7, 9, 10, 12, 13, 14)})
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        maps = torch.randn(4000, 192, 1, 1)
        unchanged = (ours._blocks[14](maps) == maps).flatten(1).all(1)
    assert float(unchanged.float().mean()) == pytest.approx(0.2 * 14 / 16, abs=0.02)  # 3.3 standard errors


def test_the_trace_computes_the_same():
    _, ours = pair("efficientnet-b2")
    with torch.no_grad():
        assert torch.equal(fx.symbolic_trace(ours)(noise(64)), ours(noise(64)))


def test_core_methods_are_ok_and_differ():
    torch.manual_seed(0)
    maps = attribute(EfficientNetPytorch().eval(), noise(64), layers=["_swish"])
    assert {method for method, _ in maps} == set(CORE_METHODS)
    for key in maps:
        assert maps.status[key] == ["ok", "ok"], key
    for one, other in (("guided", "vanilla"), ("deconvnet", "vanilla"), ("guided", "deconvnet")):
        assert reference.relative_error(maps[one, None], maps[other, None]) > 0.01


def test_maps_match_the_reference():
    model, images = lively(pair("efficientnet-b0")[1]), noise(64, dtype=torch.float64)
    maps = attribute(model, images, targets=[0, 1], layers=B0_STAGES)
    backprop = reference.input_gradients(model, images, [0, 1])
    for method, rule in {"vanilla": "plain", "guided": "guided", "deconvnet": "deconvnet"}.items():
        assert reference.relative_error(maps[method, None], backprop[rule]) < EXACT, method
    for layer, truth in reference.gradcams(model, images, [0, 1], B0_STAGES).items():
        assert reference.relative_error(maps["gradcam", layer], truth) < EXACT, layer


@pytest.mark.parametrize("name", [name for name in SCALINGS if name in ARCHITECTURES])
def test_registered_stages_are_the_last_maps_at_each_resolution(name):
    sides: dict[str, int] = {}
    with torch.device("meta"):
        network = ARCHITECTURES[name].build(2).eval()
        for i, block in enumerate(network._blocks):
            block.register_forward_hook(
                lambda module, _, output, i=i: sides.update({f"_blocks.{i}": output.shape[-1]})
            )
        network(torch.empty(1, 3, *[SCALINGS[name].size] * 2))
    last = {side: block for block, side in sides.items()}
    assert ARCHITECTURES[name].stages == (*list(last.values())[:-1], "_swish")
    assert ARCHITECTURES[name].layer == "_swish"


def test_an_unknown_name_is_an_error():
    with pytest.raises(UnknownNameError, match=r"efficientnet-b8.*did you mean"):
        EfficientNetPytorch(2, "efficientnet-b8")
