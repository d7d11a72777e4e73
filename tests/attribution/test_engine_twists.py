"""Networks that do unusual things get the right map or one clear error: plain autograd is the reference."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from networks import Small, lively
from PIL import Image
from torch import nn
from torch.utils.checkpoint import checkpoint

import xface
from xface.attribution import CORE_METHODS, METHODS, attribute
from xface.errors import AttributionError, UsageError, XFaceError

EXACT = 1e-6


def images_of(count=2, side=12, seed=0, dtype=torch.float64):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def true_gradient(model, images, classes=(0, 1)):
    leaf = images.clone().requires_grad_()
    score = sum(model(leaf)[i, c] for i, c in enumerate(classes))
    return torch.autograd.grad(score, leaf)[0]


# Gradient checkpointing ------------------------------------------------------------------------------------


class Checkpointed(Small):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.norm = nn.BatchNorm2d(6)

    def segment(self, x):
        return F.relu(self.two(F.relu(self.norm(self.one(x)))))

    def forward(self, x):
        again = self.reentrant is not None
        x = checkpoint(self.segment, x, use_reentrant=self.reentrant) if again else self.segment(x)
        return self.head(torch.flatten(self.pool(x), 1))


class OwnCheckpoint(torch.autograd.Function):
    """A reentrant checkpoint as networks write it themselves."""

    @staticmethod
    def forward(ctx, segment, x):
        ctx.segment = segment
        ctx.save_for_backward(x)
        return segment(x.detach())

    @staticmethod
    def backward(ctx, g):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            ctx.segment(x).backward(g)
        return None, x.grad


def test_a_backward_pass_of_the_networks_own_leaves_no_gradient_on_weights():
    class Own(Checkpointed):
        def forward(self, x):
            return self.head(torch.flatten(self.pool(OwnCheckpoint.apply(self.segment, x)), 1))

    torch.manual_seed(0)
    model, images = Own(None).double().eval(), images_of()
    truth = true_gradient(model, images)
    model.zero_grad()
    model.one.weight.grad = torch.ones_like(model.one.weight)
    found = attribute(model, images, [0, 1], ["vanilla"])["vanilla", None]
    assert reference.relative_error(found, truth) < 1e-6
    assert torch.equal(model.one.weight.grad, torch.ones_like(model.one.weight))
    assert all(weight.grad is None for name, weight in model.named_parameters() if name != "one.weight")


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("trainable", [True, False])
def test_a_checkpointed_segment_is_explained_as_if_it_were_not(reentrant, trainable):
    torch.manual_seed(0)
    plain = lively(Checkpointed(None)).requires_grad_(trainable)
    model = copy.deepcopy(plain)
    model.reentrant = reentrant
    truth = attribute(plain, images_of(), [0, 1], list(METHODS), ["one", "two"])
    found = attribute(model, images_of(), [0, 1], list(METHODS), ["one", "two"])
    for key in truth:
        assert reference.relative_error(found[key], truth[key]) < EXACT or truth[key].abs().max() == 0, key
    leaf = images_of().requires_grad_()
    model(leaf)[0, 0].backward()  # outside, checkpoints work as before
    assert leaf.grad is not None


# The total derivative --------------------------------------------------------------------------------------


class Kept(Small):
    """A module that keeps its output, which the network uses beside what it returned."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.same, self.norm = how, nn.Identity(), nn.BatchNorm2d(6)
        self.kept: list[torch.Tensor] = []
        if how == "own hook":
            self.one.register_forward_hook(lambda module, inputs, output: self.kept.append(output))

    def forward(self, x):
        self.kept.clear()
        z = self.one(x)
        if self.how.startswith("shortcut"):
            y = torch.tanh(z)
            z = self.same(z)  # returns its input, of which y was made before
        elif self.how == "own hook":
            y = torch.tanh(self.kept[0])
        elif self.how == "norm":
            y = torch.tanh(self.norm(z))
        else:
            y = torch.tanh(z[:, [1, 0, 2, 3, 4, 5]])
        z = F.relu(z, inplace=self.how in ("in place", "shortcut in place"))
        return self.head(torch.flatten(self.pool(self.two(F.relu(z + y))), 1))


