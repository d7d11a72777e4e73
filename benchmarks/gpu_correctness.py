"""Whether CUDA gives the CPU's maps, in constant memory, and gets by with too little of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from gpu_jobs import Job, Row, Setting
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import xface
from xface.analysis.measuring import MapMeasurer, MeasuredImage
from xface.attribution import CORE_METHODS, METHODS, attribute
from xface.detectors.bundled import bundled
from xface.errors import AttributionError
from xface.networks import architecture

BOUND = 1e-4
SAMPLES = Path(__file__).resolve().parents[1] / "samples"
FAMILIES = {  # and the side of its pictures here, small, as the CPU has to do the same
    "resnet18": 128, "densenet121": 128, "efficientnet_b0": 128, "vgg11_bn": 128, "meso4": 256,
    "xception": 128, "inception_v3": 128, "squeezenet1_0": 128, "efficientnet-b0": 128, "vgg16_c": 96,
    "mesoinception4": 256, "cozzolino": 128, "rahmouni": 128, "freq_attention": 128,
    "timm/convnext_atto": 128, "inception_resnet_v2": 128, "cbam_resnet": 96,
}  # fmt: skip
MANY_PASSES = ("integrated_gradients", "smoothgrad", "occlusion", "scorecam")
LAYERS = 4
Found = dict[str, Tensor]


def jobs(setting: Setting) -> Iterator[Job]:
    yield "verdicts on the samples", lambda: verdicts(setting.device)
    yield "memory over 200 batches", lambda: memory(setting)
    yield "a batch too large for the memory", lambda: halving(setting)
    families = list(FAMILIES.items())
    for name, side in families[:1] if setting.smoke else families:
        yield f"{name}", lambda name=name, side=side: family(name, side, setting)


def verdicts(device: str) -> Row:
    """The bundled detectors' probabilities there and on the CPU."""
    paths, differences = sorted(SAMPLES.glob("*.jpg")), {}
    for name in bundled():
        there, here = (xface.load(name, device=where).predict(paths) for where in (device, "cpu"))
        pairs = [
            (one.probabilities[key], other.probabilities[key])
            for one, other in zip(there, here, strict=True)
            for key in one.probabilities
        ]
        differences[name] = max(abs(a - b) for a, b in pairs)
    return {"images": len(paths), **{f"{name} differs by": value for name, value in differences.items()}}


def memory(setting: Setting) -> Row:
    """What is allocated after each batch, and the most that was; the first ten are left out."""
    model = architecture("resnet18").build(2).eval().to(setting.device)
    images, count = torch.rand(8, 3, 128, 128, device=setting.device), 4 if setting.smoke else 210
    after, reserved = [], []
    for _ in range(count):
        attribute(model, images, 0, CORE_METHODS, architecture("resnet18").stages)
        if images.is_cuda:
            after.append(torch.cuda.memory_allocated())
            reserved.append(torch.cuda.memory_reserved())
    if not after:
        return {"not_run": "memory is counted on CUDA alone", "batches": count}
    grown = max(after[10:]) - min(after[10:])
    return {
        "batches": count - 10, "allocated_mib": after[-1] / 2**20, "grown_bytes": grown,
        "reserved_grown_bytes": reserved[-1] - reserved[9], "ok": grown == 0 and reserved[-1] == reserved[9],
    }  # fmt: skip


def halving(setting: Setting) -> Row:
    """A batch measured with a third of the memory it needs, against the same with all."""
    detector = xface.load("none", arch="resnet18", device=setting.device)
    request = (0, CORE_METHODS, detector.arch.stages)
    images = torch.rand(4 if setting.smoke else 64, 3, 224, 224)
    labels = (torch.arange(224 * 224, dtype=torch.int64) % 12).to(torch.uint8).reshape(1, 224, 224)
    labels = labels.expand(len(images), -1, -1).contiguous()
    if setting.device == "cpu":
        return {
            "not_run": "memory is limited on CUDA alone",
            "images": len(MapMeasurer(detector, request)(images, labels)),
        }
    whole = MapMeasurer(detector, request)
    torch.cuda.reset_peak_memory_stats()
    expected = whole(images, labels)
    needed, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    with limited(needed / 3 / total):
        part = MapMeasurer(detector, request)
        found = part(images, labels)
    error = max(map(difference, found, expected))
    return {
        "needed_mib": needed / 2**20, "given_mib": needed / 3 / 2**20, "batch": len(images),
        "batch_that_fitted": part.fitting.most, "error": error,
        "ok": bool(part.fitting.most) and error <= BOUND,
    }  # fmt: skip


@contextmanager
def limited(fraction: float) -> Iterator[None]:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(fraction)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def difference(found: MeasuredImage, expected: MeasuredImage) -> float:
    """The largest in any share or lift, and of the score."""
    pairs = zip(*(torch.from_numpy(one.measures) for one in (found, expected)), strict=True)
    measures = max(float((a - b).nan_to_num().abs().max()) for a, b in pairs)
    return max(measures, abs(found.score - expected.score))


