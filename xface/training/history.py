"""What is kept of each epoch: a row of scores, and the weights if they are the best so far."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from xface.errors import UsageError, XFaceError
from xface.files.csv_files import write_rows
from xface.files.writing import written_aside
from xface.runs.lock import Held
from xface.training.config import METRICS, mode

Row: TypeAlias = dict[str, float]
COLUMNS = ("epoch", "lr", *METRICS, "seconds", "waiting")


def best_of(rows: Sequence[Mapping[str, float]], metric: str) -> int | None:
    """The index of the first row with the best value of a metric, None if no row has a number.

    Example:
        >>> best_of([{"train_auc": 0.5}, {"train_auc": 0.9}, {"train_auc": 0.9}], "train_auc")
        1
    """
    sign = 1 if mode(metric) == "min" else -1
    ranked = [(sign * row[metric], i) for i, row in enumerate(rows) if not math.isnan(row[metric])]
    return min(ranked)[1] if ranked else None


def write_epochs(rows: Sequence[Mapping[str, float]], file: Path) -> None:
    """Write the epochs as CSV, whole or not at all."""
    with written_aside(file) as part:
        write_rows(part, COLUMNS, rows)


def read_rows(file: Path) -> list[Row]:
    """The epochs of a CSV; UsageError for a file that isn't as `write_epochs` makes it."""
    try:
        with open(file, newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines, strict=True)
            rows = [_row(line) for line in reader]
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"its columns aren't {', '.join(COLUMNS)}")
        if [row["epoch"] for row in rows] != [*range(1, len(rows) + 1)]:
            raise ValueError("its epochs aren't numbered from 1")
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UsageError(
            f"'{file}' cannot be read ({error}); correct it, or remove run.json, and `xface train --resume "
            f"{file.parent}` writes both again"
        ) from error
    return rows


def _row(line: Mapping[str, str]) -> Row:
    return {name: int(value) if name == "epoch" else float(value) for name, value in line.items()}


class Epochs(Checkpoint):
    """Keep a row for each epoch in `metrics.csv`, and hand the weights of the best one to `keep`.

    Lightning's CSV logger deletes what an earlier process logged; these rows are part of every checkpoint.
    Lightning calls this, as a kind of checkpoint, after the scores are logged; it must stand before the
    callback that writes the checkpoint. `check` gets the best row so far and the number of epochs of a run
    that resumes, and looks whether what was kept is there; `held` is the run's folder. `waiting` are the
    seconds in which an epoch's training had no batch.
    """

    def __init__(
        self,
        folder: Path,
        metric: str,
        keep: Callable[[Row], None],
        tell: Callable[[Row], None],
        check: Callable[[Row | None, int], None],
        held: Held,
    ) -> None:
        self.folder, self.metric, self.keep, self.tell, self.check = folder, metric, keep, tell, check
        self.held = held
        self.rows: list[Row] = []
        self._begun = self._idle_since = self._waiting = self._lr = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check what an earlier process kept of the run that resumes, and rewrite its rows."""
        if trainer.is_global_zero and self.rows:
            best = best_of(self.rows, self.metric)
            self.check(None if best is None else self.rows[best], len(self.rows))
            write_epochs(self.rows, self.folder / "metrics.csv")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if the run that resumes had been stopped early."""
        stopping = trainer.early_stopping_callback
        if (
            isinstance(stopping, EarlyStopping)
            and stopping.stopping_reason != EarlyStoppingReason.NOT_STOPPED
        ):
            trainer.should_stop = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time and the learning rate."""
        self._begun = self._idle_since = perf_counter()
        self._waiting, self._lr = 0.0, trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_start(self, *_: Any) -> None:
        """A batch has come."""
        self._waiting += perf_counter() - self._idle_since

    def on_train_batch_end(self, *_: Any) -> None:
        """The next batch is waited for."""
        self._idle_since = perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the epoch."""
        row = self._finished(trainer, pl_module)
        self.rows.append(row)
        if not trainer.is_global_zero:
            return
        self.held.check()
        if best_of(self.rows, self.metric) == len(self.rows) - 1:
            self.keep(row)
        write_epochs(self.rows, self.folder / "metrics.csv")
        self.tell(row)

    def _finished(self, trainer: Trainer, module: Any) -> Row:
        epoch, scores = trainer.current_epoch + 1, module.epoch_scores
        if not math.isfinite(scores["train_loss"]):
            raise XFaceError(
                f"epoch {epoch}: the loss is no longer a finite number; lower the learning rate, or take "
                "precision 32"
            )
        times = {"seconds": round(perf_counter() - self._begun, 3), "waiting": round(self._waiting, 3)}
        return {"epoch": epoch, "lr": self._lr, **{name: scores[name] for name in METRICS}, **times}

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The rows of the run that resumes."""
        self.rows = list(state_dict["rows"])
