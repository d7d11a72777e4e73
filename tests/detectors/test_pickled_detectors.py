"""A detector in another process: it is pickled, sent to a spawned one, and says there what it says here."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import KINDS
from speed import first_quick

import xface
from xface.detectors import Detector, load
from xface.errors import UnknownNameError
from xface.networks.blueprints import usual_size
from xface.results import ByteArray

FACE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)


def verdicts(detector: Detector, picture: ByteArray) -> list[dict[str, float]]:
    return [dict(verdict.probabilities) for verdict in detector.predict(picture)]


QUICK = ["meso4", "resnet18", "timm/resnet26"]


@pytest.mark.parametrize(
    "name", first_quick([*QUICK, *(name for name in KINDS if name not in QUICK)], len(QUICK))
)
def test_pickled_and_back_its_logits_are_the_same(name: str) -> None:
    detector = load("none", arch=name, device="cpu")
    again = pickle.loads(pickle.dumps(detector))
    assert again.arch == detector.arch
    assert again.card == detector.card
    x = torch.rand(1, 3, *usual_size(detector.card.preprocessing, detector.arch))
    assert torch.equal(again.logits(x), detector.logits(x))


def test_a_spawned_process_gives_the_same_verdicts_also_with_a_crop(tmp_path: Path) -> None:
    torch.save(load("meso4").model.state_dict(), tmp_path / "a.pth")
    card = '{"arch": "meso4", "classes": ["fake", "real"], "preprocessing": "meso", "crop": {"kind": "box"}}'
    (tmp_path / "a.json").write_text(card)
    detectors = [xface.load(tmp_path / "a.pth", device="cpu"), xface.load("meso4", device="cpu")]
    assert detectors[0].card.crop is not None
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.starmap(verdicts, [(detector, FACE) for detector in detectors])
    assert there == [verdicts(detector, FACE) for detector in detectors]


def test_errors_come_back_from_other_processes() -> None:
    error = UnknownNameError("layer", "layer5", ["layer4"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
