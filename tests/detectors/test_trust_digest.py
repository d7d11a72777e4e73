"""What maps earned, on the card: from a hand-written trust.json, held against the weights, and chosen by."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import run
from trust_runs import make_trust, of_detector

import xface
from xface.detectors.card import read_card, write_card
from xface.detectors.card_editing import CardChanges, change_card
from xface.detectors.conversion import convert
from xface.detectors.trust_digest import digest_of, leads_as
from xface.errors import CheckpointError, UsageError
from xface.runs.trust import read_trust


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A copy of the bundled Meso-4, with its card."""
    convert("meso4", tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


@pytest.fixture
def trusted(weights: Path, tmp_path: Path) -> Path:
    """A run of `xface trust` of it."""
    return make_trust(tmp_path / "trust", detector=of_detector(xface.load(weights, device="cpu")))


def test_the_digest_is_small_rounded_and_knows_no_folders(tmp_path):
    digest = digest_of(read_trust(make_trust(tmp_path / "run")))
    swap = digest.maps[1].figures["partial_swap"]
    assert (swap.value, swap.interval, swap.n) == (0.72, (0.6, 0.84), 65)
    assert (swap.best_baseline, swap.baseline, swap.difference) == ("gaussian", 0.35, 0.37)
    assert "secret" not in digest.data.source
    assert "agreement" not in digest.effects[0].figures  # it was undefined
    assert digest.of("gradcam", "layer3").few == "informative: 72 %, baseline 35 %"
    assert digest.of("gradcam", None).grade == "not checked"


def test_the_best_informative_map_leads_by_the_first_check_that_ranks(tmp_path):
    digest = digest_of(read_trust(make_trust(tmp_path / "run")))
    answer, check = digest.leading()
    assert (answer.method, answer.layer, check) == ("gradcam", "layer3", "partial_swap")
    assert leads_as(digest, answer, check) == (
        "gradcam at layer3, the best of 2 informative maps by xface trust "
        "(names the forged region first: 72 %)"
    )
    assert digest.leading(lambda each: each.layer == "layer4")[0].layer == "layer4"
    assert digest.leading(lambda each: each.method == "vanilla") is None
    no_pairs = [replace(each, figures={"agreement": each.figures["agreement"]}, decided_by="agreement")
                for each in digest.maps]  # fmt: skip
    answer, check = replace(digest, maps=tuple(no_pairs)).leading()
    assert (answer.layer, check) == ("layer4", "agreement")


def test_card_round_trip(weights, trusted):
    made = run("card", weights, "--trust", trusted)
    assert made.status == 0, made.err
    assert "2 maps informative" in " ".join(made.out.split())
    digest = digest_of(read_trust(trusted))
    card = read_card(weights.with_suffix(".json"), digest.weights_sha256)
    assert card.trust == digest
    write_card(card, weights.with_name("again.json"))
    assert read_card(weights.with_name("again.json")).trust == digest
    assert xface.load(weights, device="cpu").card.trust == digest
    assert "trust" not in xface.load(weights, device="cpu").to_json()["card"]
    assert change_card(weights, CardChanges(notes="more")).card.trust == digest
    again = convert(weights, weights.with_name("copy.safetensors")).card
    assert again.trust == replace(digest, weights_sha256=again.sha256)
    assert change_card(weights, CardChanges(trust="none")).card.trust is None


@pytest.mark.parametrize("change", [{"positive": "real"}, {"classes": ("real", "fake")}, {"crop": "box"}])
def test_what_was_measured_otherwise_is_taken_off(weights, trusted, change):
    change_card(weights, CardChanges(trust=str(trusted)))
    made = change_card(weights, CardChanges(**change))
    assert made.card.trust is None
    assert any("xface trust again" in note for note in made.notes)
    with pytest.raises(UsageError, match="was made with other"):
        change_card(weights, CardChanges(trust=str(trusted)))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ({"weights_sha256": "0" * 64}, "other weights"),
        ({"weights_sha256": None}, "untrained"),
        ({"trained": False}, "untrained"),
        ({"card": None}, "was made with other"),
    ],
)
def test_runs_of_other_detectors_are_refused(weights, tmp_path, damage, expected):
    detector = of_detector(xface.load(weights, device="cpu")) | damage
    before = weights.with_suffix(".json").read_bytes()
    made = run("card", weights, "--trust", make_trust(tmp_path / "run", detector=detector))
    assert (made.status, expected in made.err) == (2, True), made.err
    assert weights.with_suffix(".json").read_bytes() == before


@pytest.mark.parametrize("text", [None, "{", "[]", '{"maps": 3}', '{"created": NaN}'])
def test_damaged_runs_are_refused(weights, tmp_path, text):
    folder = make_trust(tmp_path / "run")
    (folder / "trust.json").unlink() if text is None else (folder / "trust.json").write_text(text)
    made = run("card", weights, "--trust", folder)
    assert made.status == 2
    assert "trust.json" in made.err
    assert "xface trust" in made.err


def _with(content, place, value):
    *way, last = place
    for key in way:
        content = content[key]
    content[last] = value


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (("maps", 0, "grade"), 3, "trust.maps.0.grade must be a text"),
        (("maps", 0, "figures", "partial_swap", "value"), "high", "must be a number"),
        (("maps", 0, "figures", "partial_swap", "interval"), [1], "interval"),
        (("maps", 0, "figures", "other"), {"value": 1, "n": 1}, "unknown check 'other'"),
        (("maps", 0, "extra"), 1, "is unknown"),
        (("maps", 1, "layer"), "layer4", "twice"),
        (("weights_sha256",), "0" * 64, "other weights"),
        (("data",), None, "data"),
    ],
)
def test_damaged_cards_say_what_is_wrong(weights, trusted, place, value, expected):
    change_card(weights, CardChanges(trust=str(trusted)))
    card = weights.with_suffix(".json")
    content = json.loads(card.read_text())
    _with(content["trust"], place, value)
    card.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=expected) as error:
        xface.load(weights, device="cpu")
    assert "mine.json" in str(error.value)


def test_the_trust_of_one_card_is_refused_on_another(weights, trusted, tmp_path):
    change_card(weights, CardChanges(trust=str(trusted)))
    other = tmp_path / "other.safetensors"
    convert("resnet18", other)
    content = json.loads(other.with_suffix(".json").read_text())
    content["trust"] = json.loads(weights.with_suffix(".json").read_text())["trust"]
    other.with_suffix(".json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="trust of other weights"):
        xface.load(other, device="cpu")
    shutil.rmtree(trusted)  # the card needs the run no more
    assert xface.load(weights, device="cpu").card.trust
