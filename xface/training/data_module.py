"""The faces of a run: how they are divided, and the loaders that Lightning asks for."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from xface.data.augmentation import RandomCrop, augmentations
from xface.data.dataset import FaceDataset, loader
from xface.data.labelled_pictures import Samples, apart, read_samples
from xface.data.labels import Vocabulary
from xface.data.samplers import SAMPLERS
from xface.data.sources import SOURCES, source_of
from xface.data.splits import shared_groups, split
from xface.detectors.crops import face_crop
from xface.errors import DataError, UsageError
from xface.files.csv_files import write_table
from xface.files.hashes import changed, hashes, named
from xface.files.paths import check_utf8, status
from xface.preprocessing import Preprocessing
from xface.runs.settings import changes
from xface.training import config as schema
from xface.training.config import Config
from xface.training.defaults import preparation

FREE = ("prefix", "print_epochs", "num_workers", "device", "devices", "checkpoint", "test_checkpoint",
        "experiment", "grid")  # fmt: skip
FREE_DATA = ("train", "test", "cache")
"""The run has its samples' paths in a file of its own."""

HASH = "file_sha256"
PARTS = {"train": "training", "val": "validation", "test": "test"}


def divided(data: schema.Data) -> tuple[dict[str, Samples], tuple[str, ...]]:
    """The samples of train, val and, if there are any, test; and what is to be said of them.

    Raises:
        DataError: they cannot be read or divided. UsageError: a part lacks a class.
    """
    samples = read_samples(data.sources, labels=data.vocabulary)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parts = _parts(data, samples)
    notes = [*samples.notes, *(str(warning.message) for warning in caught)]
    for name in parts.keys() - PARTS.keys():
        notes.append(f"{len(parts.pop(name))} samples of the split {name!r} are left out")
    if data.test:
        notes += _add(parts, "val" if data.random_split is False else "test", data.test, data.vocabulary)
    _check(parts, data.classes)
    return {name: parts[name] for name in PARTS if len(parts.get(name, ()))}, tuple(notes)


def _parts(data: schema.Data, samples: Samples) -> dict[str, Samples]:
    if (how := data.split) is not None:
        return split(samples, _names(how.proportions), how.by, how.group_size or 1, how.seed)
    if data.random_split is False:
        return {"train": samples}
    if data.random_split is None and all(samples.column("split")):
        return split(samples, by="manifest")
    held_out = data.test_proportions
    return split(samples, {"train": 1 - held_out, "val": held_out})


def _names(proportions: Mapping[Any, float] | None) -> dict[str, float] | None:
    return None if proportions is None else dict(proportions)


def _add(parts: dict[str, Samples], name: str, file: str, labels: Vocabulary) -> list[str]:
    """Add the data of `data.test`, less the files that `data.train` has too.

    *Fake Face Detection* names test data but never opens it: without it there are no test scores.
    """
    if name == "test" and source_of(file) is SOURCES["csv"] and status(file, UsageError) is None:
        return [f"{file!r} isn't there: the run will have no test scores"]
    replaced = parts.pop(name, ())
    others = Samples(pd.concat([part.table for part in parts.values()], ignore_index=True).fillna(""))
    parts[name] = apart(read_samples(file, labels=labels), others, file)
    left_out = f"{len(replaced)} {PARTS[name]} samples of data.train give way to data.test and are left out"
    return [*([left_out] if replaced else []), *parts[name].notes, *_shared(parts[name], others, file)]


def _shared(samples: Samples, others: Samples, file: str) -> list[str]:
    if not (count := shared_groups(samples, others)):
        return []
    return [
        f"{count} groups are in {file!r} and in data.train, by their names: the network is tested on what it "
        "has seen (leakage); keep each in one of them, or name them apart if they aren't the same"
    ]


def _check(parts: Mapping[str, Samples], classes: tuple[str, ...]) -> None:
    for name in ("train", "val"):
        if name not in parts:
            raise UsageError(f"there is nothing for {PARTS[name]}; the splits are {', '.join(parts)}")
        parts[name].label_indices(classes)
        if lacking := [label for label in classes if label not in parts[name].counts()]:
            raise UsageError(
                f"nothing for {PARTS[name]} is {' or '.join(lacking)}; give more data, or other splits"
            )


def write_samples(parts: Mapping[str, Samples], file: Path) -> None:
    """Write all samples, with their splits and the hashes of their files, as a CSV for `read_samples`.

    Raises:
        DataError: a path isn't text in UTF-8, so that it could not be read again.
    """
    tables = [part.table.assign(split=name) for name, part in parts.items()]
    table = pd.concat(tables, ignore_index=True).fillna("")
    for path in (*table["path"], *table["pair"]):
        check_utf8(path, DataError, "the run's table of samples")
    write_table(table.assign(**{HASH: list(hashes([*table["path"]]))}), file)


