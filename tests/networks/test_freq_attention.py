"""The frequency attention network and its losses, against naive computations and planted truths."""

from __future__ import annotations

import cmath
import copy
import math

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from networks import lively, small_freq_attention
from torch import nn

from xface.errors import UsageError
from xface.networks import ARCHITECTURES
from xface.networks.freq_attention import (
    CrossModalityFusion,
    FreqAttention,
    FrequencyBranch,
    FrequencyFilter,
    GuidedAttention,
    Outputs,
    filtered,
    noisy,
)
from xface.networks.freq_losses import classification_loss, freq_losses, metric_loss, reconstruction_loss

EXACT = 1e-10  # two orders of summation in double precision


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def faces(count: int, side: int = 299) -> torch.Tensor:
    return seeded(count, 3, side, side, seed=7).clamp(-1, 1)


@pytest.fixture(scope="module")
def network() -> FreqAttention:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return lively(FreqAttention())


# The filter


def naive_filtered(maps: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """One channel (h, w) by the definition of the orthonormal transform, term by term."""
    height, width = maps.shape
    out = np.zeros((height, width))
    for u in range(height):
        for v in range(width // 2 + 1):
            wave = [
                [cmath.exp(2j * math.pi * (u * y / height + v * x / width)) for x in range(width)]
                for y in range(height)
            ]
            wave = np.array(wave) / math.sqrt(height * width)
            coefficient = (maps * wave.conj()).sum() * weight[u, v]
            twice = 1 if v == 0 or 2 * v == width else 2  # a frequency and its mirror image
            out += twice * (coefficient * wave).real
    return out


@pytest.mark.parametrize("size", [(4, 5), (5, 6)])
def test_filter_equals_a_naive_transform(size):
    maps, filter_ = seeded(2, 3, *size), FrequencyFilter(3, size).double()
    found = filter_(maps)
    weight = filter_.weight.detach().numpy()
    for image in range(2):
        for channel in range(3):
            complex_weight = weight[:, :, channel, 0] + 1j * weight[:, :, channel, 1]
            truth = naive_filtered(maps[image, channel].numpy(), complex_weight)
            np.testing.assert_allclose(found[image, channel].detach().numpy(), truth, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_filter_keeps_the_precision_it_is_given(dtype):
    maps, filter_ = seeded(1, 2, 19, 19).to(dtype), FrequencyFilter(2, (19, 19)).to(dtype)
    with torch.no_grad():
        found, truth = filter_(maps), filtered(maps.double(), filter_.weight.double())
    assert found.dtype == dtype
    assert reference.relative_error(found, truth) < 2 * torch.finfo(dtype).eps


def test_filter_runs_under_autocast():
    branch = FrequencyBranch(4, (5, 5)).eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert branch(seeded(1, 4, 5, 5).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (19, 21)])
def test_filter_refuses_maps_of_another_size(size):
    with pytest.raises(RuntimeError, match="19 x 10 frequencies"):
        FrequencyFilter(2, (19, 19))(torch.zeros(1, 2, *size))


# The parts and their composition


def fused_position_by_position(block: CrossModalityFusion, rgb: torch.Tensor, frequency: torch.Tensor):
    def matrix(layer: nn.Conv2d) -> torch.Tensor:
        return layer.weight[:, :, 0, 0]

    images, channels, height, width = rgb.shape
    found = torch.zeros_like(rgb)
    for n in range(images):
        seen = frequency[n].reshape(channels, -1)
        keys = matrix(block.key) @ seen + block.key.bias[:, None]
        values = matrix(block.value) @ seen + block.value.bias[:, None]
        for y in range(height):
            for x in range(width):
                query = matrix(block.query) @ rgb[n, :, y, x] + block.query.bias
                weights = torch.exp((query @ keys) / math.sqrt(channels))
                found[n, :, y, x] = values @ (weights / weights.sum())
    z = block.project.norm(block.project.conv(found))
    return rgb + torch.where(z > 0, z, 0.2 * z)


def test_fusion_equals_a_loop_over_positions():
    block = lively(CrossModalityFusion(6))
    rgb, frequency = seeded(2, 6, 3, 4), seeded(2, 6, 3, 4, seed=1)
    truth = fused_position_by_position(block, rgb, frequency)
    torch.testing.assert_close(block(rgb, frequency), truth, rtol=0, atol=1e-13)


def bilinear(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Corner to corner: output i of n sits at i (s - 1) / (n - 1) of s pixels."""
    for dim, length in ((2, height), (3, width)):
        size = maps.shape[dim]
        position = torch.arange(length, dtype=maps.dtype) * (size - 1) / (length - 1)
        hats = (1 - (position[:, None] - torch.arange(size)[None]).abs()).clamp(min=0)
        maps = torch.movedim(torch.movedim(maps, dim, -1) @ hats.T, -1, dim)
    return maps


def guided_by_formula(block: GuidedAttention, x, image, reconstruction):
    residual = bilinear((image - reconstruction).abs(), *x.shape[-2:])
    mixed = F.conv2d(residual, block.gate.conv.weight, padding=1).clamp(min=0)
    gate = 1 / (1 + torch.exp(-torch.einsum("nchw,c->nhw", mixed, block.gate.mix.weight[0, :, 0, 0])))
    return gate[:, None] * block.copy.norm(block.copy.conv(x)).clamp(min=0) + x


def test_guidance_equals_its_formula():
    block = lively(GuidedAttention(5))
    x, image, painted = seeded(2, 5, 4, 6), seeded(2, 3, 16, 20, seed=1), seeded(2, 3, 16, 20, seed=2)
    torch.testing.assert_close(
        block(x, image, painted), guided_by_formula(block, x, image, painted), rtol=0, atol=1e-13
    )


def composed(model: FreqAttention, x: torch.Tensor) -> Outputs:
    """The whole evaluation, spelled out, with the transform as matrices and the slow parts from above."""
    encoder, decoder = model.encoder, model.decoder
    z = F.relu(encoder.bn1(encoder.conv1(x)))
    z = F.relu(encoder.bn2(encoder.conv2(z)))
    embedding = encoder.block4(encoder.block3(encoder.block2(encoder.block1(z))))
    z, maps = embedding, []
    for stage, block in ((decoder.up1, decoder.block1), (decoder.up2, decoder.block2), (decoder.up3, None)):
        z = z.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        z = F.relu(stage.norm(stage.conv(z)))
        maps.append(z := block(z) if block else z)
    painted = torch.tanh(F.conv2d(z, decoder.paint.conv.weight))
    reconstruction = bilinear(painted, 299, 299)

    rgb = encoder.block7(encoder.block6(encoder.block5(embedding)))
    wave = torch.exp(2j * math.pi * torch.outer(torch.arange(19), torch.arange(19)).double() / 19) / 19**0.5
    weight = torch.view_as_complex(model.frequency.filter.weight).permute(2, 0, 1)
    spectrum = (wave.conj() @ rgb.to(wave) @ wave.conj())[..., :10] * weight
    twice = torch.tensor([1.0] + 9 * [2.0], dtype=torch.float64)
    frequency = (wave @ (spectrum * twice) @ wave[:10]).real
    for block in model.frequency.feed_forward:
        frequency = F.leaky_relu(block.norm(block.conv(frequency)), 0.2)
    frequency = rgb + frequency
    for block in model.fusion:
        rgb = fused_position_by_position(block, rgb, frequency)

    z = guided_by_formula(model.guidance, encoder.block8(rgb), x, reconstruction)
    z = encoder.block12(encoder.block11(encoder.block10(encoder.block9(z))))
    z = F.relu(encoder.bn4(encoder.conv4(F.relu(encoder.bn3(encoder.conv3(z))))))
    logits = z.mean(dim=(2, 3)) @ model.head.weight.T + model.head.bias
    return Outputs(logits, reconstruction, (embedding, maps[0], maps[1]))


def test_the_whole_equals_its_parts_in_the_published_order(network):
    x = faces(1)
    with torch.no_grad():
        found, truth = network.outputs(x), composed(network, x)
        logits = network(x)
    assert torch.equal(logits, found.logits)
    assert reference.relative_error(found.logits, truth.logits) < EXACT
    assert reference.relative_error(found.reconstruction, truth.reconstruction) < EXACT
    for ours, theirs in zip(found.features, truth.features, strict=True):
        assert reference.relative_error(ours, theirs) < EXACT
    assert [tuple(f.shape[1:]) for f in found.features] == [(728, 19, 19), (256, 38, 38), (128, 76, 76)]


@pytest.mark.slow
def test_without_fusion_and_guidance_it_is_xception(network):
    silenced, xception = copy.deepcopy(network), ARCHITECTURES["xception"].build(2)
    for norm in [fuse.project.norm for fuse in silenced.fusion] + [silenced.guidance.copy.norm]:
        norm.weight.data.zero_()
        norm.bias.data.zero_()
    weights = {**network.encoder.state_dict()}
    weights |= {f"fc.{name}": tensor for name, tensor in network.head.state_dict().items()}
    xception.load_state_dict(weights, strict=True)
    with torch.no_grad():
        x = faces(1)
        assert torch.equal(silenced(x), xception.double().eval()(x))


# Evaluation and training


def test_filter_weights_are_drawn_with_their_published_deviation():
    weight = FrequencyFilter(728, (19, 19)).weight.detach()  # 276,640 values: the estimate is good to 0.14 %
    assert float(weight.std()) == pytest.approx(0.02, rel=0.01)
    assert abs(float(weight.mean())) < 2e-4


def test_noise_is_small_white_and_on_half_of_the_images():
    torch.manual_seed(0)
    x = torch.zeros(400, 3, 8, 8, dtype=torch.float64)
    noise = noisy(x)
    chosen = noise.flatten(1).abs().amax(dim=1) > 0
    assert 160 < int(chosen.sum()) < 240  # four standard deviations of a fair coin
    assert float(noise[chosen].std()) == pytest.approx(1e-6, rel=0.02)
    assert abs(float(noise[chosen].mean())) < 2e-8
    pixels = noise[chosen].flatten(1).T
    assert abs(float(torch.corrcoef(pixels)[~torch.eye(192, dtype=bool)].mean())) < 0.01
    assert float(noisy(x + 3).max()) == 1.0
    assert float(noisy(x - 3).min()) == -1.0


class StopHereError(Exception):
    """Ends a forward pass at the first convolution, with what it was given."""


def seen_by_the_encoder(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    def stop(module, inputs):
        raise StopHereError(inputs[0])

    handle = model.encoder.conv1.register_forward_pre_hook(stop)
    try:
        model(x)
    except StopHereError as stopped:
        return stopped.args[0]
    finally:
        handle.remove()


def test_noise_is_for_training_only(network):
    x = 3 * faces(16)
    assert torch.equal(seen_by_the_encoder(network, x), x)
    training = seen_by_the_encoder(copy.deepcopy(network).train(), x)
    changed = (training - x.clamp(-1, 1)).flatten(1).abs().amax(dim=1)
    assert 0 < int((changed > 0).sum()) < 16
    assert float(changed.max()) < 1e-5


@pytest.mark.slow
def test_a_few_steps_lower_the_loss_and_move_the_filter():
    torch.manual_seed(0)
    model = small_freq_attention("freq_attention", 2).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4, weight_decay=1e-5)
    x, labels = faces(4, 96).float(), torch.tensor([0, 1, 0, 1])
    x[labels == 1] *= 0.2  # the planted difference
    before, totals = model.frequency.filter.weight.detach().clone(), []
    given = {}
    model.guidance.register_forward_pre_hook(lambda module, inputs: given.update(image=inputs[1]))
    for _ in range(4):
        optimizer.zero_grad()
        losses = freq_losses(model.outputs(x), x, labels, real=1)
        losses.total.backward()
        optimizer.step()
        totals.append(float(losses.total))
    assert given["image"] is x  # the residual is against the face, not its noisy copy
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    assert float((model.frequency.filter.weight - before).abs().mean()) > 1e-5
    assert totals[-1] < 0.7 * totals[0], totals


def test_other_sizes_are_refused_on_meta_too():
    with torch.device("meta"):
        model = FreqAttention().eval()
        assert model(torch.empty(2, 3, 299, 299)).shape == (2, 2)
        with pytest.raises(RuntimeError, match="images of the size it was made for"):
            model(torch.empty(1, 3, 64, 64))


# Losses


def test_classification_is_the_binary_cross_entropy_of_the_difference():
    logits, labels = seeded(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    by_hand = 0.0
    for (z0, z1), label in zip(logits.tolist(), labels.tolist(), strict=True):
        p = 1 / (1 + math.exp(z0 - z1))
        by_hand -= math.log(p if label else 1 - p) / 6
    assert float(classification_loss(logits, labels)) == pytest.approx(by_hand, rel=1e-12)
    one_logit = logits[:, 1:] - logits[:, :1]
    assert float(classification_loss(one_logit, labels)) == pytest.approx(by_hand, rel=1e-12)


def test_classification_does_not_overflow():
    assert float(classification_loss(torch.tensor([[1e4]]), torch.tensor([0]))) == 1e4


def test_reconstruction_judges_real_faces_only():
    painted, images = seeded(3, 3, 4, 5).requires_grad_(), seeded(3, 3, 4, 5, seed=1)
    loss = reconstruction_loss(painted, images, torch.tensor([True, False, True]))
    by_hand = sum(
        abs(float(painted[n, c, y, x]) - float(images[n, c, y, x]))
        for n in (0, 2)
        for c in range(3)
        for y in range(4)
        for x in range(5)
    )
    assert float(loss) == pytest.approx(by_hand / (2 * 60), rel=1e-12)
    loss.backward()
    truth = torch.sign(painted.detach() - images) / 120
    truth[1] = 0
    torch.testing.assert_close(painted.grad, truth)


def metric_by_hand(features: torch.Tensor, is_real: list[bool]) -> float:
    pooled = [[float(c.mean()) for c in image] for image in features]

    def distance(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return (1 - dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(x * x for x in b))) / 2

    together = [
        distance(pooled[i], pooled[j])
        for i in range(len(pooled))
        for j in range(len(pooled))
        if i != j and is_real[i] and is_real[j]
    ]
    apart = [
        1 - distance(pooled[i], pooled[j])
        for i in range(len(pooled))
        for j in range(len(pooled))
        if is_real[i] and not is_real[j]
    ]
    return sum(sum(values) / len(values) for values in (together, apart) if values)


@pytest.mark.parametrize(
    "is_real",
    [
        [True, True, False, True, False],
        [True, False, False, False, False],  # no pair of real faces
        [True, True, True, True, True],  # no forged face
        [False, False, False, False, False],  # neither
    ],
)
def test_metric_equals_a_loop_over_pairs(is_real):
    features = seeded(5, 4, 2, 3)
    found = float(metric_loss(features, torch.tensor(is_real)))
    assert found == pytest.approx(metric_by_hand(features, is_real), rel=1e-12)


def outputs_of(count: int, classes: int = 2) -> Outputs:
    return Outputs(
        seeded(count, classes).requires_grad_(),
        seeded(count, 3, 6, 6, seed=1).requires_grad_(),
        tuple(seeded(count, c, 2, 2, seed=c).requires_grad_() for c in (7, 5, 3)),
    )


@pytest.mark.parametrize("real", [0, 1])
def test_the_total_weighs_the_parts(real):
    outputs, images, labels = outputs_of(5), seeded(5, 3, 6, 6, seed=9), torch.tensor([0, 1, 1, 0, 1])
    is_real = labels == real
    losses = freq_losses(outputs, images, labels, real)
    metric = sum(metric_by_hand(f.detach(), is_real.tolist()) for f in outputs.features)
    assert float(losses.metric) == pytest.approx(metric, rel=1e-12)
    bce = F.binary_cross_entropy_with_logits(outputs.logits[:, 1] - outputs.logits[:, 0], labels.double())
    l1 = (outputs.reconstruction - images)[is_real].abs().mean()
    assert float(losses.total) == pytest.approx(float(bce) + 0.1 * float(l1) + 0.1 * metric, rel=1e-12)
    count = int(is_real.sum())
    assert (losses.real_faces, losses.real_pairs) == (count, count * (count - 1) // 2)
    assert losses.mixed_pairs == count * (5 - count)


def test_a_batch_without_real_faces_trains_the_classifier_alone():
    outputs, images = outputs_of(3), seeded(3, 3, 6, 6, seed=9)
    losses = freq_losses(outputs, images, torch.tensor([0, 0, 0]), real=1)
    assert float(losses.reconstruction) == float(losses.metric) == 0
    assert (losses.real_faces, losses.real_pairs, losses.mixed_pairs) == (0, 0, 0)
    assert float(losses.total) == float(losses.classification)
    losses.total.backward()
    assert outputs.logits.grad.any()
    for tensor in (outputs.reconstruction, *outputs.features):
        assert tensor.grad is not None
        assert not tensor.grad.any()


def test_half_precision_losses_neither_overflow_nor_vanish():
    painted, images = torch.zeros(2, 3, 299, 299).half(), torch.ones(2, 3, 299, 299).half()
    is_real = torch.tensor([True, True])
    assert float(reconstruction_loss(painted, images, is_real)) == 1.0
    features = torch.full((2, 8, 2, 2), 1e-4).half()
    assert float(metric_loss(features, is_real)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("real", [-1, 2])
def test_a_real_class_that_is_none_is_refused(real):
    with pytest.raises(UsageError, match="0 to 1"):
        freq_losses(outputs_of(2), seeded(2, 3, 6, 6), torch.tensor([0, 1]), real)