@pytest.mark.parametrize("how", ["shortcut", "shortcut in place", "own hook", "norm", "view", "in place"])
def test_a_layers_gradient_is_the_total_derivative(how):
    torch.manual_seed(0)
    model, images = lively(Kept(how)), images_of()
    layer = "same" if how.startswith("shortcut") else "one"
    eps, direction = 1e-5, torch.randn(2, 6, 12, 12, dtype=torch.float64)
    shift = {"by": 0.0}
    handle = model.one.register_forward_hook(lambda m, i, o: o + shift["by"] * direction, prepend=True)
    scores = []
    for by in (eps, -eps):
        shift["by"] = by
        scores.append(model(images)[[0, 1], [0, 1]].sum())
    handle.remove()
    numeric = float(scores[0] - scores[1]) / (2 * eps)
    gradients = {}
    for methods in (["hirescam"], ["hirescam", *CORE_METHODS]):
        METHODS_READ.clear()
        attribute(model, images, [0, 1], [*methods, "probe"], [layer])
        gradients[len(methods)] = METHODS_READ[0]
    assert float((gradients[1] * direction).sum()) == pytest.approx(numeric, rel=1e-5)
    assert reference.relative_error(gradients[len(CORE_METHODS) + 1], gradients[1]) < EXACT


METHODS_READ: list[torch.Tensor] = []


@pytest.fixture(autouse=True)
def probe():
    """A method that hands out the layer's gradient, registered for these tests alone."""
    from xface.attribution.methods import Method

    def compute(trace, layer):
        METHODS_READ.append(trace.layer_gradients[layer].double())
        return trace.activations[layer].sum(1)

    METHODS._entries["probe"] = Method("probe", "", "", compute, layered=True, layer_gradients=True)
    yield
    del METHODS._entries["probe"]


# What the gradient crossed ---------------------------------------------------------------------------------


class Beside(nn.Module):
    """A network without rectifier, with one `beside` it."""

    def __init__(self, beside, path=torch.tanh) -> None:
        super().__init__()
        self.one, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.beside, self.path = beside, path

    def forward(self, x):
        z = self.one(x)
        self.extra = self.beside(z)
        return self.head((self.path(z) + (0 if self.extra is None else self.extra)).mean(dim=(2, 3)))


def unused(function):
    def run(z):
        function(z)

    return run


@pytest.mark.parametrize(
    "beside",
    [unused(F.relu), lambda z: F.relu(z).detach(), lambda z: F.relu(z.detach()), lambda z: F.relu(z).round()],
    ids=["unused", "detached", "of a detached", "rounded"],
)
def test_a_rectifier_that_the_gradient_does_not_cross_defines_no_map(beside):
    for method in ("guided", "deconvnet", "guided_gradcam"):
        with pytest.raises(AttributionError, match="no rectifier"):
            attribute(Beside(beside).double(), images_of(), methods=[method], layers=["one"])


def test_another_rectifier_beside_the_way_leaves_the_rule_published():
    model = Beside(unused(F.silu), F.relu).double()
    assert attribute(model, images_of(), methods=["guided"]).rule["guided", None] == "published"


def test_a_map_that_would_be_vanillas_is_refused():
    model = Beside(lambda z: None, lambda z: F.relu(z) + 0 * z).double()
    for parameter in model.parameters():
        parameter.data.abs_()
    images = images_of().abs()
    for methods in (["guided"], ["vanilla", "guided"]):
        with pytest.raises(AttributionError, match="that of vanilla"):
            attribute(model, images, 1, methods)


# Gradients that are lost -----------------------------------------------------------------------------------


class Branches(Small):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.side, self.aux = how, nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 3)

    def lost(self, x):
        if self.how == "no_grad":
            with torch.no_grad():
                return self.side(x)
        return {"detach": lambda y: y.detach(), "round": lambda y: (4 * y).round() / 4}[self.how](
            self.side(x)
        )

    def forward(self, x):
        self.aux(x)  # runs, and the score doesn't depend on it
        return self.head(torch.flatten(self.pool(F.relu(self.two(F.relu(self.one(x)) + self.lost(x)))), 1))


@pytest.mark.parametrize("how", ["no_grad", "detach", "round"])
def test_a_part_that_no_gradient_reaches_is_refused_and_named(how):
    torch.manual_seed(0)
    model = lively(Branches(how))
    with pytest.raises(AttributionError, match="does not reach layer 'side'"):
        attribute(model, images_of(), methods=["gradcam"], layers=["side"])
    maps = attribute(model, images_of(), [0, 1], ["vanilla", "gradcam"], ["two"])
    assert [note for note in maps.notes if "no gradient reaches 'side'," in note and "aux" not in note]
    assert reference.relative_error(maps["vanilla", None], true_gradient(model, images_of())) < EXACT