def family(name: str, side: int, setting: Setting) -> Row:
    """Every method at up to four layers: errors against the CPU's float32, by method.

    `float64` is CUDA against the CPU with both in float64, which no rounding disturbs; `rounding` is the
    CPU's float32 against its float64, what float32 is good for: a rectifier whose input is nearly 0 opens in
    one and stays shut in the other.
    """
    torch.manual_seed(0)
    entry, device = architecture(name), setting.device
    model, images = entry.build(2).eval(), torch.rand(2, 3, side, side)
    layers = entry.stages[-LAYERS:]
    methods, undefined = defined(model, images, layers)
    once = [method for method in methods if method not in MANY_PASSES]
    here, here64 = maps(model, images, once, layers), maps(model.double(), images.double(), once, layers)
    there64 = maps(model.to(device), images.double().to(device), once, layers)
    model.float()
    images = images.to(device)
    there = maps(model, images, once, layers)
    last = maps(
        model.to(memory_format=torch.channels_last),
        images.to(memory_format=torch.channels_last), once, layers,
    )  # fmt: skip
    model.to(memory_format=torch.contiguous_format)
    row: Row = {
        "float32": errors(there, here), "float64": errors(there64, here64), "rounding": errors(here, here64),
        "channels_last": errors(last, there), "undefined": undefined,
    }  # fmt: skip
    if not setting.smoke:
        row["float32"] |= many_passes(model, images, [m for m in methods if m in MANY_PASSES], layers, device)
    row["bfloat16"] = half(model, images, once, layers, here)
    return {**summary(row), **row}


def defined(model: nn.Module, images: Tensor, layers: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """The methods that this network has, and why not the others."""
    methods, undefined = list(METHODS), {}
    for method in [method for method in methods if method not in MANY_PASSES]:
        try:
            attribute(model, images[:1], 0, [method], layers)
        except AttributionError as error:
            undefined[method] = str(error)
    return [method for method in methods if method not in undefined], undefined


def maps(
    model: nn.Module, images: Tensor, methods: list[str], layers: tuple[str, ...], **others: Any
) -> Found:
    found = attribute(model, images, [0, 1][: len(images)], methods, layers, **others)
    return {"@".join(filter(None, key)): tensor.cpu() for key, tensor in found.items()}


def many_passes(
    model: nn.Module, images: Tensor, methods: list[str], layers: tuple[str, ...], device: str
) -> dict[str, float]:
    """Those that look at one image many times; at the first layer, whose channels are few."""
    found: list[Found] = []
    for where in (device, "cpu"):
        with SameNoise():
            found.append(maps(model.to(where), images[:1].to(where), methods, layers[:1]))
    model.to(device)
    return errors(*found)


class SameNoise(TorchFunctionMode):
    """Normal noise drawn on the CPU from one seed, wherever it is wanted: devices draw differently."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [each for each in args if isinstance(each, Tensor)]
        if func is not torch.normal or not tensors:
            return func(*args, **kwargs)
        moved = [each.cpu() if isinstance(each, Tensor) else each for each in args]
        generator = torch.Generator().manual_seed(0)
        return func(*moved, **{**kwargs, "generator": generator}).to(tensors[0].device)


def half(model: nn.Module, images: Tensor, methods: list[str], layers: tuple[str, ...], here: Found) -> Row:
    try:
        found = maps(model.bfloat16(), images.bfloat16(), methods, layers, dtype=torch.bfloat16)
    except RuntimeError as error:  # an operation may lack bfloat16
        return {"failed": str(error)[:200]}
    return errors(found, here)


def errors(found: Found, truth: Found) -> dict[str, float]:
    """Of each method the largest relative error at any layer of any image."""
    worst: dict[str, float] = {}
    for key, expected in truth.items():
        method = key.partition("@")[0]
        pairs = zip(found[key], expected, strict=True)
        worst[method] = max(worst.get(method, 0.0), *(relative_error(a, b) for a, b in pairs))
    return worst


def relative_error(found: Tensor, truth: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    largest, difference = float(truth.abs().max()), float((found.double() - truth.double()).abs().max())
    return difference / largest if largest else (float("inf") if difference else 0.0)


def summary(row: Row) -> Row:
    worst = max(row["float32"], key=row["float32"].get)
    halves = [value for value in row["bfloat16"].values() if isinstance(value, float)]
    return {
        "worst": row["float32"][worst], "of": worst, "ok": row["float32"][worst] <= BOUND,
        "worst_float64": max(row["float64"].values()), "worst_rounding": max(row["rounding"].values()),
        "worst_channels_last": max(row["channels_last"].values()),
        "median_bfloat16": statistics.median(halves) if halves else None,
    }  # fmt: skip
