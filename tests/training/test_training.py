"""Training runs: what they learn, what they write, and that a kill at any moment changes nothing."""

import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from project import ROOT
from safetensors.torch import load_file
from sklearn.metrics import precision_score, recall_score, roc_auc_score

import xface
from xface.data.labelled_pictures import DataError, read_samples
from xface.detectors import Card, load
from xface.detectors.crops import CropSettings
from xface.errors import CheckpointError, DeviceError, UsageError, XFaceError
from xface.evaluation.scoring import score
from xface.images.pictures import read_picture
from xface.networks import architecture
from xface.training import config as schema
from xface.training import optimisation as recipes
from xface.training import run as runs
from xface.training.banner import banner
from xface.training.checkpoint_io import write_detector
from xface.training.config import METRICS, Config, Data, Loss
from xface.training.config import Optimizer as OptimizerSettings
from xface.training.config_files import as_config
from xface.training.data_module import Faces, divided, written_samples
from xface.training.history import read_rows
from xface.training.initial_weights import build, set_dropout
from xface.training.learner import Learner, positive_index, real_index
from xface.training.optimisation import likeliest, mixing
from xface.training.run import SAMPLES, resume, train
from xface.training.scores import EpochScores
from xface.training.whitening import whiten
from xface.training.yaml_files import read

SMALL = "timm/test_efficientnet"  # 0.4 million parameters, with BatchNorm
SIDE = 32


def make_faces(folder: Path, count: int = 12, side: int = SIDE, seed: int = 0) -> Path:
    """Noise; the fakes have every other row brighter."""
    chance = np.random.default_rng(seed)
    for label in ("real", "fake"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = chance.normal(120, 40, (side, side, 3))
            pixels[::2] += 60 * (label == "fake")
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / label / f"{number:02}.png")
    return folder


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    return make_faces(tmp_path_factory.mktemp("data") / "faces")


def settings(faces: Path, prefix: Path, **others) -> Config:
    usual = {
        "network": SMALL,
        "data": {"train": str(faces)},
        "prefix": str(prefix),
        "input_size": SIDE,
        "num_epochs": 3,
        "batch_size": 6,
        "device": "cpu",
        "dropout_rate": 0.2,
        "augmentations": ["flip", "colour"],
        "optimizer": {"lr": 1e-3, "head_lr_multiplier": 10},
    }
    return Config.model_validate({**usual, **others})


def same_weights(first: Path, second: Path) -> bool:
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def last_state(folder: Path) -> dict:
    return torch.load(folder / "last.ckpt", weights_only=True)


def same_ends(first: Path, second: Path) -> None:
    """The last and the best weights, the optimiser and the scores are equal bit by bit."""
    assert same_weights(first / "best.safetensors", second / "best.safetensors")
    one, two = last_state(first), last_state(second)
    assert one["state_dict"].keys() == two["state_dict"].keys()
    assert all(torch.equal(one["state_dict"][name], two["state_dict"][name]) for name in one["state_dict"])
    moments = [state["optimizer_states"][0]["state"] for state in (one, two)]
    assert all(
        torch.equal(moments[0][i][name], moments[1][i][name]) for i in moments[0] for name in moments[0][i]
    )
    rows = [read_rows(folder / "metrics.csv") for folder in (first, second)]
    for row in (*rows[0], *rows[1]):
        del row["seconds"], row["waiting"]
    assert rows[0] == rows[1]


def in_a_process(call) -> multiprocessing.Process:
    """Call it in a fork of this process, which is to be waited for with `ended`."""
    cv2.setNumThreads(1)  # a fork that sets it waits for the threads of its parent's pool, if there is one
    process = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    return process


def ended(process: multiprocessing.Process) -> int:
    """The exit status of a process, which must not hang."""
    process.join(60)
    if process.is_alive():
        process.kill()
        pytest.fail("the process hangs")
    return process.exitcode


@pytest.fixture(scope="module")
def plain(faces, tmp_path_factory):
    """A run of the usual settings."""
    return train(settings(faces, tmp_path_factory.mktemp("plain") / "run"))


