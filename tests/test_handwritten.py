"""Rectifiers put together by hand have the rules of the functions that they are."""

from __future__ import annotations

import math

import pytest
import reference
import torch
import torch.nn.functional as F
from networks import Small, lively

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
        "x * sigmoid(x + 0)": lambda x: x * torch.sigmoid(x + 0),
        "x / (1 + e^-x)": lambda x: x / (1 + (-x).exp()),
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


@torch.jit.script
def _scripted(x):
    return torch.clamp(x, min=0.0)


UNROUTED = {
    "clamp(0, 6)": lambda x: x.clamp(0, 6),
    "clamp(min=0.1)": lambda x: x.clamp(min=0.1),
    "minimum(x, 1)": lambda x: torch.minimum(x, torch.full_like(x, 0.2)),
    "hardtanh": F.hardtanh,
    "x[x < 0] = 0.2 x[x < 0]": lambda x: x.index_put((x < 0,), 0.2 * x[x < 0]),
    "masked_scatter": lambda x: x.masked_scatter(x < 0, torch.zeros_like(x)),
    "max of a stack": lambda x: torch.stack([x, torch.zeros_like(x)]).max(dim=0).values,
}


@pytest.mark.parametrize("spelling", UNROUTED)
def test_what_may_be_a_rectifier_and_is_not_routed_is_named(spelling):
    torch.manual_seed(0)
    model, images = lively(Two(UNROUTED[spelling])), 3 * torch.randn(2, 3, 12, 12, dtype=torch.float64)
    maps = attribute(model, images, [0, 1], list(RULES))
    assert maps.rule["guided", None] == maps.rule["deconvnet", None] == "partial"
    assert maps.rule["vanilla", None] == "published"
    assert any("may be rectifiers" in note for note in maps.notes)


def test_a_scripted_clamp_is_marked_or_refused():
    model, images = lively(Two(_scripted)), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    for _ in range(3):  # torch.jit changes its plan over the first calls
        maps = attribute(model, images, [0, 1], None, ["two"])
        refused = "may be rectifiers" in maps.undefined.get("guided", "")
        assert refused or maps.rule["guided", None] == "partial"


NO_RECTIFIERS = {
    "a guard": lambda x: F.relu(x) / F.relu(x).sum(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6),
    "F.normalize": lambda x: F.normalize(F.relu(x)),
    "a square": lambda x: F.relu(x) * F.relu(x),
    "tanh": lambda x: torch.tanh(F.relu(x)),
    "max(dim=)": lambda x: F.relu(x) + 0 * x.max(dim=1, keepdim=True).values,
    "maxout": lambda x: torch.max(F.relu(x), F.relu(x).flip(1)),
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
