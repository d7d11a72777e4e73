"""Rectifiers put together by hand have the rules of the functions that they are."""

from __future__ import annotations

import math
import operator
import threading

import pytest
import reference
import torch
import torch.nn.functional as F
from networks import Small, lively
from torch import nn

from xface.attribution import attribute

EXACT = 1e-6
RULES = {"vanilla": "plain", "guided": "guided", "deconvnet": "deconvnet"}


def filled(x):
    x = x.clone()
    x[x < 0] = 0
    return x


RELUS = {
    "maximum(0, x)": lambda x: torch.maximum(torch.tensor(0.0, dtype=x.dtype), x),
    "maximum(x, zeros)": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "max(x, 0)": lambda x: torch.max(x, torch.zeros(1, dtype=x.dtype)),
    "max(other=)": lambda x: torch.max(input=torch.zeros_like(x), other=x),
    "fmax": lambda x: torch.fmax(x, torch.zeros_like(x)),
    "clamp(0, inf)": lambda x: x.clamp(0, math.inf),
    "clamp(min=0)": lambda x: torch.clamp(x, min=0),
    "clamp(min=tensor)": lambda x: torch.clamp(x, min=torch.zeros_like(x)),
    "clamp_min_": lambda x: (x * 1).clamp_min_(0),
    "clip": lambda x: x.clip(0.0),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "where, turned": lambda x: torch.where(x <= 0, torch.zeros_like(x), x),
    "x.where": lambda x: x.where(x > 0, torch.zeros_like(x)),
    "x * (x > 0)": lambda x: x * (x > 0),
    "mask as float": lambda x: (x > 0).to(x.dtype) * x,
    "mask in place": lambda x: (x * 1).mul_(x.gt(0)),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.0),
    "x[x < 0] = 0": filled,
    "heaviside": lambda x: x * torch.heaviside(x.detach(), torch.zeros(1, dtype=x.dtype)),
    "mask of a detached": lambda x: x * (x.detach() > 0),
    "(x + |x|) / 2": lambda x: (x + x.abs()) / 2,
    "sign": lambda x: x * (torch.sign(x) + 1) / 2,
    "-min(-x, 0)": lambda x: -torch.minimum(-x, torch.zeros_like(x)),
    "-clamp(-x, max=0)": lambda x: -(-x).clamp(max=0),
    "mask.type_as": lambda x: x * (x >= 0).type_as(x),
    "mask.int": lambda x: (x > 0).int() * x,
    "mask & mask": lambda x: x * ((x > 0) & (x >= 0)),
    "sgn": lambda x: x * (1 + x.sgn()) / 2,
    "addcmul": lambda x: torch.addcmul(torch.zeros_like(x), x, (x > 0).to(x)),
    "root of a square": lambda x: (x + (x**2) ** 0.5) / 2,
    "threshold": lambda x: F.threshold(x, 0, 0),
    "hardtanh(0, inf)": lambda x: F.hardtanh(x, 0, math.inf),
}
OTHERS = {
    "silu": {
        "x * sigmoid(x)": lambda x: x * torch.sigmoid(x),
        "sigmoid(x) * x": lambda x: x.sigmoid() * x,
        "mul": lambda x: torch.mul(nn.Sigmoid()(x), x),
        "multiply": lambda x: x.multiply(F.sigmoid(x)),
        "in place": lambda x: x.mul_(x.sigmoid()),
        "*=": lambda x: operator.imul(x, torch.special.expit(input=x)),
        "gate kept": lambda x: (lambda gate: x * gate + 0 * gate)(torch.sigmoid(x)),
        "x * sigmoid(x + 0)": lambda x: x * torch.sigmoid(x + 0),
        "x / (1 + e^-x)": lambda x: x / (1 + (-x).exp()),
        "addcdiv": lambda x: torch.addcdiv(torch.zeros_like(x), x, 1 + torch.exp(-x)),
        "tanh": lambda x: x * (1 + torch.tanh(x / 2)) / 2,
    },
    "gelu": {
        "erf": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
        "erf last": lambda x: (1 + torch.erf(x * 0.5**0.5)) * (x * 0.5),
    },
    "hardswish": {
        "x * relu6(x + 3) / 6": lambda x: x * F.relu6(x + 3) / 6,
        "x * (relu6 / 6)": lambda x: x * (F.relu6(x + 3, inplace=True) / 6),
        "clamp": lambda x: x * (x + 3).clamp(0, 6) / 6,
        "hardtanh": lambda x: (F.hardtanh(x + 3, 0.0, 6.0) / 6) * x,
        "hardsigmoid": lambda x: x * F.hardsigmoid(x),
        "relu, clamp": lambda x: x * F.relu(x + 3).clamp(max=6) / 6,
        "maximum, minimum": lambda x: (
            x * torch.minimum(torch.maximum(x + 3, torch.zeros_like(x)), torch.full_like(x, 6)) / 6
        ),
    },
    "leaky_relu": {
        "max(x, 0.1 x)": lambda x: torch.max(x, 0.1 * x),
        "where": lambda x: torch.where(x > 0, x, 0.1 * x),
        "per channel": lambda x: torch.where(x >= 0, x, torch.full((1, x.shape[1], 1, 1), 0.1).to(x) * x),
    },
    "elu": {
        "where": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
        "expm1": lambda x: torch.where(x > 0, x, torch.expm1(x)),
    },
}
NAMED = {
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "elu": F.elu,
}


