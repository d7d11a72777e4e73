"""The attention ResNet against NumPy loops, sizes counted by hand, and the formulas of Woo et al. 2018."""

import numpy as np
import pytest
import torch
from networks import lively
from torch import fx, nn

from xface.errors import UsageError
from xface.feature_maps.layers import feature_maps
from xface.networks.cbam_resnet import Block, CbamResNet, ChannelAttention, SpatialAttention

STAGES = ("stage1", "stage2", "stage3", "stage4")


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


@pytest.mark.parametrize("depth", [8, 12])
def test_deeper_stages_halve_the_side_at_their_end_and_all_is_run_in_order(depth):
    network = on_meta(num_classes=5, depth=depth, attention=False)
    shapes = {layer.name: layer.shape for layer in feature_maps(network, (224, 224))}
    for stage, channels, side in zip(STAGES, (32, 96, 256, 768), (112, 56, 28, 14), strict=True):
        assert shapes[stage] == (channels, side, side)
        before = [shapes[f"{stage}.{i}"] for i in range(depth // 4 - 1)]
        assert before == [(channels, 2 * side, 2 * side)] * (depth // 4 - 1)
    traced = fx.symbolic_trace(network)
    called = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    dense = [name for name in called if name.startswith("dense.")]
    assert dense == [f"dense.{part}" for part in ("flatten", "hidden1", "relu1", "hidden2", "relu2", "head")]
    rectifiers = [name for name in called if isinstance(traced.get_submodule(name), nn.ReLU)]
    assert len(rectifiers) == depth * 4 + 2  # three after convolutions, one after the sum; the dense ones
