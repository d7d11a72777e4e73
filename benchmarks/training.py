"""Training throughput of `xface train` against a plain PyTorch loop, and the share of time without data.

    python benchmarks/training.py DATA [--arch NAME] [--size N] [--batch N] [--batches N] [--workers N]
                                       [--rounds N] [--device D] [--out FILE]

DATA is what a config's `data.train` may be. Both have the same network, loss, optimiser, dataset,
augmentations and loader; the loop does nothing else: forward, backward, step. Each round runs both in turn,
in changing order, an epoch to warm up and one that is timed from batch to batch. The ratios are the loop's
median step over xface's, the median over rounds, in wall time and in the main process's CPU time, which other
work on the machine disturbs less: 1 is as fast.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn
from torch.nn import functional as F

from xface.data import read_samples
from xface.networks import architecture
from xface.training import Config, train
from xface.training.data_module import Faces, divided
from xface.training.defaults import completed
from xface.training.history import Epochs
from xface.training.initial_weights import build
from xface.training.optimisation import optimizer

WARM_UP = 1  # epochs


def settings(
    data: str, arch: str, size: int, batch: int, batches: int, workers: int, device: str
) -> dict[str, Any]:
    return {
        "network": arch,
        "data": {"train": data, "test_proportions": 0.05},
        "input_size": size,
        "augmentations": ["flip", "colour", "jpeg"],
        "batch_size": batch,
        "num_workers": workers,
        "num_epochs": 1 + WARM_UP,
        "limit": batches,
        "device": device,
        "channels_last": True,
    }


class Clock:
    """The time of each step's end, and the seconds without data between them."""

    def __init__(self, device: str) -> None:
        self.device, self.wall, self.cpu, self.waiting = device, [], [], 0.0

    def tick(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    @property
    def step(self) -> float:
        return statistics.median(after - before for before, after in pairwise(self.wall))

    @property
    def cpu_step(self) -> float:
        return statistics.median(after - before for before, after in pairwise(self.cpu))

    @property
    def share_waiting(self) -> float:
        return self.waiting / (self.wall[-1] - self.wall[0])


def plain(values: dict[str, Any]) -> Clock:
    """The last epoch of a loop."""
    config = completed(Config.model_validate({**values, "prefix": "unused"}))
    parts, _ = divided(config.data)
    faces, device = Faces(parts, config), torch.device(config.device)
    model = build(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    made = optimizer(model, architecture(config.network), config.optimizer)
    loader = faces.train_dataloader()
    for epoch in range(config.num_epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        clock = epoch_of(model, made, loader, config)
    return clock


def epoch_of(model: nn.Module, made: torch.optim.Optimizer, loader: Any, config: Config) -> Clock:
    model.train()
    clock, batches, device = Clock(config.device), iter(loader), config.device
    for number in range(min(config.limit or len(loader), len(loader))):
        asked = time.perf_counter()
        images, labels, _ = next(batches)
        clock.waiting += time.perf_counter() - asked if number else 0.0
        images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
        loss = F.cross_entropy(model(images), labels.to(device, non_blocking=True))
        made.zero_grad()
        loss.backward()
        made.step()
        clock.tick()
    return clock


def ours(values: dict[str, Any]) -> Clock:
    """The last epoch of a run."""
    clock, usual = Clock(values["device"]), (Epochs.on_train_batch_start, Epochs.on_train_batch_end)

    def start(self: Epochs, trainer: Any, module: Any, batch: Any, index: int) -> None:
        usual[0](self)
        if index == 0:
            self._waiting, clock.wall, clock.cpu = 0.0, [], []

    def end(self: Epochs, *others: Any) -> None:
        usual[1](self)
        clock.tick()

    Epochs.on_train_batch_start, Epochs.on_train_batch_end = start, end  # type: ignore[method-assign,assignment]
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = train(Config.model_validate({**values, "prefix": f"{folder}/run"}))
    finally:
        Epochs.on_train_batch_start, Epochs.on_train_batch_end = usual  # type: ignore[method-assign]
    clock.waiting = run.rows[-1]["waiting"]
    return clock


@click.command(help=__doc__)
@click.argument("data")
@click.option("--arch", default="resnet18", show_default=True)
@click.option("--size", default=224, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--batches", default=12, show_default=True)
@click.option("--workers", default=1, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=Path)
def main(data: str, rounds: int, out: Path | None, **given: Any) -> None:
    values = settings(data, **given)
    loops: list[Clock] = []
    runs: list[Clock] = []
    for number in range(rounds):
        for contender, clocks in ((plain, loops), (ours, runs))[:: -1 if number % 2 else 1]:
            clocks.append(contender(values))
        click.echo(
            f"round {number + 1}: a step of the loop {loops[-1].step:.4f} s, of xface {runs[-1].step:.4f} s"
        )
    pairs = list(zip(loops, runs, strict=True))
    result = {
        **given,
        "samples": len(read_samples(data)),
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "loop_images_per_second": round(given["batch"] / statistics.median(clock.step for clock in loops), 2),
        "xface_images_per_second": round(given["batch"] / statistics.median(clock.step for clock in runs), 2),
        "ratio": round(statistics.median(loop.step / run.step for loop, run in pairs), 3),
        "ratio_cpu_time": round(statistics.median(loop.cpu_step / run.cpu_step for loop, run in pairs), 3),
        "waiting_for_data_loop": round(statistics.median(clock.share_waiting for clock in loops), 4),
        "waiting_for_data_xface": round(statistics.median(clock.share_waiting for clock in runs), 4),
    }
    click.echo(json.dumps(result, indent=2))
    if out:
        out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