@pytest.fixture(scope="module")
def unbroken(faces, tmp_path_factory):
    """A run in one go, of a recipe with as much state as there is, and how long it took."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    begun = time.monotonic()
    train(stateful(faces, folder))
    return folder, time.monotonic() - begun


def stateful(faces: Path, folder: Path) -> Config:
    return settings(
        faces,
        folder,
        num_epochs=6,
        schedule={
            "type": "ReduceLROnPlateau",
            "monitor": "validation_accuracy",
            "patience": 0,
            "factor": 0.5,
        },
        early_stopping={"monitor": "validation_loss", "patience": 4},
    )


def broken_off(faces: Path, folder: Path, kills: int, lasts: float, chance: random.Random) -> int:
    """Train with so many kills at random moments; returns how many hit a process that was still at work."""
    hits = 0
    for kill in range(kills):
        begun = (folder / "config.yaml").is_file()
        process = in_a_process(
            (lambda: resume(folder)) if begun else (lambda: train(stateful(faces, folder)))
        )
        time.sleep(chance.uniform(0, lasts / (1 if kill % 2 else 3)))
        os.kill(process.pid, signal.SIGKILL)
        hits += ended(process) == -signal.SIGKILL
    process = in_a_process(
        lambda: resume(folder) if (folder / "config.yaml").is_file() else train(stateful(faces, folder))
    )
    assert ended(process) == 0
    return hits


def test_a_run_killed_at_random_moments_ends_as_an_unbroken_one(faces, unbroken, tmp_path):
    seed = random.randrange(2**32)
    print(f"seed of the moments: {seed}")
    broken_off(faces, tmp_path / "run", 3, unbroken[1], random.Random(seed))
    same_ends(unbroken[0], tmp_path / "run")


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing(faces, unbroken, tmp_path):
    seed = random.randrange(2**32)
    print(f"seed of the moments: {seed}")
    hits, round_ = 0, 0
    while hits < 10:
        round_ += 1
        hits += broken_off(faces, tmp_path / str(round_), 4, unbroken[1], random.Random(seed + round_))
        same_ends(unbroken[0], tmp_path / str(round_))


def test_a_kill_in_the_middle_of_writing_a_checkpoint_leaves_the_one_before(faces, unbroken, tmp_path):
    folder = tmp_path / "run"

    def die_while_writing() -> None:
        whole, written = torch.save, []

        def save(content, part):
            whole(content, part)
            written.append(part)
            if len(written) == 3:
                os.truncate(part, os.path.getsize(part) // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        torch.save = save
        train(stateful(faces, folder))

    process = in_a_process(die_while_writing)
    assert ended(process) == -signal.SIGKILL
    assert (folder / "last.ckpt.part").exists()  # half a file, which must never be read
    assert last_state(folder)["epoch"] == 1
    resume(folder)
    assert not (folder / "last.ckpt.part").exists()
    same_ends(unbroken[0], folder)


def test_a_kill_after_the_last_checkpoint_trains_no_more(faces, tmp_path):
    """Early stopping has decided in the epoch of the checkpoint; the run that resumes must know."""
    config = settings(
        faces,
        tmp_path / "whole",
        num_epochs=9,
        optimizer={"lr": 1e-9},
        early_stopping={"monitor": "train_accuracy", "patience": 2, "min_delta": 0.9},
    )
    whole = train(config)
    assert len(whole.rows) == 3
    other = tmp_path / "broken"

    def die_at_the_end() -> None:
        runs._finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        train(config.model_copy(update={"prefix": str(other)}))

    ended(in_a_process(die_at_the_end))
    assert not (other / "run.json").exists()
    resume(other)
    same_ends(whole.folder, other)


def test_a_damaged_checkpoint_is_refused_by_name(plain, tmp_path):
    folder = shutil.copytree(plain.folder, tmp_path / "run")
    (folder / "run.json").unlink()
    last = folder / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"last\.ckpt' is damaged .*remove it to start the run again"):
        resume(folder)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(faces, plain, tmp_path):
    same_ends(plain.folder, train(settings(faces, tmp_path / "b")).folder)
    other = train(settings(faces, tmp_path / "c", seed=1, num_epochs=1))
    assert not same_weights(plain.weights, other.weights)


@pytest.mark.parametrize("epoch", [1, 2])
def test_workers_change_nothing_not_even_in_a_run_that_goes_on(faces, plain, tmp_path, epoch):
    """Workers draw their first batches before Lightning says which epoch it is."""
    config = settings(faces, tmp_path / "b", num_workers=2)

    def die_in_that_epoch() -> None:
        seeded = Learner.on_train_epoch_start

        def start(learner):
            seeded(learner)
            if learner.current_epoch == epoch:
                os.kill(os.getpid(), signal.SIGKILL)

        Learner.on_train_epoch_start = start
        train(config)

    ended(in_a_process(die_in_that_epoch))
    assert last_state(tmp_path / "b")["epoch"] == epoch - 1
    helped = resume(tmp_path / "b")
    same_ends(plain.folder, helped.folder)


@pytest.mark.slow
def test_workers_start_in_a_process_that_has_used_opencv(faces, tmp_path):
    """A fork of a process with OpenCV's threads hangs as soon as it sets their number."""
    code = f"""
import cv2, numpy as np
cv2.setNumThreads(2)
cv2.warpAffine(np.zeros((600, 600, 3), np.uint8), np.eye(2, 3), (600, 600))
from xface.training import Config, train
train(Config.model_validate({settings(faces, tmp_path / "run", num_workers=2, num_epochs=1).model_dump()}))
assert cv2.getNumThreads() == 2
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_run_leaves_the_callers_random_state_alone(faces, tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(settings(faces, tmp_path / "run", num_epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_it_learns_and_the_kept_detector_scores_as_its_card_says(faces, tmp_path):
    lines = []
    config = settings(faces, tmp_path / "run", num_epochs=8, augmentations=[], dropout_rate=None)
    run = train(config, tell=lines.append)
    assert run.best["validation_auc"] == max(row["validation_auc"] for row in run.rows) > 0.9
    detector = xface.load(run.weights, device="cpu")
    assert detector.arch.name == SMALL
    assert detector.card.scores == run.scores
    held_out = read_samples(run.folder / "samples.csv").of_split("val")
    right = [
        p.label == label for p, label in zip(detector.predict(held_out.paths), held_out.labels, strict=True)
    ]
    assert run.scores["validation_accuracy"] == pytest.approx(np.mean(right), abs=1e-4)
    assert len(lines) == 1 + 8
    assert lines[1].startswith("[1/8] train loss ")


def test_half_precision_halves_the_file_and_loads(faces, plain, tmp_path):
    half = train(settings(faces, tmp_path / "half", num_epochs=1, half_precision=True))
    assert half.weights.stat().st_size < 0.6 * plain.weights.stat().st_size
    assert next(xface.load(half.weights, device="cpu").model.parameters()).dtype == torch.float32


def test_scores_are_over_all_samples_not_means_over_batches():
    chance = np.random.default_rng(0)
    logits = chance.normal(size=(23, 2)).astype(np.float32)
    labels, losses = chance.integers(0, 2, 23), chance.random(5).astype(np.float32)
    epoch, sizes = EpochScores(2, positive=0), (9, 1, 2, 10, 1)
    parts = zip(
        np.split(logits, np.cumsum(sizes)[:-1]), np.split(labels, np.cumsum(sizes)[:-1]), losses, strict=True
    )
    for part, truth, loss in parts:
        epoch.add(torch.from_numpy(part), torch.from_numpy(truth), torch.tensor(loss))
    found, chosen, fake = epoch.scores(), logits.argmax(1) == 0, labels == 0
    margin = logits[:, 0] - logits[:, 1]
    assert found["loss"] == pytest.approx(np.average(losses, weights=sizes), rel=1e-6)
    assert found["accuracy"] == pytest.approx(np.mean(chosen == fake))
    assert found["precision"] == pytest.approx(precision_score(fake, chosen))
    assert found["recall"] == pytest.approx(recall_score(fake, chosen))
    assert found["auc"] == pytest.approx(roc_auc_score(fake, margin))
    epoch.add(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), torch.tensor(math.nan))
    assert math.isnan(epoch.scores()["loss"])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"type": "StepLR", "step_size": 2, "gamma": 0.1}, [1.0, 1.0, 0.1, 0.1]),
        ({"type": "StepLR", "step_size": 4, "gamma": 0.5, "every": "step"}, [1.0, 0.5, 0.25, 0.125]),
        ({"type": "ExponentialLR", "gamma": 0.5}, [1.0, 0.5, 0.25, 0.125]),
        ({"type": "CosineAnnealing"}, [(1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]),
    ],
    ids=["StepLR", "StepLR by step", "ExponentialLR", "CosineAnnealing"],
)
def test_schedules_go_as_their_formulas_say(schedule, expected):
    config = Config.model_validate(
        {"network": SMALL, "data": {"train": "a"}, "prefix": "b", "schedule": schedule}
    )
    made = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    found, rates = recipes.schedule(config.schedule, made, epochs=4, steps=4), []
    for _ in range(4):
        rates.append(made.param_groups[0]["lr"])
        for _ in range(4 if found["interval"] == "step" else 1):
            made.step()
            found["scheduler"].step()
    assert rates == pytest.approx(expected)


def test_a_schedule_by_step_is_followed_in_training(faces, tmp_path):
    schedule = {"type": "StepLR", "step_size": 4, "gamma": 0.5, "every": "step"}
    run = train(settings(faces, tmp_path / "run", batch_size=5, schedule=schedule))  # 4 steps an epoch
    assert [row["lr"] / 1e-3 for row in run.rows] == pytest.approx([1, 0.5, 0.25])


def test_a_plateau_of_the_named_metric_lowers_the_rate(faces, tmp_path):
    schedule = {"type": "ReduceLROnPlateau", "monitor": "train_recall", "patience": 1, "factor": 0.1}
    run = train(settings(faces, tmp_path / "run", num_epochs=5, schedule=schedule, optimizer={"lr": 1e-12}))
    best, waited, rates = -1.0, 0, [1e-12]
    for row in run.rows[:-1]:
        waited = 0 if row["train_recall"] > best * (1 + 1e-4) else waited + 1
        best = max(best, row["train_recall"])
        rates.append(rates[-1] * (0.1 if waited > 1 else 1))
        waited = 0 if waited > 1 else waited
    assert [row["lr"] for row in run.rows] == pytest.approx([max(rate, 0) for rate in rates], rel=1e-3)


def test_the_smallest_gain_is_a_better_value_to_a_plateau():
    made = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    plateau = schema.ReduceLROnPlateau(type="ReduceLROnPlateau", patience=0, factor=0.5)
    scheduler = recipes.schedule(plateau, made, epochs=9, steps=1)["scheduler"]
    for loss in (0.69315, 0.69313, 0.69311):
        scheduler.step(loss)
    assert made.param_groups[0]["lr"] == 1.0
    scheduler.step(0.69311)
    assert made.param_groups[0]["lr"] == 0.5


def test_the_heads_learn_faster_than_the_trunk():
    arch = architecture("inception_v3")
    with torch.device("meta"):
        model = arch.build(2)
    made = recipes.optimizer(
        model, arch, OptimizerSettings(lr=1e-4, head_lr_multiplier=10, weight_decay=1e-2)
    )
    trunk, head = made.param_groups
    assert (trunk["lr"], head["lr"]) == pytest.approx((1e-4, 1e-3))
    assert {id(parameter) for parameter in head["params"]} == {
        id(parameter) for layer in (model.fc, model.AuxLogits.fc) for parameter in layer.parameters()
    }
    assert len(trunk["params"]) + 4 == len(list(model.parameters()))
    assert {group["weight_decay"] for group in made.param_groups} == {1e-2}


def test_the_auxiliary_heads_loss_counts_with_its_weight():
    class TwoHeads(torch.nn.Module):
        def forward(self, x):
            return x, 2 * x

    logits, labels = torch.tensor([[1.0, -1.0], [0.5, 2.0]]), torch.tensor([1, 1])
    arch, plain = architecture("inception_v3"), recipes.criterion(0.0, None)
    step = recipes.objective(arch, Loss(auxiliary=0.4), plain, real=1)
    found, loss = step(TwoHeads(), logits, labels)
    entropy = torch.nn.functional.cross_entropy
    assert torch.equal(found, logits)
    assert loss == pytest.approx(float(entropy(logits, labels) + 0.4 * entropy(2 * logits, labels)))


def test_smoothed_and_weighted_cross_entropy_is_the_formula():
    logits, labels = torch.tensor([[1.0, -1.0], [0.5, 2.0], [0.0, 0.3]]), torch.tensor([1, 1, 0])
    logs, smoothing, weights = logits.double().log_softmax(1), 0.1, [3.0, 0.5]
    total = sum(
        weights[c] * ((1 - smoothing) * (c == y) + smoothing / 2) * -float(logs[i, c])
        for i, y in enumerate(labels.tolist())
        for c in range(2)
    )
    expected = total / sum(weights[y] for y in labels.tolist())
    assert float(recipes.criterion(smoothing, torch.tensor(weights))(logits, labels)) == pytest.approx(
        expected
    )


def test_freq_attention_trains_with_its_three_losses():
    from xface.networks.freq_attention import Outputs

    class Painter(torch.nn.Module):
        def outputs(self, x):
            features = tuple(x.mean((2, 3))[:, :, None, None] * k for k in (1.0, -1.0, 2.0))
            return Outputs(x.mean((2, 3))[:, :2], x * 0, features)

    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 1, 0])
    step = recipes.objective(architecture("freq_attention"), Loss(), recipes.criterion(0.1, None), real=1)
    logits, loss = step(Painter(), images, labels)
    real = images[labels == 1]
    means = images.mean((2, 3))
    apart = [
        (1 - float(torch.cosine_similarity(means[i], means[j], dim=0))) / 2
        for i, j in ((1, 2), (1, 0), (1, 3), (2, 0), (2, 3))
    ]
    metric = 3 * (apart[0] + np.mean([1 - d for d in apart[1:]]))  # the same for each of the three features
    entropy = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert float(loss) == pytest.approx(
        float(entropy) + 0.1 * float(real.abs().mean()) + 0.1 * metric, rel=1e-5
    )


def test_dropout_is_set_or_put_before_the_head_and_acts_in_training_only():
    arch = architecture("resnet18")
    torch.manual_seed(0)
    model = arch.build(2)
    names = list(model.state_dict())
    set_dropout(model, arch, 0.5)
    assert list(model.state_dict()) == names
    seen = []
    model.fc.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.eval()
    model(torch.rand(2, 3, 32, 32))
    model.fc.train()
    model(torch.rand(2, 3, 32, 32))
    assert float((seen[1] == 0).float().mean()) > 0.4 + float((seen[0] == 0).float().mean()) / 2


def test_class_weights_and_the_indices_of_classes(faces, tmp_path):
    config = settings(faces, tmp_path / "run", loss={"class_weights": {"fake": 1.0, "real": 3.0}})
    assert runs._class_weights(config, read_samples(faces)).tolist() == [1.0, 3.0]
    uneven = read_samples(faces).select(list(range(16)))
    counts = uneven.counts()
    balanced = runs._class_weights(
        settings(faces, tmp_path / "run", loss={"class_weights": "balanced"}), uneven
    )
    assert balanced[0] * counts["fake"] == pytest.approx(float(balanced[1] * counts["real"]))
    assert (positive_index(("Real", "Fake")), real_index(("Real", "Fake"))) == (1, 0)
    assert (positive_index(("a", "b")), real_index(("a", "b"))) == (0, 1)


def test_a_learner_never_sees_the_class_weights_in_validation(faces, tmp_path):
    config = settings(faces, tmp_path / "run", loss={"label_smoothing": 0.3})
    learner = Learner(torch.nn.Identity(), config, steps=1, class_weights=torch.tensor([5.0, 1.0]))
    logits, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([1])
    learner.validation_step([logits, labels, labels], 0)
    expected = float(torch.nn.functional.cross_entropy(logits, labels))
    assert learner.validation_scores.scores()["loss"] == pytest.approx(expected)


def test_initial_weights_come_from_the_seed_a_checkpoint_or_torchvisions_cache(
    faces, plain, tmp_path, monkeypatch
):
    state = build(settings(faces, tmp_path / "x", checkpoint=str(plain.weights))).state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in load_file(plain.weights).items())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    pretrained = settings(faces, tmp_path / "x", network="resnet18", model={"pretrained": True})
    with pytest.raises(CheckpointError, match=r"aren't in torch's cache.*resnet18-f37072fd\.pth"):
        build(pretrained)
    published = architecture("resnet18").build(1000).state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(published, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    found = build(pretrained).state_dict()
    assert found["fc.weight"].shape == (2, 512)
    assert all(torch.equal(found[name], published[name]) for name in found if not name.startswith("fc."))
    with pytest.raises(UsageError, match="no published weights for meso4"):
        build(settings(faces, tmp_path / "x", network="meso4", model={"pretrained": True}))


def test_options_reach_the_network_and_wrong_ones_are_refused(faces, tmp_path):
    with torch.device("meta"):
        plain = build(settings(faces, tmp_path / "x", network="cbam_resnet", options={"attention": False}))
        assert not any(".attention." in name for name in plain.state_dict())
    for options, said in (
        ({"attention": False}, "unknown option of resnet18 'attention'; known are 'zero_init_residual'"),
        ({"norm_layer": 3}, "resnet18 cannot be built with options"),
    ):
        with pytest.raises(ValueError, match=said):
            settings(faces, tmp_path / "x", network="resnet18", options=options)
    with pytest.raises(ValueError, match="unknown option of cbam_resnet 'depht'; did you mean 'depth'"):
        settings(faces, tmp_path / "x", network="cbam_resnet", options={"depht": 8})


def test_init_weights_false_takes_pytorchs_initial_values(faces, tmp_path):
    model = build(
        settings(faces, tmp_path / "x", network="vgg16_c", model={"init_weights": False}, dropout_rate=None)
    )
    bound = 1 / math.sqrt(model.classifier[0].in_features)
    largest = float(model.classifier[0].weight.detach().abs().max())
    assert largest == pytest.approx(bound, rel=1e-4)  # uniform in +-bound; its own start is normal, 0.01


def test_unreadable_pictures_count_in_no_score(tmp_path):
    """The scores on the card are those that `xface evaluate` finds: others stand in in training only."""
    folder = make_faces(tmp_path / "faces", count=30)
    rows = [
        f"{label}/{n:02}.png,{label},{('train', 'val', 'test')[n % 3]}"
        for label in ("real", "fake")
        for n in range(30)
    ]
    (folder / "manifest.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    for n in (4, 13, 28, 2, 5, 29):  # of val, then of test: the first of its class, neighbours, the last
        (folder / "fake" / f"{n:02}.png").write_bytes(b"no picture")
    lines = []
    run = train(settings(folder / "manifest.csv", tmp_path / "run", num_epochs=2, batch_size=4), lines.append)
    [said] = [line for line in lines if "could not be read" in line]
    assert said.startswith("6 pictures could not be read")
    assert "04.png" in said
    assert (run.card.scores["validation_images"], run.card.scores["test_images"]) == (17, 17)
    detector = load(run.weights, device="cpu")
    for split, part in (("val", "validation"), ("test", "test")):
        table = read_samples(folder / "manifest.csv").of_split(split).table
        scored = score(detector, table)
        scored = scored[scored["score"].notna()]
        assert len(scored) == 17
        auc = roc_auc_score(scored["label"] == "fake", scored["score"])
        assert run.card.scores[f"{part}_auc"] == pytest.approx(auc, abs=1e-4)


def test_a_run_killed_as_it_begins_is_started_again(faces, tmp_path):
    """In a folder that is there, too, which may be the current one, a link or a mounted disk."""
    place = tmp_path / "disk"
    place.mkdir()
    (tmp_path / "run").symlink_to(place)
    config = settings(faces, tmp_path / "run", num_epochs=1)

    def die_before_the_samples_are_named() -> None:
        runs.write_samples = lambda parts, file: (file.touch(), os.kill(os.getpid(), signal.SIGKILL))
        train(config)

    ended(in_a_process(die_before_the_samples_are_named))
    left = {path.name for path in place.iterdir()}
    assert left == {".xface-lock", "config.yaml.part", "samples.csv.part"}
    (place / "samples.csv.part").rename(place / "samples.csv")  # as the next kill would have left it
    run = train(config)
    assert load(run.weights).card == run.card
    assert not list(place.glob("*.part"))


def test_groups_torn_apart_are_said(tmp_path):
    folder = make_faces(tmp_path / "faces")
    rows = [f"{label}/{n:02}.png,{label},{n % 6}" for label in ("real", "fake") for n in range(12)]
    written(folder, "manifest.csv", rows)
    assert any("6 groups are torn apart" in note for note in divided(Data(train=str(folder)))[1])
    parts, notes = divided(Data(train=str(folder), split={"by": "group"}))
    assert not any("torn apart" in note for note in notes)
    assert not set(parts["train"].column("group")) & set(parts["val"].column("group"))


def test_the_manifests_own_splits_hold_where_nothing_else_is_said(tmp_path):
    folder = make_faces(tmp_path / "faces")
    split = {n: "train" if n < 7 else "val" if n < 10 else "test" for n in range(12)}
    rows = [f"{label}/{n:02}.png,{label},{split[n]}" for label in ("real", "fake") for n in range(12)]
    written(folder, "manifest.csv", rows, "path,label,split")
    parts, _ = divided(Data(train=str(folder)))
    assert {name: len(part) for name, part in parts.items()} == {"train": 14, "val": 6, "test": 4}


def test_a_loss_that_is_no_number_ends_the_run(faces, tmp_path):
    config = settings(faces, tmp_path / "run", optimizer={"type": "SGD", "lr": 1e30})
    with pytest.raises(XFaceError, match="no longer a finite number; lower the learning rate"):
        train(config)


def test_what_cannot_be_trained_is_refused_before_it_begins(faces, plain, tmp_path):
    lone = tmp_path / "lone"
    (lone / "real").mkdir(parents=True)
    for number in range(9):
        Image.new("RGB", (SIDE, SIDE), (number, 0, 0)).save(lone / "real" / f"{number}.png")
    with pytest.raises(UsageError, match="nothing for training is fake"):
        train(settings(lone, tmp_path / "a"))
    with pytest.raises(DeviceError, match="unknown device 'gpu'"):
        train(settings(faces, tmp_path / "b", device="gpu"))
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="--set device=auto"):
            train(settings(faces, tmp_path / "c", device="cuda"))
    with pytest.raises(UsageError, match="holds a run; resume it"):
        train(settings(faces, plain.folder))
    (tmp_path / "mine").mkdir()
    for name in ("thesis.tex", "samples.csv"):
        file = tmp_path / "mine" / name
        file.write_text("mine")
        with pytest.raises(UsageError, match=rf"holds other files \({name}\)"):
            train(settings(faces, tmp_path / "mine"))
        assert file.read_text() == "mine"
        file.unlink()
    assert not any((tmp_path / name).exists() for name in "abc")


def test_the_banner_says_what_its_users_know(faces, tmp_path):
    config = settings(faces, tmp_path / "run", network="resnet18", seed=42)
    with torch.device("meta"):
        model = architecture("resnet18").build(2)
    text = banner(config, {"train": read_samples(faces)}, model, torch.device("cpu"), ["a note"])
    for said in ("on device cpu", "Random seed: 42", "Train samples: 24 (12 fake, 12 real)", "Note: a note"):
        assert said in text
    for said in ("Model parameters: 11,177,538", "Type: Adam", "Learning rate: 0.001, head 0.01", "CPUs: "):
        assert said in text


def test_pairs_accumulation_and_self_blending_train(faces, tmp_path):
    lines = []
    config = settings(faces, tmp_path / "run", num_epochs=1, sampling="pairs", self_blend=0.5, accumulate=2)
    run = train(config, tell=lines.append)
    assert [set(row) for row in run.rows] == [{"epoch", "lr", *METRICS, "seconds", "waiting"}]
    assert json.loads((run.folder / "run.json").read_text())["finished"]
    [said] = [line for line in lines if "never blended" in line]
    assert said.startswith("20 of 20 had no face found")


def test_what_is_mixed_is_made_of_the_picture_and_the_one_before_it_in_the_parts_of_its_targets():
    torch.manual_seed(0)
    images, labels = torch.rand(5, 3, 16, 16), torch.tensor([0, 1, 0, 0, 1])
    others = images.roll(1, 0)
    hot, other_hot = torch.eye(2)[labels], torch.eye(2)[labels.roll(1, 0)]
    for kind, _ in product(("cutmix", "mixup"), range(20)):
        mixed, targets = mixing(schema.Mixing(kinds=(kind,)), 2)(images, labels)
        part = float(targets[1, 1])  # 1 before 0: what is fake in it is its own
        assert torch.allclose(targets, part * hot + (1 - part) * other_hot)
        if kind == "mixup":
            assert torch.allclose(mixed, part * images + (1 - part) * others, atol=1e-6)
        else:
            own, strange = (mixed == images).all(1), (mixed == others).all(1)
            assert (own ^ strange).all()
            assert own.float().mean((1, 2)).tolist() == pytest.approx([part] * 5, abs=1e-6)
            rows, columns = strange[0].nonzero().T if strange[0].any() else (torch.zeros(0), torch.zeros(0))
            assert strange[0].sum() == len(rows.unique()) * len(columns.unique())  # a rectangle


def test_so_many_batches_are_mixed_and_the_larger_part_counts(faces, tmp_path):
    torch.manual_seed(0)
    some = mixing(schema.Mixing(probability=0.3), 2)
    untouched = sum(some(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))[1].ndim == 1 for _ in range(500))
    assert 0.65 < untouched / 500 < 0.75
    assert likeliest(torch.tensor([[0.3, 0.7], [0.6, 0.4]])).tolist() == [1, 0]
    assert likeliest(torch.tensor([1, 0])).tolist() == [1, 0]
    mixed, balanced = (
        train(settings(faces, tmp_path / sampling, mixing="cutmix", num_epochs=1, sampling=sampling))
        for sampling in ("pairs", "balanced")
    )
    unmixed = train(settings(faces, tmp_path / "unmixed", num_epochs=1, sampling="pairs"))
    assert not same_weights(mixed.weights, unmixed.weights)
    assert "pairs; augmented: flip, colour; mixed, kinds cutmix, probability 1.0" in mixed.card.training
    assert "balanced by label" in balanced.card.training


def test_mixing_and_balance_are_refused_where_they_have_no_sense(faces, tmp_path):
    with pytest.raises(ValueError, match="freq_attention tells real pictures from others"):
        settings(faces, tmp_path / "a", network="freq_attention", mixing=["mixup"])
    with pytest.raises(ValueError, match="balance belongs to `sampling: balanced`"):
        settings(faces, tmp_path / "b", balance=["source", "label"])
    with pytest.raises(DataError, match="no column 'generator'"):
        train(settings(faces, tmp_path / "c", sampling="balanced", balance=["generator"]))


@pytest.mark.slow
def test_two_processes_train_together(faces, tmp_path):
    """Each takes half of every epoch; the scores are over all samples."""
    data = {"train": str(faces), "test": str(make_faces(tmp_path / "unseen", count=3, seed=5))}
    config = settings(faces, tmp_path / "run", data=data, devices=2, batch_size=4, num_epochs=2)
    code = f"""
