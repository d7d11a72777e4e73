"""The engine against captum where captum is right, and against the slow reference everywhere."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import reference
import torch
import torch.nn.functional as F
from networks import (
    HARD,
    KINDS,
    LARGE,
    UNRECTIFIED,
    InPlace,
    OneModule,
    OutOfPlace,
    Small,
    built,
    images_for,
    lively,
    marked,
)
from speed import first_quick
from torch import nn

from xface.attribution import CORE_METHODS, METHODS, Maps, attribute
from xface.errors import AttributionError, TargetError, UnknownNameError, UsageError
from xface.networks import ARCHITECTURES

EXACT = 1e-6  # relative to the largest value; maps are float32 roundings of a float64 run
RULES = {"vanilla": "plain", "guided": "guided", "deconvnet": "deconvnet"}


@dataclass(frozen=True)
class Case:
    """An architecture's core maps at all its stages for one or two images, and the references for them."""

    stages: tuple[str, ...]
    maps: Maps
    backprop: dict[str, torch.Tensor]
    cams: dict[str, torch.Tensor]


ELSEWHERE = UNRECTIFIED | {"rahmouni"}  # in test_handmade
COMPARED = [name for name in KINDS if name not in ELSEWHERE]


@pytest.fixture(scope="module", params=marked(COMPARED, without=("xception", "inception_v3", "vgg16_c")))
def case(request):
    stages, classes = ARCHITECTURES[request.param].stages, [1] if request.param in LARGE else [0, 1]
    model, images = built(request.param), images_for(request.param, len(classes))
    maps = attribute(model, images, targets=classes, layers=stages)
    truth = (
        reference.input_gradients(model, images, classes),
        reference.gradcams(model, images, classes, stages),
    )
    return Case(stages, maps, *truth)


@pytest.mark.parametrize("method", RULES)
def test_backprop_matches_the_reference(case, method):
    assert reference.relative_error(case.maps[method, None], case.backprop[RULES[method]]) < EXACT
    assert set(case.maps.status[method, None]) == {"ok"}


def test_gradcam_matches_the_reference_at_every_stage(case):
    for layer in case.stages:
        assert_same(case.maps["gradcam", layer], case.cams[layer])


def test_guided_gradcam_is_the_product(case):
    guided = case.backprop["guided"]
    for layer in case.stages:
        truth = guided * reference.upsample(case.cams[layer], *guided.shape[2:])[:, None]
        assert_same(case.maps["guided_gradcam", layer], truth)


def assert_same(found, truth):
    """Equal image by image, each to its own scale: a map that is all zero must be found all zero."""
    for mine, theirs in zip(found, truth, strict=True):
        if theirs.abs().max() == 0:
            assert mine.abs().max() == 0
        else:
            assert reference.relative_error(mine, theirs) < EXACT


def test_the_rules_differ(case):
    """Published images show guided = deconvnet = vanilla where there is no nn.ReLU to hook."""
    pairs = (("guided", "vanilla"), ("deconvnet", "vanilla"), ("guided", "deconvnet"))
    for one, other in pairs:
        assert reference.relative_error(case.maps[one, None], case.maps[other, None]) > 0.01
    assert case.maps.rule["vanilla", None] == "published"


def test_rule_tells_relu_from_other_rectifiers():
    relu, silu = Small().double(), Small(F.silu).double()
    images = torch.rand(1, 3, 8, 8)
    for method in ("guided", "deconvnet"):
        assert attribute(relu, images, methods=[method]).rule[method, None] == "published"
        assert attribute(silu, images, methods=[method]).rule[method, None] == "extended"
    maps = attribute(silu, images, layers=["two"])
    assert maps.rule["guided_gradcam", "two"] == "extended"
    assert maps.rule["gradcam", "two"] == maps.rule["vanilla", None] == "published"


@pytest.mark.parametrize("name", first_quick(["resnet18", "vgg11_bn", "resnet50", "vgg11", "vgg16_c"], 2))
def test_captum_agrees_on_resnet_and_vgg(name):
    from captum.attr import Deconvolution, GuidedBackprop, GuidedGradCam, LayerGradCam, Saliency

    model, images, layer = built(name), images_for(name), ARCHITECTURES[name].layer
    maps = attribute(model, images, targets=[1, 0], layers=[layer])
    theirs = copy.deepcopy(model)
    for module in theirs.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    target, tapped = torch.tensor([1, 0]), theirs.get_submodule(layer)
    truth = {
        ("vanilla", None): Saliency(theirs).attribute(images, target, abs=False),
        ("guided", None): GuidedBackprop(theirs).attribute(images, target),
        ("deconvnet", None): Deconvolution(theirs).attribute(images, target),
        ("gradcam", layer): LayerGradCam(theirs, tapped).attribute(images, target, relu_attributions=True)[
            :, 0
        ],
        ("guided_gradcam", layer): GuidedGradCam(theirs, tapped).attribute(
            images, target, interpolate_mode="bilinear"
        ),
    }
    assert set(truth) == set(maps)
    for key, expected in truth.items():
        assert expected.abs().max() > 0
        assert reference.relative_error(maps[key], expected) < 1e-5, key


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("method", RULES)
def test_hard_cases_match_the_reference(case, method):
    torch.manual_seed(1)
    model, images = lively(HARD[case]()), torch.randn(3, 3, 12, 12, dtype=torch.float64)
    found = attribute(model, images, targets=[0, 1, 1], methods=[method])[method, None]
    truth = reference.input_gradients(model, images, [0, 1, 1])[RULES[method]]
    assert reference.relative_error(found, truth) < EXACT


