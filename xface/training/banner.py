"""What a run says before it begins, and of each epoch."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from xface.data.labelled_pictures import Samples
from xface.detectors.crops import CropSettings
from xface.networks.blueprints import parameter_count
from xface.training.config import Config, Part
from xface.training.defaults import preparation
from xface.training.history import Row
from xface.training.scores import SCORES

GIBI = 2**30
NAMES = {"train": "Train", "val": "Validation", "test": "Test"}
WORDS = {"loss": "loss", "accuracy": "acc", "precision": "prec", "recall": "rec", "auc": "AUC"}


def banner(
    config: Config, parts: Mapping[str, Samples], model: nn.Module, device: torch.device, notes: Sequence[str]
) -> str:
    """Device, seed, CPUs, memory, sample counts, parameters and optimiser of a run."""
    sections = {
        "System environments": _system(config, device),
        "Data": _data(config, parts, notes),
        "Network": _network(config, model),
        "Optimizer": _optimizer(config),
    }
    lines = ["-" * 32, f"Running {config.network} on device {device}"]
    for title, entries in sections.items():
        lines += ["", f"[+] {title}", *(f"    {name}: {value}" for name, value in entries)]
    return "\n".join([*lines, ""])


def _system(config: Config, device: torch.device) -> list[tuple[str, str]]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return [
        ("Device", name),
        ("Random seed", str(config.seed)),
        ("The number of GPUs", str(torch.cuda.device_count())),
        ("The number of CPUs", f"{os.cpu_count()}, {torch.get_num_threads()} used"),
        ("Memory size", _memory()),
        ("Precision", config.precision),
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return "unknown"
    return f"{size / GIBI:.1f} GiB"


def counted(samples: Samples) -> str:
    """How many samples there are, of which classes.

    Example:
        >>> import pandas as pd
        >>> counted(Samples(pd.DataFrame({"path": ["/a", "/b", "/c"], "label": ["real", "fake", "fake"]})))
        '3 (2 fake, 1 real)'
    """
    counts = ", ".join(f"{count:,} {name}" for name, count in samples.counts().items())
    return f"{len(samples):,} ({counts})"


def _data(config: Config, parts: Mapping[str, Samples], notes: Sequence[str]) -> list[tuple[str, str]]:
    return [
        *(("Train path", source) for source in config.data.sources),
        *([("Test path", config.data.test)] if config.data.test else []),
        ("Batch size", str(config.batch_size)),
        *((f"{NAMES[name]} samples", counted(part)) for name, part in parts.items()),
        ("Input", str(preparation(config))),
        *(("Note", note) for note in notes),
    ]


def _network(config: Config, model: nn.Module) -> list[tuple[str, str]]:
    options = ", ".join(f"{name} {value}" for name, value in config.options.items())
    return [
        ("Type", config.network + (f" ({options})" if options else "")),
        ("Initial weights", _start(config)),
        ("Model parameters", f"{parameter_count(model):,}"),
    ]


def _start(config: Config) -> str:
    """Where the weights start, in a word."""
    random = "random, whitened stem" if config.model.whitened else "random"
    return config.checkpoint or ("pretrained" if config.model.pretrained else random)


def _optimizer(config: Config) -> list[tuple[str, str]]:
    settings = config.optimizer
    head = f", head {settings.lr * settings.head_lr_multiplier:g}" if settings.head_lr_multiplier != 1 else ""
    return [
        ("Type", settings.type),
        ("Learning rate", f"{settings.lr:g}{head}"),
        ("Weight decay", f"{settings.weight_decay:g}"),
        ("Schedule", setting(config.schedule)),
        ("Early stopping", setting(config.early_stopping)),
    ]


def setting(part: Part | None) -> str:
    """A part of a config in one line.

    Example:
        >>> from xface.training.config import StepLR
        >>> setting(StepLR(type="StepLR", step_size=5))
        'StepLR, step_size 5, gamma 0.1, every epoch'
    """
    if part is None:
        return "none"
    values = dict(part)
    kind = [values.pop("type")] if "type" in values else []
    return ", ".join([*kind, *(f"{name} {_value(value)}" for name, value in values.items())])


def _value(value: object) -> str:
    return " or ".join(value) if isinstance(value, tuple) and isinstance(value[0], str) else str(value)


def epoch_line(row: Row, epochs: int) -> str:
    """One epoch in one line.

    Example:
        >>> from xface.training.config import METRICS
        >>> row = {"epoch": 3, "lr": 1e-4, "seconds": 61.2, **dict.fromkeys(METRICS, 0.5)}
        >>> epoch_line(row, epochs=20)
        '[ 3/20] train loss 0.5000 acc 0.5000 prec 0.5000 rec 0.5000 AUC 0.5000 | validation loss 0.5000
        acc 0.5000 prec 0.5000 rec 0.5000 AUC 0.5000 | lr 0.0001 | 61.2 s'
    """
    parts = " | ".join(f"{part} {_scores(row, part)}" for part in ("train", "validation"))
    number = f"[{int(row['epoch']):>{len(str(epochs))}}/{epochs}]"
    return f"{number} {parts} | lr {row['lr']:g} | {row['seconds']:.1f} s"


def _scores(row: Row, part: str) -> str:
    return " ".join(f"{WORDS[score]} {row[f'{part}_{score}']:.4f}" for score in SCORES)


def description(config: Config, parts: Mapping[str, Samples], epoch: int) -> str:
    """On what and how weights were trained, for their card."""
    optimizer, crop = config.optimizer, CropSettings.named(config.data.crop, config.data.margin)
    counts = ", ".join(f"{counted(part)} for {NAMES[name].lower()}" for name, part in parts.items())
    recipe = [
        f"{optimizer.type} at {optimizer.lr:g}, weight decay {optimizer.weight_decay:g}",
        *([f"head times {optimizer.head_lr_multiplier:g}"] if optimizer.head_lr_multiplier != 1 else []),
        *([setting(config.schedule)] if config.schedule else []),
        f"batches of {config.batch_size * config.accumulate}, {_sampling(config)}",
        *([f"random crops, {setting(config.random_crop)}"] if config.random_crop else []),
        *([f"augmented: {', '.join(config.augmentations)}"] if config.augmentations else []),
        *(["self-blended images"] if config.self_blend else []),
        *([f"mixed, {setting(config.mixing)}"] if config.mixing else []),
        *([f"faces cropped ({crop})"] if crop else []),
        f"initial weights {'/'.join(Path(_start(config)).parts[-2:])}",
        f"seed {config.seed}",
    ]
    name = " and ".join(map(_short, config.data.sources))
    chosen = f"epoch {epoch} of {config.num_epochs}, by {config.best}"
    return f"{name}: {counts}. {config.network}: {'; '.join(recipe)}; {chosen}. Made by: xface train"


def _sampling(config: Config) -> str:
    alike = f" by {' and '.join(config.balance)}" if config.sampling == "balanced" else ""
    return f"{config.sampling}{alike}"


def _short(source: str) -> str:
    path = Path(source)
    return path.parent.name if path.name == "manifest.csv" else path.name