from xface.training import Config, train
if __name__ == "__main__":
    train(Config.model_validate({config.model_dump()}))
"""
    (tmp_path / "main.py").write_text(code)
    subprocess.run([sys.executable, tmp_path / "main.py"], check=True, timeout=120)
    rows = read_rows(tmp_path / "run" / "metrics.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    count = len(read_samples(tmp_path / "run" / "samples.csv").of_split("train"))
    assert rows[0]["train_accuracy"] * count == pytest.approx(
        round(rows[0]["train_accuracy"] * count), abs=1e-4
    )
    card = xface.load(tmp_path / "run" / "best.safetensors", device="cpu").card
    assert card.scores["test_images"] == 6


def test_a_network_with_tied_weights_is_written(tmp_path):
    """timm's coat_lite_tiny has one weight under two names; both are in the file."""
    arch = architecture("timm/coat_lite_tiny")
    model = arch.build(2).eval()
    card = Card(arch.name, ("fake", "real"), arch.preprocessing)
    write_detector(model, card, tmp_path / "best.safetensors", half=False)
    restored = load(tmp_path / "best.safetensors").model.state_dict()
    assert all(torch.equal(restored[name], tensor) for name, tensor in model.state_dict().items())


def written(folder: Path, name: str, rows: list[str], header: str = "path,label,group") -> str:
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return str(folder / name)


