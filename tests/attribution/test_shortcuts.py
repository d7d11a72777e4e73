"""The cheaper gradients equal autograd's, wherever they are taken and where they must not be."""

from __future__ import annotations

import pytest
import reference
import torch
import torch.nn.functional as F
from networks import lively
from torch import nn

from xface.attribution import attribute, shortcuts
from xface.errors import AttributionError

EXACT = 1e-6


class Net(nn.Module):
    """A convolution, a batch norm, and `between` them whatever the case is about."""

    def __init__(self, conv: nn.Conv2d, between=lambda z: z, norm: dict | None = None) -> None:
        super().__init__()
        self.conv, self.between = conv, between
        self.norm = nn.BatchNorm2d(conv.out_channels, **(norm or {}))
        self.head = nn.Linear(conv.out_channels, 2)

    def forward(self, x):
        z = self.between(self.conv(x))
        return self.head(F.relu(self.norm(z)).square().mean(dim=(2, 3)))


def error(model: nn.Module, images: torch.Tensor) -> float:
    leaf = images.clone().requires_grad_()
    truth = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)[0]
    found = attribute(model, images, 1, ["vanilla"])["vanilla", None]
    return reference.relative_error(found, truth)


def taken(monkeypatch) -> list[str]:
    """Note which shortcuts are taken: `phases` or `norm`."""
    notes: list[str] = []
    by_phases, gradient = shortcuts._by_phases, shortcuts._Convolution.gradient
    monkeypatch.setattr(shortcuts, "_by_phases", lambda *a: (notes.append("phases"), by_phases(*a))[1])
    monkeypatch.setattr(
        shortcuts._Convolution,
        "gradient",
        lambda self, g, weight, *norm: (
            notes.append("norm") if norm else 0,
            gradient(self, g, weight, *norm),
        )[1],
    )
    return notes


@pytest.mark.parametrize("size", [(30, 30), (31, 29), (17, 40)])
@pytest.mark.parametrize("kernel", [5, 6, 7])
@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("padding", [0, 2, 3])
def test_phases_are_the_transpose(size, kernel, stride, padding, monkeypatch):
    notes = taken(monkeypatch)
    torch.manual_seed(0)
    model = lively(Net(nn.Conv2d(3, 4, kernel, stride, padding)))
    assert error(model, torch.randn(2, 3, *size, dtype=torch.float64)) < EXACT
    assert "phases" in notes


