"""Conversion: the same logits bit by bit, the same card, whole files or none, and nothing overwritten."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from speed import first_quick
from test_keras import drawn, write_keras2
from torch import Tensor, nn

from xface.detectors import Card, load
from xface.detectors.card import card_path, read_card, write_card
from xface.detectors.card_editing import CardChanges, change_card
from xface.detectors.conversion import convert
from xface.detectors.crops import CropSettings
from xface.errors import CheckpointError, OutputError, UsageError
from xface.networks import architecture
from xface.preprocessing import PRESETS

SIDES = {"meso4": 256, "inception_v3": 299, "rahmouni": 300}
FULL = Card(
    "resnet18",
    ("Real", "Fake"),
    replace(PRESETS["seed"], size=(192, 160)),
    crop=CropSettings("box", 0.2),
    threshold=0.625,
    training="4,000 faces",
    scores={"auc": 0.9, "images": 200},
    notes="Ünïcode",
)


def seeded(name: str, classes: int = 2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = architecture(name).build(classes)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
        return model.eval()


def images(side: int) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@cache
def weights(name: str, classes: int) -> dict[str, Tensor]:
    return seeded(name, classes).state_dict()


def saved(path: Path, name: str = "resnet18", classes: int = 2) -> Path:
    torch.save(weights(name, classes), path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.half() if v.is_floating_point() else v for k, v in state.items()}


def wrapped(state: dict[str, Tensor]) -> object:
    return {"state_dict": {f"module.model.{k}": v for k, v in state.items()}, "epoch": 3}


def averaged(state: dict[str, Tensor]) -> object:
    return {"model": halved(state), "model_ema": {f"module.{k}": v for k, v in state.items()}}


NETWORKS = [
    ("meso4", dict, 1, None),
    ("resnet18", averaged, 2, "model_ema"),
    ("squeezenet1_0", wrapped, 2, None),
    ("timm/vit_tiny_patch16_224", halved, 2, None),
    ("resnet18", halved, 2, None),
    ("inception_v3", dict, 2, None),
    ("densenet121", wrapped, 2, None),
    ("efficientnet-b0", halved, 2, None),
    ("rahmouni", dict, 2, None),
    ("timm/resnet26", wrapped, 2, None),
]


@pytest.mark.parametrize(("name", "content", "classes", "key"), first_quick(NETWORKS, 4))
def test_logits_stay_the_same_bit_by_bit(name, content, classes, key, tmp_path) -> None:
    """Through the library's own loading on both sides, and by name in the file that was written."""
    network, side = seeded(name, classes), SIDES.get(name, 224)
    torch.save(content(network.state_dict()), tmp_path / "a.pth")
    arch = name if name.startswith("timm/") else None
    made = convert(tmp_path / "a.pth", tmp_path / "b.safetensors", arch, key)
    before, after = load(tmp_path / "a.pth", arch, "cpu", key), load(tmp_path / "b.safetensors", device="cpu")
    assert after.arch.name == made.card.arch == name
    assert torch.equal(before.logits(images(side)), after.logits(images(side)))
    with safe_open(tmp_path / "b.safetensors", framework="pt") as file:
        assert set(file.keys()) == network.state_dict().keys()
    if content in (dict, wrapped, averaged):
        with torch.inference_mode():
            expected = network.to(memory_format=torch.channels_last)(images(side))
        assert torch.equal(after.logits(images(side)), expected)


@pytest.mark.parametrize("name", ["meso4", "inception"])
def test_keras_files(name: str, tmp_path: Path) -> None:
    write_keras2(tmp_path / "a.h5", drawn(name))
    convert(tmp_path / "a.h5", tmp_path / "b.safetensors")
    before, after = load(tmp_path / "a.h5", device="cpu"), load(tmp_path / "b.safetensors", device="cpu")
    assert torch.equal(before.logits(images(256)), after.logits(images(256)))


def test_twice_is_the_same_file(tmp_path: Path) -> None:
    saved(tmp_path / "a.pth", "meso4")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", tmp_path / "c.safetensors")
    assert digest(tmp_path / "b.safetensors") == digest(tmp_path / "c.safetensors")
    assert (tmp_path / "b.json").read_text() == (tmp_path / "c.json").read_text()


def test_a_card_is_carried_over_with_the_new_hash(tmp_path: Path) -> None:
    saved(tmp_path / "a.pth")
    write_card(replace(FULL, sha256=digest(tmp_path / "a.pth")), tmp_path / "a.json")
    made = convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    written = read_card(tmp_path / "b.json")
    assert written == replace(FULL, sha256=digest(tmp_path / "b.safetensors"), source="b.json")
    assert made.card == written
    assert made.assumed == ""
    assert made.parameters == 11_177_538