def written_samples(file: Path, classes: tuple[str, ...]) -> dict[str, Samples]:
    """The samples of a run's CSV by their splits.

    Raises:
        DataError: it cannot be read. UsageError: it isn't one that a run wrote, or pictures in it hold
            something else than when the run began, or are gone.
    """
    samples = read_samples(file, keep_missing=True, labels=Vocabulary(classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what leaks was said when they were divided
        parts = split(samples, by="manifest")
    if HASH not in samples.table or not {"train", "val"} <= parts.keys() <= PARTS.keys():
        raise UsageError(f"'{file}' isn't as a run writes it; put back what was there, or begin a new run")
    if different := changed(samples.paths, samples.column(HASH)):
        raise UsageError(
            f"{len(different)} pictures of '{file}' changed after the run had begun: {named(different)}; put "
            "back what was there, or begin a new run"
        )
    return parts


def bound(config: Config) -> dict[str, Any]:
    """What of a config a run cannot change any more; where it is and on what device it runs, it can."""
    content = config.model_dump(mode="json", exclude={*FREE})
    content["data"] = {key: value for key, value in content["data"].items() if key not in FREE_DATA}
    return content


def _digest(parts: Mapping[str, Samples]) -> str:
    digest = hashlib.sha256()
    for name, part in parts.items():
        text = f"{name}\n{part.table.to_csv(index=False)}"
        digest.update(text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class Faces(LightningDataModule):
    """Loaders of a run's samples; `epoch` is the one that comes next, and part of every checkpoint.

    Sampler and dataset depend on seed and epoch alone, so that an epoch that was broken off comes again as
    it was.
    """

    def __init__(self, parts: Mapping[str, Samples], config: Config) -> None:
        super().__init__()
        self.config, self.epoch = config, 0
        self.begun_with = {"config": bound(config), "samples": _digest(parts)}
        prepared = preparation(config)
        changes: dict[str, Any] = {
            "blending": config.blending(),
            "random_crop": RandomCrop(**dict(config.random_crop)) if config.random_crop else None,
            "paired": config.sampling == "pairs",
        }
        if config.augmentations:
            changes["augment"] = augmentations(config.augmentations)
        self.datasets = {
            name: self._dataset(part, prepared, changes if name == "train" else {})
            for name, part in parts.items()
        }

    def _dataset(self, samples: Samples, prepared: Preprocessing, changes: Mapping[str, Any]) -> FaceDataset:
        data, config = self.config.data, self.config
        return FaceDataset(
            samples,
            prepared,
            data.classes,
            crop=face_crop(data.crop, data.margin),
            seed=config.seed,
            cache=data.cache,
            workers=config.num_workers,
            **changes,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled, balanced or paired batches, from the epoch that comes next."""
        config, dataset = self.config, self.datasets["train"]
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        how: dict[str, Any] = {"by": config.balance} if config.sampling == "balanced" else {}
        sampler = SAMPLERS[config.sampling](dataset.samples, config.seed, replicas, rank, **how)
        sampler.passes = config.passes
        sampler.set_epoch(self.epoch)  # workers start on it before Lightning says which epoch it is
        single = len(sampler) % config.batch_size == 1 and len(sampler) > 1  # BatchNorm needs two
        return loader(dataset, config.batch_size, sampler, config.num_workers, drop_last=single)

    def val_dataloader(self) -> DataLoader[Any]:
        """All of the validation samples in their order."""
        return loader(self.datasets["val"], self.config.batch_size, workers=self.config.num_workers)

    def test_dataloader(self) -> DataLoader[Any]:
        """All of the test samples in their order."""
        return loader(self.datasets["test"], self.config.batch_size, workers=self.config.num_workers)

    def steps(self) -> int:
        """The number of optimisation steps of an epoch."""
        config = self.config
        batches = min(len(self.train_dataloader()), config.limit or 2**62)
        return -(-batches // config.accumulate)

    def state_dict(self) -> dict[str, Any]:
        """The epoch to resume with (one is over when this is written), and what was found of the pictures."""
        found = {name: dataset.found.clone() for name, dataset in self.datasets.items()}
        over = self.trainer.current_epoch if self.trainer else self.epoch
        return {"epoch": over + 1, "found": found, "begun_with": self.begun_with}

    def check(self, checkpoint: Mapping[str, Any]) -> None:
        """Raise UsageError if a checkpoint was made with another config or other samples."""
        before = checkpoint[type(self).__qualname__]["begun_with"]
        if different := changes(before, self.begun_with):
            raise UsageError(
                f"the run was started with other settings: {'; '.join(different)}; restore them, or start a "
                "new run, from these weights if need be (`checkpoint`)"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume with that epoch."""
        self.epoch = int(state_dict["epoch"])
        for name, found in state_dict.get("found", {}).items():
            self.datasets[name].found.copy_(found)

    def unreadable(self) -> dict[str, str]:
        """Path and reason of each picture that was found unreadable so far."""
        return {path: why for dataset in self.datasets.values() for path, why in dataset.unreadable().items()}