class Two(Small):
    """A hand-written rectifier, then a ReLU by name: the map must not be right by half."""

    def forward(self, x):
        x = F.relu(self.two(self.activation(self.one(x))))
        return self.head(torch.flatten(self.pool(x), 1))


def check(by_hand, named, rule):
    torch.manual_seed(0)
    model, images = lively(Two(by_hand)), torch.randn(3, 3, 12, 12, dtype=torch.float64)
    plain = Two(named).double()
    plain.load_state_dict(model.state_dict())
    truth = reference.input_gradients(plain, images, [0, 1, 1])
    maps = attribute(model, images, [0, 1, 1], list(RULES))
    for method, name in RULES.items():
        assert reference.relative_error(maps[method, None], truth[name]) < EXACT, method
    assert maps.rule["guided", None] == maps.rule["deconvnet", None] == rule
    assert torch.equal(maps.output, model(images))
    for method in RULES:
        alone = attribute(model, images, [0, 1, 1], [method])[method, None]
        assert reference.relative_error(alone, truth[RULES[method]]) < EXACT, method


@pytest.mark.parametrize("spelling", RELUS)
def test_a_relu_by_hand(spelling):
    check(RELUS[spelling], F.relu, "published")


@pytest.mark.parametrize(("name", "spelling"), [(name, s) for name, each in OTHERS.items() for s in each])
def test_another_rectifier_by_hand(name, spelling):
    check(OTHERS[name][spelling], NAMED[name], "extended")


SOFTPLUS = {
    "softplus": F.softplus,
    "log1p": lambda x: torch.log1p(x.exp()),
    "-logsigmoid": lambda x: -F.logsigmoid(-x),
    "clamp + log1p": lambda x: x.clamp(min=0) + torch.log1p(torch.exp(-x.abs())),
    "log1p + relu": lambda x: torch.log1p(torch.exp(-x.abs())) + F.relu(x),
    "logaddexp": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
}


@pytest.mark.parametrize("spelling", SOFTPLUS)
@pytest.mark.parametrize("mish", [True, False])
def test_mish_and_softplus_by_hand_are_these(spelling, mish):
    torch.manual_seed(0)
    images, by_hand = torch.randn(2, 3, 12, 12, dtype=torch.float64), SOFTPLUS[spelling]
    model = lively(Two((lambda x: x * torch.tanh(by_hand(x))) if mish else by_hand))
    named = Two(F.mish if mish else F.softplus).double()
    named.load_state_dict(model.state_dict())
    found, truth = (attribute(m, images, [0, 1], list(RULES)) for m in (model, named))
    for method in RULES:
        assert reference.relative_error(found[method, None], truth[method, None]) < EXACT
    assert found.rule["guided", None] == "extended"