def test_what_was_assumed_is_said_and_stays_on_the_card(tmp_path: Path) -> None:
    saved(tmp_path / "a.pth")
    made = convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert made.assumed == "preprocessing imagenet; classes fake, real"
    assert made.assumed in read_card(tmp_path / "b.json").notes
    assert (made.card.preprocessing, made.card.classes) == (PRESETS["imagenet"], ("fake", "real"))


def test_what_is_given_or_in_the_file_is_not_assumed(tmp_path: Path) -> None:
    state = seeded("resnet18").state_dict()
    torch.save({"state_dict": state, "classes": ["Real", "Fake"]}, tmp_path / "a.pth")
    made = convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert made.assumed == "preprocessing imagenet"
    assert made.card.classes == ("Real", "Fake")
    changes = CardChanges(classes=("forged", "real"), positive="Forged", preset="seed")
    made = convert(tmp_path / "a.pth", tmp_path / "c.safetensors", changes=changes)
    written = read_card(tmp_path / "c.json")
    assert made.assumed == ""
    assert (written.classes, written.positive) == (("forged", "real"), "forged")
    assert written.preprocessing == PRESETS["seed"]


def test_weights_that_are_tied_are_written_for_each_of_their_names(tmp_path: Path) -> None:
    """timm's CoaT uses one position encoding in several blocks, and names it in each."""
    network = seeded("timm/coat_lite_tiny")
    state = network.state_dict()
    assert state["cpe1.proj.weight"].data_ptr() == state["serial_blocks1.0.cpe.proj.weight"].data_ptr()
    torch.save(state, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors", "timm/coat_lite_tiny")
    written = load_file(tmp_path / "b.safetensors")
    assert written.keys() == state.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in state.items())
    with torch.inference_mode():
        expected = network.to(memory_format=torch.channels_last)(images(224))
    assert torch.equal(load(tmp_path / "b.safetensors", device="cpu").logits(images(224)), expected)


def says(path: Path, classes: list[str]) -> Path:
    """A file that names its own classes."""
    torch.save({"state_dict": seeded("meso4").state_dict(), "classes": classes}, path)
    return path


OWN = "Classes given as fake, real, but the file itself says real, fake."


class TestTheFilesOwnClasses:
    def test_those_given_count_and_the_files_own_stay_on_the_card(self, tmp_path: Path) -> None:
        path = says(tmp_path / "a.pth", ["real", "fake"])
        made = convert(path, tmp_path / "b.safetensors", changes=CardChanges(classes=("fake", "real")))
        assert made.card.classes == ("fake", "real")
        assert OWN in made.notes
        assert read_card(tmp_path / "b.json").notes.endswith(f"assumed: preprocessing meso. {OWN}")

    @pytest.mark.parametrize("classes", [("real", "fake"), ("Real", "FAKE")])
    def test_the_same_order_is_no_contradiction(self, classes, tmp_path: Path) -> None:
        path = says(tmp_path / "a.pth", ["real", "fake"])
        made = convert(path, tmp_path / "b.safetensors", changes=CardChanges(classes=classes))
        assert made.notes == ()
        assert "file itself" not in made.card.notes

    def test_a_file_that_is_not_understood_contradicts_nothing(self, tmp_path: Path) -> None:
        path = says(tmp_path / "a.pth", ["real", ""])
        made = convert(path, tmp_path / "b.safetensors", changes=CardChanges(classes=("real", "fake")))
        assert made.notes == ()

    def test_the_card_says_it_once_and_only_while_it_holds(self, tmp_path: Path) -> None:
        path = says(tmp_path / "a.pth", ["real", "fake"])
        for notes in ("Mine.", None, None):
            made = change_card(path, CardChanges(classes=("fake", "real"), notes=notes))
            assert made.card.notes == read_card(tmp_path / "a.json").notes == f"Mine. {OWN}"
            assert made.notes == (OWN,)
        assert change_card(path, CardChanges(training="long")).card.notes == f"Mine. {OWN}"
        mended = change_card(path, CardChanges(classes=("real", "fake")))
        assert (mended.card.notes, mended.notes) == ("Mine.", ())


def test_many_classes_need_names(tmp_path: Path) -> None:
    saved(tmp_path / "a.pth", classes=4)
    with pytest.raises(CheckpointError, match="its head has 4 classes and nothing names them"):
        convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert os.listdir(tmp_path) == ["a.pth"]
    names = ("real", "deepfakes", "face2face", "nt")
    made = convert(tmp_path / "a.pth", tmp_path / "b.safetensors", changes=CardChanges(classes=names))
    assert load(tmp_path / "b.safetensors").classes == names
    assert made.card.positive is None


