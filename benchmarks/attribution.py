"""Five methods at four layers: captum, grad-cam, a wrapper per method, xface, and the floor, side by side.

    python benchmarks/attribution.py [--arch NAME]... [--batch N]... [--rounds N] [--device D] [--out FILE]

Each round runs every contender once, in turn; the table has the median time, and the median over rounds of
the ratio to the floor: one forward pass and three backward passes to the input alone, of the same network.
On a CUDA device every row comes in float32 and bfloat16.
"""

from __future__ import annotations

import copy
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from wrappers import DeconvnetWrapper, GradCAMWrapper, GuidedWrapper, VanillaWrapper

from xface.attribution import CORE_METHODS, attribute
from xface.networks import ARCHITECTURES

ARCHS = ("resnet18", "vgg16", "densenet121", "efficientnet_b0")
LAYERS = 4
Run = Callable[[nn.Module, Tensor, Tensor, list[str]], object]


def captum(model: nn.Module, images: Tensor, classes: Tensor, layers: list[str]) -> None:
    """One call per map: captum has no call for several."""
    from captum.attr import Deconvolution, GuidedBackprop, GuidedGradCam, LayerGradCam, Saliency

    Saliency(model).attribute(images, classes, abs=False)
    GuidedBackprop(model).attribute(images, classes)
    Deconvolution(model).attribute(images, classes)
    for name in layers:
        layer = model.get_submodule(name)
        LayerGradCam(model, layer).attribute(images, classes, relu_attributions=True)
        GuidedGradCam(model, layer).attribute(images, classes, interpolate_mode="bilinear")


def grad_cam(model: nn.Module, images: Tensor, classes: Tensor, layers: list[str]) -> None:
    """Three of the five methods, no vanilla backprop or deconvnet; guided backprop image by image."""
    from pytorch_grad_cam import GradCAM, GuidedBackpropReLUModel
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    guided_model = GuidedBackpropReLUModel(model, images.device)
    guided = [
        guided_model(image[None], target_category=c)
        for image, c in zip(images, classes.tolist(), strict=True)
    ]
    targets = [ClassifierOutputTarget(c) for c in classes.tolist()]
    for name in layers:
        with GradCAM(model, [model.get_submodule(name)]) as cam:
            [g * c[:, :, None] for g, c in zip(guided, cam(images, targets), strict=True)]


def wrappers(model: nn.Module, images: Tensor, classes: Tensor, layers: list[str]) -> None:
    """The followed system's way: per method a wrapper with its own hooks, forward and full backward pass."""
    VanillaWrapper(model).gradient(images, classes)
    DeconvnetWrapper(model).gradient(images, classes)
    guided = GuidedWrapper(model).gradient(images, classes)
    for cam in GradCAMWrapper(model, layers).maps(images, classes):
        guided * cam


def floor(model: nn.Module, images: Tensor, classes: Tensor, layers: list[str]) -> None:
    """One forward and three backward passes to the input alone: what no method can undercut."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    leaf = images.clone().requires_grad_()
    score = model(leaf).gather(1, classes[:, None]).sum()
    for left in (2, 1, 0):
        torch.autograd.grad(score, leaf, retain_graph=left > 0)


def floor_channels_last(model: nn.Module, images: Tensor, classes: Tensor, layers: list[str]) -> None:
    floor(model, images.to(memory_format=torch.channels_last), classes, layers)


def fused(model: nn.Module, images: Tensor, classes: Tensor, layers: list[str]) -> None:
    attribute(model, images, classes, CORE_METHODS, layers, dtype=images.dtype)


def fused_channels_last(model: nn.Module, images: Tensor, classes: Tensor, layers: list[str]) -> None:
    """As `xface.load` places a detector's network."""
    images = images.to(memory_format=torch.channels_last)
    attribute(model, images, classes, CORE_METHODS, layers, dtype=images.dtype)


def forward(model: nn.Module, images: Tensor, classes: Tensor, layers: list[str]) -> None:
    with torch.no_grad():
        model(images)


def gradcam_alone(model: nn.Module, images: Tensor, classes: Tensor, layers: list[str]) -> None:
    attribute(model, images, classes, ["gradcam"], layers[-1:], dtype=images.dtype)


