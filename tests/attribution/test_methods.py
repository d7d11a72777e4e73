"""Every registered method: its formula written out slowly, and what it must leave alone."""

from __future__ import annotations

import copy
import gc
import random
import resource

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from networks import OneModule, Small, lively
from torch import nn

from xface.attribution import METHODS, attribute
from xface.errors import AttributionError

EXACT = 1e-6


@pytest.fixture(scope="module")
def small():
    """A lively network in double precision, three images, a class for each, and its tapped layer's pass."""
    torch.manual_seed(7)
    model, images, classes = lively(OneModule()), torch.randn(3, 3, 12, 12, dtype=torch.float64), [0, 1, 0]
    passes = [
        reference.layer_passes(model, image[None], c, ["three"])["three"]
        for image, c in zip(images, classes, strict=True)
    ]
    return model, images, classes, [(a[0], g[0]) for a, g in passes]


def positive(number):
    return number if number > 0 else 0.0 * number


def slow_gradcam_plus_plus(a, g):
    cam = torch.zeros_like(a[0])
    for k in range(len(a)):
        weight = 0.0
        for i, j in np.ndindex(*a[k].shape):
            denominator = 2 * g[k, i, j] ** 2 + g[k, i, j] ** 3 * a[k].sum()
            alpha = g[k, i, j] ** 2 / denominator if denominator != 0 else 0.0
            weight = weight + alpha * positive(g[k, i, j])
        cam += weight * a[k]
    return cam.clamp(min=0)


def slow_elementwise(a, g, gate):
    cam = torch.zeros_like(a[0])
    for i, j in np.ndindex(*cam.shape):
        cam[i, j] = positive(sum(gate(g[k, i, j]) * a[k, i, j] for k in range(len(a))))
    return cam


def slow_eigencam(a, g):
    points = a.reshape(len(a), -1).T.numpy()
    u, s, _ = np.linalg.svd(points, full_matrices=False)
    component = (u[:, 0] * s[0]).reshape(a.shape[1:])
    component *= np.sign(component.flat[np.abs(component).argmax()])
    return torch.from_numpy(component).clamp(min=0)


SLOW_CAMS = {
    "gradcam": lambda a, g: slow_elementwise(a, g.mean(dim=(1, 2), keepdim=True).expand_as(g), lambda x: x),
    "gradcam++": slow_gradcam_plus_plus,
    "layercam": lambda a, g: slow_elementwise(a, g, positive),
    "hirescam": lambda a, g: slow_elementwise(a, g, lambda x: x),
    "eigencam": slow_eigencam,
}


@pytest.mark.parametrize("method", SLOW_CAMS)
def test_cams_match_their_formulas(small, method):
    model, images, classes, passes = small
    found = attribute(model, images, classes, [method], ["three"])[method, "three"]
    truth = torch.stack([SLOW_CAMS[method](a, g) for a, g in passes])
    assert truth.max() > 0
    assert reference.relative_error(found, truth) < EXACT


