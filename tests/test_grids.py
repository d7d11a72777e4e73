"""Layers without a plain (N, K, h, w) output: token grids and channels last, read right or refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import reference
import timm
import torch
import torch.nn.functional as F
from test_methods import SLOW_CAMS
from torch import nn

from xface.attribution import METHODS, attribute
from xface.errors import AttributionError
from xface.grids import grid_of
from xface.models import feature_maps

EXACT = 1e-6
LAYERED = [name for name, entry in METHODS.items() if entry.layered]
SIZE = (64, 96)  # oblong, so that no transposed map passes

VIT = {"img_size": SIZE, "embed_dim": 24, "num_heads": 3, "depth": 2}
SWIN = {"img_size": SIZE, "window_size": 4, "embed_dim": 12, "num_heads": (2, 3), "depths": (1, 2)}
NETWORKS = {
    "vit": ("vit_tiny_patch16_224", VIT),
    "distilled": ("deit_tiny_distilled_patch16_224", VIT),
    "registers": ("vit_small_patch14_reg4_dinov2", {**VIT, "patch_size": 16}),
    "no class token": ("vit_tiny_patch16_224", {**VIT, "class_token": False, "global_pool": "avg"}),
    "swin": ("swin_tiny_patch4_window7_224", SWIN),
    "convnext": ("convnext_atto", {"conv_mlp": False, "depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20)}),
}
PREFIX = {"vit": 1, "distilled": 2, "registers": 5, "no class token": 0}


def network(name: str) -> nn.Module:
    torch.manual_seed(11)
    arch, options = NETWORKS[name]
    model = timm.create_model(arch, pretrained=False, num_classes=2, **options)
    for parameter in model.parameters():  # else layer scales near 0 and biases of 0 hide their terms
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


def images(count: int = 2, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.randn(count, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def by_hand(tensor: torch.Tensor, grid: tuple[int, int], prefix: int | None) -> torch.Tensor:
    """One image's output (K, h, w), number by number: from tokens after a prefix, or from channels last."""
    height, width = grid
    found = torch.zeros(tensor.shape[-1], height, width, dtype=tensor.dtype)
    for i in range(height):
        for j in range(width):
            found[:, i, j] = tensor[i, j] if prefix is None else tensor[prefix + i * width + j]
    return found


def slow_cams(model, layer, grid, prefix, method):
    passes = [reference.layer_passes(model, image[None], cls, [layer])[layer]
              for image, cls in zip(images(), (0, 1), strict=True)]  # fmt: skip
    return torch.stack(
        [SLOW_CAMS[method](*(by_hand(t[0].detach(), grid, prefix) for t in each)) for each in passes]
    )


@pytest.mark.parametrize("name", PREFIX)
@pytest.mark.parametrize("method", SLOW_CAMS)
def test_token_grids_match_the_formulas(name, method):
    model = network(name)
    layers = ["blocks.0", "blocks.1.norm1", "blocks.0.attn.qkv"]
    maps = attribute(model, images(), [0, 1], [method], layers)
    for layer in layers:
        truth = slow_cams(model, layer, (4, 6), PREFIX[name], method)
        assert truth.max() > 0
        assert reference.relative_error(maps[method, layer], truth) < EXACT, layer


def test_the_patches_alone_have_no_prefix():
    """`patch_embed` gives its tokens before the class token and the registers are put in front."""
    model = network("registers")
    found = attribute(model, images(), [0, 1], ["gradcam"], ["patch_embed"])["gradcam", "patch_embed"]
    truth = slow_cams(model, "patch_embed", (4, 6), 0, "gradcam")
    assert truth.max() > 0
    assert reference.relative_error(found, truth) < EXACT


CHANNELS_LAST = {
    "swin": {"layers.0": (16, 24), "layers.1.blocks.0.norm1": (8, 12), "layers.1": (8, 12), "norm": (8, 12)},
    "convnext": {"stages.0.blocks.0.norm": (16, 24), "stages.1.blocks.0.mlp.act": (8, 12)},
}


@pytest.mark.parametrize("name", CHANNELS_LAST)
@pytest.mark.parametrize("method", SLOW_CAMS)
def test_channels_last_match_the_formulas(name, method):
    model, layers = network(name), CHANNELS_LAST[name]
    maps = attribute(model, images(), [0, 1], [method], list(layers))
    for layer, grid in layers.items():
        truth = slow_cams(model, layer, grid, None, method)
        assert truth.max() > 0
        assert reference.relative_error(maps[method, layer], truth) < EXACT, layer


