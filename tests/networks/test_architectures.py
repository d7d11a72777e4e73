"""Every registered network: its parameters as published, its layers; of each kind, a trip through a file."""

from pathlib import Path

import pytest
import torch
from networks import FAMILIES, KINDS, LARGE, lively, marked, outlined
from torch import nn

from xface.detectors import Checkpoint, read_checkpoint
from xface.detectors.checkpoints.state_dicts import COMPANIONS
from xface.detectors.recognition import recognise, restore
from xface.feature_maps.layers import feature_maps
from xface.networks import ARCHITECTURES
from xface.networks.blueprints import Undrawn, parameter_count

COUNTED = {
    "inception_resnet_v2": (1000, 55_843_464),  # timm's table of results: 55.84 million
    "xception": (1000, 22_855_952),  # the same: 22.86 million; Chollet 2017, table 3
    "meso4": (1, 27_977),  # Afchar et al. 2018
    "mesoinception4": (1, 28_615),  # the same
    # 14,710,464 in VGG-16 D's convolutions, less 4/9 in each that became 1x1, and the dense layers
    "vgg16_c": (2, 9_996_096 + (25_088 * 1024 + 1024) + (1024 * 2048 + 2048) + (2048 * 2 + 2)),
    "cbam_resnet": (2, (17_160 + 216_272 + 1_169_088 + 13_801_088)  # convolution branches
    + (182 + 4_146 + 33_842 + 262_194)  # attention branches
    + 2 * (32 + 96 + 256)  # norms
    + (14 * 14 * 768 * 2352 + 2352) + (2352 * 147 + 147) + (147 * 2 + 2)),
    # timm's Xception without its head, decoder, frequency branch, fusion, guidance, head
    "freq_attention": (2, (22_855_952 - 2_049_000) + 496_856 + 1_339_520 + 4 * 6_363_448 + 531_524 + 4_098),
    "cozzolino": (2, 2 * 25 + 162 * (16 + 1) + (162 * 2 + 2)),
    "rahmouni": (2, 32 * (3 * 49 + 1) + 64 * (32 * 49 + 1) + 1024 * (64 * 4 + 1) + 2 * (1024 + 1)),
}  # fmt: skip
"""Classes and parameters, published or counted by hand, where torchvision publishes none."""


def published(name: str) -> tuple[int, int]:
    if name in COUNTED:
        return COUNTED[name]
    from torchvision.models import get_model_weights

    return 1000, get_model_weights(name.replace("-", "_")).DEFAULT.meta["num_params"]


def test_one_of_each_class_of_network_is_tested_quickly() -> None:
    """A network of a new class belongs in `networks.FAMILIES`, and in `LARGE` if it is so large."""
    first: dict[str, str] = {}
    for name in ARCHITECTURES:
        first.setdefault(type(outlined(name)).__name__, name)
    assert tuple(first.values()) == FAMILIES
    many = {name for name in FAMILIES if parameter_count(outlined(name)) > 40e6}
    assert many - {"vgg11"} == LARGE  # its hidden units are left out


@pytest.mark.parametrize("name", marked(ARCHITECTURES))
def test_parameter_counts(name: str) -> None:
    classes, parameters = published(name)
    assert parameter_count(outlined(name, classes)) == parameters


def modules_of(name: str) -> set[type[nn.Module]]:
    return {type(module) for module in outlined(name).modules()}


def test_each_network_is_made_of_the_modules_of_one_that_is_run() -> None:
    """Those of `KINDS` are run; the others differ from one of them in depth and width alone."""
    run = [modules_of(name) for name in KINDS]
    assert [name for name in ARCHITECTURES if modules_of(name) not in run] == []
    assert len({frozenset(modules) for modules in run}) == len(KINDS)


def output_shapes(name: str) -> dict[str, torch.Size]:
    """The shape of what each module gives, in the order of execution; nothing is computed."""
    found: dict[str, torch.Size] = {}
    with torch.device("meta"), Undrawn():
        model = ARCHITECTURES[name].build(2).eval()
        x = torch.zeros(1, 3, *ARCHITECTURES[name].preprocessing.size)
    for key, module in model.named_modules():
        module.register_forward_hook(
            lambda _m, _i, out, key=key: found.update({key: getattr(out, "shape", ())})
        )
    model(x)
    return found


@pytest.mark.parametrize("name", marked(ARCHITECTURES))
def test_stages_are_maps_fine_to_coarse(name: str) -> None:
    """Each stage is the last of its level at its resolution: what follows it there is coarser, or no map."""
    arch, shapes = ARCHITECTURES[name], output_shapes(name)
    assert arch.layer in arch.stages
    assert shapes[""] == (1, 2)
    order = list(shapes)
    sides = [shapes[stage][3] for stage in arch.stages]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] > sides[-1]
    listed = {layer.name: layer.shape for layer in feature_maps(outlined(name), arch.preprocessing.size)}
    for stage, side in zip(arch.stages, sides, strict=True):
        level = stage.rpartition(".")[0]
        later = [key for key in order[order.index(stage) + 1 :] if key.rpartition(".")[0] == level]
        following = [shapes[key][3] for key in later if len(shapes[key]) == 4]
        assert listed[stage] == shapes[stage][1:]
        assert not following or following[0] < side or following[0] in sides


LARGE_FILES = ("vgg11", "vgg16_c", "densenet121", "inception_v3", "efficientnet-b0")


@pytest.mark.parametrize("name", marked(KINDS, without=LARGE_FILES))
def test_saved_network_is_recognised_and_restored(name: str, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        source = lively(ARCHITECTURES[name].build(2), dtype=torch.float32)
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
    with torch.device("meta"), Undrawn():
        state = ARCHITECTURES[name].build(2, **OPTIONS[name]).state_dict()
    assert ARCHITECTURES[name].options({key: tuple(t.shape) for key, t in state.items()}) == OPTIONS[name]
    checkpoint = Checkpoint(Path("a.pth"), state, {}, "", "torch")
    assert recognise(checkpoint) is ARCHITECTURES[name]


@pytest.mark.parametrize("name", marked(ARCHITECTURES))
@pytest.mark.parametrize("classes", [1, 3])
def test_class_count_is_read_from_the_head(name: str, classes: int) -> None:
    state = outlined(name, classes).state_dict()
    head = outlined(name, classes).get_submodule(ARCHITECTURES[name].head)
    assert isinstance(head, nn.Linear | nn.Conv2d)
    assert len(head.weight) == classes
    assert recognise(Checkpoint(Path("a.pth"), state, {}, "", "torch")) is ARCHITECTURES[name]
    assert not [key for key in state if COMPANIONS.match(key)]  # a trainer's entries, which are left out
