"""The attention ResNet against NumPy loops, sizes counted by hand, and the formulas of Woo et al. 2018."""

import numpy as np
import pytest
import torch
from networks import lively
from reference import gradcams, input_gradients, relative_error
from torch import fx, nn

from xface.attribution import attribute
from xface.errors import UsageError
from xface.feature_maps.layers import feature_maps
from xface.networks.cbam_resnet import Block, CbamResNet, ChannelAttention, SpatialAttention

STAGES = ("stage1", "stage2", "stage3", "stage4")

# Counted by hand from the published widths; a block with its three BatchNorms, the BatchNorms after the sums
# of blocks 1 to 3, and the dense layers 150528 -> 2352 -> 147 -> 2.
CONVOLUTIONS = 17_160 + 216_272 + 1_169_088 + 13_801_088
ATTENTION = 182 + 4_146 + 33_842 + 262_194
NORMS = 64 + 192 + 512
DENSE = 354_044_208 + 345_891 + 296


def on_meta(**options):
    with torch.device("meta"):
        return CbamResNet(**options).eval()


def seeded(build, seed=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return lively(build())


def noise(*shape, seed=5):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def array(tensor):
    return tensor.detach().numpy()


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def rectified(z):
    return np.where(z > 0, z, 0)


def convolved(x, conv):
    """The "same" convolution of one image (C, H, W), output by output."""
    weight, side = array(conv.weight), conv.kernel_size[0]
    padded = np.pad(x, ((0, 0), (side // 2,) * 2, (side // 2,) * 2))
    result = np.zeros((len(weight), *x.shape[1:]))
    for o, i, j in np.ndindex(result.shape):
        result[o, i, j] = (weight[o] * padded[:, i : i + side, j : j + side]).sum()
    return result if conv.bias is None else result + array(conv.bias)[:, None, None]


def normed(x, norm):
    shift, scale = array(norm.running_mean), np.sqrt(array(norm.running_var) + norm.eps)
    columns = [v[:, None, None] for v in (shift, scale, array(norm.weight), array(norm.bias))]
    return (x - columns[0]) / columns[1] * columns[2] + columns[3]


def peaks(x):
    """The maximum of each 3x3 neighbourhood, as far as it lies in the image."""
    result = np.zeros_like(x)
    for c, i, j in np.ndindex(x.shape):
        result[c, i, j] = x[c, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max()
    return result


def halved(x):
    return np.maximum.reduce([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])


def channel_attended(x, attention):
    """Woo et al. 2018, equation 2, each perceptron's output and then their sum through a sigmoid."""
    first, second = (array(attention.perceptron[i].weight)[:, :, 0, 0] for i in (0, 2))
    gates = [sigmoid(second @ rectified(first @ v)) for v in (x.mean((1, 2)), x.max((1, 2)))]
    return x * sigmoid(gates[0] + gates[1])[:, None, None]


def spatially_attended(x, attention):
    """Woo et al. 2018, equation 3."""
    return x * sigmoid(convolved(np.stack([x.mean(0), x.max(0)]), attention.conv))


def block_by_hand(x, block, halve, norm, attend=True):
    y = x
    for i in (1, 2, 3):
        conv, batch_norm = (block.convolutions.get_submodule(f"{kind}{i}") for kind in ("conv", "norm"))
        y = rectified(normed(convolved(y, conv), batch_norm))
    y = peaks(y)
    y = halved(y) if halve else y
    if attend:
        z = spatially_attended(channel_attended(x, block.attention.channel), block.attention.spatial)
        z = rectified(convolved(z, block.attention.project))
        y = y + (halved(z) if halve else z)
    return normed(rectified(y), block.norm) if norm else rectified(y)


@pytest.mark.parametrize("channels", [3, 8])
def test_channel_attention_is_the_published_formula(channels):
    attention = seeded(lambda: ChannelAttention(channels, hidden=4))
    batch = 3 * noise(2, channels, 5, 6)
    truth = np.stack([channel_attended(array(image), attention) for image in batch])
    np.testing.assert_allclose(array(attention(batch)), truth, rtol=1e-12)


def test_channel_attention_scales_each_channel_by_a_gate_between_s0_and_s2():
    """Two sigmoids sum up to something in (0, 2), of which another sigmoid is in (0.5, 0.881)."""
    attention, batch = seeded(lambda: ChannelAttention(6, hidden=3)), 50 * noise(4, 6, 5, 5)
    gates = attention(batch) / batch
    np.testing.assert_allclose(array(gates), array(gates[:, :, :1, :1].expand_as(gates)), rtol=1e-12)
    assert gates.min() >= 0.5
    assert gates.max() <= sigmoid(2.0)
    assert len(gates[:, :, 0, 0].unique()) == 24


def test_channel_attention_sees_no_positions():
    attention, batch = seeded(lambda: ChannelAttention(6, hidden=3)), noise(2, 6, 5, 5)
    places = torch.randperm(25, generator=torch.Generator().manual_seed(1))

    def shuffled(maps):
        return maps.flatten(2)[:, :, places].reshape(maps.shape)

    torch.testing.assert_close(attention(shuffled(batch)), shuffled(attention(batch)))


def test_only_the_centres_of_the_published_3x3_perceptron_act():
    attention, batch = seeded(lambda: ChannelAttention(6, hidden=3)), noise(2, 6, 5, 5)
    wide = ChannelAttention(6, hidden=3)
    for i in (0, 2):
        narrow = attention.perceptron[i]
        wide.perceptron[i] = nn.Conv2d(narrow.in_channels, narrow.out_channels, 3, padding=1, bias=False)
        wide.perceptron[i].weight.data = noise(*wide.perceptron[i].weight.shape)
        wide.perceptron[i].weight.data[:, :, 1:2, 1:2] = narrow.weight.data
    torch.testing.assert_close(attention(batch), wide(batch))


def test_spatial_attention_is_the_published_formula():
    attention, batch = seeded(SpatialAttention), 3 * noise(2, 4, 6, 7)
    truth = np.stack([spatially_attended(array(image), attention) for image in batch])
    np.testing.assert_allclose(array(attention(batch)), truth, rtol=1e-12)


@pytest.mark.parametrize(
    ("pool", "norm", "attend"), [(2, True, True), (2, False, True), (1, True, True), (2, True, False)]
)
def test_a_block_is_what_loops_compute(pool, norm, attend):
    block = seeded(lambda: Block(3, (4, 6, 5), pool=pool, norm=norm, attention=attend))
    batch = noise(2, 3, 8, 6)
    truth = np.stack([block_by_hand(array(image), block, pool == 2, norm, attend) for image in batch])
    np.testing.assert_allclose(array(block(batch)), truth, rtol=1e-10, atol=1e-12)


def test_parameters():
    assert sum(p.numel() for p in on_meta().parameters()) == 369_895_135
    assert CONVOLUTIONS + ATTENTION + NORMS + DENSE == 369_895_135
    ablated = sum(p.numel() for p in on_meta(attention=False).parameters())
    assert ablated == CONVOLUTIONS + NORMS + DENSE


def test_the_published_widths():
    found = on_meta().state_dict()
    for stage, hidden, widths in zip(
        STAGES,
        (6, 16, 48, 128),
        ((16, 24, 32), (64, 80, 96), (128, 192, 256), (512, 640, 768)),
        strict=True,
    ):
        assert len(found[f"{stage}.0.attention.channel.perceptron.hidden.weight"]) == hidden
        shapes = [found[f"{stage}.0.convolutions.conv{i}.weight"].shape for i in (1, 2, 3)]
        assert tuple((shape[0], shape[2], shape[3]) for shape in shapes) == tuple(
            (width, side, side) for width, side in zip(widths, (3, 5, 3), strict=True)
        )


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("depth", [4, 8, 12])
def test_each_stage_halves_the_side_once_at_each_depth(depth, attention):
    network = on_meta(num_classes=5, depth=depth, attention=attention)
    shapes = {layer.name: layer.shape for layer in feature_maps(network, (224, 224))}
    sides = dict(zip(STAGES, ((32, 112, 112), (96, 56, 56), (256, 28, 28), (768, 14, 14)), strict=True))
    assert {stage: shapes[stage] for stage in STAGES} == sides
    for stage in STAGES:
        channels, side, _ = sides[stage]
        before = [shapes[f"{stage}.{i}"] for i in range(depth // 4 - 1)]
        assert before == [(channels, 2 * side, 2 * side)] * (depth // 4 - 1)
    assert network(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 5)


@pytest.mark.parametrize("depth", [4, 8])
def test_batchnorm_follows_every_block_but_the_last(depth):
    network = on_meta(depth=depth)
    blocks = [block for stage in STAGES for block in network.get_submodule(stage)]
    assert len(blocks) == depth
    assert [isinstance(block.norm, nn.BatchNorm2d) for block in blocks] == [True] * (depth - 1) + [False]


@pytest.mark.parametrize("depth", [-4, 0, 1, 6])
def test_other_depths_are_refused(depth):
    with pytest.raises(UsageError, match=rf"depth {depth}\b.*multiple of 4"):
        CbamResNet(depth=depth)


def test_the_ablation_removes_the_attention_branches_and_nothing_else():
    whole, ablated = on_meta(depth=8).state_dict(), on_meta(depth=8, attention=False).state_dict()
    rest = {key: tensor.shape for key, tensor in whole.items() if ".attention." not in key}
    assert {key: tensor.shape for key, tensor in ablated.items()} == rest
    assert len(rest) < len(whole)


def test_a_block_without_attention_is_one_whose_attention_is_silent():
    whole = seeded(lambda: Block(3, (4, 6, 5), pool=2, norm=True))
    ablated = Block(3, (4, 6, 5), pool=2, norm=True, attention=False).double().eval()
    weights = whole.state_dict()
    ablated.load_state_dict({key: w for key, w in weights.items() if not key.startswith("attention.")})
    batch = noise(2, 3, 8, 8)
    assert not torch.allclose(whole(batch), ablated(batch))
    nn.init.zeros_(whole.attention.project.weight)
    assert torch.equal(whole(batch), ablated(batch))


def test_maps_match_the_slow_reference():
    def small():
        blocks = Block(3, (4, 6, 5), pool=2, norm=True), Block(5, (6, 4, 7), pool=2, norm=False)
        return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(7 * 4 * 4, 2))

    network, batch = seeded(small), noise(2, 3, 16, 16)
    methods, layers = ("vanilla", "guided", "deconvnet", "gradcam"), ("0", "1")
    found = attribute(network, batch, [0, 1], methods, layers)
    truth = input_gradients(network, batch, [0, 1])
    for method, rule in (("vanilla", "plain"), ("guided", "guided"), ("deconvnet", "deconvnet")):
        assert relative_error(found[method, None], truth[rule]) < 1e-6
    for layer, cam in gradcams(network, batch, [0, 1], layers).items():
        assert cam.max() > 0
        assert relative_error(found["gradcam", layer], cam) < 1e-6


def test_the_whole_network_is_explained_and_repeats_itself():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CbamResNet().eval()
    batch = noise(1, 3, 224, 224).float()
    methods = ("vanilla", "guided", "deconvnet", "gradcam")
    maps = attribute(network, batch, [0], methods, ("stage4",))
    assert [status for each in maps.status.values() for status in each] == ["ok"] * 4
    for rule in ("guided", "deconvnet"):
        assert relative_error(maps[rule, None], maps["vanilla", None]) > 0.1
    with torch.inference_mode():
        logits = network(batch)
        assert torch.equal(logits, network(batch))
        x = batch
        for stage in STAGES:
            x = network.get_submodule(stage)(x)
        w = network.state_dict()
        x = x.flatten(1)
        for layer in ("hidden1", "hidden2"):
            x = torch.relu(x @ w[f"dense.{layer}.weight"].T + w[f"dense.{layer}.bias"])
        torch.testing.assert_close(logits, x @ w["dense.head.weight"].T + w["dense.head.bias"])


def test_it_can_be_traced():
    traced = fx.symbolic_trace(on_meta(depth=8))
    modules = dict(traced.named_modules())
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    rectifiers = [name for name in calls if isinstance(modules[name], nn.ReLU)]
    # a block: three of the convolutions, two of the shared perceptron, the projection's, the sum's
    assert len(rectifiers) == 8 * 7 + 2
