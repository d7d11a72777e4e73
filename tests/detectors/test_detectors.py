"""Loading by file, by name and untrained; classes and cards; prediction."""

import csv
import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from speed import first_quick
from torch import nn

from xface.detectors import Card, Detector, load
from xface.detectors.bundled import bundled
from xface.detectors.card import write_card
from xface.errors import CheckpointError, DeviceError, ImageError, TargetError, UnknownNameError, UsageError
from xface.images.pictures import read_picture
from xface.networks import ARCHITECTURES
from xface.preprocessing import PRESETS
from xface.wording import verdict


def detector_of(logits: list[float], classes: tuple[str, ...] = ("fake", "real")) -> Detector:
    """A detector that says the same of every picture."""
    head = nn.Linear(3 * 256 * 256, len(logits))
    nn.init.zeros_(head.weight)
    head.bias.data = torch.tensor(logits)
    model = nn.Sequential(nn.Flatten(), head).eval()
    card = Card("meso4", classes, PRESETS["meso"])
    return Detector(ARCHITECTURES["meso4"], model, card, torch.device("cpu"))


def save(path: Path, arch: str = "meso4", num_classes: int = 2, **card: Any) -> Path:
    """A checkpoint, with a card beside it if anything is said about it."""
    torch.save(ARCHITECTURES[arch].build(num_classes).state_dict(), path)
    if card:
        path.with_suffix(".json").write_text(json.dumps({"arch": arch, **card}))
    return path


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (40 + 9 * i, 300 - 11 * i, 3), np.uint8) for i in range(19)]


def test_probabilities_of_two_logits() -> None:
    [prediction] = detector_of([1.0, 3.0]).predict(np.zeros((20, 20, 3), np.uint8))
    assert prediction.label == "real"
    assert prediction.probability == pytest.approx(1 / (1 + np.exp(-2)))
    assert prediction.probabilities["fake"] == pytest.approx(1 - prediction.probability)


@pytest.mark.parametrize("logit", [-2.0, 0.5, 200.0])
def test_one_logit_speaks_for_the_second_class(logit: float) -> None:
    [prediction] = detector_of([logit], ("Fake", "Real")).predict(np.zeros((20, 20, 3), np.uint8))
    assert prediction.probabilities["Real"] == pytest.approx(1 / (1 + np.exp(-logit)))
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.label == ("Real" if logit > 0 else "Fake")


@pytest.mark.parametrize("logit", [-2.0, 0.5])
@pytest.mark.parametrize(("positive", "sign"), [("forged", -1), ("genuine", 1)])
def test_the_forgerys_probability_of_one_logit(logit: float, positive: str, sign: int) -> None:
    detector = detector_of([logit], ("forged", "genuine"))
    detector = replace(detector, card=replace(detector.card, positive=positive))
    [prediction] = detector.predict(np.zeros((20, 20, 3), np.uint8))
    forged = 1 / (1 + np.exp(-sign * logit))
    assert prediction.positive_probability == pytest.approx(forged)
    assert prediction.to_json()["positive"] == positive
    assert verdict(prediction).endswith(f"; forged ({positive}) {forged:.3f}")
    assert verdict(prediction).startswith("genuine," if logit > 0 else "forged,")


def test_the_forgerys_probability_of_four_logits() -> None:
    logits = np.array([1.0, 3.0, 2.0, 0.0])
    detector = detector_of(logits.tolist(), ("real", "swap", "fake", "gan"))
    [prediction] = detector.predict(np.zeros((20, 20, 3), np.uint8))
    shares = np.exp(logits) / np.exp(logits).sum()
    assert (prediction.label, prediction.positive) == ("swap", "fake")
    assert prediction.to_json()["positive_probability"] == pytest.approx(shares[2])
    assert verdict(prediction) == f"swap, probability {shares[1]:.3f}; forged (fake) {shares[2]:.3f}"


def test_two_classes_without_a_forgery() -> None:
    [prediction] = detector_of([1.0, 3.0], ("0_real", "1_fake")).predict(np.zeros((20, 20, 3), np.uint8))
    assert prediction.positive_probability is None
    assert prediction.to_json()["positive_probability"] is None
    assert verdict(prediction) == "1_fake, probability 0.881"


