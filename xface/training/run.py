"""One training run: a folder that holds all of it, and can be resumed after a kill at any moment."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from xface.data.labelled_pictures import Samples
from xface.data.samplers import class_weights
from xface.data.workers import dead_workers_reported
from xface.detectors.card import Card, card_path, read_card
from xface.detectors.crops import CropSettings
from xface.errors import (
    CheckpointError,
    DeviceError,
    InterruptedRunError,
    OutputError,
    UsageError,
    XFaceError,
)
from xface.files.paths import absolute, is_file, is_folder, reading, writing
from xface.files.writing import written_aside
from xface.runs.checking import read_json
from xface.runs.lock import LOCK, Held, held
from xface.runs.schema import Done
from xface.training.banner import banner, description, epoch_line
from xface.training.checkpoint_io import AsideIO, kept_card, read_state, rewrite_card, write_detector
from xface.training.config import Config, Stopping, mode
from xface.training.config_files import as_config
from xface.training.data_module import Faces, divided, write_samples, written_samples
from xface.training.defaults import completed, preparation
from xface.training.history import Epochs, Row, best_of, read_rows
from xface.training.initial_weights import build, check_size
from xface.training.learner import Learner, seed_of
from xface.training.whitening import whiten
from xface.training.yaml_files import read

CONFIG, SAMPLES, LAST, WEIGHTS, DONE = (
    "config.yaml",
    "samples.csv",
    "last.ckpt",
    "best.safetensors",
    "run.json",
)
RESUME = "resume it with xface train --resume {folder}"
UNNAMED = f"{CONFIG}.part"  # in a folder whose run was killed as it began
NAMED = 3

Tell: TypeAlias = Callable[[str], None]


def _silent(line: str) -> None:
    """Say nothing; unlike a lambda, it can be sent to other processes."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the epochs, the best of them, and what was kept of it.

    `weights` and the card beside it are what `xface.load` takes; `scores` are the card's: the validation's of
    the best epoch and, where there is test data, the test's.
    """

    folder: Path
    weights: Path
    card: Card
    rows: tuple[Row, ...] = field(repr=False)
    best: Row
    scores: Mapping[str, float]


def train(config: Config, tell: Tell = _silent, progress: bool = False) -> Run:
    """Train a detector as a config says, into the new folder `config.prefix`.

    `tell` gets the banner and a line for each epoch; `progress` shows Lightning's progress bar. In the folder
    lie the config with all that it implies, the samples and their splits, `metrics.csv` with a row for each
    epoch, `last.ckpt` to resume from, and `best.safetensors` with its card.

    Raises:
        UsageError: the folder is taken, or the config cannot be followed.
        DataError: the samples cannot be read. CheckpointError: the weights to start from cannot.
        XFaceError: the loss is no longer a finite number.
    """
    config = completed(config)
    folder = absolute(config.prefix, OutputError)
    lightning_devices(config)
    _check_free(folder, config)
    parts, notes = divided(config.data)
    with _set_up(config) as model, _holding(folder) as lock:
        _check_free(folder, config)  # another process may have begun there meanwhile
        _begin(folder, config, parts)
        return _run(model, config, lock, tell, progress, notes)


def _check_free(folder: Path, config: Config) -> None:
    """Raise UsageError if the folder holds a run, or files of the user's."""
    with reading(folder, OutputError):
        taken = sorted(os.listdir(folder)) if is_folder(folder, OutputError) else []
    if CONFIG in taken:
        raise UsageError(
            f"{config.prefix!r} holds a run; resume it (xface train --resume {config.prefix}), or give "
            "another folder (--set prefix=...)"
        )
    if strange := sorted({*taken} - {LOCK, UNNAMED, SAMPLES, f"{SAMPLES}.part"}):
        raise UsageError(f"{config.prefix!r} holds other files ({strange[0]}); give another folder as prefix")
    if SAMPLES in taken and UNNAMED not in taken:
        raise UsageError(f"{config.prefix!r} holds other files ({SAMPLES}); give another folder as prefix")


