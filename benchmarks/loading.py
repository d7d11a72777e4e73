"""Loading a vgg16 checkpoint of half a gigabyte: xface against torchvision and `load_state_dict`.

    python benchmarks/loading.py [--rounds N] [--out FILE]

Each contender runs in a process of its own, once a round, in turn; all imports are done and the file is in
the page cache before the clock starts. `plain` builds the network, which draws random weights, and copies
the mapped file's into it; `load_state_dict alone` finds the network built. The table has medians and ranges
of the seconds, of the process's highest memory, and of the private memory that loading added: the weights
are one copy. Ratios are the medians over rounds, within a round.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click

ARCH = "vgg16"
MEGABYTE = 1 << 20
Row = dict[str, float]
Load = Callable[[], object]


def plain(path: Path) -> Load:
    import torch
    from torchvision.models import vgg16

    def load() -> object:
        model = vgg16(num_classes=2)
        model.load_state_dict(torch.load(path, mmap=True, weights_only=True))
        return model.eval()

    return load


def load_state_dict_alone(path: Path) -> Load:
    import torch
    from torchvision.models import vgg16

    model = vgg16(num_classes=2).eval()
    return lambda: model.load_state_dict(torch.load(path, mmap=True, weights_only=True))


def with_xface(path: Path) -> Load:
    import timm  # noqa: F401
    import torchvision  # noqa: F401

    from xface.detectors.loading import load

    return lambda: load(path, device="cpu")


def with_xface_told(path: Path) -> Load:
    """The same, where the caller or a card says which architecture it is."""
    with_xface(path)
    from xface.detectors.loading import load

    return lambda: load(path, arch=ARCH, device="cpu")


CONTENDERS: dict[str, Callable[[Path], Load]] = {
    "plain": plain,
    "load_state_dict alone": load_state_dict_alone,
    "xface": with_xface,
    "xface, told the architecture": with_xface_told,
}


def status(key: str) -> float:
    """An entry of Linux' /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def measure(name: str, path: Path) -> Row:
    """One loading in this process."""
    load = CONTENDERS[name](path)
    before, private = status("VmRSS"), status("RssAnon")
    start = time.perf_counter()
    loaded = load()
    seconds = time.perf_counter() - start
    row = {
        "seconds": seconds,
        "peak_mib": status("VmHWM"),
        "before_mib": before,
        "private_growth_mib": status("RssAnon") - private,
    }
    del loaded
    return row


def in_turn(path: Path, rounds: int) -> dict[str, list[Row]]:
    """Every contender once a round, each in a new process; the first round, a warm-up, is left out."""
    rows: dict[str, list[Row]] = {name: [] for name in CONTENDERS}
    for turn in range(rounds + 1):
        for name in CONTENDERS:
            call = [sys.executable, __file__, "--measure", name, str(path)]
            row = json.loads(subprocess.run(call, capture_output=True, check=True, text=True).stdout)
            if turn:
                rows[name].append(row)
    return rows


def ratio(rows: dict[str, list[Row]], name: str, base: str, key: str) -> float:
    pairs = zip(rows[name], rows[base], strict=True)
    return statistics.median(row[key] / other[key] for row, other in pairs)


def table(rows: dict[str, list[Row]]) -> str:
    lines = [f"{'':<30}{'seconds':>22}{'peak MiB':>12}{'private MiB added':>20}   x plain: time, peak"]
    for name, taken in rows.items():
        seconds = [row["seconds"] for row in taken]
        middle = {key: statistics.median(row[key] for row in taken) for key in taken[0]}
        spread = f"{middle['seconds']:.3f} ({min(seconds):.3f}-{max(seconds):.3f})"
        ratios = [ratio(rows, name, "plain", key) for key in ("seconds", "peak_mib")]
        lines.append(
            f"{name:<30}{spread:>22}{middle['peak_mib']:12.0f}{middle['private_growth_mib']:20.0f}"
            f"   {ratios[0]:.2f}, {ratios[1]:.2f}"
        )
    return "\n".join(lines)


def write_checkpoint(path: Path) -> None:
    import torch
    from torchvision.models import vgg16

    torch.manual_seed(0)
    torch.save(vgg16(num_classes=2).state_dict(), path)


def machine() -> dict[str, object]:
    import torch

    info = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "device": next((line.partition(": ")[2] for line in info if line.startswith("model name")), ""),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "torchvision")},
    }


@click.command()
@click.option("--rounds", default=7, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures to this JSON file.")
@click.option("--measure", "measured", nargs=2, hidden=True)
def main(rounds: int, out: Path | None, measured: tuple[str, str] | None) -> None:
    """Print the table, and write it with --out."""
    if measured:
        print(json.dumps(measure(measured[0], Path(measured[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{ARCH}.pth"
        write_checkpoint(path)
        size, rows = path.stat().st_size, in_turn(path, rounds)
    print(machine())
    print(f"{ARCH}, two classes, {size / MEGABYTE:.0f} MiB")
    print(table(rows))
    if out:
        found = {"machine": machine(), "arch": ARCH, "file_mib": size / MEGABYTE, "rounds": rows}
        out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
