"""Every registered network: its parameters as published, its layers, and a round trip through a file."""

from pathlib import Path

import pytest
import torch
import torchvision
from networks import marked
from torch import nn

from xface.detectors import Checkpoint, read_checkpoint
from xface.detectors.recognition import recognise, restore
from xface.networks import ARCHITECTURES

TORCHVISION = [name for name in ARCHITECTURES if name in torchvision.models.list_models()]
PUBLISHED = {
    "inception_resnet_v2": (1000, 55_843_464),  # timm's table of results: 55.84 million
    "xception": (1000, 22_855_952),  # the same: 22.86 million; Chollet 2017, table 3
    "meso4": (1, 27_977),  # Afchar et al. 2018
    "mesoinception4": (1, 28_615),  # the same
}
"""Classes and parameters. torchvision publishes its networks' own."""

BY_HAND = {
    # 14,710,464 in VGG-16 D's convolutions, less 4/9 in each that became 1x1, and the dense layers
    "vgg16_c": 9_996_096 + (25_088 * 1024 + 1024) + (1024 * 2048 + 2048) + (2048 * 2 + 2),
    "cbam_resnet": (17_160 + 216_272 + 1_169_088 + 13_801_088)  # convolution branches
    + (182 + 4_146 + 33_842 + 262_194)  # attention branches
    + 2 * (32 + 96 + 256)  # norms
    + (14 * 14 * 768 * 2352 + 2352) + (2352 * 147 + 147) + (147 * 2 + 2),
    # timm's Xception without its head, decoder, frequency branch, fusion, guidance, head
    "freq_attention": (22_855_952 - 2_049_000) + 496_856 + 1_339_520 + 4 * 6_363_448 + 531_524 + 4_098,
    "cozzolino": 2 * 25 + 162 * (16 + 1) + (162 * 2 + 2),
    "rahmouni": 32 * (3 * 49 + 1) + 64 * (32 * 49 + 1) + 1024 * (64 * 4 + 1) + 2 * (1024 + 1),
}  # fmt: skip
"""Parameters with two classes, where none are published."""


