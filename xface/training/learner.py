"""The Lightning module: a network that learns what is fake."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from xface.networks.zoo import architecture
from xface.training import optimisation
from xface.training.config import Config, ReduceLROnPlateau
from xface.training.optimisation import likeliest, mixing
from xface.training.scores import EpochScores

POSITIVE, REAL = "fake", "real"


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, such as a run's seed and an epoch: unlike for any others.

    Example:
        >>> seed_of(0, 1) != seed_of(1, 0)
        True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def positive_index(classes: tuple[str, ...]) -> int:
    """The index of the class that is looked for: the one called fake, else the first."""
    folded = [name.casefold() for name in classes]
    return folded.index(POSITIVE) if POSITIVE in folded else 0


def real_index(classes: tuple[str, ...]) -> int:
    """The index of the class of real faces: the one called real, else the first that isn't looked for."""
    folded = [name.casefold() for name in classes]
    others = [index for index in range(len(classes)) if index != positive_index(classes)]
    return folded.index(REAL) if REAL in folded else others[0]


class Learner(LightningModule):
    """A network, its loss, its optimiser and the scores of each epoch.

    Everything random in an epoch's training comes from torch's generator, which is set anew from (seed,
    epoch) when it begins. `class_weights` (classes,) weigh the loss to train with; validation has plain cross
    entropy, so that runs with different losses can be compared.
    """

    def __init__(
        self, model: nn.Module, config: Config, steps: int, class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model, self.config, self.steps = model, config, steps
        self.arch = architecture(config.network)
        self.class_weights = class_weights
        classes = config.data.classes
        count, positive = len(classes), positive_index(classes)
        self.train_scores = EpochScores(count, positive)
        self.validation_scores = EpochScores(count, positive)
        self.test_scores = EpochScores(count, positive)
        self.mix = mixing(config.mixing, count) if config.mixing else None
        self.plain = optimisation.criterion(0.0, None)
        self.epoch_scores: dict[str, float] = {}
        self.images: dict[str, int] = {}
        self._judged: set[int] = set()

    @cached_property
    def objective(self) -> optimisation.Objective:
        """What the network is trained with."""
        loss = self.config.loss
        weighted = optimisation.criterion(loss.label_smoothing, self.class_weights)
        return optimisation.objective(self.arch, loss, weighted, real_index(self.config.data.classes))

    def configure_optimizers(self) -> Any:
        """The optimiser, and the schedule if there is one."""
        made = optimisation.optimizer(self.model, self.arch, self.config.optimizer)
        if self.config.schedule is None:
            return made
        schedule = optimisation.schedule(self.config.schedule, made, self.config.num_epochs, self.steps)
        return {"optimizer": made, "lr_scheduler": schedule}

    def on_train_epoch_start(self) -> None:
        """Set torch's generator."""
        torch.manual_seed(seed_of(self.config.seed, self.current_epoch))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch."""
        images, targets = self._placed(batch)
        if self.mix is not None:
            images, targets = self.mix(images, targets)
        logits, loss = self.objective(self.model, images, targets)
        self.train_scores.add(logits, likeliest(targets), loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Count one batch."""
        self._judge(self.validation_scores, batch)

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Count one batch."""
        self._judge(self.test_scores, batch)

    def on_validation_epoch_start(self) -> None:
        """Nothing is scored yet."""
        self._judged.clear()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Log the validation's scores."""
        self._log("validation", self.validation_scores)

    def on_test_epoch_end(self) -> None:
        """Log the test's scores."""
        self._log("test", self.test_scores)

    def on_train_epoch_end(self) -> None:
        """Log the training's scores, and tell a schedule that waits for a metric what it is."""
        self._log("train", self.train_scores)
        if isinstance(schedule := self.config.schedule, ReduceLROnPlateau):
            scheduler: Any = self.lr_schedulers()
            scheduler.step(self.epoch_scores[schedule.monitor])

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a schedule.

        Lightning steps those that wait for a metric after the checkpoint of the epoch is written, so that a
        run that resumes from it would miss a step: theirs is made in `on_train_epoch_end`.
        """
        if metric is None:
            scheduler.step()

    def _judge(self, scores: EpochScores, batch: list[Tensor]) -> None:
        new = self._new(batch[2])
        if not new:
            return
        images, labels = self._placed([part[new] for part in batch])
        logits = self.model(images)
        scores.add(logits, labels, self.plain(logits, labels))

    def _new(self, indices: Tensor) -> list[int]:
        """The places of what was not scored yet: the substitute of an unreadable picture comes twice."""
        places = {index: place for place, index in reversed(list(enumerate(indices.tolist())))}
        new = sorted(place for index, place in places.items() if index not in self._judged)
        self._judged.update(places)
        return new

    def _placed(self, batch: list[Tensor]) -> tuple[Tensor, Tensor]:
        images, labels, _ = batch
        return (images.to(memory_format=torch.channels_last) if self.config.channels_last else images), labels

    def _log(self, part: str, scores: EpochScores) -> None:
        self.images[part] = int(scores.samples.compute())
        values = {f"{part}_{score}": value for score, value in scores.scores().items()}
        self.epoch_scores.update(values)
        self.log_dict(values, on_epoch=True)
