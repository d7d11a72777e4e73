"""Layers without a plain (N, K, h, w) output: token grids and channels last, read right or refused."""

from __future__ import annotations

import pytest
import reference
import torch
import torch.nn.functional as F
from speed import first_quick
from test_methods import SLOW_CAMS
from torch import nn

from xface.attribution import METHODS, attribute
from xface.errors import AttributionError
from xface.feature_maps.grids import presumed
from xface.feature_maps.layers import feature_maps

EXACT = 1e-6
LAYERED = [name for name, entry in METHODS.items() if entry.layered]
SIZE = (64, 96)  # oblong, so that no transposed map passes

VIT = {"img_size": SIZE, "embed_dim": 24, "num_heads": 3, "depth": 2}
SWIN = {"img_size": SIZE, "window_size": 4, "embed_dim": 12, "num_heads": (2, 3), "depths": (1, 2)}
NETWORKS = {
    "vit": ("vit_tiny_patch16_224", VIT),
    "swin": ("swin_tiny_patch4_window7_224", SWIN),
    "distilled": ("deit_tiny_distilled_patch16_224", VIT),
    "registers": ("vit_small_patch14_reg4_dinov2", {**VIT, "patch_size": 16}),
    "no class token": ("vit_tiny_patch16_224", {**VIT, "class_token": False, "global_pool": "avg"}),
    "convnext": ("convnext_atto", {"conv_mlp": False, "depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20)}),
}
PREFIX = {"registers": 5, "no class token": 0, "vit": 1, "distilled": 2}


def timm_network(name: str, **options: object) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, num_classes=2, **options)


def network(name: str) -> nn.Module:
    torch.manual_seed(11)
    arch, options = NETWORKS[name]
    model = timm_network(arch, **options)
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


@pytest.mark.parametrize("name", first_quick(PREFIX, 2))
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

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 2)
        self.first, self.last, self.tokens = Same(), Same(), Same()

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
    model = timm_network("vit_tiny_patch16_224", **options).eval()
    for size, grid in (((64, 64), (4, 4)), ((32, 128), (2, 8)), ((48, 32), (3, 2))):
        maps = attribute(model, images(1, size).float(), methods=["layercam"], layers=["blocks.0"])
        assert maps["layercam", "blocks.0"].shape[1:] == grid


def test_cells_may_be_out_of_proportion_by_rounding_and_no_more():
    """An image of 70 x 90 pixels has 3 x 3 cells of 32 pixels, padded."""
    assert presumed((2, 4, 3, 3), (70, 90)).shape == (4, 3, 3)
    assert presumed((2, 4, 3, 6), (70, 90)) is None


class Laid(nn.Module):
    """A map (N, K, h, w) that `lay` rearranges at `layer`, where it's mixed a little over all positions."""

    def __init__(self, lay, channels: int = 6, mixing: float = 0.0) -> None:
        super().__init__()
        self.conv, self.first, self.layer = nn.Conv2d(3, channels, 4, stride=4), Same(), Same()
        self.lay, self.mixing = lay, mixing

    def forward(self, x):
        x = self.first(self.conv(x))
        mixed = x + self.mixing * x.mean(dim=(2, 3), keepdim=True)
        laid = self.layer(self.lay(mixed))
        place = torch.linspace(0.1, 1, laid[0].numel(), dtype=x.dtype, device=x.device)
        score = (laid.flatten(1).square() * place).sum(dim=1)
        return torch.stack([score, -score], dim=1)