CONVOLUTIONS = {
    "3x3": lambda: nn.Conv2d(3, 4, 3, padding=1),
    "grouped": lambda: nn.Conv2d(3, 6, 3, groups=3),
    "dilated and strided": lambda: nn.Conv2d(3, 4, 5, stride=2, dilation=2),
    "oblong kernel": lambda: nn.Conv2d(3, 4, (5, 7), stride=2, padding=(2, 3)),
    "unequal stride": lambda: nn.Conv2d(3, 4, 7, stride=(2, 3)),
    "no bias": lambda: nn.Conv2d(3, 4, 3, bias=False),
    "same padding": lambda: nn.Conv2d(3, 4, 5, padding="same"),
    "circular padding": lambda: nn.Conv2d(3, 4, 5, padding=2, padding_mode="circular"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_norm_after_any_convolution(name):
    model = lively(Net(CONVOLUTIONS[name]()))
    assert error(model, torch.randn(2, 3, 21, 20, dtype=torch.float64)) < EXACT


@pytest.mark.parametrize("norm", [{}, {"affine": False}, {"track_running_stats": False}])
def test_every_kind_of_batch_norm(norm):
    torch.manual_seed(0)
    model = Net(nn.Conv2d(3, 4, 3), norm=norm).double().eval()
    if model.norm.running_var is not None:  # else it takes the batch's, and its gradient is no multiple of g
        model.norm.running_var.copy_(torch.rand(4) + 0.5)
    assert error(model, torch.randn(1, 3, 9, 9, dtype=torch.float64)) < EXACT


BETWEEN = {
    "nothing": (lambda z: z, True),
    "a new tensor": (lambda z: z * 1.5, False),
    "written into": (lambda z: z.mul_(1.5), False),
    "a view": (lambda z: z[:, :, ::2], False),
    "rectified in place": (lambda z: F.relu_(z), False),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_only_a_convolutions_own_output_takes_the_shortcut(name, monkeypatch):
    notes = taken(monkeypatch)
    between, shortcut = BETWEEN[name]
    torch.manual_seed(0)
    model = lively(Net(nn.Conv2d(3, 4, 3), between))
    assert error(model, torch.randn(2, 3, 12, 12, dtype=torch.float64)) < EXACT
    assert ("norm" in notes) == shortcut


def test_a_convolution_used_twice_keeps_both_gradients(monkeypatch):
    class Twice(Net):
        def forward(self, x):
            z = self.conv(x)
            return self.head((F.relu(self.norm(z)) + torch.tanh(z)).mean(dim=(2, 3)))

    notes = taken(monkeypatch)
    torch.manual_seed(0)
    assert error(lively(Twice(nn.Conv2d(3, 4, 3))), torch.randn(2, 3, 12, 12, dtype=torch.float64)) < EXACT
    assert "norm" in notes


def test_a_tapped_convolution_has_its_own_gradient():
    torch.manual_seed(0)
    model, images = lively(Net(nn.Conv2d(3, 4, 3))), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    methods = ["vanilla", "gradcam"]
    for layer in ("conv", "norm"):
        maps = attribute(model, images, [0, 1], methods, [layer])
        truth = reference.gradcams(model, images, [0, 1], [layer])[layer]
        assert truth.max() > 0
        assert reference.relative_error(maps["gradcam", layer], truth) < EXACT


def test_forward_values_are_bit_for_bit_the_networks_own():
    torch.manual_seed(0)
    model, images = lively(Net(nn.Conv2d(3, 4, 7, 2, 3))), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert torch.equal(attribute(model, images, 0, ["vanilla"]).output, model(images))


class Conditional(Net):
    """A bias and a shift that are computed from the image, and a source that is overwritten."""

    def __init__(self, case: str) -> None:
        super().__init__(nn.Conv2d(3, 4, 3))
        self.case = case

    def forward(self, x):
        x, code = x * 1.1, x.mean(dim=(0, 2, 3))
        extra = torch.cat([code, code[:1]]) * 5
        z = F.conv2d(x, self.conv.weight, extra if self.case == "bias" else None)
        norm = self.norm
        shift = extra if self.case == "shift" else norm.bias
        z = F.batch_norm(z, norm.running_mean, norm.running_var, norm.weight, shift)
        return self.head(F.relu(z).mean(dim=(2, 3)))


@pytest.mark.parametrize("case", ["bias", "shift"])
def test_parameters_that_come_from_the_image_keep_their_gradient(case):
    torch.manual_seed(0)
    assert error(lively(Conditional(case)), torch.randn(1, 3, 12, 12, dtype=torch.float64)) < EXACT


def test_a_source_that_is_overwritten_takes_no_shortcut():
    class Overwrites(Net):
        def forward(self, x):
            x = x * 1.1
            z = self.conv(x)
            x.mul_(3)
            return self.head(F.relu(self.norm(z)).mean(dim=(2, 3)))

    class OutOfPlace(Net):
        def forward(self, x):
            return self.head(F.relu(self.norm(self.conv(x * 1.1))).mean(dim=(2, 3)))

    torch.manual_seed(0)
    model, images = lively(Overwrites(nn.Conv2d(3, 4, 3))), torch.randn(1, 3, 12, 12, dtype=torch.float64)
    plain = OutOfPlace(model.conv).double().eval()
    plain.load_state_dict(model.state_dict())
    truth = attribute(plain, images, 1, ["vanilla"])["vanilla", None]
    try:
        found = attribute(model, images, 1, ["vanilla"])["vanilla", None]
    except AttributionError:
        return  # as plain autograd does, where a convolution keeps its input
    assert reference.relative_error(found, truth) < EXACT