def test_the_larger_extreme_of_an_eigencam_is_positive():
    """An axis has no sign: a map and its negative are shown alike, from the side that reaches farther."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Flatten(), nn.Linear(2 * 36, 2)).double()
    model[0].weight.data = torch.tensor([[1.0, 0, 0], [2.0, 0, 0]], dtype=torch.float64)[:, :, None, None]
    images = torch.rand(1, 3, 6, 6, dtype=torch.float64)
    images[0, 0, 2, 3] = -3
    for given in (images, -images):
        found = attribute(model, given, 0, ["eigencam"], ["0"])["eigencam", "0"][0]
        assert found.argmax() == 2 * 6 + 3
        assert (found > 0).sum() == 1


def slow_scorecam(model, image, cls, a):
    """Channel by channel; a flat one, which cannot be stretched, has no weight."""
    scores = {}
    for k in range(len(a)):
        mask = reference.upsample(a[k : k + 1], *image.shape[1:])[0]
        if mask.max() > mask.min():
            masked = image * (mask - mask.min()) / (mask.max() - mask.min())
            logits = model(masked[None])[0]
            scores[k] = logits[cls].item()
    total = sum(np.exp(score) for score in scores.values())
    return sum(np.exp(score) / total * a[k] for k, score in scores.items()).clamp(min=0)


def sharp(model):
    """Scores spread far, so that the softmax chooses; a dead channel and a constant one."""
    model = copy.deepcopy(model)
    model.head.weight.data *= 50
    with torch.no_grad():
        for channel, bias in ((0, -100.0), (1, 3.0)):
            model.two.weight[channel], model.two.bias[channel] = 0, bias
            model.three.weight[channel], model.three.bias[channel] = 0, 0
    return model


@pytest.mark.parametrize("change", [lambda m: m, sharp], ids=["usual", "sharp"])
@pytest.mark.parametrize("layer", ["two", "three"])
def test_scorecam_matches_its_formula(small, layer, change):
    model, images, classes, _ = small
    model = change(model)
    found = attribute(model, images, classes, ["scorecam"], [layer])["scorecam", layer]
    for cam, image, cls in zip(found, images, classes, strict=True):
        a = reference.layer_passes(model, image[None], cls, [layer])[layer][0][0].detach()
        truth = slow_scorecam(model, image, cls, a)
        assert truth.max() > 0
        assert reference.relative_error(cam, truth) < EXACT


def test_scorecam_of_flat_channels_is_zero():
    """No mask can be made of them; the score of a black picture would be no reason either."""
    model = Small()
    model.two.weight.data.zero_()
    maps = attribute(model, torch.rand(2, 3, 8, 8), methods=["scorecam"], layers=["two"])
    assert maps.status["scorecam", "two"] == ["zero", "zero"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("error")
def test_every_method_works_in_every_precision(method, dtype):
    """Without a warning, and as near to the map in double precision as the dtype's passes allow."""
    torch.manual_seed(5)
    model, images = lively(Small(F.gelu)), torch.rand(2, 3, 14, 14, dtype=torch.float64)
    truth = attribute(model, images, [0, 1], [method], ["two"])
    found = attribute(copy.deepcopy(model).to(dtype), images.to(dtype), [0, 1], [method], ["two"])
    for key, cam in found.items():
        assert cam.dtype == torch.float32
        error = (cam - truth[key]).norm() / truth[key].norm()
        assert error < {torch.float64: 1e-6, torch.float16: 0.05, torch.bfloat16: 0.3}[dtype], error


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam", "hirescam", "eigencam"])
def test_cams_do_not_overflow_in_half_precision(method):
    """Activations in the hundreds and gradients of ones, whose products leave float16."""

    class Loud(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).amax(dim=(2, 3))[:, :2] * 8

    model, images = Loud(), 400 + 100 * torch.rand(1, 3, 16, 16)
    model.conv.weight.data.abs_()
    maps = attribute(model.half(), images.half(), 0, [method], ["conv"])
    assert maps.status[method, "conv"] == ["ok"]


def test_gradcam_plus_plus_holds_for_small_gradients(small):
    """A faint score scaled once more only scales its map; grad-cam's epsilon of 1e-6 breaks this."""
    model, images, classes, _ = small
    faint = copy.deepcopy(model)
    faint.head.weight.data *= 1e-6
    fainter = copy.deepcopy(model)
    fainter.head.weight.data *= 1e-9
    one = attribute(faint, images, classes, ["gradcam++"], ["three"])["gradcam++", "three"] * 1e3
    other = attribute(fainter, images, classes, ["gradcam++"], ["three"])["gradcam++", "three"] * 1e6
    assert reference.relative_error(one, other) < 1e-4


def gradient(model, images, classes):
    leaf = images.clone().requires_grad_()
    score = model(leaf)[torch.arange(len(classes)), classes].sum()
    return torch.autograd.grad(score, leaf)[0]


