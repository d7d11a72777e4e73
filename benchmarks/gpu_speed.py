"""Images per second on the GPU: attribution, `xface analyze`, training, and what graphs could give."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import analysis
import attribution
import pandas as pd
import torch
import training
from gpu_jobs import Job, Row, Setting
from torch import Tensor, nn

from xface.data import read_samples
from xface.detectors.bundled import bundled
from xface.errors import LandmarkError
from xface.faces.landmark_cache import LandmarkStore
from xface.images.pictures import read_picture
from xface.networks import ARCHITECTURES
from xface.training.yaml_files import read

ARCHS = ("resnet18", "efficientnet_b0", "densenet121")
BATCHES = (256, 1, 32)
GRAD_CAM = "grad-cam (3 of 5 methods)"
CONTENDERS = (
    "floor",
    "floor, channels last",
    "xface",
    "xface, channels last",
    "captum",
    GRAD_CAM,
    "forward alone",
)
SLOW = 1.0  # seconds: such a contender is timed once
COPIES = 8  # of each face, to analyse
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def attribution_jobs(setting: Setting) -> Iterator[Job]:
    """Five methods at four layers."""
    cases = [
        (batch, arch, dtype)
        for arch in ARCHS
        for batch in BATCHES
        for dtype in (torch.float32, torch.bfloat16)
    ]
    for batch, arch, dtype in [(2, ARCHS[0], torch.float32)] if setting.smoke else cases:
        yield f"{arch}, batch {batch}, {str(dtype)[6:]}", partial(attributed, setting, arch, batch, dtype)


def attributed(setting: Setting, arch: str, batch: int, dtype: torch.dtype) -> Row:
    """The contenders' median seconds, and xface's speed against them."""
    # grad-cam's guided backprop works image by image: at 256 it takes eight times what it takes at 32.
    names = [name for name in CONTENDERS if name != GRAD_CAM or batch <= 32]
    rounds = 1 if setting.smoke else 15 if batch == 1 else 5
    side = 64 if setting.smoke else 224
    found = attribution.measure(arch, batch, rounds, setting.device, dtype, names, SLOW, side)["seconds"]
    against = partial(attribution.ratio, found)
    return {
        "images_per_second": batch / statistics.median(found["xface"]),
        "times_captum": against("captum", "xface"),
        "times_grad_cam": against(GRAD_CAM, "xface") if GRAD_CAM in found else None,
        "of_floor": against("xface", "floor"),
        "of_floor_channels_last": against("xface, channels last", "floor, channels last"),
        "channels_last": against("xface", "xface, channels last"),
        "seconds": {name: statistics.median(taken) for name, taken in found.items()},
    }


def analysis_jobs(setting: Setting) -> Iterator[Job]:
    """`analyze` with landmarks in the cache, against attribution of tensors that lie ready."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "faces.csv"
        yield "landmarks in the cache", partial(known_faces, setting, table)
        for methods, layers in (
            (("gradcam",), ()),
            (("vanilla", "guided", "deconvnet", "gradcam", "guided_gradcam"), ()),
        ):
            yield f"analyze, {', '.join(methods)}", partial(analysed, setting, table, methods, layers)
            if setting.smoke:
                break


def known_faces(setting: Setting, table: Path) -> Row:
    """Writes the table of copies of those faces whose landmarks the cache holds."""
    store, samples = LandmarkStore(), read_samples([str(path) for path in setting.manifests])
    kept, missing = [], 0
    for path, label in zip(samples.paths, samples.labels, strict=True):
        try:
            if store.landmarks(read_picture(path).pixels) is not None:
                kept.append((path, label))
        except LandmarkError:
            missing += 1
        if setting.smoke and len(kept) == 24:
            break
    copies = [
        (copy_of(path, table.parent / f"{copy}-{number}.jpg"), label)
        for copy in range(1 if setting.smoke else COPIES)
        for number, (path, label) in enumerate(kept)
    ]
    pd.DataFrame(copies, columns=["path", "label"]).to_csv(table, index=False)
    return {
        "faces": len(samples),
        "with_landmarks": len(kept),
        "not_in_the_cache": missing,
        "ok": not missing,
    }


def copy_of(path: str, copy: Path) -> str:
    copy.write_bytes(Path(path).read_bytes())
    return str(copy)


def analysed(setting: Setting, table: Path, methods: tuple[str, ...], layers: tuple[str, ...]) -> Row:
    settings = {
        "data": str(table), "images": len(pd.read_csv(table)), "weights": "resnet18", "arch": None,
        "device": setting.device, "methods": methods, "layers": layers, "workers": None,
    }  # fmt: skip
    cache = Path(os.environ["XDG_CACHE_HOME"])
    alone, whole = (analysis.measure(name, settings, cache) for name in ("alone", "known"))
    speeds = [row["images_per_second"] for row in (whole, alone)]
    return {
        "images": settings["images"], "images_per_second": speeds[0], "alone": speeds[1],
        "ratio": speeds[0] / speeds[1], "seconds": whole["seconds"], "stages": whole["stages"],
        "main_mib": whole["main_mib"],
    }  # fmt: skip


