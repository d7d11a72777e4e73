"""The run of `xface analyze`: how fast beside attribution alone, where its time goes, how much memory.

    python benchmarks/analysis.py [--data CSV|DIR] [--images N] [--memory N]... [--rounds N] [--out FILE]

`alone` explains tensors that lie ready, by the same engine in the same batches. `new` is the whole run, with
landmarks to be found; `known` a second one that finds them in the cache, as a second detector does. Each is a
process of its own, once a round, in turn. Images per second are from the first image to the joined tables,
without the start of Python, the conclusions and the report; the stages decode, landmarks and attributes are
sums over the worker processes. Ratios are the medians over rounds, within a round. Memory is the highest of
the main process and, apart, of the largest worker, for each number of images. Without --data the images are
changed copies of the samples.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
READY = 64  # tensors that `alone` explains again and again
Row = dict[str, Any]


def planned(settings: Row) -> Any:
    import xface
    from xface.analysis.labelled_data import read_data
    from xface.analysis.plan import plan_analysis

    detector = xface.load(settings["weights"], settings["arch"], settings["device"])
    data = read_data(settings["data"], limit=settings["images"])
    return plan_analysis(detector, data, settings["methods"], settings["layers"] or None)


def alone(settings: Row) -> Row:
    """Attribution of so many tensors, in the run's own batches."""
    import torch

    from xface.attribution import attribute
    from xface.images.pictures import read_picture

    plan = planned(settings)
    paths = plan.data.samples.paths[:READY]
    ready = torch.stack([plan.detector.prepare(read_picture(path)).tensor for path in paths])
    batches = [batch for part in range(plan.part_count) for batch in plan.batches(part)]
    start = time.perf_counter()
    for batch in batches:
        attribute(plan.detector.model, ready[[row % len(ready) for row in batch]], *plan.request)
    if plan.detector.device.type == "cuda":
        torch.cuda.synchronize()
    return {"images_per_second": settings["images"] / (time.perf_counter() - start)}


def whole(settings: Row) -> Row:
    """The run, its stages and its memory."""
    from xface.analysis.pipeline import analyze

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = analyze(planned(settings), Path(folder) / "run", workers=settings["workers"])
        seconds = time.perf_counter() - start
        manifest = json.loads((run / "manifest.json").read_text())
    mib = {
        "main_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "worker_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
    return {**{key: manifest[key] for key in ("images_per_second", "stages")}, "seconds": seconds, **mib}


CONTENDERS: dict[str, Callable[[Row], Row]] = {"alone": alone, "new": whole, "known": whole}


def measure(name: str, settings: Row, cache: Path) -> Row:
    """One contender in a new process."""
    call = [sys.executable, __file__, "--measure", name, json.dumps(settings)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(call, stdout=subprocess.PIPE, check=True, text=True, env=environment)
    row: Row = json.loads(done.stdout)
    return row


def in_turn(settings: Row, rounds: int, folder: Path) -> dict[str, list[Row]]:
    """Every contender once a round; `new` has an empty cache of landmarks, which `known` then finds full."""
    rows: dict[str, list[Row]] = {name: [] for name in CONTENDERS}
    for turn in range(rounds):
        for name in CONTENDERS:
            rows[name].append(measure(name, settings, folder / f"cache-{turn}"))
    return rows


def ratio(rows: dict[str, list[Row]], name: str) -> float:
    pairs = zip(rows[name], rows["alone"], strict=True)
    return statistics.median(row["images_per_second"] / base["images_per_second"] for row, base in pairs)


def table(rows: dict[str, list[Row]]) -> str:
    lines = [f"{'':<8}{'images/s':>24}   x alone"]
    for name, taken in rows.items():
        speeds = [row["images_per_second"] for row in taken]
        spread = f"{statistics.median(speeds):.1f} ({min(speeds):.1f}-{max(speeds):.1f})"
        lines.append(f"{name:<8}{spread:>24}   {ratio(rows, name):.2f}")
    for name in ("new", "known"):
        taken = [row["stages"] for row in rows[name]]
        spent = {stage: statistics.median(row[stage] for row in taken) for stage in taken[0]}
        lines.append(f"{name}: " + ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in spent.items()))
    return "\n".join(lines)


def write_faces(folder: Path, count: int) -> None:
    """So many different pictures of the two sample faces, real and fake."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for number in range(count):
        label = ("real", "fake")[number % 2]
        pixels = np.asarray(Image.open(SAMPLES / f"{label}.jpg")) * chance.uniform(0.5, 1)
        path = folder / label / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def machine() -> dict[str, object]:
    import torch

    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(": ")[2] for line in info if line.startswith("model name")), "")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "dlib-bin", "pyarrow")},
    }


@click.command()
@click.option("--data", help="A CSV or a folder; without it, changed copies of the samples.")
@click.option("--images", default=1000, show_default=True)
@click.option("--memory", "sizes", multiple=True, type=int, help="Measure memory at so many images.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--weights", default="none", show_default=True)
@click.option("--arch", default="resnet18", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--method", "methods", multiple=True, default=("gradcam",), show_default=True)
@click.option("--layer", "layers", multiple=True)
@click.option("--workers", type=int)
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures to this JSON file.")
@click.option("--measure", "measured", nargs=2, hidden=True)
def main(
    sizes: tuple[int, ...], rounds: int, out: Path | None, measured: tuple[str, str] | None, **settings: Any
) -> None:
    """Print the table, and write it with --out."""
    if measured:
        print(json.dumps(CONTENDERS[measured[0]](json.loads(measured[1]))))
        return
    settings["arch"] = settings["arch"] if settings["weights"] == "none" else None
    with tempfile.TemporaryDirectory() as folder:
        if settings["data"] is None:
            settings["data"] = f"{folder}/faces"
            write_faces(Path(settings["data"]), max(settings["images"], *sizes, 2))
        rows = in_turn(settings, rounds, Path(folder))
        cache = Path(folder) / "cache-0"
        memory = {size: measure("known", {**settings, "images": size}, cache) for size in sizes}
    print(machine())
    print(table(rows))
    for size, row in memory.items():
        print(f"{size} images: main process {row['main_mib']:.0f} MiB, worker {row['worker_mib']:.0f} MiB")
    if out:
        found = {"machine": machine(), "settings": settings, "rounds": rows, "memory": memory}
        out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