@pytest.mark.parametrize("layer", ["one", "two"])
def test_in_place_calls_change_neither_maps_nor_taps(layer):
    torch.manual_seed(2)
    model = lively(InPlace())
    plain = OutOfPlace().double()
    plain.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    assert torch.equal(model(images.clone()), plain(images.clone()))
    found, truth = attribute(model, images, layers=[layer]), attribute(plain, images, layers=[layer])
    for key in truth:
        assert reference.relative_error(found[key], truth[key]) < EXACT, key
    classes = truth.targets.tolist()
    backprop = reference.input_gradients(plain, images, classes)
    for method, rule in RULES.items():
        assert reference.relative_error(found[method, None], backprop[rule]) < EXACT
    assert_same(found["gradcam", layer], reference.gradcams(plain, images, classes, [layer])[layer])


def test_one_logit_head_has_two_classes():
    torch.manual_seed(0)
    model, images = Small(classes=1).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    maps = {c: attribute(model, images, targets=c, methods=["vanilla"])["vanilla", None] for c in (0, 1)}
    assert torch.equal(maps[0], -maps[1])
    leaf = images.clone().requires_grad_()
    truth = torch.autograd.grad(model(leaf).sum(), leaf)[0]
    assert reference.relative_error(maps[1], truth) < EXACT
    predicted = attribute(model, images, methods=["vanilla"]).targets
    assert torch.equal(predicted, (model(images)[:, 0] > 0).long())


def test_margin_is_the_logit_less_the_best_other():
    torch.manual_seed(0)
    model, images = Small(classes=4).double(), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    found = attribute(model, images, targets="margin", methods=["vanilla"])["vanilla", None]
    for image, map_ in zip(images, found, strict=True):
        leaf = image[None].clone().requires_grad_()
        first, second = model(leaf)[0].topk(2).values
        assert reference.relative_error(map_, torch.autograd.grad(first - second, leaf)[0][0]) < EXACT


def test_the_defaults_are_the_core_methods_at_a_resnets_last_stage():
    maps = attribute(built("resnet18"), images_for("resnet18", 1))
    assert set(maps) == {
        *(((m, None)) for m in ("vanilla", "deconvnet", "guided")),
        *((m, "layer4") for m in ("gradcam", "guided_gradcam")),
    }


def test_targets_none_takes_each_images_prediction():
    torch.manual_seed(0)
    model, images = Small(classes=5), torch.randn(6, 3, 8, 8)
    maps = attribute(model, images, methods=["vanilla"])
    assert torch.equal(maps.targets, model(images).argmax(1))
    again = attribute(model, images, targets=maps.targets, methods=["vanilla"])
    assert torch.equal(maps["vanilla", None], again["vanilla", None])


@pytest.mark.parametrize(
    "targets", [[0], [0, 1, 0], 2, -1, [0, 2], [0.5, 1], "fake", torch.zeros(2, 2).long()]
)
def test_wrong_targets_are_errors(targets):
    with pytest.raises(TargetError):
        attribute(Small(), torch.rand(2, 3, 8, 8), targets=targets, methods=["vanilla"])


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_equals_the_loop_over_its_images(method):
    torch.manual_seed(4)
    model, images = lively(OneModule()), torch.randn(3, 3, 12, 12, dtype=torch.float64)
    layer = "three" if METHODS[method].layered else None
    layers = ["three"]
    batch = attribute(model, images, methods=[method], layers=layers)[method, layer]
    single = [
        attribute(model, image[None], methods=[method], layers=layers)[method, layer] for image in images
    ]
    assert reference.relative_error(batch, torch.cat(single)) < EXACT


def test_one_layer_of_many_runs_is_refused():
    with pytest.raises(AttributionError, match="more than once"):
        attribute(OneModule(), torch.rand(1, 3, 8, 8), methods=["gradcam"], layers=["relu"])