def windows(x, side=2):
    """(N, windows, positions, K), as torchvision's MaxViT has them."""
    n, k, h, w = x.shape
    x = x.reshape(n, k, h // side, side, w // side, side)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, side * side, k)


def with_tokens(x, before=0, after=0):
    tokens = x.flatten(2).transpose(1, 2)
    extra = tokens.new_ones(len(x), 1, x.shape[1])
    return torch.cat([extra.expand(-1, before, -1), tokens, extra.expand(-1, after, -1)], dim=1)


READ = {
    "channels first": (lambda x: x.reshape(x.shape), lambda t, h, w: t),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), lambda t, h, w: t.permute(0, 3, 1, 2)),
    "columns first": (lambda x: x.transpose(2, 3), lambda t, h, w: t.transpose(2, 3)),
    "columns first, channels last": (lambda x: x.permute(0, 3, 2, 1), lambda t, h, w: t.permute(0, 3, 2, 1)),
    "rows, channels, columns": (lambda x: x.transpose(1, 2), lambda t, h, w: t.transpose(1, 2)),
    "tokens": (with_tokens, lambda t, h, w: t.transpose(1, 2).unflatten(2, (h, w))),
    "channels, tokens": (lambda x: x.flatten(2), lambda t, h, w: t.unflatten(2, (h, w))),
    "column by column": (
        lambda x: with_tokens(x.transpose(2, 3)),
        lambda t, h, w: t.transpose(1, 2).unflatten(2, (w, h)).transpose(2, 3),
    ),
    "a class token": (
        lambda x: with_tokens(x, 1),
        lambda t, h, w: t[:, 1:].transpose(1, 2).unflatten(2, (h, w)),
    ),
    "five registers": (
        lambda x: with_tokens(x, 5),
        lambda t, h, w: t[:, 5:].transpose(1, 2).unflatten(2, (h, w)),
    ),
    "a token behind": (
        lambda x: with_tokens(x, 0, 1),
        lambda t, h, w: t[:, :-1].transpose(1, 2).unflatten(2, (h, w)),
    ),
}
SQUARE, OBLONG = (48, 48), (32, 64)
# As many channels as rows, as columns, and neither.
CHANNELS = {SQUARE: (12, 7), OBLONG: (8, 16, 7)}
PLANTED = [(side, channels) for side, counts in CHANNELS.items() for channels in counts]