@pytest.mark.parametrize("classes", [["Deepfake", "Original"], ["0_real", "1_fake"]])
def test_a_detector_that_does_not_know_its_forgery_says_so(classes: list[str], tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", classes=classes, preprocessing="meso")
    [note] = load(path).notes
    assert (
        note
        == f"no class of {', '.join(classes)} is called fake; --positive NAME says which one is the forgery"
    )
    assert load(path, positive=classes[0].upper()).notes == ()
    assert load("none").notes == load().notes == ()


def test_a_batch_is_the_loop_over_its_images(faces: list[np.ndarray]) -> None:
    """More pictures than one internal batch holds, in order."""
    detector = load("none", arch="meso4")
    together = detector.predict(face for face in faces)
    for face, prediction in zip(faces, together, strict=True):
        [alone] = detector.predict(face)
        assert alone.label == prediction.label
        assert alone.probability == pytest.approx(prediction.probability, rel=1e-5)


def test_every_kind_of_image_is_the_same(faces: list[np.ndarray], tmp_path: Path) -> None:
    face = faces[3]
    Image.fromarray(face).save(tmp_path / "face.png")
    detector = load("none")
    path = tmp_path / "face.png"
    kinds = [face, Image.fromarray(face), str(path), path, read_picture(path)]
    assert len({detector.predict(kind)[0].probability for kind in kinds}) == 1
    assert len({prediction.probability for prediction in detector.predict(kinds)}) == 1


def test_prediction_follows_the_card(faces: list[np.ndarray], tmp_path: Path) -> None:
    """The same weights under two cards: exactly what plain arithmetic on each card's pixels gives."""
    path = save(tmp_path / "a.pth", "resnet18", classes=["Fake", "Real"], preprocessing="seed")
    detector = load(path)
    face = np.random.default_rng(2).integers(0, 256, (224, 224, 3), np.uint8)
    bgr = torch.from_numpy(face[..., ::-1].astype(np.float32) / 255).permute(2, 0, 1)[None]
    model = ARCHITECTURES["resnet18"].build(2).eval()
    model.load_state_dict(torch.load(path))
    expected = model(bgr).softmax(1)[0].tolist()
    [prediction] = detector.predict(face)
    assert list(prediction.probabilities.values()) == pytest.approx(expected, abs=1e-6)
    assert list(prediction.probabilities) == ["Fake", "Real"]


def test_no_images() -> None:
    assert load("none").predict([]) == []


def test_bad_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="missing"):
        load("none").predict([tmp_path / "missing.jpg"])


def test_class_index() -> None:
    detector = load("none")
    assert (detector.class_index("Fake"), detector.class_index("real")) == (0, 1)
    with pytest.raises(TargetError):
        detector.class_index("forged")


def test_untrained_is_reproducible_and_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first = load("none", arch="resnet18")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    second = load("none", arch="resnet18")
    for mine, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert not first.trained
    assert first.weights_sha256 is None
    assert first.card.source == "none: untrained, seed 0"
    assert first.to_json()["card"]["source"] == first.card.source


def test_network_is_ready_for_inference() -> None:
    for detector in (load("none", arch="resnet18"), load()):
        assert not detector.model.training
        assert not any(parameter.requires_grad for parameter in detector.model.parameters())


def test_card_beside_the_weights(tmp_path: Path) -> None:
    path = save(
        tmp_path / "my.detector.pth", classes=["real", "forged"], preprocessing="meso", positive="forged"
    )
    detector = load(path)
    assert detector.classes == ("real", "forged")
    assert detector.card.source == "my.detector.json"
    assert "my.detector.json" in repr(detector)
    assert detector.to_json()["card"]["positive"] == "forged"


def test_assumed_cards_say_so(tmp_path: Path) -> None:
    detector = load(save(tmp_path / "a.pth", "resnet18"))
    assert detector.card.source == "assumed: imagenet preset; classes fake, real assumed"
    assert detector.card.preprocessing == PRESETS["imagenet"]
    assert detector.weights_sha256 == detector.card.sha256


def test_followed_system_is_known_by_its_layout(tmp_path: Path) -> None:
    state = ARCHITECTURES["resnet18"].build(2).state_dict()
    losses = [np.float64(0.5)]
    content = {"model": state, "epoch": 1, "train_losses": losses, "valid_losses": losses}
    torch.save(content, tmp_path / "0001.pth")
    detector = load(tmp_path / "0001.pth")
    assert detector.classes == ("Fake", "Real")
    assert detector.card.preprocessing == PRESETS["seed"]
    assert detector.card.source == "assumed: opencv_bgr preset; classes Fake, Real assumed"


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "B"], ["a", "b", "c", "d"]])
def test_classes_in_the_checkpoint_that_do_not_fit_its_head(classes: list[str], tmp_path: Path) -> None:
    state = ARCHITECTURES["meso4"].build(3).state_dict()
    torch.save({"state_dict": state, "classes": classes}, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"a\.pth.*3 classes and nothing names so many; write a card a\.json"
    ):
        load(tmp_path / "a.pth")