@contextmanager
def _holding(folder: Path) -> Iterator[Held]:
    """The folder, made if need be, for this process alone; what goes wrong with it is one OutputError."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    remedy = RESUME.format(folder=folder)
    with (
        held(folder) as lock,
        lock.loss_reported(f"make room, then {remedy}"),
        dead_workers_reported(f"{remedy}, with fewer num_workers in its config.yaml"),
    ):
        yield lock


def _begin(folder: Path, config: Config, parts: Mapping[str, Samples]) -> None:
    """Put into the run's folder what it starts from; the config, which makes it a run, gets its name last."""
    with written_aside(folder / CONFIG) as unnamed:
        _write_config(config, unnamed)
        with written_aside(folder / SAMPLES) as part:
            write_samples(parts, part)


def resume(folder: str | Path, tell: Tell = _silent, progress: bool = False) -> Run:
    """Resume a run after its last whole epoch, to the weights of an unbroken one on the same CPU.

    A finished run is returned as it is.

    Raises:
        UsageError: there is no run in the folder, or its config, samples or pictures were changed since it
            began, or another process is at it. CheckpointError: its checkpoint or weights are damaged.

    Example:
        >>> resume("nowhere")
        Traceback (most recent call last):
        xface.errors.UsageError: there is no run in 'nowhere': it has no config.yaml
    """
    place = absolute(folder, UsageError)
    if not is_file(place / CONFIG, UsageError):
        raise UsageError(f"there is no run in {str(folder)!r}: it has no {CONFIG}")
    config = as_config(read(place / CONFIG))
    if is_file(place / DONE, UsageError):
        return finished(place, config)
    lightning_devices(config)
    with _set_up(config) as model, _holding(place) as lock:
        return _run(model, config, lock, tell, progress, ())


def finished(folder: Path, config: Config) -> Run:
    """The run in a folder, which is over.

    Raises:
        UsageError, CheckpointError: a file of it isn't as it was written, or they don't fit together.
    """
    read_json(folder / DONE, Done, f"remove it, and `xface train --resume {folder}` writes it again")
    rows = read_rows(folder / "metrics.csv")
    best, weights = best_of(rows, config.best), folder / WEIGHTS
    if best is None:
        raise XFaceError(f"{folder}: {config.best} was never a number; there are no best weights")
    card = kept_card(weights, config)
    _check_kept(config, weights, rows[best], len(rows))
    return Run(folder, weights, card, tuple(rows), rows[best], card.scores)


def _check_kept(config: Config, weights: Path, best: Row | None, epochs: int) -> None:
    """Raise CheckpointError unless the kept weights are those of the best epoch.

    A process that was killed after it had kept an epoch's weights and before it wrote the checkpoint leaves a
    card of the epoch that is to come again, and perhaps not yet the weights.
    """
    if best is None:
        return
    with suppress(XFaceError):
        if read_card(card_path(weights)).scores.get("epoch", 0) > epochs:
            return
    if (kept := kept_card(weights, config).scores["epoch"]) != best["epoch"]:
        raise CheckpointError(
            f"{str(weights)!r} is of epoch {kept:g}, but the best by {config.best} was {best['epoch']}; put "
            "back what was there"
        )


def _write_config(config: Config, file: Path) -> None:
    content = config.model_dump(mode="json")
    for key in ("test", "cache"):
        if content["data"].get(key):
            content["data"][key] = str(Path(content["data"][key]).absolute())
    sources = [str(Path(source).absolute()) for source in config.data.sources]
    content["data"]["train"] = sources if len(sources) > 1 else sources[0]
    if config.checkpoint:
        content["checkpoint"] = str(Path(config.checkpoint).absolute())
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


@contextmanager
def _set_up(config: Config) -> Iterator[nn.Module]:
    """The network with its initial weights; the caller's random state and threads are left alone."""
    with _one_opencv_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed))
        model = build(config)
        check_size(model, config)
        yield model.to(memory_format=torch.channels_last) if config.channels_last else model


