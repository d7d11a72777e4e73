"""What a detector's card says its maps earned chooses where the user names nothing, and never else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import run
from run_folders import make_run
from trust_runs import HOSTILE, make_trust, of_detector

import xface
from xface.analysis.labelled_data import read_data
from xface.analysis.plan import plan_analysis
from xface.detectors.card_editing import CardChanges, change_card
from xface.detectors.choosing import NONE_INFORMATIVE, choose
from xface.detectors.conversion import convert
from xface.detectors.requests import checked
from xface.detectors.trust_digest import digest_of
from xface.report.run.page import write_report
from xface.runs.trust import read_trust
from xface.wording import UNCHECKED

BEST = ("gradcam", "layer3")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A bundled ResNet-18 with the trust of a hand-written run."""
    run_of = make_trust(tmp_path_factory.mktemp("runs") / "trust")
    detector = xface.load("resnet18", device="cpu")
    return replace(detector, card=replace(detector.card, trust=digest_of(read_trust(run_of))))


def without(detector, **changes):
    """The detector with maps changed by (method, layer), such as their grade."""
    trust = detector.card.trust
    maps = tuple(replace(each, **changes) for each in trust.maps)
    return replace(detector, card=replace(detector.card, trust=replace(trust, maps=maps)))


def test_what_decided_is_shown_and_ranked_not_what_comes_first(resnet):
    """Too few swaps to decide: the agreement did, and by it the map at layer4 is made the best."""
    trust = without(resnet, decided_by="agreement").card.trust
    found = trust.of(*BEST)
    assert (found.check, found.value) == ("agreement", trust.maps[1].figures["agreement"].value)
    assert found.value != trust.maps[1].figures["partial_swap"].value
    lowered = replace(trust.maps[1].figures["agreement"], value=-1.0)
    maps = (trust.maps[0], replace(trust.maps[1], figures={"agreement": lowered}), *trust.maps[2:])
    lead, check = replace(trust, maps=maps).leading()
    assert (lead.method, lead.layer, check) == ("gradcam", "layer4", "agreement")


@pytest.mark.parametrize(
    ("methods", "layers", "leading", "layer"),
    [
        (None, None, BEST, "layer3"),
        (None, ["layer4"], ("gradcam", "layer4"), None),
        (None, ["layer1"], None, None),
        (["gradcam"], None, None, "layer3"),
        (["layercam"], None, None, "layer3"),  # was not checked: at the layer that did best
        (["guided"], None, None, None),
        (["gradcam"], ["layer4"], None, None),
    ],
)
def test_only_what_is_not_named_is_chosen(resnet, methods, layers, leading, layer):
    found = choose(resnet, methods, layers)
    assert (found.leading, found.layer) == (leading, layer)
    named = methods is not None and (layers is not None or methods == ["guided"])
    assert bool(found.words) == (not named)
    usual = [layer or resnet.arch.layer]
    assert list(checked(resnet, methods, layers, "predicted")[2]) == (layers or usual)


def test_without_an_informative_map_the_usual_is_taken(resnet):
    found = choose(without(resnet, grade="no better than the face's centre"), None, None)
    assert (found.leading, found.layer, found.words) == (None, None, NONE_INFORMATIVE)
    assert choose(replace(resnet, card=replace(resnet.card, trust=None)), None, None).words == ""


@pytest.mark.parametrize("gone", [{"method": "no_more"}, {"layer": "layer9"}, {"layer": None}])
def test_maps_that_there_are_no_more_are_not_chosen(resnet, gone):
    trust = resnet.card.trust
    one = replace(trust, maps=(replace(trust.maps[1], **gone),))
    detector = replace(resnet, card=replace(resnet.card, trust=one))
    assert choose(detector, None, None).leading is None
    assert checked(detector, None, None, "predicted")[2] == ["layer4"]