def test_a_score_that_is_rounded_has_no_gradient():
    class Quantised(Small):
        def forward(self, x):
            return super().forward(x).mul(8).round() / 8

    for method in ("vanilla", "guided", "gradcam"):
        with pytest.raises(AttributionError, match=r"no gradient|does not reach"):
            attribute(Quantised(), images_of(dtype=torch.float32), methods=[method], layers=["two"])


# Networks whose images depend on each other, and that draw random numbers ----------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_images_that_influence_each_other_are_said(count):
    class Centred(Small):
        def forward(self, x):
            x = F.relu(self.one(x))
            return self.head(torch.flatten(self.pool(F.relu(self.two(x - x.mean(0, keepdim=True)))), 1))

    batch_norm = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(),
                               nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))  # fmt: skip
    for model in (Centred(), batch_norm):
        for _ in range(2):
            notes = attribute(model.double(), images_of(count), methods=["vanilla"]).notes
            assert any("influence each other" in note for note in notes)
    assert attribute(Small().double(), images_of(count), methods=["vanilla"]).notes == ()


@pytest.mark.parametrize("draw", [lambda x: F.dropout(x, 0.5, True), lambda x: x + 0.01 * np.random.rand()])
def test_random_numbers_in_a_forward_pass_are_said(draw):
    model = Small(lambda x: F.relu(draw(x))).double()
    state = np.random.get_state()[1].copy()
    notes = attribute(model, images_of(), methods=["vanilla"]).notes
    assert any("random numbers" in note for note in notes)
    assert (np.random.get_state()[1] == state).all()


# Precision -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_networks_are_computed_in_float32(dtype):
    torch.manual_seed(0)
    model, images = lively(Small(), dtype=torch.float32), images_of(dtype=torch.float32)
    half = copy.deepcopy(model).to(dtype)
    truth = true_gradient(copy.deepcopy(half).double(), images.double())
    maps = attribute(half, images, [0, 1], ["vanilla"])
    assert reference.relative_error(maps["vanilla", None], truth) < 1e-5
    assert any("float32" in note for note in maps.notes)
    assert next(half.parameters()).dtype == dtype
    own = attribute(half, images, [0, 1], ["vanilla"], dtype=dtype)
    assert own.output.dtype == dtype
    assert own.notes == ()


def test_a_small_first_parameter_decides_nothing():
    class Scaled(Small):
        def __init__(self):
            nn.Module.__init__(self)
            self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))
            Small.__init__(self)

    torch.manual_seed(0)
    model = Scaled()
    model.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))
    assert attribute(model, images_of(), methods=["vanilla"]).output.dtype == torch.float32


def test_a_surrounding_autocast_is_off():
    torch.manual_seed(0)
    model, images = Small(), images_of(dtype=torch.float32)
    truth = attribute(model, images, [0, 1], list(CORE_METHODS), ["two"])
    with torch.autocast("cpu", torch.bfloat16):
        found = attribute(model, images, [0, 1], list(CORE_METHODS), ["two"])
    assert all(torch.equal(found[key], truth[key]) for key in truth)