def _run(
    model: nn.Module, config: Config, lock: Held, tell: Tell, progress: bool, notes: tuple[str, ...]
) -> Run:
    folder = lock.folder
    parts = written_samples(folder / SAMPLES, config.data.classes)
    faces = Faces(parts, config)
    if config.model.whitened:
        whiten(model, faces.datasets["train"], config.seed)
    tell(banner(config, parts, model, device(config), notes))
    learner = Learner(model, config, faces.steps(), _class_weights(config, parts["train"]))
    _fit(learner, faces, lock, tell, progress)
    _finish(learner, faces, lock)
    _report_unreadable(faces, tell)
    _report_faceless(faces, tell)
    return finished(folder, config)


def _class_weights(config: Config, samples: Samples) -> torch.Tensor | None:
    weights, classes = config.loss.class_weights, config.data.classes
    if weights is None:
        return None
    if weights == "balanced":
        return torch.from_numpy(class_weights(samples, classes))
    assert isinstance(weights, Mapping)
    return torch.tensor([weights[name] for name in classes])


def _fit(learner: Learner, faces: Faces, lock: Held, tell: Tell, progress: bool) -> None:
    folder = lock.folder
    config, last = learner.config, folder / LAST
    if last.is_file():
        tell(f"resuming from {last}")
    with _quiet():
        trainer = Trainer(
            **lightning_devices(config),
            max_epochs=config.num_epochs,
            precision=config.precision,
            accumulate_grad_batches=config.accumulate,
            limit_train_batches=config.limit,
            limit_val_batches=config.limit,
            logger=_loggers(folder),
            callbacks=_callbacks(learner, faces, lock, tell),
            plugins=[AsideIO(faces.check)],
            num_sanity_val_steps=0,
            enable_progress_bar=progress,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        try:
            trainer.fit(
                learner, datamodule=faces, ckpt_path=last if last.is_file() else None, weights_only=True
            )
        except SystemExit as error:  # what Lightning makes of an interrupt
            raise InterruptedRunError(
                f"interrupted; `xface train --resume {folder}` resumes the run"
            ) from error
    if trainer.should_stop:
        tell(f"stopped early: {config.early_stopping and config.early_stopping.monitor} got no better")


def _callbacks(learner: Learner, faces: Faces, lock: Held, tell: Tell) -> list[Callback]:
    """In this order: what an epoch leaves behind must be in the checkpoint, which is written last."""
    config, folder = learner.config, lock.folder
    parts = {name: dataset.samples for name, dataset in faces.datasets.items()}

    last = ModelCheckpoint(
        folder,
        LAST.removesuffix(".ckpt"),
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    epochs = Epochs(
        folder,
        config.best,
        keep=partial(_keep, learner, parts, folder / WEIGHTS),
        tell=partial(_tell_epoch, config, tell),
        check=partial(_check_kept, config, folder / WEIGHTS),
        held=lock,
    )
    return [*_stopping(config.early_stopping), epochs, last]


def _keep(learner: Learner, parts: Mapping[str, Samples], weights: Path, row: Row) -> None:
    config = learner.config
    card = _card(config, parts, row, learner.images["validation"])
    write_detector(learner.model, card, weights, config.half_precision)


def _tell_epoch(config: Config, tell: Tell, row: Row) -> None:
    every = config.print_epochs or config.num_epochs
    if (row["epoch"] - 1) % every == 0 or row["epoch"] == config.num_epochs:
        tell(epoch_line(row, config.num_epochs))


def _stopping(settings: Stopping | None) -> list[Callback]:
    if settings is None:
        return []
    monitor = settings.monitor
    return [
        EarlyStopping(
            monitor, settings.min_delta, settings.patience, mode=mode(monitor), check_on_train_epoch_end=True
        )
    ]


def _card(config: Config, parts: Mapping[str, Samples], row: Row, images: int) -> Card:
    scores = {name: round(value, 4) for name, value in row.items() if name.startswith("validation_")}
    return Card(
        arch=config.network,
        classes=config.data.classes,
        preprocessing=preparation(config),
        crop=CropSettings.named(config.data.crop, config.data.margin),
        training=description(config, parts, int(row["epoch"])),
        scores={"epoch": row["epoch"], **scores, "validation_images": images},
    )


def _finish(learner: Learner, faces: Faces, lock: Held) -> None:
    """Score the best weights on the test data, and say that the run is over."""
    folder, config = lock.folder, learner.config
    weights = folder / WEIGHTS
    lock.check()
    if not weights.is_file():
        raise XFaceError(f"{folder}: {config.best} was never a number; there are no best weights")
    scores: dict[str, float] = {}
    card = kept_card(weights, config)
    if "test" in faces.datasets:
        learner.model.load_state_dict(read_state(weights))
        scores = {**_tested(learner, faces), "test_images": learner.images["test"]}
        rewrite_card(_with_scores(card, scores), weights)
    lock.check()
    with written_aside(folder / DONE) as part:
        part.write_text(json.dumps({"finished": True, **scores}, indent=2) + "\n", encoding="utf-8")


def _with_scores(card: Card, scores: Mapping[str, float]) -> Card:
    return replace(card, scores={**card.scores, **scores})


def _tested(learner: Learner, faces: Faces) -> dict[str, float]:
    with _quiet():
        trainer = Trainer(
            **lightning_devices(learner.config.model_copy(update={"devices": 1})),
            precision=learner.config.precision,
            limit_test_batches=learner.config.limit,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        found = trainer.test(learner, datamodule=faces, verbose=False)
    return {name: round(float(value), 4) for name, value in found[0].items()}


def _report_unreadable(faces: Faces, tell: Tell) -> None:
    """Say once which pictures could not be read, and what was done without them."""
    if not (bad := faces.unreadable()):
        return
    shown = "; ".join(list(bad.values())[:NAMED]) + ("; ..." if len(bad) > NAMED else "")
    tell(
        f"{len(bad)} pictures could not be read; in training others of their class stood in for them, "
        f"no score counts them: {shown}"
    )


def _report_faceless(faces: Faces, tell: Tell) -> None:
    """Say once how many pictures were left whole where faces were to be cropped, or weren't blended."""
    counts = {name: dataset.faceless() for name, dataset in faces.datasets.items()}
    if not any(counts.values()):
        return
    if not faces.config.data.crop:
        tell(f"{counts['train']} of {len(faces.datasets['train'])} had no face found and were never blended")
        return
    shown = ", ".join(f"{count} of {len(faces.datasets[name])} in {name}" for name, count in counts.items())
    tell(f"{sum(counts.values())} pictures had no face found and were left whole, not cropped: {shown}")


def _loggers(folder: Path) -> list[TensorBoardLogger]:
    if find_spec("tensorboard") is None:
        return []
    return [TensorBoardLogger(folder, name="", version="tensorboard")]


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Without a pool of OpenCV's: a forked worker that sets the number of its threads waits for ever."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's hints are for people who program with it."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def device(config: Config) -> torch.device:
    """The device, or the first of several; `auto` is the GPU if there is one."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def lightning_devices(config: Config) -> dict[str, Any]:
    """Lightning's words for where to train.

    Raises:
        DeviceError: there is no such device here, or not so many.

    Example:
        >>> lightning_devices(Config(network="meso4", data={"train": "a.csv"}, prefix="run", device="cpu"))
        {'accelerator': 'cpu', 'devices': 1}
    """
    name, count = config.device, config.devices
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise DeviceError(f"unknown device {name!r}; give auto, cpu, cuda or cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"device {name!r}: there is no CUDA on this machine; --set device=auto takes what is there"
        )
    on_gpu = device(config).type == "cuda"
    if on_gpu and max(count, int(index or 0) + 1) > torch.cuda.device_count():
        raise DeviceError(f"device {name!r}, {count} of them: this machine has {torch.cuda.device_count()}")
    several = {"strategy": "ddp_spawn"} if count > 1 else {}
    chosen = [int(index)] if index and count == 1 else count
    return {"accelerator": "gpu" if on_gpu else "cpu", "devices": chosen, **several}