ORDERS: list[dict[str, Any]] = [
    {"class_to_idx": {"fake": 1, "real": 0}},
    {"label2id": {"fake": np.int64(1), "real": np.int64(0)}},
    {"idx_to_class": {1: "fake", 0: "real"}},
    {"id2label": {"1": "fake", "0": "real"}},
    {"classes": {"fake": 1, "real": 0}},
    {"classes": {1: "fake", 0: "real"}},
    {"classes": ("real", "fake")},
    {"class_names": ["real", "fake"]},
    {"labels": ["real", "fake"]},
    {"config": {"data": {"class_names": ["real", "fake"]}}},
    {"class_names": ["real", "fake"], "class_to_idx": {"Fake": 1, "Real": 0}},
    {"classes": 2, "labels": [0, 1, 1, 0], "class_names": ["real", "fake"]},
    {"args": Namespace(classes=["real", "fake"])},
    {"config": [{"data": {"class_to_index": {"fake": 1, "real": 0}}}]},
    {"meta": {"CLASSES": ("real", "fake")}},
    {"label_map": {0: "real", 1: "fake"}},
]


def beside_weights(path: Path, extras: dict[str, Any]) -> Path:
    torch.save({"state_dict": ARCHITECTURES["meso4"].build(2).state_dict(), **extras}, path)
    return path


@pytest.mark.parametrize("extras", ORDERS, ids=str)
def test_the_checkpoints_own_order_of_classes_counts(extras: dict[str, Any], tmp_path: Path) -> None:
    """Each says that class 0 is real; the assumed order would turn every verdict round."""
    detector = load(beside_weights(tmp_path / "a.pth", extras))
    assert detector.classes == ("real", "fake")
    assert detector.card.source == "assumed: meso preset; classes real, fake of the checkpoint"


@pytest.mark.parametrize(
    "extras",
    [
        {"classes": "real,fake"},
        {"classes": [0, 1]},
        {"classes": torch.tensor([0, 1])},
        {"class_names": ["real", ""]},
        {"class_to_idx": {"real": 1, "fake": 2}},
        {"class_to_idx": {"real": 0.1, "fake": 0.9}},
        {"class_to_idx": {"real": False, "fake": True}},
        {"idx_to_class": {0: "real", 1: None}},
        {"labels": {"train": torch.tensor([0, 1])}},
    ],
    ids=str,
)
def test_an_order_of_classes_that_is_not_understood_is_not_guessed(
    extras: dict[str, Any], tmp_path: Path
) -> None:
    path = beside_weights(tmp_path / "a.pth", extras)
    with pytest.raises(CheckpointError, match=rf"a\.pth.*{next(iter(extras))}.*write a card a\.json"):
        load(path)
    path.with_suffix(".json").write_text(
        '{"arch": "meso4", "classes": ["real", "fake"], "preprocessing": "meso"}'
    )
    assert load(path).classes == ("real", "fake")


def test_orders_of_classes_that_contradict_each_other(tmp_path: Path) -> None:
    extras = {"classes": ["fake", "real"], "config": {"class_to_idx": {"real": 0, "fake": 1}}}
    with pytest.raises(CheckpointError, match=r"several orders \(fake, real and real, fake\).*a\.json"):
        load(beside_weights(tmp_path / "a.pth", extras))


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 1]), [0, 1, 1], [], None], ids=str)
def test_labels_that_are_data_name_nothing(labels: object, tmp_path: Path) -> None:
    endless: dict[str, Any] = {"labels": labels}
    endless["self"] = endless
    detector = load(beside_weights(tmp_path / "a.pth", {"labels": labels, "more": endless}))
    assert detector.card.source == "assumed: meso preset; classes fake, real assumed"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("count", [1, 2])
def test_logits_that_are_not_finite_get_no_label(bad: float, count: int) -> None:
    with pytest.raises(CheckpointError, match=r"no finite logits for this input.*card given in code"):
        detector_of([0.5] * (count - 1) + [bad]).predict(np.zeros((20, 20, 3), np.uint8))


