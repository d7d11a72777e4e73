"""The list of layers: right shapes in the order of the forward pass, and every one can be explained."""

import pytest
import torch
from networks import HARD, OneModule, Small, built
from torch import nn

from xface.attribution import attribute
from xface.errors import AttributionError
from xface.feature_maps.layers import feature_maps


def listed(model: nn.Module, side: int = 16) -> dict[str, tuple[int, ...]]:
    return {layer.name: layer.shape for layer in feature_maps(model, (side, side))}


def test_shapes_are_those_of_the_convolutions_formula():
    network = nn.Sequential(
        nn.Conv2d(3, 5, 7, stride=2, padding=3), nn.MaxPool2d(3, 2), nn.Conv2d(5, 4, (3, 1)), nn.Flatten()
    )
    assert [(layer.name, layer.kind, layer.shape) for layer in feature_maps(network, (33, 21))] == [
        ("0", "Conv2d", (5, 17, 11)),
        ("1", "MaxPool2d", (5, 8, 5)),
        ("2", "Conv2d", (4, 6, 5)),
    ]


def test_stride_is_how_many_pixels_a_cell_is_high():
    [layer] = feature_maps(nn.Sequential(nn.Conv2d(3, 2, 4, stride=4)), (32, 16))
    assert layer.stride((32, 16)) == 4
    assert layer.cells == 8 * 4


def test_a_rectifier_after_an_oblong_kernel_reads_as_the_convolution_does():
    network = nn.Sequential(
        nn.Conv2d(3, 4, (1, 9)), nn.ReLU(), nn.Conv2d(4, 5, (5, 1), stride=(3, 1)), nn.ReLU()
    )
    shapes = {"0": (4, 16, 8), "1": (4, 16, 8), "2": (5, 4, 8), "3": (5, 4, 8)}
    assert listed(network) == shapes


def test_a_module_that_runs_often_or_never_or_gives_no_map_is_left_out():
    network = OneModule()
    network.unused = nn.Conv2d(3, 3, 1)
    assert list(listed(network)) == ["one", "two", "three", "pool"]


class Pair(nn.Module):
    def forward(self, x):
        return x, x.mean()


def test_a_module_that_gives_several_tensors_is_left_out():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.pair = nn.Conv2d(3, 4, 3), Pair()

        def forward(self, x):
            return self.pair(self.conv(x))[0].mean(dim=(2, 3))

    assert list(listed(Network())) == ["conv"]


@pytest.mark.parametrize("network", [*HARD.values(), lambda: built("resnet18")], ids=[*HARD, "resnet18"])
def test_every_listed_layer_and_no_other_has_a_map_of_that_shape(network):
    """Against the engine: what is listed can be explained at the size listed; what isn't is refused."""
    network = network().float().eval()
    layers, images = listed(network, 32), torch.rand(1, 3, 32, 32)
    maps = attribute(network, images, methods=["layercam"], layers=list(layers))
    assert {name: tuple(maps["layercam", name].shape[1:]) for name in layers} == {
        name: shape[1:] for name, shape in layers.items()
    }
    for name, _ in network.named_modules():
        if name and name not in layers:
            with pytest.raises(AttributionError):
                attribute(network, images, methods=["layercam"], layers=[name])


def test_the_network_is_left_as_it_was():
    network = built("resnet18").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    feature_maps(network, (64, 64))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_hooks_go_also_when_the_network_fails():
    network = Small()
    with pytest.raises(RuntimeError):
        feature_maps(nn.Sequential(network, nn.Linear(7, 7)), (16, 16))
    assert not any(module._forward_hooks for module in network.modules())


def test_a_callers_inference_mode_changes_no_list():
    network = Small()
    outside = listed(network)
    with torch.inference_mode():
        assert listed(network) == outside