def test_methods_left_open_are_those_that_the_network_defines():
    """The same maps as when they are named, one forward pass, and a reason for each that is missing."""
    torch.manual_seed(0)
    model, images, runs = Small(torch.sigmoid), torch.rand(2, 3, 8, 8), []
    attribute(model, images, methods=["vanilla"])  # whether images influence each other is tried once
    model.register_forward_hook(lambda module, inputs, output: runs.append(1))
    maps = attribute(model, images, methods=None, layers=["two"])
    assert len(runs) == 1
    truth = attribute(model, images, methods=["vanilla", "gradcam"], layers=["two"])
    assert list(maps) == list(truth)
    assert all(torch.equal(maps[key], truth[key]) for key in truth)
    assert set(maps.undefined) == {"deconvnet", "guided", "guided_gradcam"}
    assert {"no rectifier" in reason for reason in maps.undefined.values()} == {True}
    assert truth.undefined == {}


@pytest.mark.parametrize(
    ("model", "layers", "undefined"),
    [
        (Small, ["two"], {}),
        (Small, [], {"gradcam": "no layer", "guided_gradcam": "no layer"}),
        (
            lambda: torch.jit.trace(Small(), torch.rand(1, 3, 8, 8)),
            [],
            {
                "deconvnet": "scripted",
                "guided": "scripted",
                "gradcam": "no layer",
                "guided_gradcam": "scripted",
            },
        ),
        (
            lambda: Small(lambda x: F.relu(_Swish.apply(x))),
            ["two"],
            dict.fromkeys(["deconvnet", "guided", "guided_gradcam"], "may be rectifiers"),
        ),
    ],
    ids=["all defined", "no layer", "scripted", "hidden rectifiers"],
)
def test_each_undefined_method_has_its_reason(model, layers, undefined):
    model, images = model(), torch.rand(1, 3, 8, 8)
    maps = attribute(model, images, methods=None, layers=layers)
    assert {method for method, _ in maps} == set(CORE_METHODS) - undefined.keys()
    assert maps.undefined.keys() == undefined.keys()
    assert all(undefined[name] in reason for name, reason in maps.undefined.items())
    assert all(f"no {name}" in repr(maps) or f", {name}" in repr(maps) for name in undefined)
    for name in undefined:
        with pytest.raises((AttributionError, UsageError)):
            attribute(model, images, methods=[name], layers=layers)


def test_a_layer_without_map_is_an_error_also_where_methods_are_left_open():
    with pytest.raises(AttributionError, match="feature map"):
        attribute(Small(), torch.rand(1, 3, 8, 8), methods=None, layers=["head"])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"methods": ["gradcm"]}, UnknownNameError, "gradcam"),
        ({"layers": ["tow"]}, UnknownNameError, "two"),
        ({"layers": []}, UsageError, "layers"),
        ({"layers": ["head"]}, AttributionError, "feature map"),
        ({"images": torch.rand(3, 8, 8)}, UsageError, "N, C, H, W"),
        ({"images": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, UsageError, "float"),
        ({"images": torch.zeros(0, 3, 8, 8)}, UsageError, "N > 0"),
    ],
)
def test_bad_arguments_say_what_is_wrong(arguments, error, words):
    call = {"images": torch.rand(1, 3, 8, 8), "methods": ["gradcam"], "layers": ["two"], **arguments}
    with pytest.raises(error, match=words):
        attribute(Small(), **call)


def test_status_tells_zero_and_non_finite_maps():
    model = Small()
    nn.init.zeros_(model.head.weight)
    maps = attribute(model, torch.rand(2, 3, 8, 8), layers=["two"])
    assert all(status == ["zero", "zero"] for status in maps.status.values())
    images = torch.rand(2, 3, 8, 8)
    images[1, 0, 0, 0] = float("nan")
    maps = attribute(
        Small(), images, layers=["two"], methods=["gradcam", "gradcam++", "layercam", "eigencam"]
    )
    for method, layer in maps:
        assert maps.status[method, layer][1] == "non_finite", method
        assert maps.status[method, layer][0] != "non_finite", method


def test_a_hand_written_silus_own_gradient_is_autograds_bit_by_bit():
    torch.manual_seed(0)
    model, images = Small(lambda x: x * torch.sigmoid(x)), torch.rand(2, 3, 8, 8)
    leaf = images.clone().requires_grad_()
    truth = torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)[0]
    assert torch.equal(attribute(model, images, 0, ["vanilla"])["vanilla", None], truth)


def test_grey_images():
    grey = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    assert attribute(grey, torch.rand(2, 1, 8, 8), methods=["guided"])["guided", None].shape == (2, 1, 8, 8)