def test_a_file_of_the_training_data_is_left_out_of_the_test_and_that_is_said(tmp_path):
    folder = make_faces(tmp_path / "faces")
    rows = [f"{label}/{n:02}.png,{label}," for n in range(12) for label in ("real", "fake")]
    both = {"train": written(folder, "a.csv", rows[:20]), "test": written(folder, "b.csv", rows[14:])}
    for random_split, name, count in ((True, "test", 4), (False, "val", 4)):
        parts, notes = divided(Config.model_validate(
            {"network": SMALL, "prefix": "run", "data": {**both, "random_split": random_split}}
        ).data)  # fmt: skip
        assert [note.partition(":")[0] for note in notes if "left out" in note] == [
            f"6 files of '{both['test']}' are in the other data too and are left out of it"
        ]
        assert parts[name].paths == [str(folder / row.split(",")[0]) for row in rows[20:]]
        assert len(parts[name]) == count
    same = Config.model_validate(
        {"network": SMALL, "prefix": "run", "data": {"train": both["train"], "test": both["train"]}}
    ).data
    parts, notes = divided(same)
    assert list(parts) == ["train", "val"]
    assert notes[0].startswith("20 files of")


@pytest.mark.parametrize("random_split", [True, False])
def test_groups_in_the_training_data_and_in_separate_test_data_are_said(tmp_path, random_split):
    rows = [f"{label}/{{:02}}.png,{label},{{}}" for label in ("real", "fake")]
    files = {}
    for key, groups in {"train": range(12), "test": range(9, 21), "apart": range(50, 62)}.items():
        folder = make_faces(tmp_path / key)
        lines = [row.format(n, f"video{group}") for row in rows for n, group in enumerate(groups)]
        files[key] = written(folder, "manifest.csv", lines)
    said = f"3 groups are in '{files['test']}' and in data.train, by their names"
    for test in ("test", "apart"):
        _, notes = divided(Data(train=files["train"], test=files[test], random_split=random_split))
        assert any(said in note for note in notes) == (test == "test")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": "meso4", "input_size": 64}, "meso4 cannot take pictures of 64x64; .* is 256x256"),
        ({"network": "inception_v3", "input_size": 224}, "inception_v3 cannot take pictures of 224x224"),
        ({"input_size": None, "preprocessing": {"size": None}}, "in their own sizes make no batches"),
        ({"checkpoint": "nowhere.pth"}, "nowhere.pth"),
    ],
    ids=["meso4", "only its auxiliary head", "own sizes", "no weights"],
)
def test_what_the_network_cannot_take_is_refused_before_anything_is_written(faces, tmp_path, changes, said):
    with pytest.raises(XFaceError, match=said):
        train(settings(faces, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_weights_whose_classes_have_another_order_are_refused_as_a_start(faces, tmp_path):
    def start(file: Path, *classes: str) -> torch.nn.Module:
        data = {"train": str(faces), "classes": classes}
        return build(settings(faces, tmp_path / "x", data=data, checkpoint=str(file)))

    arch = architecture(SMALL)
    carded, bare, named = (tmp_path / name for name in ("a.safetensors", "b.pth", "c.pth"))
    model = arch.build(2)
    write_detector(model, Card(arch.name, ("real", "fake"), arch.preprocessing), carded, half=False)
    torch.save(model.state_dict(), bare)
    torch.save({"state_dict": model.state_dict(), "class_to_idx": {"Fake": 1, "Real": 0}}, named)
    with pytest.raises(UsageError, match=r"classes are real, fake, but data\.classes are fake, real; set"):
        start(carded, "fake", "real")
    with pytest.raises(UsageError, match=r"classes are Real, Fake, but data\.classes are fake, real"):
        start(named, "fake", "real")
    with pytest.raises(UsageError, match=r"classes are real, fake, but data\.classes are fake, genuine"):
        start(carded, "fake", "genuine")
    for file, *classes in ((carded, "real", "fake"), (named, "real", "fake"), (carded, "young", "old")):
        start(file, *classes)
    for classes in (("real", "fake"), ("fake", "real")):  # nothing says which it is
        start(bare, *classes)
    with pytest.raises(UsageError, match="its classes are real, fake"):
        train(settings(faces, tmp_path / "run", checkpoint=str(carded)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "crop"),
    [
        ({"crop": "box"}, CropSettings("box", 0.3)),
        ({"crop": "box", "margin": 0.1}, CropSettings("box", 0.1)),
        ({"crop": True}, CropSettings("outline")),
    ],
)
def test_a_detector_crops_as_it_was_trained(tmp_path, monkeypatch, data, crop):
    """What the run scored on its test data, cropped, its detector scores on the files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, rows = make_faces(tmp_path / "faces", count=3), []
    sample = read_picture(ROOT / "samples" / "real.jpg").pixels
    for number, path in enumerate(sorted(folder.glob("*/*.png"))):
        canvas = np.full((330, 400, 3), 30 * number, np.uint8)
        canvas[20:308, 12 * number : 12 * number + 288] = sample
        Image.fromarray(canvas).save(path)
        rows.append(f"{path.relative_to(folder)},{path.parent.name},{('train', 'val', 'test')[number % 3]}")
    data = {"train": written(folder, "manifest.csv", rows, "path,label,split"), **data}
    run = train(settings(folder, tmp_path / "run", num_epochs=1, data=data))
    assert run.card.crop == crop
    assert f"faces cropped ({crop})" in run.card.training
    config = as_config(read(run.folder / "config.yaml"))
    samples = written_samples(run.folder / SAMPLES, config.data.classes)["test"]
    detector = xface.load(run.weights, device="cpu")
    seen = Faces({"test": samples}, config).datasets["test"]
    for row, path in enumerate(samples.paths):
        prepared = detector.prepare(read_picture(path))
        assert torch.equal(prepared.tensor, seen[row][0])
        assert prepared.notes == ()
    truth = torch.tensor([detector.class_index(label) for label in samples.labels])
    tensors = torch.stack([detector.prepare(read_picture(path)).tensor for path in samples.paths])
    loss = float(torch.nn.functional.cross_entropy(detector.logits(tensors), truth))
    assert loss == pytest.approx(run.scores["test_loss"], abs=2e-4)


def noise_with_two_faces(tmp_path):
    """Noise, which has no face, but for a real one in the training and one in the test data."""
    folder, rows = make_faces(tmp_path / "faces", count=5), []
    for label in ("real", "fake"):
        for number, split in enumerate(("train", "train", "train", "val", "test")):
            rows.append(f"{label}/{number:02}.png,{label},{split}")
    sample = read_picture(ROOT / "samples" / "real.jpg").pixels
    for name in ("real/00.png", "fake/04.png"):
        Image.fromarray(sample).save(folder / name)
    return folder, {"train": written(folder, "manifest.csv", rows, "path,label,split"), "crop": True}


COUNTED = (
    "8 pictures had no face found and were left whole, not cropped: "
    "5 of 6 in train, 2 of 2 in val, 1 of 2 in test"
)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_pictures_without_a_face_are_counted_once_where_faces_are_cropped(tmp_path, monkeypatch, num_workers):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, data = noise_with_two_faces(tmp_path)
    lines = []
    config = settings(folder, tmp_path / "run", num_epochs=2, data=data, num_workers=num_workers)
    train(config, tell=lines.append)
    assert [line for line in lines if "no face" in line] == [COUNTED]


def test_pictures_that_were_met_before_a_kill_are_counted_too(tmp_path, monkeypatch):
    """The run is broken off after its last epoch, before the test: no other picture is looked at again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, data = noise_with_two_faces(tmp_path)
    (folder / "real" / "01.png").write_bytes(b"broken")

    def killed(*arguments):
        raise KeyboardInterrupt

    config = settings(folder, tmp_path / "run", num_epochs=1, data=data)
    with monkeypatch.context() as patched:
        patched.setattr(runs, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    lines = []
    resume(tmp_path / "run", tell=lines.append)
    assert [line for line in lines if "no face" in line] == [
        COUNTED.replace("8 pictures", "7 pictures").replace("5 of 6", "4 of 6")
    ]
    [unread] = [line for line in lines if "could not be read" in line]
    assert unread.startswith("1 pictures")
    assert "01.png" in unread


def test_test_data_that_take_the_place_of_a_test_part_are_noted(tmp_path):
    folder = make_faces(tmp_path / "faces", count=5)
    rows = [
        f"{label}/{number:02}.png,{label},{split}"
        for label in ("real", "fake")
        for number, split in enumerate(("train", "train", "val", "test", "test"))
    ]
    ours = written(folder, "manifest.csv", rows, "path,label,split")
    theirs = make_faces(tmp_path / "others", count=1, seed=1)
    said = "4 test samples of data.train give way to data.test and are left out"
    parts, notes = divided(Data(train=ours, test=str(theirs)))
    assert [note for note in notes if "give way" in note] == [said]
    assert len(parts["test"]) == 2
    assert not any("give way" in note for note in divided(Data(train=ours))[1])
    fewer = written(folder, "fewer.csv", rows[:3] + rows[5:8], "path,label,split")
    assert not any("give way" in note for note in divided(Data(train=fewer, test=str(theirs)))[1])


def test_a_whitened_stem_has_responses_of_one_variance_that_do_not_go_together(tmp_path):
    chance = np.random.default_rng(0)
    for label in ("real", "fake"):
        (tmp_path / "faces" / label).mkdir(parents=True)
        for number in range(20):
            noise = chance.normal(0, 400, (SIDE, SIDE, 3)).astype(np.float32)
            pixels = cv2.GaussianBlur(noise, (0, 0), 2) + chance.normal(128, 4, noise.shape)
            file = tmp_path / "faces" / label / f"{number}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
    config = settings(tmp_path / "faces", tmp_path / "run", augmentations=[])
    faces = Faces(divided(config.data)[0], config).datasets["train"]
    model = build(config)
    random = responses(model, faces).corrcoef().fill_diagonal_(0).abs()
    whiten(model, faces, seed=0)
    whitened = responses(model, faces)
    assert random.max() > 0.9
    assert whitened.corrcoef().fill_diagonal_(0).abs().max() < 0.2
    assert whitened.var(dim=1) == pytest.approx(np.ones(len(whitened)), abs=0.3)


def responses(model, faces) -> torch.Tensor:
    """What the first convolution's filters give at all places of all faces, (filters, places)."""
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    batch = torch.stack([faces[row][0] for row in range(len(faces))])
    with torch.no_grad():
        return torch.nn.functional.conv2d(batch, first.weight).movedim(1, 0).flatten(1)


def test_a_run_on_crops_of_several_sources_validates_on_whole_pictures(faces, tmp_path):
    more = make_faces(tmp_path / "more", count=6, seed=3)
    changes = {"random_crop": 24, "passes": 2, "sampling": "pairs", "model": {"whitened": True}}
    config = settings(
        faces, tmp_path / "run", data={"train": [str(faces), str(more)]}, num_epochs=1, **changes
    )
    run = train(config)
    assert run.card.preprocessing.size == (SIDE, SIDE)
    assert "faces and more" in run.card.training
    assert "random crops, side 24" in run.card.training
    assert "whitened" in run.card.training
    samples = read_samples(tmp_path / "run" / SAMPLES)
    assert len(samples) == 36
    assert set(samples.column("source")) == {"faces", "more"}
    with pytest.raises(UsageError, match="random_crop of 24x24"):
        train(settings(faces, tmp_path / "small", network="vgg11", random_crop=24, input_size=64))


def test_what_would_overwrite_given_weights_is_refused(faces, tmp_path):
    with pytest.raises(ValueError, match="whitened would overwrite"):
        settings(faces, tmp_path / "run", model={"whitened": True, "pretrained": True})
