"""Every registered network: its parameters as published, its layers, and a round trip through a file."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from xface.models import ARCHITECTURES, PRESETS, read_checkpoint
from xface.models.recognition import restore

TORCHVISION = [name for name in ARCHITECTURES if name != "meso4"]


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
        x = torch.zeros(1, 3, *PRESETS[ARCHITECTURES[name].preprocessing].size)
    for key, module in model.named_modules():
        module.register_forward_hook(lambda _m, _i, out, key=key: found.update({key: out.shape}))
    model(x)
    return found


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameter_count_is_torchvisions(name: str) -> None:
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
    assert parameter_count(name, 1000) == published


def test_published_parameter_counts() -> None:
    assert parameter_count("resnet18", 2) == 11_177_538
    assert parameter_count("meso4", 1) == 27_977  # Afchar et al. 2018


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
def test_stages_are_the_last_maps_at_each_resolution(name: str) -> None:
    """What comes next on the same level, a pooling or a block, gives a coarser map or none."""
    arch, shapes = ARCHITECTURES[name], output_shapes(name)
    assert arch.layer in arch.stages
    assert shapes[""] == (1, 2)
    order = list(shapes)
    for stage in arch.stages:
        level = stage.rpartition(".")[0]
        later = [key for key in order[order.index(stage) + 1 :] if key.rpartition(".")[0] == level]
        following = shapes[later[0]][3:] if later else ()
        assert len(shapes[stage]) == 4
        assert not following or following[0] < shapes[stage][3]
    sides = [shapes[stage][3] for stage in arch.stages]
    assert sides == sorted(set(sides), reverse=True)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_saved_network_is_recognised_and_restored(name: str, tmp_path: Path) -> None:
    source = seeded(name)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    arch, model = restore(read_checkpoint(tmp_path / "weights.pth"))
    (tmp_path / "weights.pth").unlink()  # half a gigabyte for VGG
    assert arch is ARCHITECTURES[name]
    assert not model.training
    height, width = PRESETS[arch.preprocessing].size
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model(x), source(x))
    for key, tensor in source.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("num_classes", [1, 3])
def test_class_count_is_read_from_the_head(name: str, num_classes: int) -> None:
    with torch.device("meta"):
        model = ARCHITECTURES[name].build(num_classes)
    head = model.get_submodule(ARCHITECTURES[name].head)
    assert isinstance(head, nn.Linear)
    assert head.out_features == num_classes
    assert next(reversed([m for m in model.modules() if isinstance(m, nn.Linear)])) is head
