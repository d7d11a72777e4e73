"""`xface evaluate` as a user meets it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import COMMAND, handed_through, heeding_interrupts, meso4, run
from PIL import Image
from project import ROOT

from xface.detectors import Card
from xface.detectors.card import card_path, read_card, write_card
from xface.preprocessing import Preprocessing

GREYS = {"fake": [40, 120, 140, 180, 200, 240], "real": [10, 60, 100, 130, 150, 190]}


def evaluate(*words):
    return run("evaluate", "--device", "cpu", *words)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A Meso-4 whose P(fake) rises with the picture's grey."""
    state = handed_through()
    state["dense.hidden.weight"][0, 0] = 1
    state["dense.head.weight"][0, 0], state["dense.head.bias"][0] = 10, -5
    path = meso4(tmp_path_factory.mktemp("weights") / "planted.safetensors", **state)
    card = Card("meso4", ("fake", "real"), Preprocessing((256, 256)))
    write_card(card, card_path(path))
    return path


@pytest.fixture
def faces(tmp_path):
    """A folder with real/ and fake/."""
    for label, greys in GREYS.items():
        for grey in greys:
            place = tmp_path / "faces" / label / f"{grey}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((64, 64, 3), grey, np.uint8)).save(place)
    return tmp_path / "faces"


def auc():
    return sum(f > r for f in GREYS["fake"] for r in GREYS["real"]) / 36


@pytest.fixture
def manifest(faces):
    """Two splits, groups and a column of kinds."""
    rows = [
        {"path": f"{label}/{g}.png", "label": label, "split": ("val", "test")[i % 2], "group": f"v{i}",
         "kind": "swap" if label == "fake" and i < 4 else "mouth" if label == "fake" else ""}
        for label, greys in GREYS.items() for i, g in enumerate(greys)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(faces / "manifest.csv", index=False)
    return faces / "manifest.csv"


def test_it_prints_every_number(weights, faces):
    done = evaluate("--weights", weights, faces)
    assert done.status == 0
    assert "faces: 12 images (6 fake) in 12 groups" in done.out
    [line] = [line for line in done.out.splitlines() if line.startswith("AUC")]
    assert f"{auc():.3f} (" in line
    assert "no groups are named" in done.err


def test_a_split_and_its_kinds(weights, manifest):
    [found] = evaluate("--weights", weights, "--json", "--split", "test", "--by", "kind", manifest).lines
    assert found["whole"][0]["count"] == 6
    assert [(part["value"], part["count"], part["rest"]) for part in found["parts"]] == [
        ("mouth", 4, True),
        ("swap", 5, True),
    ]


def test_an_evaluation_of_its_own_scores_takes_none_of_them_over(weights, faces, tmp_path):
    """Nor anything else that bears a result's name, which would be taken for one."""
    evaluate("--weights", weights, "--out", tmp_path / "out", faces)
    [scores] = (tmp_path / "out").rglob("*.csv")
    table = pd.read_csv(scores).assign(uncropped="yes", score=0.5)
    table["path"] = [os.path.abspath(scores.parent / path) for path in table["path"]]
    table.to_csv(tmp_path / "again.csv", index=False)
    done = evaluate("--weights", weights, "--json", tmp_path / "again.csv")
    found = json.loads(done.out)
    assert found["whole"][0]["metrics"]["auc"]["value"] == pytest.approx(auc())
    [said] = [line for line in found["cautions"] if "named as results" in line]
    assert {"score", "called", "outcome", "uncropped"} <= set(re.findall(r"\w+", said))
    assert not any("taken whole" in line for line in found["cautions"])


def test_bad_images_are_listed_and_counted(weights, faces):
    (faces / "fake" / "a.png").write_bytes(b"no picture")
    (faces / "real" / "b.png").write_bytes(b"")
    done = evaluate("--weights", weights, faces)
    assert done.status == 1
    assert "12 images (6 fake) in 12 groups, 2 more failed" in done.out
    assert "a.png': it is not an image" in done.err
    assert "b.png': it is empty" in done.err
    assert "2 of 14 images failed" in done.err
    assert "1 of 7 fake, 1 of 7 real" in done.err
    [found] = evaluate("--weights", weights, "--json", faces).lines
    assert [Path(failed["path"]).name for failed in found["failed"]] == ["a.png", "b.png"]


class TestThreshold:
    def test_as_given(self, weights, faces):
        [found] = evaluate("--weights", weights, "--json", "--threshold", 1, faces).lines
        assert found["threshold"] == {"value": 1, "source": "as given"}
        assert found["whole"][0]["metrics"]["precision"]["value"] is None

    def test_the_cards(self, weights, faces, tmp_path):
        path = tmp_path / "other.safetensors"
        shutil.copy(weights, path)
        card = read_card(card_path(weights))
        write_card(Card(card.arch, card.classes, card.preprocessing, threshold=0.2), card_path(path))
        [found] = evaluate("--weights", path, "--json", faces).lines
        assert found["threshold"] == {"value": 0.2, "source": "the card's"}
        [found] = evaluate("--weights", path, "--json", "--threshold", 0.7, faces).lines
        assert found["threshold"] == {"value": 0.7, "source": "as given"}

    def test_chosen_on_a_validation_set(self, weights, manifest):
        words = ["--weights", weights, "--split", "test", "--validation", manifest, "--criterion", "accuracy"]
        [found] = evaluate(*words, "--json", manifest).lines
        assert found["threshold"]["source"] == "best by accuracy on faces, split val, 6 images"
        scores = pd.DataFrame(
            [(g, label) for label, greys in GREYS.items() for g in greys[::2]], columns=["grey", "label"]
        )
        best = max(((scores["grey"] >= cut) == (scores["label"] == "fake")).mean() for cut in range(256))
        cut = ["--split", "val", "--threshold", found["threshold"]["value"]]
        [at] = evaluate("--weights", weights, "--json", *cut, manifest).lines
        assert at["whole"][0]["metrics"]["accuracy"]["value"] == pytest.approx(best)

    def test_on_the_test_images_is_refused(self, weights, manifest):
        done = evaluate("--weights", weights, "--validation", manifest, manifest)
        assert done.status == 2
        assert "6 images" in done.err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nowhere"], 1, "no such file"),
        (["--split", "tset", "FACES"], 1, "the splits are: test, val"),
        (["--by", "kid", "FACES"], 2, "'kind'"),
        (["--threshold", "0.4", "--validation", "FACES", "FACES"], 2, "--validation"),
        (["--validation-split", "val", "FACES"], 2, "--validation"),
        (["--threshold", "2", "FACES"], 2, "2"),
    ],
)
def test_wrong_calls_name_what_is_wrong(weights, manifest, words, status, said):
    done = evaluate("--weights", weights, *[manifest if word == "FACES" else word for word in words])
    assert done.status == status
    assert said in done.err


