"""`xface train` as a user meets it, every config in configs/ started, and grids."""

import csv
import os
import shutil
import signal
from pathlib import Path

import pytest
from command_line import run
from project import ROOT
from test_training import SMALL, ended, in_a_process, make_faces, same_ends
from xface_cli.main import main

import xface
from xface.errors import InterruptedRunError, XFaceError
from xface.images.pictures import read_picture
from xface.networks import ARCHITECTURES
from xface.training import grid_search as grids
from xface.training.config import FOLLOWED
from xface.training.config_files import read_config
from xface.training.grid_search import cells, run_grid
from xface.training.history import read_rows
from xface.training.run import train
from xface.training.yaml_files import parse, read

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
GRIDS = [path for path in CONFIGS if path.stem.startswith("grid_")]
SIZES = {"rahmouni": 100, "inception_v3": 299, "inception_resnet_v2": 96, "xception": 96, "xception41": 96}
FIXED = {"meso4", "mesoinception4", "cbam_resnet", "freq_attention"}
QUICK = {"cozzolino", "meso4", "seed_resnet", "recipe_pairs_self_blended", "grid_splits"}
"""Those that are trained in the quick tests; all are read there."""


def network_of(path: Path) -> str:
    name = read(path).values["network"]
    return FOLLOWED.get(name, name)


def started() -> list:
    return [
        pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else [pytest.mark.slow])
        for path in CONFIGS
    ]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    folder = make_faces(tmp_path_factory.mktemp("data") / "faces", count=20)
    other = {"real": "fake", "fake": "real"}
    rows = [f"{a}/{n:02}.png,{a},{n % 8},{other[a]}/{n:02}.png" for a in other for n in range(20)]
    (folder / "manifest.csv").write_text("path,label,group,pair\n" + "\n".join(rows) + "\n")
    return folder / "manifest.csv"


def shrunk(path: Path, manifest: Path, prefix: Path) -> list[str]:
    """What makes a config small enough to try: two pictures, one step, no weights to start from."""
    network = network_of(path)
    changes = {
        "data.train": manifest,
        "prefix": prefix,
        "num_epochs": 1,
        "limit": 1,
        "batch_size": 2,
        "num_workers": 0,
        "device": "cpu",
        "precision": "'32'",
        "data.cache": prefix.parent / "cache",
        "model.pretrained": "false",
        "checkpoint": "''",
    }
    if network not in FIXED:
        changes["input_size"] = SIZES.get(network, 64)
    return [f"{key}={value}" for key, value in changes.items()]