class Same(nn.Module):
    """An elementwise module: nothing but the shape of its output tells how that lies."""

    def forward(self, x):
        return x.clone()


class Planted(nn.Module):
    """One map in three layouts, one after the other."""

    def __init__(self, grid: tuple[int, int] = (5, 7)) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 2)
        self.first, self.last, self.tokens = Same(), Same(), Same()
        self.patch_embed, self.num_prefix_tokens = SimpleNamespace(grid_size=grid), 3

    def forward(self, x):
        x = self.first(F.relu(self.conv(x)))
        x = self.last(x.permute(0, 2, 3, 1)).flatten(1, 2)
        x = self.tokens(torch.cat([x.new_ones(len(x), 3, 6), x], dim=1))[:, 3:]
        place = torch.linspace(0.1, 1, x.shape[1], dtype=x.dtype, device=x.device)[:, None]
        return self.head((x.square() * place).sum(dim=1))


@pytest.mark.parametrize("method", LAYERED)
@pytest.mark.parametrize("layer", ["last", "tokens"])
def test_a_map_is_the_same_however_it_lies(method, layer):
    torch.manual_seed(0)
    maps = attribute(Planted().double(), images(size=(20, 28)), [0, 1], [method], ["first", layer])
    first, other = (maps[method, at] for at in ("first", layer))
    assert all(cam.abs().max() > 0 for cam in first)
    assert reference.relative_error(other, first) < EXACT


def test_a_network_around_another_reads_its_grid():
    torch.manual_seed(0)
    inner = Planted().double()
    outer = nn.Sequential(nn.Identity(), inner)
    found = attribute(outer, images(size=(20, 28)), 0, ["gradcam"], ["1.tokens"])["gradcam", "1.tokens"]
    truth = attribute(inner, images(size=(20, 28)), 0, ["gradcam"], ["tokens"])["gradcam", "tokens"]
    assert torch.equal(found, truth)


def test_the_grid_is_that_of_the_image_where_the_network_takes_any_size():
    """Made for 4x4 patches, given 2x8: as many tokens, which its own grid would read wrongly."""
    torch.manual_seed(0)
    options = {**VIT, "img_size": 64, "dynamic_img_size": True}
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=2, **options).eval()
    for size, grid in (((64, 64), (4, 4)), ((32, 128), (2, 8)), ((48, 32), (3, 2))):
        maps = attribute(model, images(1, size).float(), methods=["layercam"], layers=["blocks.0"])
        assert maps["layercam", "blocks.0"].shape[1:] == grid


class Around(nn.Module):
    """A module at the name `layer`, in a network that says its format."""

    def __init__(self, layer: nn.Module, output_fmt: str | None = None) -> None:
        super().__init__()
        self.layer = layer
        if output_fmt:
            self.output_fmt = output_fmt


class Attention(nn.Module):
    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.num_heads, self.layer = 3, layer or nn.Identity()


RULE = {
    "channels first": (Around(Same()), (2, 64, 8, 12), "first"),
    "channels last": (Around(Same()), (2, 8, 12, 64), "last"),
    "one cell": (Around(Same()), (2, 64, 1, 1), "first"),
    "one cell, channels last": (Around(Same()), (2, 1, 1, 64), "last"),
    "rounded up": (Around(Same()), (2, 64, 7, 11), "first"),
    "rounded up, channels last": (Around(Same()), (2, 7, 11, 64), "last"),
    "both": (Around(Same()), (2, 8, 12, 18), "first"),
    "both, in a network of channels last": (Around(Same(), "NHWC"), (2, 8, 12, 18), "last"),
    "both, in a network of channels first": (Around(Same(), "NCHW"), (2, 8, 12, 18), "first"),
    "both, by a convolution": (Around(nn.Conv2d(1, 1, 1), "NHWC"), (2, 8, 12, 18), "first"),
    "both, by a linear layer": (Around(nn.Linear(1, 1)), (2, 8, 12, 18), "last"),
    "a little off, channels first alone": (Around(Same()), (2, 9, 8, 11), "first"),
    "neither": (Around(Same()), (2, 64, 40, 5), "first"),
    "neither, in a network of channels last": (Around(Same(), "NHWC"), (2, 64, 40, 5), "first"),
    "neither, by a convolution": (Around(nn.Conv2d(1, 1, 1)), (2, 8, 12, 500), "first"),
}


@pytest.mark.parametrize("name", RULE)
def test_how_a_shape_is_read(name):
    model, shape, layout = RULE[name]
    grid = grid_of(model, "layer", torch.empty(shape), 2, SIZE)
    sides = (shape[1], shape[2], shape[3]) if layout == "first" else (shape[3], shape[1], shape[2])
    assert (grid.layout, grid.shape) == (layout, sides)