def test_a_link_finds_its_own_card_or_its_targets(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    save(tmp_path / "runs" / "best.pth", classes=["real", "fake"], preprocessing="meso")
    link = tmp_path / "latest.pth"
    link.symlink_to("runs/best.pth")
    assert load(link).card.source == "best.json"
    assert load(link).classes == ("real", "fake")
    (tmp_path / "latest.json").write_text(
        '{"arch": "meso4", "classes": ["genuine", "forged"], "preprocessing": "meso"}'
    )
    assert load(link).classes == ("genuine", "forged")


def test_wrong_class_counts(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", num_classes=1000, classes=["fake", "real"], preprocessing="meso")
    with pytest.raises(CheckpointError, match=r"a\.pth.*1000 classes.*card \(a\.json\) names 2: fake, real"):
        load(path)
    with pytest.raises(CheckpointError, match=r"b\.pth.*1000 classes and nothing names them.*b\.json"):
        load(save(tmp_path / "b.pth", num_classes=1000))


def test_three_classes_for_one_logit(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", num_classes=1, classes=["a", "b", "c"], preprocessing="meso")
    with pytest.raises(CheckpointError, match="2 classes, but its card"):
        load(path)


def test_card_of_another_architecture(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", "resnet18", classes=["fake", "real"], preprocessing="seed")
    write_card(Card("resnet34", ("fake", "real"), PRESETS["seed"]), tmp_path / "a.json")
    with pytest.raises(
        CheckpointError, match=r"does not fit resnet34, which is given by the card a\.json.*like resnet18"
    ):
        load(path)
    assert load(path, arch="resnet18").arch.name == "resnet18"


def test_card_with_an_impossible_size(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", classes=["fake", "real"], preprocessing={"size": [224, 224]})
    with pytest.raises(CheckpointError, match=r"a\.json.*224x224, which meso4 cannot take"):
        load(path)
    path = save(tmp_path / "b.pth", "resnet18", classes=["fake", "real"], preprocessing={"size": [160, 128]})
    assert load(path).predict(np.zeros((90, 90, 3), np.uint8))


def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UnknownNameError, match=r"unknown bundled detector 'meso5'; did you mean 'meso4'.*path"
    ):
        load("meso5")
    with pytest.raises(UnknownNameError, match="unknown architecture 'resnet19'"):
        load(arch="resnet19")
    with pytest.raises(UsageError, match=r"no bundled weights for vgg16 \(only: meso4, resnet18\).*'none'"):
        load(arch="vgg16")
    with pytest.raises(CheckpointError, match="no such file"):
        load("meso5.pth")


def test_a_file_without_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "weights")
    assert load("weights").card.source.startswith("assumed")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("none", device="cpu").device == torch.device("cpu")
    for name in ("gpu", "cuda:", "cuda:x", "mps", ""):
        with pytest.raises(DeviceError, match="give auto, cpu, cuda or cuda:N"):
            load("none", device=name)
    if torch.cuda.is_available():
        assert load("none").device.type == "cuda"
        with pytest.raises(DeviceError, match="counted from cuda:0"):
            load("none", device="cuda:99")
    else:
        assert load("none").device == torch.device("cpu")
        with pytest.raises(DeviceError, match="no CUDA on this machine; use cpu or auto"):
            load("none", device="cuda:0")


BUNDLED = {("meso4", "stylegan_ffhq"): "", ("resnet18", "stylegan_ffhq"): "stylegan_ffhq_",
           ("resnet18", "dfdc_pairs"): "dfdc_pairs_"}  # fmt: skip


@pytest.mark.parametrize(("name", "data"), first_quick(BUNDLED))
def test_bundled_detectors_score_what_their_cards_say(name: str, data: str, shared_data: Path) -> None:
    """The test split again, from the files, by the public interface and another AUC formula."""
    from sklearn.metrics import roc_auc_score

    with open(shared_data / data / "manifest.csv", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == "test"]
    detector, key = load(name, device="cpu"), BUNDLED[name, data]
    predictions = detector.predict(shared_data / data / row["path"] for row in rows)
    p_fake = [prediction.probabilities["fake"] for prediction in predictions]
    right = [prediction.label == row["label"] for prediction, row in zip(predictions, rows, strict=True)]
    auc, scores = roc_auc_score([row["label"] == "fake" for row in rows], p_fake), detector.card.scores
    assert scores[f"{key}test_images"] == len(rows)
    assert scores[f"{key}test_auc"] == pytest.approx(auc, abs=1e-3 if key else 1e-9)
    if key:
        assert scores[f"{key}test_auc_low"] < auc < scores[f"{key}test_auc_high"]
    else:
        assert scores["test_accuracy"] == pytest.approx(np.mean(right), abs=1e-9)


def test_bundled_detectors_are_whole() -> None:
    for name, path in bundled().items():
        detector = load(name)
        assert detector.card.source == f"bundled:{name}"
        assert detector.card.sha256 == detector.weights_sha256
        assert detector.trained
        assert path.stat().st_size < 23_000_000
    assert load().card.source == load(arch="meso4").card.source == "bundled:meso4"