def test_positive_turns_the_question_round(weights, faces):
    [fake], [real] = (
        evaluate("--weights", weights, "--json", "--positive", name, faces).lines for name in ("fake", "real")
    )
    assert real["positive"] == "real"
    one, other = (found["whole"][0]["metrics"] for found in (fake, real))
    assert other["auc"]["value"] == pytest.approx(one["auc"]["value"])
    assert (other["tp"]["value"], other["fn"]["value"]) == (one["tn"]["value"], one["fp"]["value"])


SLOW_NETWORK = """
import time
from xface.detectors import Detector
plain = Detector.logits
def slow(self, batch):
    print("scoring", flush=True)
    time.sleep(30)
    return plain(self, batch)
Detector.logits = slow
"""


@pytest.mark.skipif(not hasattr(os, "setsid"), reason="needs POSIX signals")
def test_ctrl_c_leaves_nothing_half_written(weights, faces, tmp_path):
    out = tmp_path / "run" / "out"
    words = ["evaluate", "--device", "cpu", "--weights", str(weights), "--out", str(out), str(faces)]
    command = [sys.executable, "-c", f"{SLOW_NETWORK}\n{COMMAND[2]}", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=heeding_interrupts) as process:
        assert process.stdout.readline() == "scoring\n"
        assert list(out.parent.iterdir()) != []
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, err = process.communicate(timeout=20)
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(out.parent.iterdir()) == []


def test_the_bundled_detector_has_the_scores_of_its_card(shared_data):
    scores = read_card(ROOT / "weights" / "meso4.json").scores
    [found] = evaluate("--weights", "meso4", "--json", "--split", "test", shared_data / "stylegan_ffhq").lines
    metrics = found["whole"][0]["metrics"]
    assert metrics["auc"]["value"] == pytest.approx(scores["test_auc"], abs=0.001)
    assert metrics["accuracy"]["value"] == pytest.approx(scores["test_accuracy"], abs=0.005)
    assert found["whole"][0]["count"] == scores["test_images"]
    assert metrics["auc"]["low"] < 0.74 < 0.83 < metrics["auc"]["high"]