# Threads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_threads_share_a_network(training):
    torch.manual_seed(0)
    model, images = Small().double().train(training), images_of()
    methods = [
        name for name in METHODS if name not in ("occlusion", "integrated_gradients", "scorecam", "probe")
    ]
    truth, score = attribute(model, images, [0, 1], methods, ["one", "two"]), model(images).detach()
    faults: list[object] = []

    def explain(_):
        for _ in range(10):
            maps = attribute(model, images, [0, 1], methods, ["one", "two"])
            faults.extend(key for key in truth if not torch.equal(maps[key], truth[key]))

    def predict(stop):
        while not stop.is_set():
            if not torch.equal(model(images).detach(), score):
                faults.append("forward")

    stop = threading.Event()
    threads = [threading.Thread(target=guarded, args=(explain, None, faults)) for _ in range(4)]
    caller = threading.Thread(target=guarded, args=(predict, stop, faults))
    for thread in (*threads, caller):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    caller.join()
    assert faults == []
    assert model.training == training
    assert all(p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def guarded(work, argument, faults):
    try:
        work(argument)
    except Exception as error:
        faults.append(repr(error))


# What the engine must leave, or refuse -----------------------------------------------------------------


def test_a_hooked_tensors_gradient_is_the_same_whatever_else_is_asked():
    class Hooked(Small):
        def forward(self, x):
            z = self.one(x)
            z.register_hook(lambda g: 3 * g + 0.1)
            return self.head(torch.flatten(self.pool(self.two(F.relu(z))), 1))

    torch.manual_seed(0)
    model = lively(Hooked())
    alone = attribute(model, images_of(), [0, 1], ["hirescam"], ["one"])["hirescam", "one"]
    beside = attribute(model, images_of(), [0, 1], ["hirescam", *CORE_METHODS], ["one", "two"])
    assert reference.relative_error(beside["hirescam", "one"], alone) < EXACT


class Returning(Small):
    def __init__(self, returned) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, x):
        return self.returned(super().forward(x))


class OwnError(Exception):
    pass


def raising(error):
    def run(logits):
        raise error

    return run


ODD_OUTPUTS = {
    "dict": lambda logits: {"logits": logits},
    "tuple": lambda logits: (logits, logits),
    "None": lambda logits: None,
    "number": lambda logits: float(logits.sum()),
    "sparse": lambda logits: logits.to_sparse(),
    "complex": lambda logits: torch.complex(logits, logits),
    "no classes": lambda logits: logits[:, :0],
    "ZeroDivisionError": lambda logits: 1 / 0,
    "StopIteration": raising(StopIteration()),
    "OSError": raising(FileNotFoundError("no such file")),
    "an error of its own": raising(OwnError("two\nlines")),
}


def test_a_network_with_a_scripted_part_has_the_methods_that_need_no_rule():
    torch.manual_seed(0)
    model = lively(Small())
    model.two = torch.jit.script(nn.Sequential(model.two, lively(nn.Sequential(nn.BatchNorm2d(8)))))
    maps = attribute(model, images_of(), [0, 1], None, ["one"])
    truth = true_gradient(model, images_of())
    assert reference.relative_error(maps["vanilla", None], truth) < EXACT
    assert set(maps.undefined) == {"guided", "deconvnet", "guided_gradcam"}


@pytest.mark.parametrize("name", ODD_OUTPUTS)
def test_whatever_a_network_returns_or_raises_is_a_map_or_an_error(name):
    for methods in (["vanilla"], ["gradcam"], None):
        with pytest.raises(XFaceError):
            attribute(Returning(ODD_OUTPUTS[name]).double(), images_of(), None, methods, ["two"])


def test_a_gradient_that_a_node_does_not_hand_on_is_refused():
    class Keeping(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, *grads):
            return None

    model = Returning(Keeping.apply).double()
    for methods in (["vanilla"], ["gradcam"], None):
        with pytest.raises(AttributionError, match="does not reach"):
            attribute(model, images_of(), methods=methods, layers=["two"])


# Anything else ends in a map or an error that says what to do ---------------------------------------------


def inference_made():
    with torch.inference_mode():
        return Small()


class Inferring(Small):
    @torch.inference_mode()
    def forward(self, x):
        return super().forward(x)


def with_backward_hooks():
    model, seen = Small(), []
    for module in model.modules():
        module.register_full_backward_hook(lambda module, before, after: seen.append(1) and None)
    return model


def compiled():
    model = Small()
    model.compile(backend="eager")
    return model


def compiled_inside():
    model = Small()
    model.two = torch.compile(model.two, backend="eager")
    return model


MODELS = {
    "made in inference mode": (inference_made, True),
    "full backward hooks": (with_backward_hooks, True),
    "net.compile()": (compiled, True),
    "torch.compile(net)": (lambda: torch.compile(Small(), backend="eager"), True),
    "a compiled submodule": (compiled_inside, True),
    "in inference mode": (Inferring, False),
    "scripted": (lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), False),
    "traced": (lambda: torch.jit.trace(Small(), torch.rand(1, 3, 12, 12)), False),
}