def test_input_x_gradient_is_the_product(small):
    model, images, classes, _ = small
    found = attribute(model, images, classes, ["input_x_gradient"])["input_x_gradient", None]
    assert reference.relative_error(found, images * gradient(model, images, classes)) < EXACT


def test_integrated_gradients_are_complete():
    """On a smooth network they sum to score(x) - score(0) and equal a fine Riemann sum along the path."""
    torch.manual_seed(3)
    model, images, classes = lively(Small(F.gelu)), torch.randn(3, 3, 12, 12, dtype=torch.float64), [0, 1, 0]
    found = attribute(model, images, classes, ["integrated_gradients"])["integrated_gradients", None]
    rows = torch.arange(3)
    gain = model(images)[rows, classes] - model(torch.zeros_like(images))[rows, classes]
    assert torch.allclose(found.double().sum(dim=(1, 2, 3)), gain, rtol=1e-4)
    steps = (torch.arange(1000) + 0.5) / 1000
    mean = sum(gradient(model, images * step, classes) for step in steps.tolist()) / 1000
    assert reference.relative_error(found, images * mean) < 1e-4


def test_smoothgrad_averages_noisy_gradients(small):
    """Exact on a network without rectifier, where noise averages out of the gradient's linear part alone."""
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    found = attribute(linear, images, [0, 1], ["smoothgrad"])["smoothgrad", None]
    assert reference.relative_error(found, gradient(linear, images, [0, 1])) < EXACT
    model, images, classes, _ = small
    found = attribute(model, images, classes, ["smoothgrad"])["smoothgrad", None]
    for index, image in enumerate(images):
        torch.manual_seed(100 + index)
        deviation = 0.15 * (image.max() - image.min())
        noisy = image + deviation * torch.randn(4000, *image.shape, dtype=torch.float64)
        each = gradient(model, noisy, [classes[index]] * 4000)
        error = (found[index] - each.mean(dim=0)).abs() / (each.std(dim=0) / 25**0.5 + 1e-12)
        assert error.mean() < 1.5  # a mean of 25 lies one standard error off, 0.8 in absolute mean
        assert error.max() < 6


def test_occlusion_finds_the_fall_of_the_score():
    """A score that reads one pixel falls by its value exactly where a square covers it."""

    class OnePixel(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0, 9, 20], -x[:, 0, 9, 20]], dim=1)

    images = torch.full((1, 3, 28, 28), 2.0)
    found = attribute(OnePixel(), images, 0, ["occlusion"])["occlusion", None][0, 0]
    assert found.argmax() // 28 in range(8, 12)
    assert found[9, 20] == 2.0
    assert (found[:4] == 0).all()
    assert (found[:, :16] == 0).all()


class Fails(Small):
    """A network that raises in its last forward pass, or in its backward pass."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def forward(self, x):
        x = F.relu(self.one(x))
        if self.where == "forward":
            raise RuntimeError("planted")
        x = F.relu(self.two(x))
        if self.where == "backward" and x.requires_grad:
            x.register_hook(fail)
        return self.head(torch.flatten(self.pool(x), 1))


def fail(g):
    raise RuntimeError("planted")


def state(model, images):
    """All that a caller could find changed."""
    modules = dict(model.named_modules())
    return {
        "weights": {k: v.clone() for k, v in model.state_dict().items()},
        "tensors": {k: id(v) for k, v in [*model.named_parameters(), *model.named_buffers()]},
        "modes": {k: m.training for k, m in modules.items()},
        "hooks": {
            k: [list(getattr(m, h)) for h in vars(m) if h.endswith("_hooks")] for k, m in modules.items()
        },
        "forwards": {k: m.forward for k, m in modules.items()},
        "free": {k: p.requires_grad for k, p in model.named_parameters()},
        "gradients": {k: None if p.grad is None else p.grad.clone() for k, p in model.named_parameters()},
        "images": images.detach().clone(),
        "image": (images.requires_grad, images.grad, images._version, images.is_leaf),
        "random": (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()),
        "grad mode": torch.is_grad_enabled(),
        "modes active": len(torch.overrides._get_current_function_mode_stack()),
    }


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else a == b


def unusual(model):
    """A caller's network in the middle of training: mixed modes, a frozen weight, gradients, a hook."""
    model.train()
    model.two.eval()
    model.one.bias.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    model.head.register_forward_hook(lambda module, inputs, output: None)
    return model


