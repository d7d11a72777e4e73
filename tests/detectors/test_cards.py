"""Cards: a round trip, and one clear error that names the file for each thing that can be wrong on one."""

import json
from pathlib import Path
from typing import Any

import pytest

from xface.detectors import Card
from xface.detectors.card import read_card, write_card
from xface.detectors.crops import CropSettings
from xface.errors import CheckpointError, OutputError, TargetError
from xface.preprocessing import PRESETS

SHA = "0123456789abcdef" * 4
FULL = Card(
    "resnet18",
    ("Fake", "Real"),
    PRESETS["seed"],
    crop=CropSettings("box", 0.25),
    training="4,000 faces",
    scores={"auc": 0.9, "images": 200},
    notes="Ünïcode",
    sha256=SHA,
)
LEAST: dict[str, Any] = {"arch": "meso4", "classes": ["fake", "real"], "preprocessing": "meso"}


def test_round_trip(tmp_path: Path) -> None:
    write_card(FULL, tmp_path / "a.json")
    read = read_card(tmp_path / "a.json", SHA)
    assert read.source == "a.json"
    assert {**read.to_json(), "source": ""} == {**FULL.to_json(), "source": ""}
    assert read.preprocessing == PRESETS["seed"]
    assert read.crop == FULL.crop


def test_preprocessing_is_written_out(tmp_path: Path) -> None:
    write_card(FULL, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["preprocessing"]["colours"] == "BGR"
    assert content["preprocessing"]["size"] == [224, 224]
    assert "source" not in content


def test_least_card(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(LEAST))
    card = read_card(tmp_path / "a.json", SHA)
    assert (card.positive, card.preprocessing, card.sha256) == ("fake", PRESETS["meso"], None)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (None, None),
        ({"kind": "outline"}, CropSettings("outline")),
        ({"kind": "box"}, CropSettings("box", 0.3)),
        ({"kind": "box", "margin": 1}, CropSettings("box", 1.0)),
    ],
)
def test_crops(written: Any, read: CropSettings | None, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**LEAST, "crop": written}))
    card = read_card(tmp_path / "a.json")
    assert card.crop == read
    write_card(card, tmp_path / "b.json")
    assert read_card(tmp_path / "b.json").crop == read


def test_class_names_in_any_case() -> None:
    assert (FULL.positive, FULL.class_index("fake"), FULL.class_index("REAL")) == ("Fake", 0, 1)
    swapped = Card("resnet18", ("REAL", "DeepFake"), PRESETS["seed"], positive="deepfake")
    assert (swapped.positive, swapped.class_index("deepfake")) == ("DeepFake", 1)
    with pytest.raises(TargetError, match=r"no class 'forged'.*'Fake', 'Real'"):
        FULL.class_index("forged")


def test_without_fake_no_class_is_positive() -> None:
    assert Card("resnet18", ("cat", "dog"), PRESETS["seed"]).positive is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"clases": []}, "unknown card setting 'clases'; did you mean 'classes'"),
        ({"arch": "resnet81"}, "unknown architecture 'resnet81'; did you mean 'resnet18'"),
        ({"arch": 18}, "arch must be a text, not 18"),
        ({"classes": "fake"}, "classes must be a list, not 'fake'"),
        ({"classes": ["fake"]}, "at least two"),
        ({"classes": ["fake", "FAKE"]}, "different names"),
        ({"classes": ["fake", 1]}, "classes.1 must be a text, not 1"),
        ({"positive": "forged"}, "positive class 'forged' is none of fake, real"),
        ({"preprocessing": "meson"}, "did you mean 'meso'"),
        ({"preprocessing": {"size": [256, 256], "color": "BGR"}}, "unknown preprocessing setting 'color'"),
        ({"preprocessing": {"size": 256}}, "preprocessing size must be a list, not 256"),
        ({"scores": {"auc": "0.9"}}, "scores.auc must be a number, not '0.9'"),
        ({"scores": {"auc": float("nan")}}, "finite"),
        ({"source": "elsewhere"}, "which no card says itself"),
        ({"arch": 1, "notes": 2}, "card arch must be a text, not 1; card notes must be a text, not 2"),
        ({"threshold": True}, "card threshold must be a number, not True"),
        ({"preprocessing": {"size": [256.0, 256]}}, "size.0 must be a whole number, not 256.0"),
        ({"preprocessing": {"size": [256]}}, "preprocessing size.1 is missing"),
        ({"preprocessing": {"size": [1, 1], "mean": [0] * 4}}, "mean must have at most 3 items"),
        ({"preprocessing": {"size": None, "scale": True}}, "scale must be a number, not True"),
        ({"preprocessing": {"size": None, "scale": "255"}}, "scale must be a number, not '255'"),
        ({"sha256": "abc"}, "64 hexadecimal digits"),
        ({"training": None}, "training must be a text, not None"),
        ({"crop": "box"}, "crop must have keys of its own, such as 'kind', not 'box'"),
        ({"crop": {}}, "crop kind is missing"),
        ({"crop": {"kind": ["box"]}}, "crop kind must be a text, not ['box']"),
        ({"crop": {"kind": "boxes"}}, "unknown face crop 'boxes'; did you mean 'box'"),
        ({"crop": {"kind": "box", "margn": 0.3}}, "unknown crop setting 'margn'; did you mean 'margin'"),
        ({"crop": {"kind": "box", "margin": "0.3"}}, "crop margin must be a number, not '0.3'"),
        ({"crop": {"kind": "box", "margin": True}}, "crop margin must be a number, not True"),
        ({"crop": {"kind": "box", "margin": -1}}, "not within 0 to 10"),
        ({"crop": {"kind": "box", "margin": float("nan")}}, "key 'margin': NaN is not a finite number"),
        ({"crop": {"kind": "outline", "margin": 0.3}}, "belongs to the crop box"),
        ({"scores": {"auc": 10**400}}, "has more than 15 digits"),
        ({"classes": ["real\nfake", "x"]}, "printable"),
        ({"classes": ["real", "fa\x1b[31mke"]}, "printable"),
        ({"threshold": 1.5}, "must be in"),
        ({"threshold": 0}, "must be in"),
        ({"threshold": "0.5"}, "threshold must be a number"),
    ],
)
def test_wrong_cards(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**LEAST, **change}))
    with pytest.raises(CheckpointError) as caught:
        read_card(tmp_path / "a.json")
    assert expected in str(caught.value)
    assert str(tmp_path / "a.json") in str(caught.value)
    assert "correct that file" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", LEAST)
def test_lacking_cards(key: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({k: v for k, v in LEAST.items() if k != key}))
    with pytest.raises(CheckpointError, match=f"card {key} is missing"):
        read_card(tmp_path / "a.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_no_json_objects(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.json"):
        read_card(tmp_path / "a.json")


def test_card_of_other_weights(tmp_path: Path) -> None:
    write_card(FULL, tmp_path / "a.json")
    with pytest.raises(CheckpointError, match=r"a\.json' belongs to other weights: it says sha256 0123"):
        read_card(tmp_path / "a.json", "f" * 64)


def test_unwritable_card(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write '.*a\.json"):
        write_card(FULL, tmp_path / "missing" / "a.json")


def test_a_threshold_needs_a_positive_class():
    with pytest.raises(CheckpointError, match="needs a positive class"):
        Card("resnet18", ("cat", "dog"), PRESETS["seed"], threshold=0.3)