def seeded(name: str, num_classes: int = 2) -> nn.Module:
    """A network whose weights and running statistics are all its own, not the defaults 0 and 1."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = ARCHITECTURES[name].build(num_classes).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def parameter_count(name: str, num_classes: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in ARCHITECTURES[name].build(num_classes).parameters())


def output_shapes(name: str) -> dict[str, torch.Size]:
    """The shape of what each module gives, in the order of execution; nothing is computed."""
    found: dict[str, torch.Size] = {}
    with torch.device("meta"):
        model = ARCHITECTURES[name].build(2).eval()
        x = torch.zeros(1, 3, *ARCHITECTURES[name].preprocessing.size)
    for key, module in model.named_modules():
        module.register_forward_hook(
            lambda _m, _i, out, key=key: found.update({key: getattr(out, "shape", ())})
        )
    model(x)
    return found


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameter_count_is_torchvisions(name: str) -> None:
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
    assert parameter_count(name, 1000) == published


def test_resnet18_with_two_classes() -> None:
    assert parameter_count("resnet18", 2) == 11_177_538


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.startswith("efficientnet-")])
def test_parameter_count_of_efficientnet_pytorch_is_torchvisions(name: str) -> None:
    published = torchvision.models.get_model_weights(name.replace("-", "_")).DEFAULT.meta["num_params"]
    assert parameter_count(name, 1000) == published


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name: str) -> None:
    num_classes, published = PUBLISHED[name]
    assert parameter_count(name, num_classes) == published


@pytest.mark.parametrize("name", BY_HAND)
def test_parameter_counts_by_hand(name: str) -> None:
    assert parameter_count(name, 2) == BY_HAND[name]


def test_every_parameter_count_is_held_against_another() -> None:
    others = {name for name in ARCHITECTURES if name.startswith("efficientnet-")}
    assert {*TORCHVISION, *others, *PUBLISHED, *BY_HAND} == set(ARCHITECTURES)


def test_meso4_parameters_by_hand() -> None:
    convolutions = sum(k * k * i * o + o for k, i, o in [(3, 3, 8), (5, 8, 8), (5, 8, 16), (5, 16, 16)])
    norms = 2 * (8 + 8 + 16 + 16)
    dense = (1024 * 16 + 16) + (16 * 1 + 1)
    assert parameter_count("meso4", 1) == convolutions + norms + dense


def test_meso4_against_plain_arithmetic() -> None:
    """Convolution, ReLU, then norm, in the paper's order, with the functional interface."""
    model = seeded("meso4", 1)
    p = model.state_dict()
    x = y = torch.rand(2, 3, 256, 256)
    for block, pool in enumerate((2, 2, 2, 4), 1):
        at = f"block{block}"
        kernel = p[f"{at}.conv.weight"]
        y = torch.conv2d(y, kernel, p[f"{at}.conv.bias"], padding=kernel.shape[-1] // 2).clamp(min=0)
        mean, variance = (p[f"{at}.norm.running_{s}"][:, None, None] for s in ("mean", "var"))
        y = (y - mean) / (variance + 1e-3).sqrt()
        y = y * p[f"{at}.norm.weight"][:, None, None] + p[f"{at}.norm.bias"][:, None, None]
        y = y.unfold(2, pool, pool).unfold(3, pool, pool).amax((-1, -2))
    y = y.reshape(2, 1024) @ p["dense.hidden.weight"].T + p["dense.hidden.bias"]
    y = torch.where(y > 0, y, 0.1 * y) @ p["dense.head.weight"].T + p["dense.head.bias"]
    torch.testing.assert_close(model(x), y)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stages_are_maps_fine_to_coarse(name: str) -> None:
    """Each stage is the last of its level at its resolution: what follows it there is coarser, or no map."""
    arch, shapes = ARCHITECTURES[name], output_shapes(name)
    assert arch.layer in arch.stages
    assert shapes[""] == (1, 2)
    order = list(shapes)
    sides = [shapes[stage][3] for stage in arch.stages]
    assert sides == sorted(sides, reverse=True)
    for stage, side in zip(arch.stages, sides, strict=True):
        level = stage.rpartition(".")[0]
        later = [key for key in order[order.index(stage) + 1 :] if key.rpartition(".")[0] == level]
        following = [shapes[key][3] for key in later if len(shapes[key]) == 4]
        assert len(shapes[stage]) == 4
        assert not following or following[0] < side or following[0] in sides


@pytest.mark.parametrize("name", marked(ARCHITECTURES))
def test_saved_network_is_recognised_and_restored(name: str, tmp_path: Path) -> None:
    source = seeded(name)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    found = restore(read_checkpoint(tmp_path / "weights.pth"))
    (tmp_path / "weights.pth").unlink()  # half a gigabyte for VGG
    assert found.arch is ARCHITECTURES[name]
    assert not found.model.training
    assert found.unused == ()
    height, width = found.arch.preprocessing.size
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(found.model(x), source(x))
    for key, tensor in source.state_dict().items():
        assert torch.equal(tensor, found.model.state_dict()[key]), key


OPTIONS = {
    "vgg16_c": {"widths": (12, 34)},
    "cbam_resnet": {"depth": 8, "attention": False},
    "inception_v3": {"aux_logits": False},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_read_off_the_weights(name: str) -> None:
    with torch.device("meta"):
        state = ARCHITECTURES[name].build(2, **OPTIONS[name]).state_dict()
    assert ARCHITECTURES[name].options({key: tuple(t.shape) for key, t in state.items()}) == OPTIONS[name]
    checkpoint = Checkpoint(Path("a.pth"), state, {}, "", "torch")
    assert recognise(checkpoint) is ARCHITECTURES[name]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("num_classes", [1, 3])
def test_class_count_is_read_from_the_head(name: str, num_classes: int) -> None:
    with torch.device("meta"):
        model = ARCHITECTURES[name].build(num_classes)
    head = model.get_submodule(ARCHITECTURES[name].head)
    assert isinstance(head, nn.Linear | nn.Conv2d)
    assert len(head.weight) == num_classes
    checkpoint = Checkpoint(Path("a.pth"), model.state_dict(), {}, "", "torch")
    assert recognise(checkpoint) is ARCHITECTURES[name]