@pytest.mark.parametrize("where", ["nowhere", "forward", "backward"])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_the_callers_is_touched(method, where):
    torch.manual_seed(0)
    model, images = unusual(Fails(where)), torch.rand(2, 3, 8, 8, requires_grad=True)
    before = state(model, images)
    if where == "nowhere":
        attribute(model, images, methods=[method], layers=["two"])
    elif where == "forward" or METHODS[method].rules or METHODS[method].layer_gradients:
        with pytest.raises(AttributionError, match="planted"):
            attribute(model, images, methods=[method], layers=["two"])
    assert same(state(model, images), before)


@pytest.mark.parametrize(
    "call", [{"layers": ["no"]}, {"layers": ["head"]}, {"targets": 9, "layers": ["two"]}]
)
def test_nothing_is_touched_when_the_call_is_refused(call):
    model, images = unusual(Small()), torch.rand(2, 3, 8, 8)
    before = state(model, images)
    with pytest.raises(Exception):  # noqa: B017, PT011
        attribute(model, images, **call)
    assert same(state(model, images), before)


def test_buffers_that_a_forward_pass_writes_are_put_back():
    class Counts(Small):
        def __init__(self):
            super().__init__()
            self.register_buffer("passes", torch.zeros(()))
            self.register_buffer("mean", torch.zeros(6))

        def forward(self, x):
            self.passes = self.passes + 1
            self.mean.add_(1)
            return super().forward(x)

    model, images = unusual(Counts()), torch.rand(2, 3, 8, 8)
    before = state(model, images)
    attribute(model, images, layers=["two"])
    assert same(state(model, images), before)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_callers_context_does_no_harm(context):
    torch.manual_seed(0)
    model, images = Small(), torch.rand(2, 3, 8, 8)
    truth = attribute(model, images, layers=["two"])
    with context():
        inside = torch.rand(2, 3, 8, 8).copy_(images)
        found = attribute(model, inside, layers=["two"])
    assert all(torch.equal(truth[key], found[key]) for key in truth)


def test_a_network_that_writes_into_its_input_does_not_reach_the_callers():
    class Greedy(Small):
        def forward(self, x):
            return super().forward(x.mul_(2))

    images = torch.rand(1, 3, 8, 8)
    kept = images.clone()
    attribute(Greedy(), images, layers=["two"])
    assert torch.equal(images, kept)


def test_the_random_state_does_not_decide_the_maps():
    torch.manual_seed(1)
    model, images = Small(), torch.rand(1, 3, 8, 8)
    one = attribute(model, images, methods=["smoothgrad"])["smoothgrad", None]
    torch.manual_seed(2)
    assert torch.equal(one, attribute(model, images, methods=["smoothgrad"])["smoothgrad", None])


def test_memory_stays_flat_over_60_batches():
    torch.manual_seed(0)
    model, images = OneModule(inplace=True), torch.rand(8, 3, 64, 64)

    def tensors():
        gc.collect()
        return sum(isinstance(o, torch.Tensor) for o in gc.get_objects())

    for _ in range(10):
        attribute(model, images, layers=["two"])
    count, peak = tensors(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gc.disable()  # nothing may wait for the collector: a cycle would hold the whole graph
    try:
        for _ in range(60):
            attribute(model, images, layers=["two"])
    finally:
        gc.enable()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert tensors() == count
    assert grown < 4 * 1024  # kilobytes; one batch's graph alone is over 20 MB
