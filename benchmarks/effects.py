"""The cost of region effects, against the five core maps: what `explain` takes with and without them.

    python benchmarks/effects.py [--arch resnet18] [--rounds 5] [--threads 2] [--out FILE]

Both run in turns on samples/fake.jpg, its face given, so their ratio does not depend on what else the machine
does; seconds are wall time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

import xface
from xface.faces import find_face
from xface.images.pictures import read_picture

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure(xface.load(arch=options.arch, device="cpu"), options.rounds)
    report = {"arch": options.arch, "threads": options.threads, "torch": torch.__version__, **found}
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measure(detector: xface.Detector, rounds: int) -> dict[str, object]:
    """Median seconds of `explain` without effects and with them; what these add, as a part of the rest."""
    picture = read_picture(ROOT / "samples" / "fake.jpg")
    face = find_face(picture.pixels)
    xface.explain(detector, picture, face=face)  # warms up
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in clocks}
    for _ in range(rounds):
        marks = [[clock() for clock in clocks.values()]]
        for effects in (None, "regions"):
            xface.explain(detector, picture, face=face, effects=effects)
            marks.append([clock() for clock in clocks.values()])
        for name, (start, middle, end) in zip(clocks, zip(*marks, strict=True), strict=True):
            taken[name].append((middle - start, end - middle))
    return {name: summary(pairs) for name, pairs in taken.items()} | {"rounds": rounds}


def summary(pairs: list[tuple[float, float]]) -> dict[str, float]:
    maps, both = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median((after - before) / before for before, after in pairs)
    return {"seconds of maps": maps, "seconds with effects": both, "effects / maps": ratio}


if __name__ == "__main__":
    main()