def test_a_card_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    saved(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"has 2 classes, but its card .* names 3: a, b, c"):
        convert(tmp_path / "a.pth", tmp_path / "b.safetensors", changes=CardChanges(classes=("a", "b", "c")))
    saved(tmp_path / "m.pth", "meso4")
    with pytest.raises(CheckpointError, match="asks for inputs of 224x224, which meso4 cannot take"):
        convert(tmp_path / "m.pth", tmp_path / "b.safetensors", changes=CardChanges(preset="imagenet"))
    assert sorted(os.listdir(tmp_path)) == ["a.pth", "m.pth"]


@pytest.mark.parametrize("taken", ["b.safetensors", "b.json"])
@pytest.mark.parametrize("kind", ["file", "folder", "broken link"])
def test_nothing_is_overwritten(taken: str, kind: str, tmp_path: Path) -> None:
    saved(tmp_path / "a.pth", "meso4")
    path = tmp_path / taken
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UsageError, match=rf"{taken} would be overwritten; give another name, or remove it"):
        convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert sorted(os.listdir(tmp_path)) == before
    assert kind != "file" or path.read_text() == "mine"


def test_no_half_written_file_of_others_is_touched(tmp_path: Path) -> None:
    names = ["a.json.part", "b.json.part", "b.safetensors.part"]
    for name in names:
        (tmp_path / name).write_text(name)
    saved(tmp_path / "a.pth", "meso4")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    change_card(tmp_path / "a.pth", CardChanges(notes="mine"))
    assert [(tmp_path / name).read_text() for name in names] == names
    assert sorted(os.listdir(tmp_path)) == sorted([*names, "a.json", "a.pth", "b.json", "b.safetensors"])


@pytest.mark.parametrize("given", ["best.pth", "link.pth"])
def test_one_card_cannot_serve_two_files(given: str, tmp_path: Path, monkeypatch) -> None:
    """It would have the new file's hash, so that the old one could be loaded no more."""
    saved(tmp_path / "best.pth", "meso4")
    (tmp_path / "link.pth").symlink_to("best.pth")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"best\.json would be the card of both .*; give another name"):
        convert(given, tmp_path / "best.safetensors")
    assert sorted(os.listdir()) == ["best.pth", "link.pth"]
    (tmp_path / "clean").mkdir()
    convert(given, "clean/best.safetensors")
    assert load(given, device="cpu").card.source.startswith("assumed")


def test_a_file_is_not_converted_onto_itself(tmp_path: Path) -> None:
    convert("meso4", tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="would be overwritten"):
        convert(tmp_path / "a.safetensors", tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["b.pth", "b", "b.json"])
def test_another_ending_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        convert("meso4", tmp_path / name)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no folder .*missing"):
        convert("meso4", tmp_path / "missing" / "b.safetensors")


def test_the_untrained_network_has_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'none' stands for an untrained network"):
        convert("none", tmp_path / "b.safetensors")


def test_both_files_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        convert("meso4", tmp_path / "b.safetensors")
        change_card(tmp_path / "b.safetensors", CardChanges(notes="mine"))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


INTERRUPTED = """
import sys
from xface.detectors.conversion import convert

left = [{number}]

def strike(event, arguments):
    if event == "{event}" and ".part" in str(arguments[0]):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

sys.addaudithook(strike)
try:
    convert("meso4", {out!r})
except KeyboardInterrupt:
    print("interrupted")
"""


STEPS = [("open", 1), ("os.rename", 2), ("os.rename", 1), ("open", 2), ("os.chmod", 1)]