def training_jobs(setting: Setting) -> Iterator[Job]:
    """The recipes of the bundled detectors, then a plain loop against xface's in float32."""
    recipes = [path for name in bundled() for path in sorted(CONFIGS.glob(f"{name}*.yaml"))]
    for path in recipes[-1:] if setting.smoke else [*recipes, CONFIGS / "recipe_gpu.yaml"]:
        yield f"train {path.stem}", partial(trained, setting, training.ours, recipe(setting, path))
    if not setting.smoke:
        data = str(setting.manifests[0])
        same = training.settings(data, "resnet18", 224, 64, 12, workers(), setting.device)
        for name, run in (("a plain loop", training.plain), ("xface", training.ours)):
            yield f"resnet18 at 224, float32: {name}", partial(trained, setting, run, same)


def recipe(setting: Setting, path: Path) -> Row:
    """A config with the faces at hand, two short epochs, from random weights: its speed is the same."""
    values = read(path).values
    data = {**values["data"], "train": [str(manifest) for manifest in setting.manifests]}
    few = (
        {"batch_size": 4, "limit": 3, "num_workers": 0}
        if setting.smoke
        else {"limit": 40, "num_workers": workers()}
    )
    values = {key: value for key, value in values.items() if key not in ("checkpoint", "early_stopping")}
    if "model" in values:
        values["model"] = {key: value for key, value in values["model"].items() if key != "pretrained"}
    return {**values, "data": data, "num_epochs": 2, "device": setting.device, **few}


def workers() -> int:
    return min(12, max(1, (os.cpu_count() or 1) - 2))


def trained(setting: Setting, run: Callable[[Row], training.Clock], values: Row) -> Row:
    """The last of two epochs: by its median step, which leaves waiting out, and from end to end."""
    with tempfile.TemporaryDirectory() as cache:
        if "cache" in values["data"]:
            values = {**values, "data": {**values["data"], "cache": cache}}
        clock = run(values)
    steps = len(clock.wall) - 1
    return {
        "batch": values["batch_size"], "images_per_second": values["batch_size"] / clock.step,
        "from_end_to_end": values["batch_size"] * steps / (clock.wall[-1] - clock.wall[0]),
        "waiting_for_data": clock.share_waiting, "steps": steps, "workers": values["num_workers"],
    }  # fmt: skip


def graph_jobs(setting: Setting) -> Iterator[Job]:
    """An experiment: the floor at batch 1 as a CUDA graph, and compiled; nothing in xface does either."""
    for arch in ARCHS[:1] if setting.smoke else ARCHS:
        yield f"{arch}, floor as a CUDA graph, batch 1", partial(graphed, setting, arch)
    if not setting.smoke:
        yield "resnet18, floor compiled, batch 32", partial(compiled, setting, "resnet18")


def graphed(setting: Setting, arch: str) -> Row:
    if setting.device == "cpu":
        return {"not_run": "graphs are CUDA's"}
    model, images, classes = prepared(setting, arch, 1)
    eager = partial(attribution.floor, model, images, classes, [])
    leaf = images.clone().requires_grad_()

    def passes() -> tuple[Tensor, ...]:
        score = model(leaf).gather(1, classes[:, None]).sum()
        return tuple(torch.autograd.grad(score, leaf, retain_graph=left > 0)[0] for left in (2, 1, 0))

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            expected = passes()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = passes()
    graph.replay()
    torch.cuda.synchronize()
    same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(captured, expected, strict=True))
    taken, usual = median_seconds(graph.replay), median_seconds(eager)
    return {"eager_ms": usual * 1e3, "graph_ms": taken * 1e3, "times_faster": usual / taken, "same": same}


def compiled(setting: Setting, arch: str) -> Row:
    model, images, classes = prepared(setting, arch, 32)
    fast = torch.compile(model)
    start = time.perf_counter()
    attribution.floor(fast, images, classes, [])
    took = time.perf_counter() - start
    run, usual = (partial(attribution.floor, net, images, classes, []) for net in (fast, model))
    ours, eager = median_seconds(run), median_seconds(usual)
    return {
        "eager_ms": eager * 1e3,
        "compiled_ms": ours * 1e3,
        "times_faster": eager / ours,
        "compiling_s": took,
    }


def prepared(setting: Setting, arch: str, batch: int) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = ARCHITECTURES[arch].build(2).eval().requires_grad_(False).to(setting.device)
    classes = torch.arange(batch, device=setting.device) % 2
    return model, torch.rand(batch, 3, 224, 224, device=setting.device), classes


def median_seconds(run: Callable[[], Any], rounds: int = 20) -> float:
    taken = []
    for _ in range(rounds + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[3:])