def options(changes: list[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


@pytest.mark.parametrize("path", started())
def test_every_config_trains_a_detector_that_loads(path, manifest, tmp_path):
    changes = shrunk(path, manifest, tmp_path / "run")
    try:
        if path in GRIDS:
            first = cells(read(path).changed(changes))[0]
            made = train(first.config.model_copy(update={"model": read_config(path, changes).model}))
            weights = made.weights
        else:
            done = run("train", path, *options(changes))
            assert (done.status, done.err) == (0, "")
            weights = tmp_path / "run" / "best.safetensors"
        detector = xface.load(weights, device="cpu")
        assert detector.arch.name == (network_of(path) if path not in GRIDS else first.config.network)
        assert detector.prepare(read_picture(manifest.parent / "real" / "00.png")).tensor.shape[0] == 3
    finally:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)  # some are gigabytes


def test_every_config_is_valid_and_every_family_has_one():
    families = {"resnet", "vgg", "densenet", "efficientnet_", "efficientnet-", "squeezenet", "inception_v3",
                "inception_resnet_v2", "xception", "meso4", "mesoinception4", "cbam_resnet",
                "freq_attention", "cozzolino", "rahmouni", "vgg16_c"}  # fmt: skip
    plain = [path for path in CONFIGS if path not in GRIDS]
    named = {FOLLOWED.get(name, name) for name in (read_config(path).network for path in plain)}
    assert all(any(name.startswith(family) for name in named) for family in families)
    assert all(any(name.startswith(family) for family in families) for name in ARCHITECTURES)
    for path in GRIDS:
        found = cells(read(path))
        assert len(found) == len({str(cell.config) for cell in found}) >= 8


def test_an_interrupt_ends_the_grid_and_not_a_cell_of_it(tmp_path, monkeypatch):
    def interrupted(*_):
        raise InterruptedRunError("interrupted")

    monkeypatch.setattr(grids, "train", interrupted)
    text = f"network: meso4\ndata: {{train: a.csv}}\nprefix: {tmp_path}/g\ngrid: {{seed: [0, 1]}}\n"
    lines = []
    with pytest.raises(InterruptedRunError, match="the same command resumes the grid"):
        run_grid(parse(text, "g.yaml"), lines.append)
    assert len(lines) == 1
    assert not (tmp_path / "g" / "table.csv").exists()


def small(manifest: Path, folder: Path, *more: str) -> Path:
    """A config file of a run of a second."""
    lines = [
        f"network: {SMALL}",
        f"data: {{train: {manifest}}}",
        f"prefix: {folder}",
        "input_size: 32",
        "batch_size: 6",
        "device: cpu",
        *more,
    ]
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file


def table_of(folder: Path) -> list[dict]:
    with open(folder / "table.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_train_prints_a_banner_a_line_for_each_epoch_and_the_result(manifest, tmp_path):
    file = small(manifest, tmp_path / "run", "num_epochs: 2")
    done = run("train", file, "--set", "seed=5", "--set", "print_epochs=2")
    assert (done.status, done.err) == (0, "")
    assert "Random seed: 5" in done.out
    assert [line[:5] for line in done.out.splitlines() if line.startswith("[") and "train" in line] == [
        "[1/2]",
        "[2/2]",
    ]
    assert f"weights: {tmp_path / 'run' / 'best.safetensors'}" in done.out
    again = run("train", file)
    assert again.status == 2
    assert "--resume" in again.err
    resumed = run("train", "--resume", tmp_path / "run")
    assert resumed.status == 0
    assert resumed.out.splitlines()[-1] == done.out.splitlines()[-1]


def test_a_killed_command_goes_on_from_another_folder(manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = small(manifest, Path("run"), "num_epochs: 2", "optimizer: {lr: 1e-3}")
    assert run("train", file.name, "--set", "prefix=whole").status == 0

    def die_after_the_first_epoch() -> None:
        from xface.training.learner import Learner

        Learner.on_validation_epoch_end = lambda learner: (
            learner.current_epoch and os.kill(os.getpid(), signal.SIGKILL),
            learner._log("validation", learner.validation_scores),
        )
        monkeypatch.setattr("sys.argv", ["xface", "train", file.name])
        main()

    process = in_a_process(die_after_the_first_epoch)
    assert ended(process) == -signal.SIGKILL
    monkeypatch.chdir(manifest.parent)
    assert run("train", "--resume", tmp_path / "run").status == 0
    same_ends(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a config"),
        (["--resume", "nowhere"], "there is no run in 'nowhere'"),
        (["a.yaml", "--resume", "run"], "a resumed run keeps its settings: --resume takes no other option"),
        (["nowhere.yaml"], "cannot read 'nowhere.yaml': there is no such file"),
        ([CONFIGS[0], "--set", "seed"], "--set 'seed' must have the form key=value"),
        (
            [CONFIGS[0], "--set", "data.train=\udcff"],
            r"'\udcff' is not UTF-8 text, as a config needs; rename it",
        ),
        ([GRIDS[0]], "lists a grid: run it with --grid"),
        ([CONFIGS[0], "--grid"], "has no grid"),
    ],
)
def test_wrong_calls_are_refused(words, said):
    done = run("train", *words)
    assert done.status == 2
    assert said in done.err


def test_a_grid_writes_one_table_and_runs_no_cell_twice(manifest, tmp_path, monkeypatch):
    lines = ("num_epochs: 1", "grid: {seed: [0], optimizer.lr: [1e-4, 1e-3]}")
    file = small(manifest, tmp_path / "grid", *lines)
    document = read(file)
    ran, whole = [], grids.train

    def counted(config, *others):
        ran.append((config.seed, config.optimizer.lr))
        if len(ran) == 2:
            raise KeyboardInterrupt
        return whole(config, *others)

    monkeypatch.setattr(grids, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        run_grid(document)
    done = run("train", file, "--grid")
    assert done.status == 0
    assert ran == [(0, 1e-4), (0, 1e-3), (0, 1e-3)]
    rows = table_of(tmp_path / "grid")
    assert [(row["seed"], row["optimizer.lr"], row["error"]) for row in rows] == [
        ("0", "0.0001", ""), ("0", "0.001", ""),
    ]  # fmt: skip
    for row, cell in zip(rows, cells(document), strict=True):
        best = max(epoch["validation_auc"] for epoch in read_rows(cell.folder / "metrics.csv"))
        assert float(row["validation_auc"]) == pytest.approx(best, abs=1e-4)
    assert all(line in done.out for line in ("=== 2 of 2: seed 0, optimizer.lr 0.001", "val_auc"))
    refused = run("train", small(manifest, tmp_path / "grid", *lines, "dropout_rate: 0.5"), "--grid")
    assert refused.status == 2
    assert "holds a run with other settings" in refused.err


def test_a_cell_that_fails_costs_itself_only(manifest, tmp_path, monkeypatch):
    file = small(manifest, tmp_path / "grid", "num_epochs: 1", "grid: {seed: [0, 1, 2]}")
    whole = grids.train

    def failing(config, *others):
        if config.seed == 1:
            raise XFaceError("planted")
        return whole(config, *others)

    monkeypatch.setattr(grids, "train", failing)
    assert run("train", file, "--grid").status == 1
    rows = table_of(tmp_path / "grid")
    assert [row["error"] for row in rows] == ["", "planted", ""]
    assert [row["epochs"] for row in rows] == ["1", "", "1"]