@pytest.mark.parametrize(("event", "number"), first_quick(STEPS, 2))
def test_interrupted_at_any_step_it_leaves_nothing(event: str, number: int, tmp_path: Path) -> None:
    """Ctrl-C while the weights are hashed, the card is written, its mode is set, and either is renamed."""
    code = INTERRUPTED.format(event=event, number=number, out=str(tmp_path / "b.safetensors"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
    assert os.listdir(tmp_path) == []


class TestChangeCard:
    def test_a_card_is_written_where_there_is_none(self, tmp_path: Path) -> None:
        saved(tmp_path / "a.pth")
        made = change_card(tmp_path / "a.pth", CardChanges(classes=("Real", "Fake"), preset="seed"))
        assert made.before is None
        written = read_card(tmp_path / "a.json", digest(tmp_path / "a.pth"))
        assert written == made.card
        assert (written.arch, written.classes, written.positive) == ("resnet18", ("Real", "Fake"), "Fake")
        assert written.preprocessing == PRESETS["seed"]
        assert written.sha256 == digest(tmp_path / "a.pth")

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            (CardChanges(preset="none"), {"preprocessing": PRESETS["none"]}),
            (CardChanges(crop="outline"), {"crop": CropSettings("outline")}),
            (CardChanges(crop="box:0.1"), {"crop": CropSettings("box", 0.1)}),
            (CardChanges(crop="none"), {"crop": None}),
            (CardChanges(threshold="0.25"), {"threshold": 0.25}),
            (CardChanges(threshold="none"), {"threshold": None}),
            (CardChanges(positive="REAL", threshold="0.5"), {"positive": "Real", "threshold": 0.5}),
            (CardChanges(classes=("Fake", "Real")), {"classes": ("Fake", "Real")}),
            (CardChanges(training="", notes="none"), {"training": "", "notes": "none"}),
        ],
    )
    def test_only_what_is_given_changes(self, changes, expected, tmp_path: Path) -> None:
        saved(tmp_path / "a.pth")
        write_card(FULL, tmp_path / "a.json")
        made = change_card(tmp_path / "a.pth", changes)
        assert made.before == replace(FULL, source="a.json")
        assert read_card(tmp_path / "a.json") == replace(FULL, source="a.json", **expected)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (CardChanges(classes=("a", "b", "c"), threshold="none"), "has 2 classes, but its card"),
            (CardChanges(positive="forged"), "'forged' is none of Real, Fake"),
            (CardChanges(positive="real"), "the threshold 0.625 was set for 'Fake'"),
            (CardChanges(classes=("a", "b")), "the threshold 0.625 was set for 'Fake'"),
            (CardChanges(classes=("a", "b"), threshold="0.5"), "say which class that is"),
            (CardChanges(threshold="1"), "must be in (0, 1)"),
            (CardChanges(threshold="nan"), "must be in (0, 1)"),
            (CardChanges(threshold="half"), "neither a number nor none"),
            (CardChanges(preset="opencv_brg"), "did you mean 'opencv_bgr'"),
            (CardChanges(crop="boxes"), "did you mean 'box'"),
            (CardChanges(crop="box:wide"), "give it as box:0.3"),
            (CardChanges(crop="outline:0.1"), "belongs to the crop box"),
        ],
    )
    def test_what_has_no_sense_leaves_the_card_alone(self, changes, said, tmp_path: Path) -> None:
        saved(tmp_path / "a.pth")
        write_card(FULL, tmp_path / "a.json")
        before = (tmp_path / "a.json").read_bytes()
        with pytest.raises((UsageError, CheckpointError)) as caught:
            change_card(tmp_path / "a.pth", changes)
        assert said in str(caught.value)
        assert (tmp_path / "a.json").read_bytes() == before
        assert sorted(os.listdir(tmp_path)) == ["a.json", "a.pth"]

    @pytest.mark.parametrize("classes", [(), ("fake",), ("fake", "Fake"), ("fake", "")])
    def test_classes_are_at_least_two_different_names(self, classes) -> None:
        with pytest.raises(UsageError, match="must be at least two different names"):
            CardChanges(classes=classes)

    def test_a_card_with_too_many_classes_can_be_mended(self, tmp_path: Path) -> None:
        saved(tmp_path / "a.pth")
        write_card(replace(FULL, classes=("Real", "Fake", "other")), tmp_path / "a.json")
        with pytest.raises(CheckpointError, match="names 3"):
            load(tmp_path / "a.pth")
        change_card(tmp_path / "a.pth", CardChanges(classes=("Real", "Fake")))
        assert load(tmp_path / "a.pth").classes == ("Real", "Fake")

    def test_bundled_cards_stay_as_they_are(self, tmp_path: Path) -> None:
        from xface.detectors.bundled import bundled

        path = bundled()["meso4"]
        (tmp_path / "link.safetensors").symlink_to(path)
        before = card_path(path).read_bytes()
        for name in ("meso4", path, tmp_path / "link.safetensors"):
            with pytest.raises(UsageError, match="make a copy to change: xface convert"):
                change_card(name, CardChanges(notes="mine"))
        assert card_path(path).read_bytes() == before
        convert("meso4", tmp_path / "mine.safetensors")
        change_card(tmp_path / "mine.safetensors", CardChanges(notes="mine"))
        assert read_card(tmp_path / "mine.json").notes == "mine"

    def test_the_card_beside_what_a_link_leads_to_is_changed(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        saved(tmp_path / "deep" / "a.pth")
        write_card(FULL, tmp_path / "deep" / "a.json")
        (tmp_path / "link.pth").symlink_to(tmp_path / "deep" / "a.pth")
        change_card(tmp_path / "link.pth", CardChanges(notes="mine"))
        assert read_card(tmp_path / "deep" / "a.json").notes == "mine"
        assert sorted(os.listdir(tmp_path)) == ["deep", "link.pth"]