REFUSED = {
    "windows": (Around(Same()), (8, 4, 6, 64), "block around it"),
    "windows of tokens": (Around(Same()), (8, 24, 64), "block around it"),
    "tokens of an unknown grid": (Around(Same()), (2, 24, 64), "which are unknown"),
    "no map": (Around(Same()), (2, 64), "no feature map"),
    "five sides": (Around(Same()), (2, 3, 8, 12, 64), "no feature map"),
    "neither, in a network of heads": (
        nn.ModuleDict({"a": Attention(), "layer": Same()}),
        (2, 5, 24, 64),
        "no",
    ),
    "a matrix for each head": (Attention(Same()), (2, 3, 8, 12), "no feature map"),
    "a number for each head": (Attention(Same()), (2, 8, 12, 3), "no feature map"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_map_is_refused(name):
    model, shape, words = REFUSED[name]
    with pytest.raises(AttributionError, match=words):
        grid_of(model, "layer", torch.empty(shape), 2, SIZE)


def test_tokens_that_are_not_the_grids_are_refused_with_the_grid():
    with pytest.raises(AttributionError, match=r"layer 'tokens' gives \(1, 38, 6\).*which are 5x6 after 3"):
        attribute(Planted((5, 6)), torch.rand(1, 3, 20, 28), 0, ["gradcam"], ["tokens"])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_listed_layer_and_no_other_has_a_map_of_that_shape(name):
    """Against the engine, and against the sides that a stride of a power of two allows."""
    model = network(name)
    layers = {layer.name: layer for layer in feature_maps(model, SIZE)}
    maps = attribute(model, images(), methods=["layercam"], layers=list(layers))
    for at, layer in layers.items():
        assert tuple(maps["layercam", at].shape[1:]) == layer.shape[1:]
        assert layer.shape[1:] in {(16, 24), (8, 12), (4, 6), (2, 3), (1, 1)}
        assert layer.cells == layer.shape[1] * layer.shape[2]
    for at, _ in model.named_modules():
        if at and at not in layers:
            with pytest.raises(AttributionError):
                attribute(model, images(), methods=["layercam"], layers=[at])


def test_attention_within_one_window_is_not_taken_for_a_map():
    """One window of 4x4 tokens: its attention, (N, heads, 16, 16), is as square as the image."""
    options = {**SWIN, "img_size": 32, "num_heads": (2, 3)}
    model = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, num_classes=2, **options)
    listed = {layer.name: layer.shape for layer in feature_maps(model, (32, 32))}
    assert listed["layers.1"] == (24, 4, 4)
    assert "layers.1.blocks.0.attn.softmax" not in listed
    with pytest.raises(AttributionError, match="no feature map"):
        attribute(model, torch.rand(1, 3, 32, 32), 0, ["gradcam"], ["layers.1.blocks.0.attn.softmax"])


class Table(nn.Module):
    """Positions, the same for every image: a map of one row of the batch, as wide as the image's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 6, 4, stride=4), nn.ConvTranspose2d(1, 6, 4)
        self.start = nn.Parameter(torch.ones(1, 1, 1, 1))

    def forward(self, x):
        return (self.conv(x) + self.table(self.start)).mean(dim=(2, 3))[:, :2]


def test_what_is_the_same_for_all_images_is_not_listed():
    assert [layer.name for layer in feature_maps(Table(), (16, 16))] == ["conv"]


@pytest.mark.parametrize("name", NETWORKS)
def test_listed_maps_lie_where_the_image_changes(name):
    """Half of the image is changed: before attention mixes them, that half of the map alone changes."""
    model, batch = network(name), images()
    changed = batch.clone()
    changed[:, :, :, : SIZE[1] // 2] += 1
    layer = {"swin": "patch_embed", "convnext": "stages.0.blocks.0.norm"}.get(name, "blocks.0.norm1")
    one, other = (read(model, layer, each) for each in (batch, changed))
    difference = (one - other).abs().sum(dim=(0, 1, 2))
    middle, reach = len(difference) // 2, 3 if name == "convnext" else 0  # a 7x7 kernel
    assert difference[:middle].min() > 0
    assert difference[middle + reach :].max() == 0


def read(model: nn.Module, layer: str, batch: torch.Tensor) -> torch.Tensor:
    outputs = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, output: outputs.append(output))
    with torch.no_grad():
        model(batch)
    handle.remove()
    return grid_of(model, layer, outputs[0], len(batch), SIZE).read(outputs[0])