@pytest.mark.parametrize(("size", "channels"), PLANTED)
@pytest.mark.parametrize("mixing", [0.0, 3.0])
@pytest.mark.parametrize("name", READ)
def test_a_planted_layout_is_read_as_it_lies(name, mixing, size, channels):
    """Whatever shapes say: the map that each channel and position really has, from the laid tensor."""
    torch.manual_seed(0)
    lay, back = READ[name]
    model = Laid(lay, channels, mixing).eval()
    batch = torch.rand(2, 3, *size)
    found = attribute(model, batch, 0, ["hirescam"], ["layer"])["hirescam", "layer"]
    kept = []
    model.layer.register_forward_hook(lambda m, i, output: kept.append(output))
    leaf = batch.clone().requires_grad_()
    score = model(leaf)[:, 0].sum()
    [g] = torch.autograd.grad(score, kept)
    truth = (back(kept[0] * g, size[0] // 4, size[1] // 4)).sum(dim=1).relu()
    assert truth.max() > 0
    assert reference.relative_error(found, truth) < 1e-5
    assert listed(model, size)["layer"] == (channels, size[0] // 4, size[1] // 4)


def listed(model, size):
    return {layer.name: layer.shape for layer in feature_maps(model, size)}


def shuffled(x):
    return x.flatten(2)[:, :, torch.randperm(x[0, 0].numel(), generator=torch.Generator().manual_seed(0))]


REFUSED = {
    "windows by positions": windows,
    "windows of as many positions as channels": lambda x: windows(x, 4),
    "tokens window by window": lambda x: windows(x).flatten(1, 2),
    "tokens in a random order": lambda x: shuffled(x).transpose(1, 2),
    "positions in a random order": lambda x: shuffled(x).unflatten(2, x.shape[2:]),
    "mirrored": lambda x: x.flip(3),
    "upside down, channels last": lambda x: x.flip(2).permute(0, 2, 3, 1),
    "rolled by half": lambda x: x.roll((x.shape[2] // 2, x.shape[3] // 2), (2, 3)),
    "a class token in the middle": lambda x: torch.cat(
        [(t := with_tokens(x))[:, : t.shape[1] // 2], t[:, :1] * 0 + 1, t[:, t.shape[1] // 2 :]], dim=1
    ),
    "positions mixed by a matrix": lambda x: F.linear(
        x.flatten(2), torch.rand(2 * (x[0, 0].numel(),), generator=torch.Generator().manual_seed(1))
    ).unflatten(2, x.shape[2:]),
    "its spectrum": lambda x: torch.fft.fft2(x).abs(),
    "the same everywhere": lambda x: x.mean(dim=(2, 3), keepdim=True).expand_as(x).reshape(x.shape),
    "no feature map": lambda x: x.flatten(1),
    "five sides": lambda x: x.unsqueeze(1),
}  # fmt: skip


@pytest.mark.parametrize(("size", "channels"), [*PLANTED, (SQUARE, 16), (SQUARE, 4)])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_map_is_refused(name, size, channels):
    torch.manual_seed(0)

    class Network(Laid):
        def forward(self, x):
            x = self.first(self.conv(x))
            laid = self.layer(self.lay(x))
            return x.mean(dim=(2, 3))[:, :2] + sum(part.mean() for part in laid)

    model = Network(REFUSED[name], channels).eval()
    assert "layer" not in listed(model, size)
    with pytest.raises(AttributionError, match="layer 'layer' gives"):
        attribute(model, torch.rand(2, 3, *size), 0, ["hirescam"], ["layer"])


class Crops(nn.Module):
    """Two crops of each image, stacked in the batch's axis, and put together again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.merged, self.head = nn.Conv2d(3, 6, 4, stride=4), Same(), nn.Linear(6, 2)

    def forward(self, x):
        half = x.shape[3] // 2
        crops = self.conv(torch.cat([x[..., :half], x[..., half:]]))
        return self.head(self.merged(torch.cat(crops.chunk(2), dim=1)[:, :6]).mean(dim=(2, 3)))


@pytest.mark.parametrize("count", [1, 2, 6])
def test_stacked_crops_are_refused(count):
    model = Crops()
    assert not listed(model, SQUARE)
    for layer in ("conv", "merged"):
        with pytest.raises(AttributionError, match=f"layer '{layer}' gives"):
            attribute(model, torch.rand(count, 3, *SQUARE), 0, ["gradcam"], [layer])


@pytest.mark.parametrize("count", [5, 6, 7, 64])
def test_a_side_that_is_the_number_of_images_by_chance_is_refused(count):
    """Tokens before images, (T, N, K), of as many images as tokens."""
    model = Laid(lambda x: with_tokens(x).transpose(0, 1), 6)
    model.forward = lambda x: model.layer(model.lay(model.conv(x))).square().mean(dim=0)[:, :2]
    side = 4 * int(count**0.5)
    with pytest.raises(AttributionError, match="layer 'layer' gives"):
        attribute(model, torch.rand(count, 3, side, count * 16 // side), 0, ["gradcam"], ["layer"])


class Counting(nn.Conv2d):
    runs = 0

    def forward(self, x):
        Counting.runs += 1
        return super().forward(x)


CONVOLUTIONAL = {
    "gate": lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid(),
    "attention": lambda x: x * torch.cat([x.mean(1, keepdim=True), x.amax(1, True)], 1)[:, 1:].sigmoid(),
    "branches": lambda x: torch.cat([part.relu() for part in x.chunk(2, 1)], dim=1),
    "in place": lambda x: x.mul_(2).relu_(),
    "resized": lambda x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2, mode="bilinear") + x,
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_an_ordinary_convolutional_layer_costs_no_experiment(name):
    model = Laid(CONVOLUTIONAL[name])
    model.conv = Counting(3, 6, 4, stride=4)
    attribute(model, torch.rand(2, 3, *SQUARE), 0, ["vanilla"])  # whether images influence each other
    Counting.runs = 0
    maps = attribute(model, torch.rand(2, 3, *SQUARE), 0, ["gradcam"], ["conv", "first", "layer"])
    assert maps["gradcam", "layer"].shape == (2, 12, 12)
    assert Counting.runs == 1


def test_a_layer_that_was_overwritten_through_a_view_costs_one():
    def turned_in_place(x):
        x.flatten(2).copy_(x.transpose(2, 3).flatten(2).clone())
        return x

    model = Laid(turned_in_place)
    model.conv = Counting(3, 6, 4, stride=4)
    attribute(model, torch.rand(2, 3, *SQUARE), 0, ["vanilla"])  # whether images influence each other
    Counting.runs = 0
    batch = torch.rand(2, 3, *SQUARE)
    maps = attribute(model, batch, 0, ["eigencam"], ["first", "layer"])
    truth = attribute(Alone(model.conv), batch, 0, ["eigencam"], ["conv"])["eigencam", "conv"]
    assert Counting.runs == 5  # three of them for the network of the truth: together, and each image alone
    assert reference.relative_error(maps["eigencam", "layer"], truth) < EXACT


class Alone(nn.Module):
    def __init__(self, conv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x).mean(dim=(2, 3))[:, :2]


@pytest.mark.parametrize("name", first_quick(NETWORKS, 2))
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
    model = timm_network("swin_tiny_patch4_window7_224", **options)
    listed = {layer.name: layer.shape for layer in feature_maps(model, (32, 32))}
    assert listed["layers.1"] == (24, 4, 4)
    assert "layers.1.blocks.0.attn.softmax" not in listed
    with pytest.raises(AttributionError, match="softmax' gives"):
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
