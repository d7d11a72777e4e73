"""What is registered from outside the package comes out at the far end; the documentation shows how."""

import doctest
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import run
from matplotlib.colors import to_hex
from PIL import Image

import xface
from xface.analysis.labelled_data import read_data
from xface.analysis.pipeline import analyze
from xface.analysis.plan import plan_analysis
from xface.attribution import METHODS
from xface.data.sources import SOURCES
from xface.detectors.crops import CROPS
from xface.errors import UsageError
from xface.faces import ATTRIBUTES, LANDMARKERS, REGIONS, Attribute, Landmarker, find_face
from xface.faces.landmark_cache import LandmarkStore
from xface.images.pictures import read_picture
from xface.networks import ARCHITECTURES
from xface.preprocessing import PRESETS
from xface.report.colours import lift_colour
from xface.report.run.figures import draw_faces
from xface.report.run.forest import OUTCOME_SERIES
from xface.report.run.sections import SECTIONS
from xface.results import Face
from xface.runs.folder import RunFolder
from xface.runs.regions import regions_of
from xface.statistics.thresholds import CRITERIA

ROOT = Path(__file__).resolve().parents[1]
FAKE = ROOT / "samples" / "fake.jpg"
REGISTERED = "A method", "An architecture", "A region", "A source of pictures", "A section of the report"


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What a test registers is gone after it."""
    for registry in (ARCHITECTURES, ATTRIBUTES, LANDMARKERS, METHODS, REGIONS, SECTIONS, SOURCES):
        monkeypatch.setattr(registry, "_entries", dict(registry))


def example(page: str) -> str:
    """The lines of a page's example that isn't a session; few enough for a newcomer."""
    [code] = re.findall(r"```python\n((?!>>>).*?)```", (ROOT / "docs" / page).read_text(), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line]) < 10
    return code


def register(title: str) -> None:
    """Register for good what a section of docs/extending.md registers for the length of a block."""
    section = (ROOT / "docs" / "extending.md").read_text().split(f"\n## {title}\n")[1].partition("\n## ")[0]
    code = "".join(each.source for each in doctest.DocTestParser().get_examples(section))
    before, registry, entry, _ = re.split(r"^with (\w+)\.having\((.*)\):$", code, flags=re.MULTILINE)
    lines = f"{before}{registry}.add({entry})"
    assert len(lines.splitlines()) < 10
    exec(lines, {"np": np, "torch": torch, "xface": xface})


@pytest.fixture(scope="module")
def reddened(tmp_path_factory):
    """Faces in shifting frames, every other one reddened, and labelled so that these are misclassified."""
    detector, pixels = xface.load("meso4", device="cpu"), np.asarray(Image.open(FAKE), float)
    folder = tmp_path_factory.mktemp("reddened")
    frames = [pixels[n % 7 :, n // 7 :] * (1, 1 - 0.4 * (n % 2), 1 - 0.4 * (n % 2)) for n in range(48)]
    pictures = [frame.round().astype(np.uint8) for frame in frames]
    scores = [prediction.probabilities["fake"] for prediction in detector.predict(pictures)]
    threshold, rows = float(np.median(scores)), []
    for number, (picture, score) in enumerate(zip(pictures, scores, strict=True)):
        Image.fromarray(picture).save(folder / f"{number}.png")
        rows.append((f"{number}.png", "fake" if (score >= threshold) != number % 2 else "real"))
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(folder / "faces.csv", index=False)
    return detector, read_data(str(folder / "faces.csv")), threshold


def test_an_attribute_is_measured_tested_and_worded(reddened, tmp_path, monkeypatch):
    exec(example("attributes.md"), {})
    detector, data, threshold = reddened
    plan = plan_analysis(detector, data, ["vanilla"], threshold=threshold)
    folder = analyze(plan, tmp_path / "run", workers=0, store=LandmarkStore(tmp_path / "landmarks"))
    images = pd.read_parquet(folder / "images.parquet")
    light = [read_picture(path).pixels.mean(axis=(0, 1)) for path in data.samples.paths]
    assert images["redness"].to_numpy() == pytest.approx([red / green for red, green, _ in light])
    found = json.loads((folder / "findings.json").read_text())
    rows = [row for row in found["attributes"] if row["attribute"] == "redness"]
    assert [row["contrast"] for row in rows] == ["FP-TP", "FN-TN", "FP-TN", "FN-TP"]
    assert any(row["finding"] for row in rows)
    [told, *_] = [each["text"] for each in found["sentences"] if each["name"] == "redness"]
    assert " are redder than " in told
    monkeypatch.undo()  # the report needs the run alone
    assert run("report", folder).status == 0
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert told.partition(":")[0] in page
    assert '"redness":"redness, ratio"' in page
    assert ">redness, ratio<" in page
    assert "redness" in (folder / "report" / "data" / "images.js").read_text()
    for table in ("attributes", "images"):
        assert "redness" in (folder / "report" / "tables" / f"{table}.csv").read_text()


def test_what_the_documentation_registers_is_seen_by_commands_and_in_tables_findings_and_page(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    for title in REGISTERED:
        register(title)
    words = ("--device", "cpu", "--weights", "none", "--arch", "tiny", "--method", "squared", "--out")
    assert "squared: Squared gradient, at the input" in run("methods").out
    assert "tiny" in [each["arch"] for each in run("models", "--json").lines]
    [explained] = run("explain", "--json", "--target", "fake", *words, tmp_path, FAKE).lines
    [lift] = [each["lift"] for each in explained["regions"] if each["region"] == "chin"]

    for command in ("predict", "explain", "regions"):
        options = words[:6] if command == "predict" else (*words, tmp_path / command)
        named = [Path(each["image"]) for each in run(command, "--json", *options, "samples").lines]
        assert named == [ROOT / "samples" / name for name in ("real.jpg", "fake.jpg")]

    folder = tmp_path / "run"
    assert run("analyze", *words, folder, "--data", "samples", "--workers", 0).status == 0
    images, regions = (pd.read_parquet(folder / f"{name}.parquet") for name in ("images", "regions"))
    assert [Path(image).name for image in images["image"]] == ["real.jpg", "fake.jpg"]
    chin = regions[(regions["region"] == "chin") & (regions["method"] == "squared")]
    assert chin["lift"].to_list()[1] == pytest.approx(lift, rel=1e-4)
    read = RunFolder.read(folder)
    rows = [row for row in read.findings["regions"] if row["region"] == "chin"]
    means = {row["outcome"]: row["lift"]["value"] for row in rows}
    assert [means[outcome] for outcome in images["outcome"]] == pytest.approx(chin["lift"].to_list())

    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert f"<p>{read.manifest['device']}</p>" in page
    drawn = re.findall(r'<path d="[^"]+" fill="([^"]+)"[^>]*><title>chin: ', page)
    assert drawn == [lift_colour(means[outcome]) for outcome in OUTCOME_SERIES]
    place = regions_of(read.manifest)["chin"]["label"]
    for colour, cell in zip(drawn, draw_faces(read, read.kinds[0]).axes, strict=False):
        [*_, patch] = [patch for patch in cell.patches if patch.get_path().contains_point(place)]
        assert to_hex(patch.get_facecolor()) == colour


def test_a_run_resumes_only_with_the_attributes_and_regions_it_was_begun_with(reddened, tmp_path):
    detector, data = reddened[0], read_data(reddened[1].source, limit=1)
    store = LandmarkStore(tmp_path / "landmarks")
    analyze(plan_analysis(detector, data, ["vanilla"]), tmp_path / "run", workers=0, store=store)
    exec(example("attributes.md"), {})
    register("A region")
    plan = plan_analysis(detector, data, ["vanilla"])
    with pytest.raises(
        UsageError, match="attribute redness was None, is ratio; region chin was None, is mea"
    ):
        analyze(plan, tmp_path / "run", workers=0, store=store, resume=True)


@pytest.mark.parametrize("name", ["row", "image", "score", "status", "width", "sha256"])
def test_an_attribute_cannot_take_the_place_of_another_column(name, reddened):
    ATTRIBUTES.add(name, Attribute(lambda portrait: 1.0, "", "more", "less"))
    with pytest.raises(UsageError, match=f"the attribute '{name}' is named as a column of each run"):
        plan_analysis(reddened[0], reddened[1])


@pytest.mark.parametrize("command", ["regions", "explain"])
def test_a_face_detector_is_used_by_the_commands(command, tmp_path):
    exec(example("regions.md"), {})
    pixels = read_picture(FAKE).pixels
    expected, usual = find_face(255 - (255 - pixels) // 2), find_face(pixels)
    assert (expected.landmarks != usual.landmarks).any()
    words = ("--json", "--device", "cpu", "--method", "vanilla", "--out", tmp_path, FAKE)
    told = json.loads(run(command, "--face-detector", "lightened", *words).out)
    assert told["face"]["landmarks"] == expected.to_json()["landmarks"]
    assert json.loads(run(command, *words).out)["face"]["landmarks"] == usual.to_json()["landmarks"]
    assert "[hog|cnn|lightened]" in run(command, "--help").out


@pytest.fixture
def cropped(tmp_path):
    """Options of a detector whose card has a crop, and of a set of one fake and one real picture."""
    folder = tmp_path / "cropped"
    shutil.copytree(ROOT / "samples", folder)
    weights = ROOT / "weights" / "meso4.safetensors"
    card = json.loads(weights.with_suffix(".json").read_text())
    (folder / "mine.json").write_text(json.dumps({**card, "crop": {"kind": "box", "margin": 0.3}}))
    shutil.copy(weights, folder / "mine.safetensors")
    (folder / "faces.csv").write_text("path,label\nfake.jpg,fake\nreal.jpg,real\n")
    return folder


def test_detectors_crop_to_what_the_face_detector_finds(cropped, tmp_path):
    exec(example("regions.md"), {})
    options = ("--json", "--device", "cpu", "--weights", cropped / "mine.safetensors")
    other = ("--face-detector", "lightened")
    pictures = [cropped / "fake.jpg", cropped / "real.jpg"]
    detector = xface.load(cropped / "mine.safetensors", device="cpu", face_detector="lightened")
    expected = [float(each.probabilities["fake"]) for each in detector.predict(pictures)]
    told = run("predict", *options, *other, *pictures).lines
    assert [one["prediction"]["probabilities"]["fake"] for one in told] == pytest.approx(expected)
    assert {one["detector"]["face_detector"] for one in told} == {"lightened"}
    for words, same in ((other, True), ((), False)):
        out = tmp_path / f"scores-{same}"
        assert run("evaluate", *options, *words, "--out", out, cropped / "faces.csv").status == 0
        [scores] = out.rglob("*.csv")
        assert (pd.read_csv(scores)["score"].to_list() == pytest.approx(expected, abs=1e-6)) is same


@pytest.fixture
def analysis(reddened, tmp_path):
    """The words of a command that analyses two pictures into the folder `run`."""
    words = ("analyze", "--device", "cpu", "--method", "vanilla", "--limit", "1", "--workers", "1")
    return *words, "--data", reddened[1].source, "--out", tmp_path / "run"


def test_an_analysis_measures_in_the_faces_of_its_face_detector(analysis, reddened, tmp_path):
    exec(example("regions.md"), {})
    assert run(*analysis, "--face-detector", "lightened").status == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["settings"]["face_detector"] == {"name": "lightened", "version": 1, "models": {}}
    kept = pd.read_parquet(tmp_path / "run" / "thumbnails.parquet")["landmarks"]
    for path, landmarks in zip(read_data(reddened[1].source, limit=1).samples.paths, kept, strict=True):
        picture = read_picture(path)
        points = find_face(picture.pixels, "lightened").landmarks
        expected = reddened[0].prepare(picture).geometry.to_input(points)
        halved = (expected + 0.5) / 2 - 0.5  # thumbnails have half the side of what Meso-4 gets
        assert np.reshape(landmarks, (68, 2)) == pytest.approx(halved, abs=1e-3)


@pytest.mark.parametrize("ending", ["", ".part"])
def test_an_analysis_resumes_only_with_its_face_detector(ending, analysis, tmp_path):
    exec(example("regions.md"), {})
    assert run(*analysis, "--face-detector", "lightened").status == 0
    (tmp_path / "run").rename(tmp_path / f"run{ending}")
    refused = run(*analysis, "--resume")
    assert refused.status == 2
    assert (
        refused.err.count("face detector name was lightened, is hog; face detector version was 1, is 2") == 1
    )
    assert run(*analysis, "--resume", "--face-detector", "lightened").status == 0


@pytest.mark.parametrize("ending", ["", ".part"])
def test_a_run_whose_settings_name_no_face_detector_was_made_with_the_default_one(ending, analysis, tmp_path):
    exec(example("regions.md"), {})
    assert run(*analysis).status == 0
    file = tmp_path / f"run{ending}" / "manifest.json"
    (tmp_path / "run").rename(file.parent)
    manifest = json.loads(file.read_text())
    [model] = manifest["settings"].pop("face_detector")["models"].values()
    manifest["settings"]["landmark_model_sha256"] = model
    file.write_text(json.dumps(manifest))
    refused = run(*analysis, "--resume", "--face-detector", "lightened")
    assert refused.status == 2
    assert "face detector name was hog, is lightened" in refused.err
    assert run(*analysis, "--resume").status == 0


def test_landmarks_are_kept_by_the_face_detector_of_the_plan(reddened, tmp_path):
    store = LandmarkStore(tmp_path, "cnn")
    with pytest.raises(UsageError, match="the store is of the face detector 'cnn', the plan of 'hog'"):
        analyze(plan_analysis(reddened[0], reddened[1], ["vanilla"]), tmp_path / "run", store=store)


def test_doctor_says_which_face_detectors_can_be_used():
    def broken(pixels):
        raise ModuleNotFoundError("No module named 'mine'")

    LANDMARKERS.add("broken", Landmarker(broken))
    LANDMARKERS.add("sound", Landmarker(lambda pixels: Face(False)))
    done = run("doctor")
    lines = [line for line in done.out.splitlines() if "face detector" in line]
    assert lines == [
        *(f"[ok] face detector {name} can be used" for name in ("hog", "cnn")),
        "[!!] face detector broken cannot be used (No module named 'mine')",
        "[ok] face detector sound can be used",
    ]
    assert done.status == 1


@pytest.mark.parametrize(
    ("command", "registry", "known"),
    [
        ("evaluate", CRITERIA, "f1"),
        ("card", PRESETS, "meso"),
        ("convert", PRESETS, "meso"),
        ("card", CROPS, "box"),
    ],
)
def test_helps_name_what_the_registries_hold(command, registry, known):
    with registry.having("invented", registry[known]):
        assert "invented" in run(command, "--help").out
    assert "invented" not in run(command, "--help").out


def test_a_core_method_is_one_of_those_that_are_computed_unless_others_are_named():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    with METHODS.having("invented", replace(METHODS["vanilla"], name="invented", core=True)):
        assert ("invented", None) in xface.attribute(net, torch.rand(1, 3, 2, 2), methods=None, layers=())