class SwishOfModules(Small):
    """A hand-written SiLU whose sigmoid is a module that can be tapped."""

    def __init__(self) -> None:
        super().__init__(lambda x: x)
        self.gate = nn.Sigmoid()

    def forward(self, x):
        x = self.one(x)
        x = F.relu(self.two(x * self.gate(x)))
        return self.head(torch.flatten(self.pool(x), 1))


def test_a_tapped_sigmoid_has_its_own_gradient_and_changes_no_rule():
    torch.manual_seed(1)
    model, images = lively(SwishOfModules()), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    tapped = attribute(model, images, [0, 1], layers=["gate", "one"])
    truth = reference.gradcams(model, images, [0, 1], ["gate", "one"])
    alone = attribute(model, images, [0, 1], list(RULES))
    for layer, cams in truth.items():
        assert cams.max() > 0
        assert_same(tapped["gradcam", layer], cams)
    for method in RULES:
        assert reference.relative_error(tapped[method, None], alone[method, None]) < EXACT
    assert reference.relative_error(alone["guided", None], alone["vanilla", None]) > 0.01
    assert alone.rule["guided", None] == "extended"


class _Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x)))


def _to_script(x):
    return torch.relu(x) + 0.1


@pytest.mark.parametrize("hidden", [lambda: _Swish.apply, lambda: torch.jit.script(_to_script)])
def test_a_rectifier_that_cannot_be_routed_is_refused(hidden):
    hidden = hidden()
    model = Small(lambda x: F.relu(hidden(x)))
    for _ in range(3):  # torch.jit changes its plan over the first calls
        for method in ("guided", "deconvnet"):
            with pytest.raises(AttributionError, match="may be rectifiers"):
                attribute(model, torch.rand(1, 3, 8, 8), methods=[method])
    assert attribute(model, torch.rand(1, 3, 8, 8), methods=["vanilla"]).status["vanilla", None] == ["ok"]


def test_prelu_with_a_slope_for_each_channel():
    torch.manual_seed(0)
    model = lively(Small(lambda z: F.prelu(z, torch.linspace(0.1, 0.3, z.shape[1], dtype=z.dtype))))
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    leaf = images.clone().requires_grad_()
    truth = torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)[0]
    maps = attribute(model, images, 0, ["vanilla", "guided"])
    assert reference.relative_error(maps["vanilla", None], truth) < EXACT
    assert maps.rule["guided", None] == "extended"


class Squeezes(Small):
    def forward(self, x):
        return super().forward(x).squeeze()


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_a_squeezed_output_is_read_by_the_number_of_images(classes):
    torch.manual_seed(0)
    model, images = Squeezes(classes=classes).double(), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    batch = attribute(model, images, methods=["vanilla"])
    for index in range(3):
        one = attribute(model, images[index : index + 1], methods=["vanilla"])
        assert one.targets[0] == batch.targets[index]
        assert reference.relative_error(one["vanilla", None][0], batch["vanilla", None][index]) < EXACT
    with pytest.raises(TargetError):
        attribute(model, images[:1], [1, 0], ["vanilla"])


class Refuses(Small):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        if self.how == "no_grad":
            with torch.no_grad():
                return super().forward(x)
        z = F.relu(self.one(x))
        if self.how == "overwritten":
            z += 1
        else:
            F.relu_(z.chunk(2, dim=1)[0])
        return self.head(torch.flatten(self.pool(F.relu(self.two(z))), 1))


@pytest.mark.parametrize(
    ("how", "words"), [("no_grad", "no gradient"), ("overwritten", "in-place"), ("chunk", "in-place")]
)
def test_networks_without_gradient_say_so(how, words):
    with pytest.raises(AttributionError, match=words):
        attribute(Refuses(how), torch.rand(1, 3, 8, 8), layers=["two"])


def test_a_map_of_a_score_that_is_not_finite_is_not_ok():
    model, images = Small(), torch.rand(2, 3, 8, 8)
    nn.init.constant_(model.head.bias, float("nan"))
    for statuses in attribute(model, images, 0, list(METHODS), ["two"]).status.values():
        assert statuses == ["non_finite", "non_finite"]


def test_autocast_inside_the_network():
    class Mixed(Small):
        def __init__(self):
            super().__init__()
            self.one, self.norm = nn.Conv2d(3, 6, 7, 2, 3), nn.BatchNorm2d(6)

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x) + self.norm(self.one(x)).mean()

    torch.manual_seed(0)
    model, images = Mixed().eval(), torch.rand(2, 3, 16, 16)
    leaf = images.clone().requires_grad_()
    truth = torch.autograd.grad(model(leaf)[:, 0].float().sum(), leaf)[0]
    maps = attribute(model, images, 0, ["vanilla"])
    assert reference.relative_error(maps["vanilla", None], truth) < 0.02
    assert any("a part of the network computes in bfloat16" in note for note in maps.notes)
