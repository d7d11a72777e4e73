"""Own files changed by hand: a run is read back or resumed rightly, or refused by an XFaceError."""

import json
import random
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from changes_by_hand import ANY, csv_changes, json_changes, parquet_changes
from click.testing import CliRunner
from run_folders import make_run
from safetensors.torch import load_file, save_file
from unbroken_runs import tables
from xface_cli.main import xface as commands

from xface.errors import CheckpointError, UsageError, XFaceError
from xface.report.run.page import Page
from xface.runs.folder import EFFECTS_FILE, RunFolder
from xface.runs.tables import TABLES
from xface.training import resume, train
from xface.training.checkpoint_io import AsideIO
from xface.training.config import Config

JSON = ("manifest.json", "findings.json")
PARQUET = tuple(f"{table}.parquet" for table in TABLES)
HARMLESS = {"zeros after it", "rows reversed"}


def chosen(changes, count: int | None) -> list:
    """So many of the changes, or all; which ones is told where one fails."""
    changes = list(changes)
    return changes if count is None else random.Random(count).sample(changes, min(count, len(changes)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "whole", 60)


@cache
def changes_of(path: Path) -> list:
    special = json_changes(json.loads(path.read_text())) if path.suffix == ".json" else parquet_changes(path)
    return [*ANY.items(), *special]


@pytest.mark.parametrize("count", [10])
@pytest.mark.parametrize("file", [*JSON, *PARQUET, EFFECTS_FILE])
def test_a_run_is_read_whole_or_refused_with_the_file(whole, tmp_path, file, count):
    accepted = 0
    for name, change in [*ANY.items(), *chosen(changes_of(whole / file), count)]:
        folder = shutil.copytree(whole, tmp_path / "run")
        change(folder / file)
        try:
            run = RunFolder.read(folder)
            faces = {entry["row"]: "a.jpg" for entry in run.thumbnails()}
            assert run.regions.lift.shape[0] == len(run.rows)
            assert run.effects is None or set(run.effects["row"].to_pylist()) <= set(run.rows.tolist())
            if accepted < 4:
                page = Page(run, faces, {}, None).html()
                assert "</script><b>" not in page.replace("</script></body>", "")
            accepted += 1
        except XFaceError as error:
            said = str(error)
        except Exception as error:
            pytest.fail(f"{file}: {name}: {type(error).__name__}: {error}")
        else:
            said = str(folder)
        assert str(folder) in said, name
        assert "\n" not in said, name
        shutil.rmtree(folder)


@pytest.mark.parametrize("file", [*JSON, *PARQUET])
def test_the_command_ends_with_one_line(whole, tmp_path, file):
    """Alone and compared, as the first run and as the second."""
    for name in ("cut", "a pipe"):
        folder = shutil.copytree(whole, tmp_path / name)
        ANY[name](folder / file)
        for words in ([folder], [folder, "--compare", whole], [whole, "--compare", folder]):
            done = CliRunner().invoke(commands, ["report", *map(str, words)])
            if isinstance(done.exception, UsageError):
                assert file in str(done.exception)
            else:
                # Of the run that is compared with, no thumbnails are drawn.
                assert (done.exception, file, words[0]) == (None, "thumbnails.parquet", whole), name


def test_what_is_changed_within_what_is_allowed_is_noticed_by_its_hash(place, tmp_path):
    """A number for another in a run that `analyze` made: no schema could tell."""
    folder = shutil.copytree(place / "run", tmp_path / "run")
    findings = (folder / "findings.json").read_text()
    (folder / "findings.json").write_text(findings.replace('"images": 24', '"images": 24 '))
    with pytest.raises(
        UsageError, match=r"findings\.json: cannot be read \(it was changed after the run wrote it"
    ):
        RunFolder.read(folder)
    (folder / "findings.json").write_text(findings)
    RunFolder.read(folder)
    images = tables(folder)["images"]
    images.assign(score=images["score"] / 2).to_parquet(folder / "images.parquet")
    with pytest.raises(UsageError, match=r"images\.parquet: cannot be read \(it was changed"):
        RunFolder.read(folder)


class StopError(Exception):
    """What ends a run after its first checkpoint."""


@pytest.fixture(scope="module")
def trained(place, tmp_path_factory):
    """The folders of a finished run and of one that was stopped in its second epoch."""
    said = []

    def stop(line: str) -> None:
        said.append(line)
        if len(said) > 2:
            raise StopError

    folder = tmp_path_factory.mktemp("trained")
    data = {"train": str(place / "manifest.csv")}
    config = {
        "network": "meso4",
        "data": data,
        "batch_size": 4,
        "limit": 3,
        "device": "cpu",
    }
    train(Config(**config, num_epochs=2, prefix=str(folder / "finished")))
    with pytest.raises(StopError):
        train(Config(**config, num_epochs=2, prefix=str(folder / "stopped")), stop)
    return folder


def of_checkpoint(change):
    """A change of what a checkpoint holds, written again as torch writes it."""

    def write(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return write


def of_weights(change):
    def write(path: Path) -> None:
        state = load_file(path)
        change(state)
        save_file(state, path)

    return write


def first(state):
    return next(name for name, tensor in state.items() if tensor.is_floating_point())


CHECKPOINT = {
    "no seal": of_checkpoint(lambda content: content.pop("xface_seal")),
    "another epoch": of_checkpoint(lambda content: content.update(epoch=500)),
    "weights in another type": of_checkpoint(
        lambda content: content["state_dict"].update({k: v.half() for k, v in content["state_dict"].items()})
    ),
    "a weight changed": of_checkpoint(
        lambda content: content["state_dict"][first(content["state_dict"])].add_(1)
    ),
    "no optimiser": of_checkpoint(lambda content: content.pop("optimizer_states")),
    "no rows": of_checkpoint(lambda content: content.pop("callbacks")),
    "a tensor": lambda path: torch.save(torch.ones(3), path),
    "empty": lambda path: torch.save({}, path),
}
WEIGHTS = {
    "a weight changed": of_weights(lambda state: state[first(state)].add_(1)),
    "a weight gone": of_weights(lambda state: state.pop(first(state))),
    "another type": of_weights(lambda state: state.update({k: v.half() for k, v in state.items()})),
    "none": lambda path: save_file({}, path),
}
CONFIGS = {
    "batch_size": lambda path: path.write_text(path.read_text().replace("batch_size: 4", "batch_size: 2")),
    "num_epochs": lambda path: path.write_text(path.read_text().replace("num_epochs: 2", "num_epochs: 4")),
    "network": lambda path: path.write_text(path.read_text().replace("meso4", "mesoinception4")),
    "unknown key": lambda path: path.write_text(path.read_text() + "\nlearning: 1\n"),
}


def training_changes(path: Path) -> list:
    special = {
        "last.ckpt": lambda: CHECKPOINT.items(),
        "best.safetensors": lambda: WEIGHTS.items(),
        "config.yaml": lambda: CONFIGS.items(),
        "best.json": lambda: json_changes(json.loads(path.read_text())),
        "run.json": lambda: json_changes(json.loads(path.read_text())),
    }.get(path.name, lambda: csv_changes(path))
    return [*ANY.items(), *special()]


FILES = (
    "config.yaml",
    "samples.csv",
    "metrics.csv",
    "last.ckpt",
    "best.safetensors",
    "best.json",
    "run.json",
)


@pytest.mark.parametrize("count", [3])
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_training_run_goes_on_rightly_or_is_refused(trained, tmp_path, state, file, count):
    if not (trained / state / file).exists():
        return
    for name, change in chosen(training_changes(trained / state / file), count):
        folder = shutil.copytree(trained / state, tmp_path / "run")
        change(folder / file)
        try:
            resume(folder)
        except XFaceError:
            pass
        except Exception as error:
            pytest.fail(f"{state}: {file}: {name}: {type(error).__name__}: {error}")
        else:
            same = (trained / "finished" / "best.safetensors").read_bytes()
            assert (folder / "best.safetensors").read_bytes() == same, name
        shutil.rmtree(folder)


SILENT = {
    "finished": {"best.safetensors": WEIGHTS},
    "stopped": {"last.ckpt": CHECKPOINT, "best.safetensors": WEIGHTS, "config.yaml": CONFIGS},
}


@pytest.mark.parametrize(
    ("state", "file", "name"),
    [
        (state, file, name)
        for state, files in SILENT.items()
        for file, names in files.items()
        for name in names
    ],
)
def test_what_would_mix_two_runs_in_silence_is_refused(trained, tmp_path, state, file, name):
    folder = shutil.copytree(trained / state, tmp_path / "run")
    SILENT[state][file][name](folder / file)
    with pytest.raises((CheckpointError, UsageError)):
        resume(folder)


def test_pictures_that_were_changed_since_the_run_began_are_named(trained, place, tmp_path):
    path = place / "3.png"
    before = path.read_bytes()
    path.write_bytes((place / "5.png").read_bytes())
    try:
        with pytest.raises(UsageError, match=r"1 pictures of .*samples\.csv' changed after .*3\.png"):
            resume(shutil.copytree(trained / "stopped", tmp_path / "run"))
    finally:
        path.write_bytes(before)


def test_what_a_checkpoint_holds_has_the_same_hash_after_it_was_written(tmp_path):
    content = {"a": torch.ones(2, 3).T, "b": [1, 2.5, None, "x", (True,)], 3: torch.arange(4)[::2],
               "c": {"d": torch.ones((), dtype=torch.bfloat16)}, "e": torch.zeros(0)}  # fmt: skip
    AsideIO().save_checkpoint(content, tmp_path / "a.ckpt")
    found = AsideIO().load_checkpoint(tmp_path / "a.ckpt")
    assert found.keys() == content.keys()