@pytest.mark.parametrize("name", MODELS)
def test_any_network_gives_a_map_or_an_error(name):
    torch.manual_seed(0)
    build, works = MODELS[name]
    model, images = build(), images_of(dtype=torch.float32)
    layer = "0" if name == "scripted" else "two"
    if not works:
        with pytest.raises(XFaceError):
            attribute(model, images, methods=["vanilla", "gradcam"], layers=[layer])
        return
    plain = Small()
    plain.load_state_dict({k.replace("_orig_mod.", ""): v.clone() for k, v in model.state_dict().items()})
    for methods in (["vanilla"], ["gradcam"], list(CORE_METHODS)):
        found = attribute(model, images, [0, 1], methods, ["two"])
        truth = attribute(plain, images, [0, 1], methods, ["two"])
        assert all(reference.relative_error(found[key], truth[key]) < 1e-5 for key in truth)


INPUTS = {
    "NumPy": np.zeros((1, 3, 8, 8), np.float32),
    "PIL": Image.new("RGB", (8, 8)),
    "list": [[0.0]],
    "four channels": torch.rand(1, 4, 8, 8),
    "meta": torch.rand(1, 3, 8, 8, device="meta"),
    "too small": torch.rand(1, 3, 1, 1),
}


@pytest.mark.parametrize("name", INPUTS)
def test_wrong_inputs_say_what_is_wanted(name):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    with pytest.raises((UsageError, AttributionError), match="images"):
        attribute(model, INPUTS[name], methods=["vanilla"])
    with pytest.raises(UsageError, match="meta"):
        attribute(Small().to("meta"), torch.rand(1, 3, 8, 8), methods=["vanilla"])
    with pytest.raises(UsageError, match="Module"):
        attribute(lambda x: x, torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("classes", [1, 2])
def test_probabilities_are_noted_and_read_as_such(classes):
    squash = torch.sigmoid if classes == 1 else lambda z: z.softmax(dim=1)

    class Squashed(Small):
        def forward(self, x):
            return squash(super().forward(x))

    torch.manual_seed(0)
    model = lively(Squashed(classes=classes))
    maps = attribute(model, images_of(8), methods=["vanilla"])
    assert any("probability" in note for note in maps.notes)
    p = model(images_of(8))
    assert torch.equal(maps.targets, (p[:, 0] > 0.5).long() if classes == 1 else p.argmax(1))


def test_explain_says_what_it_takes():
    with pytest.raises(UsageError, match=r"xface\.load"):
        xface.explain(Small(), Image.new("RGB", (64, 64)))
    detector = xface.load("none", arch="resnet18")
    grey = np.full((64, 64, 3), 128, np.uint8)
    found = xface.explain(detector, grey, methods=["vanilla"], target=1)
    assert found.label == detector.classes[1]
    with pytest.raises(XFaceError):
        xface.explain(detector, grey, methods=["vanilla"], target=7)


def test_explain_hands_on_what_the_engine_notes():
    from dataclasses import replace

    detector = xface.load("none", arch="resnet18")
    half = replace(detector, model=copy.deepcopy(detector.model).half())
    found = xface.explain(half, np.full((64, 64, 3), 128, np.uint8), methods=["vanilla"])
    assert any("float32" in note for note in found.notes)


class Bent(nn.Module):
    """A network that ends, or whose features or batch are worked on, by a function that is given."""

    def __init__(self, classes=1, mid=F.relu, batch=lambda f: f, end=lambda z: z):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, classes)
        self.mid, self.batch, self.end = mid, batch, end
        nn.init.constant_(self.head.bias, -3.0)

    def forward(self, x):
        return self.end(self.head(self.batch(self.mid(self.conv(x)).mean((2, 3)))))


@pytest.mark.parametrize("end", [
    lambda z: z.sigmoid().clamp(1e-6, 1 - 1e-6), F.hardsigmoid, lambda z: z.sigmoid() * 1.0,
    lambda z: z.tanh() / 2 + 0.5, lambda z: 1 / (1 + torch.exp(-z)), lambda z: torch.cat([z.sigmoid()], 1),
    lambda z: F.logsigmoid(z).exp(), lambda z: torch.nan_to_num(z.sigmoid()),
    lambda z: (z.sigmoid() + (2 * z).sigmoid()) / 2, lambda z: (1 + torch.erf(z)) / 2,
    lambda z: torch.atan(z) / torch.pi + 0.5, lambda z: F.softsign(z) / 2 + 0.5,
    lambda z: F.softplus(z) / (F.softplus(z) + F.softplus(-z)),
])  # fmt: skip
def test_a_probability_however_it_is_made_is_no_logit(end):
    torch.manual_seed(0)
    maps = attribute(Bent(end=end).eval(), torch.rand(3, 3, 12, 12), methods=["vanilla"])
    assert maps.targets.tolist() == [0, 0, 0]
    assert any("its probability is explained" in note for note in maps.notes)


