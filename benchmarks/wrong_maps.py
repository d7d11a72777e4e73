"""How far captum's and grad-cam's maps are from the formulas, for networks where they differ.

    python benchmarks/wrong_maps.py

Random weights (seed 0), two classes, the two sample faces, double precision. The error is relative, |theirs -
xface's| / |xface's| over the whole batch, in the Euclidean norm. That xface's maps are the formulas' is shown
by tests/test_attribution.py, with a slow reference that shares nothing with either.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from xface.attribution import attribute
from xface.images.pictures import read_picture
from xface.networks import ARCHITECTURES
from xface.preprocessing import PRESETS

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
RULED = ("vanilla", "guided", "deconvnet")


class Forked(nn.Module):
    """One tensor goes into a rectifier and around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ReLU()
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.conv(x))
        x = self.second(x) - 0.5 * x
        return self.head(x.mean(dim=(2, 3)))


def captum_maps(model: nn.Module, images: Tensor, classes: Tensor) -> dict[str, Tensor]:
    from captum.attr import Deconvolution, GuidedBackprop, Saliency

    return {
        "vanilla": Saliency(model).attribute(images.clone(), classes, abs=False),
        "guided": GuidedBackprop(model).attribute(images.clone(), classes),
        "deconvnet": Deconvolution(model).attribute(images.clone(), classes),
    }


def grad_cam_plus_plus(model: nn.Module, images: Tensor, classes: Tensor, layer: str) -> Tensor:
    """Grad-CAM++ at the layer's own resolution; the library adds 1e-6 to the denominator."""
    from pytorch_grad_cam import GradCAMPlusPlus
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAMPlusPlus(model, [model.get_submodule(layer)]) as cam:
        cam(images, [ClassifierOutputTarget(c) for c in classes.tolist()])
        activations = cam.activations_and_grads.activations[0].numpy()
        gradients = cam.activations_and_grads.gradients[0].numpy()
        return torch.from_numpy(cam.get_cam_image(images, None, classes, activations, gradients)).relu()


def error(theirs: Tensor, ours: Tensor) -> float:
    return float((theirs.double() - ours.double()).norm() / ours.double().norm())


def faces() -> Tensor:
    pictures = [read_picture(SAMPLES / name) for name in ("real.jpg", "fake.jpg")]
    return torch.stack([PRESETS["imagenet"].prepare(p).tensor for p in pictures]).double()


def networks() -> Iterator[tuple[str, nn.Module]]:
    for name in ("resnet18", "vgg16", "densenet121", "efficientnet_b0"):
        torch.manual_seed(0)
        yield name, ARCHITECTURES[name].build(2).double().eval()
    torch.manual_seed(0)
    yield "forked", Forked().double().eval()


def report(name: str, model: nn.Module, images: Tensor, classes: Tensor) -> Iterator[str]:
    ours = attribute(model, images, classes.tolist(), RULED, [])
    theirs = captum_maps(without_in_place(model), images, classes)
    errors = (f"{method} {error(theirs[method], ours[method, None]):.2g}" for method in RULED)
    same = all(torch.equal(theirs["vanilla"], theirs[method]) for method in RULED)
    yield f"{name}: captum's {', '.join(errors)}{'; all three maps are the same' if same else ''}"
    if name in ARCHITECTURES:
        layer = ARCHITECTURES[name].layer
        mine = attribute(model, images, classes.tolist(), ["gradcam++"], [layer])
        cam = grad_cam_plus_plus(model, images, classes, layer)
        yield f"{name}: grad-cam's gradcam++ at {layer} {error(cam, mine['gradcam++', layer]):.2g}"


def without_in_place(model: nn.Module) -> nn.Module:
    """Captum's hooks want a copy of the network without in-place calls."""
    hooked = copy.deepcopy(model)
    for module in hooked.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return hooked


def main() -> None:
    warnings.simplefilter("ignore")
    print(f"captum {version('captum')}, grad-cam {version('grad-cam')}, torch {torch.__version__}")
    images, classes = faces(), torch.tensor([0, 1])
    for name, model in networks():
        for line in report(name, model, images, classes):
            print(line, flush=True)


if __name__ == "__main__":
    main()