def test_explain_puts_the_leading_map_first_and_says_what_each_earned(resnet):
    found = xface.explain(resnet, "samples/fake.jpg")
    assert [(each.method, each.layer) for each in found.maps][:2] == [BEST, ("vanilla", None)]
    assert {each.layer for each in found.maps} == {None, "layer3"}
    assert len(found.maps) == 5
    said = found.to_json()
    assert said["maps"][0]["trust"]["value"] == 0.72
    assert (said["maps"][0]["trust"]["baseline"], said["maps"][0]["trust"]["grade"]) == (0.35, "informative")
    assert said["maps"][2]["trust"]["grade"] == "not checked"
    assert (said["effects_trust"]["value"], said["effects_trust"]["grade"]) == (0.74, "informative")
    assert said["choice"].startswith("gradcam at layer3, the best of 2 informative maps")
    assert "trust" not in said["detector"]["card"]
    assert "names the forged region first: 72 %" in " ".join(xface.report.as_text(found).split())
    assert "names the forged region first" in found._repr_html_()
    assert [each.get_title() for each in xface.report.draw_panel(found).axes if "72" in each.get_title()] == [
        "gradcam at layer3\ninformative: 72 %, baseline 35 %"
    ]
    assert found.trust[0].method == "effects"
    json.dumps(said)


def test_a_leading_map_that_is_none_of_the_core_ones_is_added(resnet):
    trust = resnet.card.trust
    layercam = replace(trust.maps[1], method="layercam")
    detector = replace(resnet, card=replace(resnet.card, trust=replace(trust, maps=(layercam,))))
    found = xface.explain(detector, "samples/fake.jpg")
    assert found.maps[0].method == "layercam"
    assert len(found.maps) == 6
    assert xface.explain(detector, "samples/fake.jpg", ["vanilla"]).maps[0].method == "vanilla"


def test_commands_say_it_and_say_where_nothing_is_known(tmp_path: Path):
    weights = tmp_path / "mine.safetensors"
    convert("meso4", weights)
    asked = ("--device", "cpu", "--weights", weights, "--method", "vanilla", "--out", tmp_path / "out")
    assert f"maps: {UNCHECKED}" in run("explain", *asked, "samples/fake.jpg").out
    [line] = run("regions", *asked, "--json", "samples/fake.jpg").lines
    assert (line["maps"][0]["trust"], line["effects_trust"], line["choice"]) == (None, None, None)
    of = of_detector(xface.load(weights, device="cpu"))
    change_card(weights, CardChanges(trust=str(make_trust(tmp_path / "trust", detector=of))))
    assert "no better than the face's centre: names the" in run("explain", *asked, "samples/fake.jpg").out
    untrained = run("explain", "--weights", "none", "--arch", "meso4", "--method", "vanilla",
                    "--out", tmp_path / "none", "samples/fake.jpg")  # fmt: skip
    assert UNCHECKED not in untrained.out


@pytest.mark.parametrize(
    ("methods", "layers", "kinds"),
    [
        (None, None, [BEST]),
        (None, ["layer4"], [("gradcam", "layer4")]),
        (None, ["all"], [("gradcam", f"layer{number}") for number in (1, 2, 3, 4)]),
        (["vanilla"], None, [("vanilla", "")]),
        (["gradcam"], ["layer4"], [("gradcam", "layer4")]),
    ],
)
def test_analyze_takes_the_best_map_where_none_is_named(resnet, tmp_path, methods, layers, kinds):
    table = tmp_path / "faces.csv"
    rows = [f"{Path(f'samples/{label}.jpg').absolute()},{label}" for label in ("real", "fake")]
    table.write_text("\n".join(["path,label", *rows]))
    plan = plan_analysis(resnet, read_data(str(table)), methods, layers)
    assert [(kind["method"], kind["layer"]) for kind in plan.kinds] == kinds
    manifest = plan.manifest([])
    assert [each["grade"] for each in manifest["trust"]] == [
        resnet.card.trust.of(method, layer or None).grade for method, layer in kinds
    ]
    assert bool(manifest["choice"]) == (methods is None)
    assert "trust" not in manifest["settings"]["card"]
    plain = replace(resnet, card=replace(resnet.card, trust=None))
    [usual] = plan_analysis(plain, read_data(str(table))).kinds
    assert (usual["method"], usual["layer"]) == ("gradcam", "layer4")


@pytest.mark.parametrize(
    ("trust", "expected"),
    [
        ([{"method": "gradcam", "layer": "layer4", "grade": "informative", "words": f"yes: {HOSTILE}"}],
         "Yes: &lt;img src=x"),
        ([], "Maps are not checked for this detector: run xface trust."),
        (None, None),
    ],
)  # fmt: skip
def test_the_report_of_a_run_says_what_its_maps_earned(tmp_path, trust, expected):
    folder = make_run(tmp_path / "run", 60)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"trust": trust, "choice": "it leads"}))
    page = write_report(folder).read_text()
    assert page.count('class="earned"') == (0 if trust is None else 2)
    assert expected is None or expected in page