@pytest.mark.parametrize(("end", "read"), [
    (lambda z: F.relu(z + 3.3) / 3, "as a logit"), (lambda z: (z / 9 + 1).clamp(0, 1), "as a logit"),
    (lambda z: 1 / (1 + z * z), "as a logit"), (lambda z: z.abs() / 9, "if it is none, name the class"),
    (lambda z: z / 9 + 0.5, None), (torch.sigmoid, None),
])  # fmt: skip
def test_a_single_output_that_may_be_either_is_said_to_be_so(end, read):
    torch.manual_seed(0)
    notes = attribute(Bent(end=end).eval(), torch.rand(3, 3, 12, 12), methods=["vanilla"]).notes
    doubts = [note for note in notes if "single output lies in [0, 1] here" in note]
    assert len(doubts) == (read is not None)
    assert all(read in note for note in doubts)


@pytest.mark.parametrize("batch", [
    lambda f: f.cumsum(0), lambda f: f.flip(0).cumsum(0).flip(0), lambda f: torch.relu(f - 0.9 * f[:1]),
    lambda f: f - f[1:].mean(0, keepdim=True), lambda f: torch.cat([f[:1], f[1:2] + f[:1], f[2:]]),
    lambda f: f.roll(2, 0),
])  # fmt: skip
def test_influence_on_any_image_of_a_batch_is_noted(batch):
    torch.manual_seed(0)
    maps = attribute(Bent(2, batch=batch).eval(), torch.rand(4, 3, 12, 12), methods=["vanilla"])
    assert any("influence each other" in note for note in maps.notes)


def test_a_layer_that_two_networks_share_is_read_as_it_lies_in_each():
    shared = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Flatten(2))

    class Net(nn.Module):
        def __init__(self, turned):
            super().__init__()
            self.shared, self.turned, self.head = shared, turned, nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.shared(x.transpose(2, 3) if self.turned else x).relu().mean(2))

    images, alone = torch.rand(2, 3, 16, 16), copy.deepcopy(shared)
    attribute(Net(False).eval(), images, methods=["gradcam"], layers=["shared.1"])
    turned = Net(True).eval()
    after = attribute(turned, images, methods=["gradcam"], layers=["shared.1"])["gradcam", "shared.1"]
    turned.shared = alone
    fresh = attribute(turned, images, methods=["gradcam"], layers=["shared.1"])["gradcam", "shared.1"]
    assert torch.equal(after, fresh)


@pytest.mark.parametrize("sides", [(0, 12, 0, 12), (0, 12, 0, 0), (0, 0, 6, 0), (4, 0, 0, 0)])
@pytest.mark.parametrize("mode", ["constant", "replicate"])
def test_a_picture_that_is_padded_at_one_side_does_not_lie_as_its_maps_do(mode, sides):
    class Padded(Bent):
        def forward(self, x):
            return super().forward(F.pad(x, sides, mode))

    with pytest.raises(AttributionError, match="whose layout as a feature map is not clear"):
        attribute(Padded(2).eval(), torch.rand(2, 3, 12, 12), methods=["gradcam"], layers=["conv"])


@pytest.mark.parametrize("mid", [
    lambda z: torch.stack([z * z.sigmoid(), z * 0.5], 1).sum(1),
    lambda z: torch.stack([c * torch.sigmoid(c) for c in z.unbind(1)], 1),
])  # fmt: skip
def test_hand_made_rectifiers_among_stacked_parts_are_no_raw_error(mid):
    rule = attribute(Bent(2, mid).eval(), torch.rand(2, 3, 12, 12), methods=["guided"]).rule
    assert rule["guided", None] in {"extended", "partial"}


@pytest.mark.parametrize("layers", [[None], [3]])
def test_a_layer_is_named(layers):
    with pytest.raises(UsageError, match="names of modules"):
        attribute(Bent(2).eval(), torch.rand(2, 3, 12, 12), methods=["gradcam"], layers=layers)