@pytest.mark.parametrize("spelling", ["relu6(x + 3) / 6", "hardtanh"])
def test_a_gate_by_hand_is_that_gate(spelling):
    """A gate keeps its true gradient under every rule, whatever it is put together from."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)

    def gated(gate):
        return lambda x: F.relu(x).flip(3) * gate(x.mean(dim=(2, 3), keepdim=True))

    by_hand = {
        "relu6(x + 3) / 6": lambda z: F.relu6(z + 3) / 6,
        "hardtanh": lambda z: F.hardtanh(z + 3, 0.0, 6.0) / 6,
    }
    model, named = lively(Two(gated(by_hand[spelling]))), Two(gated(F.hardsigmoid)).double()
    named.load_state_dict(model.state_dict())
    truth = reference.input_gradients(named, images, [0, 1])
    maps = attribute(model, images, [0, 1], list(RULES))
    for method, rule in RULES.items():
        assert reference.relative_error(maps[method, None], truth[rule]) < EXACT
        assert maps.rule[method, None] == "published"


def with_zeros(x):
    return torch.stack([x, torch.zeros_like(x)])


def without_gradient(function):
    with torch.no_grad():
        return function()


def written(x):
    both = torch.zeros(2, *x.shape, dtype=x.dtype)
    both[0] = x
    return both.amax(0)


def in_parts(x):
    x = x.clone()
    x[:, :2] *= torch.sigmoid(x[:, :2].clone())
    x[:, 2:] *= torch.sigmoid(x[:, 2:].clone())
    return x


def by_numpy(x):
    values = x.detach().numpy()
    return x * torch.from_numpy((values > values.mean()).astype("float64"))


def per_channel(x):
    return torch.linspace(-0.5, 0.9, x.shape[1]).to(x).view(1, -1, 1, 1)


def by_hand(x):
    """The softplus as numerically careful code writes it."""
    most = with_zeros(x).amax(0).detach()
    return most + torch.log(torch.exp(x - most) + torch.exp(-most))


s = torch.sigmoid
SELF_GATED = {
    "einsum": lambda x: torch.einsum("nchw,nchw->nchw", x, s(x)),
    "einsum, summed": lambda x: torch.einsum("nchw,nchw->nc", x, s(x))[..., None, None] + 0 * x,
    "baddbmm": lambda x: torch.baddbmm(
        torch.zeros(1, 1, 1).to(x), x.reshape(-1, 1, 1), s(x).reshape(-1, 1, 1)
    ).view_as(x),
    "matmul": lambda x: (x[..., None, None] @ s(x)[..., None, None])[..., 0, 0],
    "grouped convolution": lambda x: F.conv2d(
        x.reshape(1, -1, 1, 1), s(x).reshape(-1, 1, 1, 1), groups=x.numel()
    ).view_as(x),
    "softmax of a stack": lambda x: x * with_zeros(x).softmax(0)[0],
    "softmax, unbound": lambda x: x * with_zeros(x).softmax(0).unbind(0)[0],
    "softmax of a padded": lambda x: x * F.pad(x[..., None], (0, 1)).softmax(-1)[..., 0],
    "softmax over channels": lambda x: x * x.softmax(1),
    "glu": lambda x: F.glu(torch.cat([x, x], 1), 1),
    "prod": lambda x: torch.stack([x, s(x)]).prod(0),
    "lerp by name": lambda x: torch.lerp(input=torch.zeros_like(x), end=x, weight=s(x)),
    "vmap": lambda x: torch.vmap(lambda a: a * s(a))(x),
    "complex": lambda x: (torch.complex(x, 0 * x) * torch.complex(s(x), 0 * x)).real,
    "turned": lambda x: x * s(x.flip(3)).flip(3),
    "rolled": lambda x: x * s(x.roll(1, 3)).roll(-1, 3),
    "through a view": lambda x: x * F.hardsigmoid(x[None])[0],
    "chunks": lambda x: x * torch.cat([s(part) for part in x.chunk(2, 1)], 1),
    "in parts, in place": in_parts,
    "repeated": lambda x: x * s(x.repeat(1, 2, 1, 1))[:, : x.shape[1]],
    "with itself, softmax": lambda x: (with_zeros(x).softmax(0) * with_zeros(x)).sum(0),
    "vecdot": lambda x: torch.linalg.vecdot(x[..., None], s(x)[..., None]),
    "through a layer norm": lambda x: x * s(F.layer_norm(x, x.shape[1:])),
    "through a norm": lambda x: (
        x * s(F.batch_norm(x, per_channel(x).flatten(), torch.ones(x.shape[1]).to(x)))
    ),
    "kernel of length 1": lambda x: (
        x * s(F.conv2d(x, torch.ones(x.shape[1], 1, 1, 1).to(x), groups=x.shape[1]))
    ),
    "pooling of length 1": lambda x: x * s(F.avg_pool2d(x, 1)),
    "around the mean": lambda x: x * s(x - x.mean()),
    "a gate between": lambda x: x * s(x.mean(dim=(2, 3), keepdim=True)) * F.hardsigmoid(x),
    "overwritten": lambda x: (lambda gate, y: y.add_(1) * gate)(s(x), x),
    "detached": lambda x: x * s(x).detach(),
    "relu, straight through": lambda x: x + (x.relu() - x).detach(),
}
FOLDED = {
    "logsumexp": lambda x: torch.logsumexp(with_zeros(x), 0),
    "log_softmax": lambda x: -torch.log_softmax(with_zeros(x), 0)[1],
    "cross entropy": lambda x: F.binary_cross_entropy_with_logits(x, torch.zeros_like(x), reduction="none"),
    "logcumsumexp": lambda x: torch.logcumsumexp(with_zeros(x), 0)[1],
    "log of a sum": by_hand,
    "amax with itself": lambda x: torch.stack([x, 0.1 * x]).amax(0),
    "amax of multiples": lambda x: (x[..., None] * torch.tensor([1, 0.1]).to(x)).amax(-1),
    "amax of a padded": lambda x: F.pad(x[..., None], (0, 1)).amax(-1),
    "amax of a buffer": written,
    "-amin": lambda x: -with_zeros(-x).amin(0),
    "cummax": lambda x: torch.cummax(with_zeros(x), 0).values[1],
    "max_pool3d": lambda x: F.max_pool3d(torch.stack([x, torch.zeros_like(x)], 2), (2, 1, 1))[:, :, 0],
    "gather": lambda x: with_zeros(x).gather(0, with_zeros(x).argmax(0, keepdim=True))[0],
    "mean with |x|": lambda x: torch.stack([x, x.abs()]).mean(0),
    "tensordot": lambda x: torch.tensordot(
        torch.stack([x, x.abs()]), torch.full((2,), 0.5).to(x), ([0], [0])
    ),
    "linear": lambda x: F.linear(
        torch.cat([x[..., None], x.abs()[..., None]], -1), torch.full((1, 2), 0.5).to(x)
    )[..., 0],
    "modulus": lambda x: (x + torch.view_as_complex(torch.stack([x, torch.zeros_like(x)], -1)).abs()) / 2,
    "norm as |x|": lambda x: (x + torch.linalg.vector_norm(x[None], dim=0)) / 2,
    "steep": lambda x: torch.where(x > 0, x, 0.6 * x),
    "turned over": lambda x: torch.minimum(x, 0.1 * x),
    "of both kinds": lambda x: torch.where(x > 0, x, per_channel(x) * x),
    "atan": lambda x: x * (0.5 + torch.atan(x) / math.pi),
    "softshrink": lambda x: F.softshrink(x, 0.1),
}
BY_ITS_OWN_VALUES = {
    "mean": lambda x: x * (x.detach() > x.detach().mean()),
    "mean, in one": lambda x: x * (x > x.mean()),
    "mean, as a number": lambda x: x * (x > x.mean().item()),
    "mean, as a float": lambda x: x * (x > float(x.mean())).float(),
    "mean, by NumPy": by_numpy,
    "no_grad": lambda x: x * without_gradient(lambda: (x > x.mean()).to(x)),
    "einsum": lambda x: torch.einsum("nchw,nchw->nchw", x, (x > 0).to(x)),
    "where": lambda x: torch.where(x > x.mean((2, 3), keepdim=True), x, 0.1 * x),
    "masked_fill": lambda x: x.masked_fill(x < x.mean(), 0.0),
    "index_put": lambda x: x.index_put((x < x.mean(),), torch.tensor(0.0).to(x)),
    "quantile": lambda x: x * (x > torch.quantile(x.detach().flatten(), 0.5)),
    "kthvalue": lambda x: x * (x >= x.flatten(1).kthvalue(20, 1).values.view(-1, 1, 1, 1)),
    "winners": lambda x: x * (x >= x.topk(2, 1).values[:, -1:]),
    "winners, scattered": lambda x: torch.zeros_like(x).scatter(1, x.topk(2, 1).indices, x.topk(2, 1).values),
    "one winner": lambda x: x * F.one_hot(x.argmax(1), x.shape[1]).permute(0, 3, 1, 2),
    "threshold": lambda x: F.threshold(x, x.mean().item(), 0.0),
    "clamp": lambda x: x.clamp(min=x.detach().mean()),
    "maximum": lambda x: torch.maximum(x, x.mean(1, keepdim=True)),
    "positions": lambda x: torch.zeros_like(x).masked_scatter(x > 0, x[x > 0]),
}


UNROUTED = {
    "clamp(0, 6)": lambda x: x.clamp(0, 6),
    "clamp(min=0.1)": lambda x: x.clamp(min=0.1),
    "minimum(x, 1)": lambda x: torch.minimum(x, torch.full_like(x, 0.2)),
    "hardtanh": F.hardtanh,
    "x[x < 0] = 0.2 x[x < 0]": lambda x: x.index_put((x < 0,), 0.2 * x[x < 0]),
    "masked_scatter": lambda x: x.masked_scatter(x < 0, torch.zeros_like(x)),
    "max of a stack": lambda x: torch.stack([x, torch.zeros_like(x)]).max(dim=0).values,
}


@torch.jit.script
def _scripted_mask(x):
    return (x > 0).to(x.dtype)


def in_a_thread(function, x):
    found = []
    thread = threading.Thread(target=lambda: found.append(function(x)))
    thread.start()
    thread.join()
    return found[0]


def by_position(x):
    flat = x.flatten()
    places = torch.nonzero(flat > 0)[:, 0]
    made = torch.zeros_like(flat)
    made[places] = flat[places]
    return made.view_as(x)


def by_autograd(x):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return x * torch.autograd.grad(F.relu(leaf).sum(), leaf)[0]


def as_matrices(function):
    return lambda x: (x + function(x.reshape(-1, 1, 1)).view_as(x)) / 2


def through_the_grid(x):
    same = torch.eye(2, 3).to(x).expand(len(x), 2, 3)
    return F.grid_sample(x, F.affine_grid(same, x.shape, align_corners=True), align_corners=True)


def by_attention(x):
    values = torch.stack([x.reshape(-1, 1), torch.zeros(x.numel(), 1).to(x)], 1)
    keys = torch.tensor([[1.0], [0.0]]).to(x).expand(x.numel(), 2, 1)
    return F.scaled_dot_product_attention(x.reshape(-1, 1, 1), keys, values, scale=1.0).view_as(x)


UNSEEN = {
    "scripted mask": lambda x: x * _scripted_mask(x),
    "where, scripted": lambda x: torch.where(_scripted_mask(x) > 0, x, torch.zeros_like(x)),
    "mask by vmap": lambda x: x * torch.vmap(lambda a: (a > 0).to(a.dtype))(x),
    "where by vmap": lambda x: torch.vmap(lambda a: torch.where(a > 0, a, 0 * a))(x),
    "mask of a thread": lambda x: x * in_a_thread(lambda a: (a > 0).to(a.dtype), x),
    "in a thread": lambda x: in_a_thread(lambda a: a * (a > 0), x),
    "by position": by_position,
    "by autograd": by_autograd,
    "|x| by cdist": as_matrices(lambda x: torch.cdist(x, torch.zeros_like(x[:1]))),
    "|x| by SVD": as_matrices(torch.linalg.svdvals),
    "|x| by polar": as_matrices(lambda x: torch.polar(x, torch.zeros_like(x)).abs()),
    "gate behind a Fourier transform": lambda x: x * s(torch.fft.ifft2(torch.fft.fft2(x)).real),
    "gate behind a matrix product": lambda x: 2 * x * s(x @ torch.eye(x.shape[-1]).to(x)),
    "gate behind a grid": lambda x: x * s(through_the_grid(x)),
    "attention": by_attention,
    "fake_quantize": lambda x: torch.fake_quantize_per_tensor_affine(x.float(), 0.01, 0, 0, 2000).to(x),
}


UNKNOWN = [
    *UNSEEN.values(),
    *UNROUTED.values(),
    *SELF_GATED.values(),
    *FOLDED.values(),
    *BY_ITS_OWN_VALUES.values(),
]
KEYS = [*UNSEEN, *UNROUTED, *SELF_GATED, *FOLDED, *BY_ITS_OWN_VALUES]


@pytest.mark.parametrize("spelling", UNKNOWN, ids=KEYS)
def test_what_may_be_a_rectifier_and_is_not_routed_is_named(spelling):
    torch.manual_seed(0)
    model, images = lively(Two(spelling)), 3 * torch.randn(2, 3, 12, 12, dtype=torch.float64)
    maps = attribute(model, images, [0, 1], list(RULES))
    assert maps.rule["guided", None] == maps.rule["deconvnet", None] == "partial"
    assert maps.rule["vanilla", None] == "published"
    assert any("may be rectifiers" in note for note in maps.notes)


NO_RECTIFIERS = {
    "a guard": lambda x: F.relu(x) / F.relu(x).sum(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6),
    "F.normalize": lambda x: F.normalize(F.relu(x)),
    "a square": lambda x: F.relu(x) * F.relu(x),
    "tanh": lambda x: torch.tanh(F.relu(x)),
    "max(dim=)": lambda x: F.relu(x) + 0 * x.max(dim=1, keepdim=True).values,
    "maxout": lambda x: torch.max(F.relu(x), F.relu(x).flip(1)),
    "both signs": lambda x: torch.cat([F.relu(x[:, :3]), F.relu(-x[:, :3])], 1),
    "softmax over positions": lambda x: F.relu(x) * x.mean(1, True).flatten(2).softmax(2).view_as(x[:, :1]),
    "centred": lambda x: F.relu(x - x.mean((2, 3), keepdim=True).detach()),
    "gate of another tensor": lambda x: F.relu(x * torch.sigmoid(x.flip(3))),
    "gate of a pooled one": lambda x: F.relu(x * torch.sigmoid(x.mean(dim=(2, 3), keepdim=True))),
    "gate of a convolution": lambda x: F.relu(x * torch.sigmoid(F.avg_pool2d(x, 3, 1, 1))),
    "gate of a number": lambda x: F.relu(torch.sigmoid(x) * 2),
    "squared gate": lambda x: F.relu((lambda gate: gate * gate)(torch.sigmoid(x))),
    "two gates": lambda x: F.relu(x) * torch.sigmoid(x.mean((2, 3), True)) * F.hardsigmoid(x.flip(3)),
    "a clamped gate": lambda x: (lambda y: F.relu(y * (y.flip(3) + 3).clamp(0, 6) / 6))(F.relu(x)),
    "a gate of 1x1 kernels": lambda x: F.relu(x) * s(F.conv2d(x, torch.ones((6, 6, 1, 1)).to(x))),
    "a convolution with a skip": lambda x: F.relu(
        x + F.conv2d(x, torch.ones(6, 1, 3, 3).to(x), None, 1, 1, groups=6)
    ),
    "GLU": lambda x: F.relu(x) * torch.sigmoid(F.relu(x).flip(1)),
    "channels' means": lambda x: (
        F.relu(x) * torch.sigmoid(torch.cat([x.mean(1, True), x.amax(1, True)], 1).sum(1, True))
    ),
}


@pytest.mark.parametrize("spelling", NO_RECTIFIERS)
def test_what_is_no_rectifier_changes_no_rule(spelling):
    torch.manual_seed(0)
    model, images = lively(Two(NO_RECTIFIERS[spelling])), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    truth = reference.input_gradients(model, images, [0, 1])
    maps = attribute(model, images, [0, 1], list(RULES))
    for method, rule in RULES.items():
        assert reference.relative_error(maps[method, None], truth[rule]) < EXACT
        assert maps.rule[method, None] == "published"
