"""`xface train`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from xface.errors import UsageError

from .options import LABELS

if TYPE_CHECKING:
    from xface.training import Run

EPILOG = """\b
Examples:
  xface train configs/resnet18.yaml --set data.train=faces/ --set prefix=runs/1
  xface train --resume runs/1
  xface train configs/grid_optimizer.yaml --grid --set data.train=faces/manifest.csv
"""


@click.command(epilog=EPILOG)
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a key, such as optimizer.lr=1e-3."
)
@LABELS
@click.option("--resume", "folder", metavar="RUN", help="Resume the run in this folder after its last epoch.")
@click.option(
    "--grid", is_flag=True, help="Run every combination of the values that the config's `grid` lists."
)
@click.argument("config", required=False, metavar="CONFIG.yaml")
def train(
    config: str | None, changes: tuple[str, ...], labels: dict[str, str], folder: str | None, grid: bool
) -> None:
    """Train a detector from CONFIG.yaml, into the folder named by its key `prefix`.

    --resume resumes a run that was interrupted at any moment; on the same CPU it ends with the same weights.
    The folder holds the config, the samples with their splits, metrics.csv, last.ckpt, and best.safetensors
    with its card, which every other command takes. An interrupted grid resumes when the same command is run
    again: finished combinations are not repeated.
    """
    if labels:
        changes = (*changes, f"data.labels={json.dumps(labels)}")
    if folder is not None and (config or changes or grid):
        raise UsageError("a resumed run keeps its settings: --resume takes no other option or config")
    if folder is not None:
        _resume(folder)
    elif config is None:
        raise UsageError("give a config (xface train CONFIG.yaml), or --resume RUN")
    elif grid:
        _grid(config, changes)
    else:
        _train(config, changes)


def _train(config: str, changes: tuple[str, ...]) -> None:
    from xface.training import read_config, train

    read = read_config(config, changes)
    if read.grid:
        raise UsageError(f"{config} lists a grid: run it with --grid, or take it off (--set grid=null)")
    _report(train(read, _say, sys.stderr.isatty()))


def _resume(folder: str) -> None:
    from xface.training import resume

    _report(resume(folder, _say, sys.stderr.isatty()))


def _grid(config: str, changes: tuple[str, ...]) -> None:
    from pathlib import Path

    from xface.training import run_grid
    from xface.training.grid_search import grid_table
    from xface.training.yaml_files import read

    made = run_grid(read(Path(config)).changed(changes), _say, sys.stderr.isatty())
    _say(f"\n{grid_table(made)}")
    _say(f"\ntable: {made.table}")
    if any(row["error"] for row in made.rows):
        raise click.exceptions.Exit(1)


def _report(run: Run) -> None:
    scores = ", ".join(f"{name.replace('_', ' ')} {score:g}" for name, score in run.scores.items())
    _say(f"\nbest: {scores}")
    _say(f"weights: {run.weights}")


def _say(line: str) -> None:
    from xface.wording import printable

    for part in line.split("\n"):
        click.echo(printable(part))
    sys.stdout.flush()