CONTENDERS: dict[str, Run] = {
    "captum": captum,
    "grad-cam (3 of 5 methods)": grad_cam,
    "a wrapper per method": wrappers,
    "floor": floor,
    "floor, channels last": floor_channels_last,
    "xface": fused,
    "xface, channels last": fused_channels_last,
    "forward alone": forward,
    "xface, Grad-CAM of the last stage": gradcam_alone,
}


def network_for(contender: str, model: nn.Module) -> nn.Module:
    """Hooks on ReLU modules need networks without in-place calls; channels last its own layout of weights."""
    network = copy.deepcopy(model)
    if "channels last" in contender:
        return network.to(memory_format=torch.channels_last)
    if contender in ("captum", "grad-cam (3 of 5 methods)", "a wrapper per method"):
        for module in network.modules():
            if hasattr(module, "inplace"):
                module.inplace = False
    return network


def measure(
    arch: str,
    batch: int,
    rounds: int,
    device: str,
    dtype: torch.dtype,
    contenders: Collection[str] = tuple(CONTENDERS),
    slow: float = float("inf"),
    side: int = 224,
) -> dict[str, Any]:
    """The seconds of each contender in each round; one that takes longer than `slow` is timed once only."""
    torch.manual_seed(0)
    entry = ARCHITECTURES[arch]
    model = entry.build(2).eval().to(device, dtype)
    images = torch.rand(batch, 3, side, side, device=device, dtype=dtype)
    classes = torch.arange(batch, device=device) % 2
    layers = list(entry.stages[-LAYERS:])
    networks = {name: network_for(name, model) for name in contenders}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name in contenders:
            if any(taken > slow for taken in seconds[name]):
                continue
            taken = timed(CONTENDERS[name], networks[name], images, classes, layers)
            if turn:  # the first is a warm-up
                seconds[name].append(taken)
    return {"arch": arch, "batch": batch, "dtype": str(dtype).removeprefix("torch."), "seconds": seconds}


def timed(run: Run, model: nn.Module, images: Tensor, classes: Tensor, layers: list[str]) -> float:
    synchronize(images)
    start = time.perf_counter()
    try:
        run(model, images, classes, layers)
    except (RuntimeError, TypeError) as error:  # a library may lack bfloat16
        print(f"  {run.__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        return float("nan")
    synchronize(images)
    return time.perf_counter() - start


def synchronize(images: Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize()


def ratio(seconds: dict[str, list[float]], name: str, base: str) -> float:
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[base], strict=False))


def table(found: dict[str, object]) -> str:
    seconds: dict[str, list[float]] = found["seconds"]  # type: ignore[assignment]
    lines = [f"{found['arch']}, batch {found['batch']}, {found['dtype']}"]
    for name, taken in seconds.items():
        base = "forward alone" if name in ("forward alone", "xface, Grad-CAM of the last stage") else "floor"
        lines.append(
            f"  {name:<36}{statistics.median(taken):9.4f} s   {ratio(seconds, name, base):6.2f} x {base}"
        )
    for name in ("xface", "xface, channels last"):
        lines.append(f"  {name} is {ratio(seconds, 'captum', name):.1f} times as fast as captum")
    return "\n".join(lines)


def machine(device: str) -> dict[str, object]:
    name = torch.cuda.get_device_name() if device.startswith("cuda") else cpu_name()
    from importlib.metadata import version

    packages = ("torch", "torchvision", "captum", "grad-cam")
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


@click.command()
@click.option("--arch", "archs", multiple=True, default=ARCHS, show_default=True)
@click.option("--batch", "batches", multiple=True, type=int, default=(1, 8), show_default=True)
@click.option("--rounds", default=7, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures to this JSON file.")
def main(
    archs: tuple[str, ...], batches: tuple[int, ...], rounds: int, device: str, out: Path | None
) -> None:
    """Print the table, and write it with --out."""
    warnings.simplefilter("ignore")
    dtypes = [torch.float32, torch.bfloat16] if device.startswith("cuda") else [torch.float32]
    print(machine(device))
    results = []
    for arch in archs:
        for batch in batches:
            for dtype in dtypes:
                results.append(measure(arch, batch, rounds, device, dtype))
                print(table(results[-1]), flush=True)
    if out:
        out.write_text(json.dumps({"machine": machine(device), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
