"""`xface analyze` up to its tables: against one image at a time, and against kills."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import heeding_interrupts, run
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from project import SAMPLES
from torch import nn
from unbroken_runs import tables

import xface
from xface.analysis.labelled_data import read_data
from xface.analysis.measuring import MapMeasurer, measured
from xface.analysis.pipeline import analyze
from xface.analysis.plan import plan_analysis
from xface.attribution import METHODS
from xface.attribution.maps import Maps, status_of
from xface.detectors.crops import CropSettings
from xface.errors import LandmarkError, UnknownNameError, UsageError, XFaceError
from xface.evidence.hiding import ShownFace
from xface.evidence.verdicts import face_parts, verdict_effects
from xface.faces import REGIONS, measure
from xface.faces.attributes import ATTRIBUTES, face_attributes
from xface.faces.landmark_cache import LandmarkStore
from xface.faces.measures import RegionMasks
from xface.images.pictures import read_picture
from xface.preprocessing import Preprocessing
from xface.results import AttributionMap, Face
from xface.runs.folder import RunFolder
from xface.runs.tables import EFFECTS, TABLES

HOSTILE = "<img src=x onerror=alert(1)>.jpg"
MEASURES = ("share", "lift", "face_share", "face_lift")
CHANGES = {
    "": lambda picture: picture,
    "-turned": ImageOps.mirror,
    "-dark": lambda picture: ImageEnhance.Brightness(picture).enhance(0.6),
    "-blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(2)),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return LandmarkStore(tmp_path_factory.mktemp("landmarks"))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Eight faces in pairs, a picture of nothing, a broken and a missing file, and their manifest."""
    folder = tmp_path_factory.mktemp("faces")
    rows = []
    for change, make in CHANGES.items():
        for label in ("real", "fake"):
            path = folder / f"{label}{change}.jpg"
            make(Image.open(SAMPLES / f"{label}.jpg")).save(path, quality=90)
            other = {"real": "fake", "fake": "real"}[label]
            rows.append((path.name, label, f"{other}{change}.jpg", "v1" if change == "-dark" else ""))
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    Image.fromarray(noise).save(folder / HOSTILE)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    rows += [(HOSTILE, "fake", "", ""), ("broken.jpg", "real", "", ""), ("gone.jpg", "fake", "", "")]
    table = pd.DataFrame(rows, columns=["path", "label", "pair", "group"])
    table.assign(score=[str(row) for row in range(len(table))]).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def detector():
    return xface.load("meso4", device="cpu")


@pytest.fixture(scope="module")
def analysed(detector, faces, store, tmp_path_factory):
    """A run with several kinds of maps, and its tables."""
    out = tmp_path_factory.mktemp("runs") / "run"
    methods, layers = ("guided_gradcam", "vanilla", "gradcam"), ("block2", "block4.norm")
    plan = plan_analysis(detector, read_data(str(faces)), methods, layers, 0.4, keep_maps=True)
    assert analyze(plan, out, workers=0, store=store) == out
    return plan, out, tables(out)


def explained(detector, path, plan):
    _, methods, layers = plan.request
    return xface.explain(detector, path, methods, layers, target="fake")


def assert_as_explained(plan, found, rows):
    """Score and every measure of each kind of map, one image at a time."""
    for row in rows:
        image = found["images"].loc[row]
        alone = explained(plan.detector, image["image"], plan)
        assert image["score"] == pytest.approx(alone.prediction.probabilities["fake"], abs=1e-5)
        regions = found["regions"][found["regions"]["row"] == row]
        assert len(regions) == len(alone.regions) == len(plan.kinds) * len(REGIONS)
        statuses = {(amap.method, amap.layer): amap.status for amap in alone.maps}
        for (_, one), expected in zip(regions.iterrows(), alone.regions, strict=True):
            key = (expected.method, expected.layer)
            assert (one["method"], one["layer"] or None, one["region"]) == (*key, expected.region)
            assert (one["status"], one["coarse"]) == (statuses[key], expected.coarse)
            assert one["area"] == pytest.approx(expected.area, abs=1e-9)
            for name in MEASURES:
                assert one[name] == pytest.approx(number(getattr(expected, name)), 1e-3, 1e-6, nan_ok=True)


def number(value):
    return np.nan if value is None else value


def test_the_tables_are_what_explain_finds_one_by_one(analysed):
    plan, _, found = analysed
    assert (found["regions"]["status"] == "ok").mean() > 0.5
    assert_as_explained(plan, found, range(8))


def test_one_row_per_image_with_its_status_and_reason(analysed, faces):
    images = analysed[2]["images"]
    assert images["row"].tolist() == list(range(11))
    assert images["status"].tolist() == ["ok"] * 8 + ["no_face", "unreadable", "missing"]
    assert (images["reason"] == "").tolist() == [True] * 8 + [False] * 3
    assert images["image"].tolist()[8:] == [str(faces / name) for name in (HOSTILE, "broken.jpg", "gone.jpg")]
    assert images["outcome"].tolist()[9:] == images["called"].tolist()[9:] == ["", ""]
    assert np.isnan(images["score"][9:]).all()
    assert not np.isnan(images["score"][:9]).any()


def test_outcomes_follow_from_label_score_and_threshold(analysed):
    _, run, found = analysed
    for _, image in found["images"][:9].iterrows():
        called = "fake" if image["score"] >= 0.4 else "real"
        expected = {("fake", "fake"): "TP", ("fake", "real"): "FN", ("real", "fake"): "FP"}
        assert image["called"] == called
        assert image["outcome"] == expected.get((image["label"], called), "TN")
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["threshold"] == {"value": 0.4, "origin": "as given"}
    assert (manifest["positive"], manifest["target"], manifest["data"]["images"]) == ("fake", "fake", 11)
    assert [(kind["method"], kind["layer"]) for kind in manifest["kinds"]] == [
        ("guided_gradcam", "block2"), ("guided_gradcam", "block4.norm"), ("vanilla", ""),
        ("gradcam", "block2"), ("gradcam", "block4.norm"),
    ]  # fmt: skip


def test_attributes_are_those_of_the_picture(analysed, store):
    images = analysed[2]["images"]
    for row in (0, 3, 8):
        pixels = read_picture(images["image"][row]).pixels
        expected = face_attributes(pixels, store.landmarks(pixels))
        assert {name: images[name][row] for name in ATTRIBUTES} == pytest.approx(expected, nan_ok=True)
    assert images.loc[9, list(ATTRIBUTES)].isna().all()


def test_pairs_and_groups_stay_together_and_columns_are_kept(analysed, faces):
    images = analysed[2]["images"]
    groups = images["group"].tolist()
    assert groups[0] == groups[1] != groups[2] == groups[3] != ""
    assert groups[4] == groups[5] == "v1"
    assert groups[8:] == ["", "", ""]
    assert images["given_score"].tolist() == [str(row) for row in range(11)]
    assert images["pair"][0] == str(faces / "fake.jpg")


def test_a_pair_named_on_one_side_only_is_one_group(faces, tmp_path):
    manifest = faces / "one_sided.csv"
    manifest.write_text(
        "path,label,pair,who\nfake.jpg,fake,real.jpg,\nreal.jpg,real,,\nreal-dark.jpg,real,,a\n"
    )
    assert read_data(str(manifest)).groups[0] == read_data(str(manifest)).groups[1] != ""
    assert read_data(str(manifest), group_by="who").groups[2] == "a"
    with pytest.raises(UnknownNameError, match="whom"):
        read_data(str(manifest), group_by="whom")


def test_maps_without_a_face_have_no_measures(analysed):
    regions = analysed[2]["regions"]
    assert set(regions["row"]) == set(range(9))
    faceless = regions[regions["row"] == 8]
    assert set(faceless["status"]) == {"no_face"}
    assert faceless[[*MEASURES, "area"]].isna().all().all()


def test_thumbnails_hold_the_view_its_landmarks_and_small_maps(analysed):
    plan, _, found = analysed
    thumbnails = found["thumbnails"]
    assert thumbnails["row"].tolist() == list(range(9))
    alone = explained(plan.detector, found["images"]["image"][0], plan)
    first = thumbnails.loc[0]
    assert first["landmarks"].reshape(68, 2) == pytest.approx((alone.landmarks + 0.5) / 2 - 0.5, abs=1e-3)
    assert thumbnails["landmarks"][8] is None
    for index, amap in enumerate(alone.maps):
        if amap.status != "ok":
            assert first["maps"][index] is first["shapes"][index] is None
            continue
        height, width = first["shapes"][index]
        assert max(height, width) <= 28
        grid = np.frombuffer(first["maps"][index], np.uint8).reshape(height, width)
        own = np.abs(amap.values).max(axis=0) if amap.values.ndim == 3 else np.abs(amap.values)
        assert grid.max() == 255
        if own.shape == grid.shape:
            assert grid / 255 * first["peaks"][index] == pytest.approx(own, abs=float(own.max()) / 255)


def test_raw_maps_are_written_under_safe_names(analysed):
    plan, run, found = analysed
    files = sorted(path.name for path in (run / "maps").iterdir())
    assert len(files) == 9
    assert files[0] == "000000-real.npz"
    assert all("<" not in name for name in files)
    alone = explained(plan.detector, found["images"]["image"][0], plan)
    with np.load(run / "maps" / files[0]) as arrays:
        for amap in alone.maps:
            name = f"{amap.method}@{amap.layer}" if amap.layer else amap.method
            np.testing.assert_allclose(arrays[name], amap.values, atol=1e-4 * np.abs(amap.values).max())


def random_maps(count=5, size=(40, 30), scale=1.0):
    """Maps of several shapes, some undefined, and labels of all regions, of few, and of none."""
    rng = torch.Generator().manual_seed(1)
    tensors = {
        ("vanilla", None): torch.randn(count, 3, *size, generator=rng) * scale,
        ("gradcam", "a"): torch.rand(count, 7, 5, generator=rng),
        ("gradcam", "b"): torch.rand(count, 50, 20, generator=rng),
    }
    tensors["gradcam", "a"][1] = 0
    tensors["vanilla", None][2, 0, 3, 3] = float("inf")
    labels = torch.randint(0, len(REGIONS), (count, *size), generator=rng, dtype=torch.uint8)
    labels[3], labels[4] = labels[3] % 3 + 4, 255
    status = {key: status_of(tensor, [True] * count) for key, tensor in tensors.items()}
    rules = dict.fromkeys(tensors, "published")
    return Maps(tensors, status, rules, torch.zeros(count, 2), torch.zeros(count)), labels


@pytest.mark.parametrize("scale", [1.0, 1e37, 1e-30])  # sums of 1e37 are beyond float32
def test_a_batch_is_measured_as_its_images_one_by_one(detector, scale):
    maps, labels = random_maps(scale=scale)
    found = measured(maps, labels, detector, RegionMasks())
    for place in range(4):
        for index, (key, tensor) in enumerate(maps.items()):
            status = maps.status[key][place]
            assert found[place].statuses[index] == status
            amap = AttributionMap(*key, status, "published", tensor[place].numpy())
            for r, row in enumerate(measure(amap, labels[place].numpy())):
                own = dict(zip(MEASURES, found[place].measures[index, r], strict=True))
                wanted = {name: np.nan if (v := getattr(row, name)) is None else v for name in MEASURES}
                assert own == pytest.approx(wanted, rel=1e-5, nan_ok=True)
                assert (found[place].area[r], found[place].coarse[index, r]) == (
                    row.area,
                    row.coarse,
                )
    assert set(found[4].statuses) == {"no_face"}
    assert found[2].grids[0] is found[1].grids[1] is None


class Hungry(nn.Module):
    """A network that says there is no memory for more than so many images."""

    def __init__(self, most):
        super().__init__()
        self.most, self.seen = most, []
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(16, 2)

    def forward(self, images):
        self.seen.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return self.head(self.body(images))


def hungry(detector, most):
    torch.manual_seed(3)
    return replace(detector, model=Hungry(most).eval(), card=replace(detector.card, threshold=None))


def test_a_batch_that_does_not_fit_is_halved_and_stays_in_order(detector):
    images = torch.rand(11, 3, 20, 20)
    labels = torch.randint(0, len(REGIONS), (11, 20, 20), dtype=torch.uint8)
    request = (0, ("vanilla", "gradcam"), ("body.1",))
    narrow, wide = hungry(detector, 3), hungry(detector, 99)
    measurer = MapMeasurer(narrow, request)
    found, expected = measurer(images, labels), MapMeasurer(wide, request)(images, labels)
    # The first image alone and the others without it are held against themselves in their batch.
    assert narrow.model.seen == [11, 6, 3, 1, 2, 3, 3, 2]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)
        assert one.measures == pytest.approx(other.measures, rel=1e-4, nan_ok=True)
    measurer(images[:4], labels[:4])
    assert narrow.model.seen[8:] == [3, 1]  # the smaller size is remembered


def test_one_image_that_does_not_fit_says_so(detector):
    measurer = MapMeasurer(hungry(detector, 0), (0, ("vanilla",), ()))
    with pytest.raises(XFaceError, match="one image alone does not fit into the memory of cpu"):
        measurer(torch.rand(2, 3, 20, 20), torch.zeros(2, 20, 20, dtype=torch.uint8))


@pytest.fixture
def small(faces, tmp_path):
    """Three of the faces."""
    table = pd.read_csv(faces / "manifest.csv").head(3)
    table["path"] = [str(faces / name) for name in table["path"]]
    table[["path", "label"]].to_csv(tmp_path / "small.csv", index=False)
    return tmp_path / "small.csv"


class Moody(nn.Module):
    """Masks by itself what is no noise, which no rule of guided backprop knows."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Linear(4, 2)

    def forward(self, images):
        seen = self.body(images)
        if images.diff().abs().mean() < 0.2:  # of noise it is 1/3
            seen = seen * (seen > seen.mean(dim=(2, 3), keepdim=True))
        return self.head(seen.mean(dim=(2, 3)))


def test_a_map_that_is_partial_on_real_images_only_is_said_to_be(detector, small, store, tmp_path):
    torch.manual_seed(0)
    moody = replace(detector, model=Moody().eval())
    plan = plan_analysis(moody, read_data(str(small)), ("guided", "gradcam"), ("body.0",))
    assert [kind["rule"] for kind in plan.kinds] == ["published", "published"]
    run = analyze(plan, tmp_path / "run", workers=0, store=store)
    manifest = json.loads((run / "manifest.json").read_text())
    assert [kind["rule"] for kind in manifest["kinds"]] == ["partial", "published"]
    [note] = set(manifest["detector"]["notes"]) - set(plan.detector.notes)
    assert "guided are partial" in note
    assert "guided are partial" in (run / "report" / "index.html").read_text()
    assert analyze(plan, run, workers=0, store=store, resume=True) == run


def test_pictures_in_their_own_sizes(small, store, tmp_path):
    for size, name in ((150, "fake"), (170, "real"), (20, "tiny")):
        Image.open(SAMPLES / "real.jpg").resize((size, size + 9)).save(tmp_path / f"{name}.png")
    (tmp_path / "sizes.csv").write_text("path,label\nfake.png,fake\nreal.png,real\ntiny.png,real\n")
    plain = xface.load("none", arch="densenet121", device="cpu")
    own = replace(plain, card=replace(plain.card, preprocessing=Preprocessing(None)))
    plan = plan_analysis(own, read_data(str(tmp_path / "sizes.csv")))
    found = tables(analyze(plan, tmp_path / "run", workers=0, store=store))
    assert found["images"]["status"].tolist() == ["ok", "ok", "unreadable"]
    assert "cannot take its 20x29 pixels" in found["images"]["reason"][2]
    assert_as_explained(plan, found, range(2))


def test_a_face_crop_of_the_card_is_carried_to_the_regions(detector, small, store, tmp_path):
    settings = CropSettings("box", 0.1)
    cropped = replace(detector, card=replace(detector.card, crop=settings))
    plan = plan_analysis(cropped, read_data(str(small)), ("vanilla",))
    found = tables(analyze(plan, tmp_path / "run", workers=0, store=store))
    assert_as_explained(plan, found, range(3))


def test_logits_that_are_not_finite_have_a_status(detector, small, store, tmp_path):
    class Broken(Hungry):
        def forward(self, images):
            return super().forward(images) * torch.tensor([[float("nan"), 1.0]])

    torch.manual_seed(0)
    plan = plan_analysis(replace(detector, model=Broken(99).eval()), read_data(str(small)), ("vanilla",))
    found = tables(analyze(plan, tmp_path / "run", workers=0, store=store))
    assert set(found["images"]["status"]) == set(found["regions"]["status"]) == {"non_finite"}
    assert "no finite logits" in found["images"]["reason"][0]
    assert found["thumbnails"]["maps"][0].tolist() == [None]


def test_landmarks_that_were_kept_broken_are_found_again(detector, small, tmp_path):
    store = LandmarkStore(tmp_path / "landmarks")
    plan = plan_analysis(detector, read_data(str(small)))
    before = tables(analyze(plan, tmp_path / "before", workers=0, store=store))
    for number, file in enumerate(sorted(store.folder.rglob("*.npy"))):
        content = file.read_bytes()
        file.write_bytes([b"", content[:200], b"\x93NUMPY garbage"][number % 3])
    after = tables(analyze(plan, tmp_path / "after", workers=0, store=store))
    for name in TABLES:
        pd.testing.assert_frame_equal(before[name], after[name])


class Stop:
    """Progress that presses Ctrl-C after the first batch."""

    def __init__(self, count, what):
        self.count = count

    def __enter__(self):
        def advance(done):
            raise KeyboardInterrupt

        return advance

    def __exit__(self, *_):
        return None


@pytest.fixture
def stopped(detector, small, store, tmp_path):
    """The folder of a run that was stopped."""
    with pytest.raises(KeyboardInterrupt):
        analyze(plan_analysis(detector, read_data(str(small))), tmp_path / "run", workers=0, store=store,
                progress=Stop)  # fmt: skip
    assert not (tmp_path / "run").exists()
    return tmp_path / "run"


def test_a_run_that_is_there_or_was_stopped_is_not_written_over(detector, small, store, stopped, tmp_path):
    plan = plan_analysis(detector, read_data(str(small)))
    with pytest.raises(UsageError, match="of a run that was stopped: resume it with --resume"):
        analyze(plan, stopped, workers=0, store=store)
    done = analyze(plan, stopped, workers=0, store=store, resume=True)
    with pytest.raises(UsageError, match="run' exists already"):
        analyze(plan, done, store=store)
    (tmp_path / "mine.part").mkdir()
    (tmp_path / "mine.part" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not a stopped run"):
        analyze(plan, tmp_path / "mine", resume=True, store=store)


def test_a_whole_run_that_is_resumed_is_left_as_it_is(detector, small, store, tmp_path):
    plan = plan_analysis(detector, read_data(str(small)))
    run = analyze(plan, tmp_path / "run", workers=0, store=store)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert analyze(plan, run, workers=0, store=store, resume=True) == run
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    other = plan_analysis(detector, read_data(str(small)), threshold=0.3)
    with pytest.raises(UsageError, match=r"was made with other settings: threshold was 0.5, is 0.3"):
        analyze(other, run, workers=0, store=store, resume=True)


def test_the_manifest_says_where_all_was_and_what_groups_are(detector, faces, small, monkeypatch):
    monkeypatch.chdir(small.parent)
    said = plan_analysis(detector, read_data(small.name)).manifest([])
    assert (said["folder"], said["data"]["source"]) == (str(small.parent), str(small))
    assert said["versions"].keys() >= {"torch", "torchvision", "scipy", "statsmodels", "scikit-learn"}
    assert said["group_by"] == ""
    assert plan_analysis(detector, read_data(str(faces))).manifest([])["group_by"] == "group, pair"


def test_what_changed_is_said_when_a_run_cannot_go_on(detector, small, store, stopped):
    def refused(plan):
        with pytest.raises(UsageError, match="started with other settings") as refusal:
            analyze(plan, stopped, workers=0, store=store, resume=True)
        return str(refusal.value)

    data = read_data(str(small))
    assert "maps was gradcam block4.norm, is vanilla" in refused(plan_analysis(detector, data, ("vanilla",)))
    assert "threshold was 0.5, is 0.3" in refused(plan_analysis(detector, data, threshold=0.3))
    assert "limit was None, is 2" in refused(plan_analysis(detector, read_data(str(small), limit=2)))
    other = replace(detector, weights_sha256="0" * 64, card=replace(detector.card, positive="real"))
    said = refused(plan_analysis(other, data))
    assert f"weights sha256 was {str(detector.weights_sha256)[:57]}" in said
    assert "card positive was fake, is real" in said
    small.write_text(small.read_text().replace(",fake", ",real"))
    assert "data sha256 was" in refused(plan_analysis(detector, read_data(str(small))))


def test_what_cannot_be_asked_for(detector, small):
    data = read_data(str(small))
    with pytest.raises(UsageError, match="no method is named"):
        plan_analysis(detector, data, ())
    with pytest.raises(UnknownNameError, match="gradcamm"):
        plan_analysis(detector, data, ("gradcamm",))
    with pytest.raises(UsageError, match="limit of 0"):
        read_data(str(small), limit=0)
    nameless = replace(detector.card, classes=("a", "b"), positive=None)
    with pytest.raises(UsageError, match="no class of this detector is called fake"):
        plan_analysis(replace(detector, card=nameless), data)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_measured(detector, method):
    small = hungry(detector, 99)
    images, labels = torch.rand(1, 3, 20, 20), torch.zeros(1, 20, 20, dtype=torch.uint8)
    [found] = MapMeasurer(small, (0, (method,), ("body.1",)))(images, labels)
    assert found.measures.shape == (1, len(REGIONS), 4)
    assert found.statuses[0] in ("ok", "zero")


def test_tables_that_are_joined_are_not_made_again(detector, small, store, tmp_path):
    plan = plan_analysis(detector, read_data(str(small)), effects=1)
    run = analyze(plan, tmp_path / "run", workers=0, store=store)
    before = {name: (run / f"{name}.parquet").stat().st_mtime_ns for name in (*TABLES, EFFECTS)}
    run.rename(tmp_path / "run.part")
    (tmp_path / "run.part" / "findings.json").unlink()
    analyze(plan, run, workers=0, store=store, resume=True)
    assert before == {name: (run / f"{name}.parquet").stat().st_mtime_ns for name in before}
    assert (run / "findings.json").is_file()
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    assert [*stages] == ["decode", "landmarks", "attributes", "attribution", "regions", "writing",
                         "effects", "conclusions", "report"]  # fmt: skip
    assert all(seconds > 0 for seconds in stages.values())


class StopAtEffects:
    """Progress that presses Ctrl-C after the first part of the effects."""

    def __init__(self, count, what):
        self.what = what

    def __enter__(self):
        def advance(done):
            if self.what == "effects":
                raise KeyboardInterrupt

        return advance

    def __exit__(self, *_):
        return None


def test_effects_are_those_of_each_face_alone_also_after_a_stop(
    detector, faces, store, tmp_path, monkeypatch
):
    monkeypatch.setattr("xface.analysis.effects.PART", 1)
    plan = plan_analysis(detector, read_data(str(faces)), threshold=0.4, effects=1)
    run = analyze(plan, tmp_path / "run", workers=0, store=store)
    found, images = RunFolder.read(run).effects.to_pandas(), tables(run)["images"].set_index("row")
    outcomes = images.loc[found["row"].unique(), "outcome"]
    assert sorted(outcomes) == sorted(images.loc[images["status"] == "ok", "outcome"].unique())
    assert found["region"].tolist() == list(face_parts()) * len(outcomes)
    row = int(found["row"].iloc[0])
    picture = read_picture(images.at[row, "image"])
    prepared = detector.prepare(picture)
    points = prepared.geometry.to_input(store.landmarks(picture.pixels))
    alone = verdict_effects(detector, ShownFace.of(prepared.tensor, points), 0, 0.4)
    of = found[found["row"] == row]
    np.testing.assert_allclose(of["effect"], alone.effects.effect, atol=1e-4)
    np.testing.assert_allclose(of["effect_positive"], alone.sign * alone.effects.effect, atol=1e-4)
    assert of["flips"].tolist() == alone.effects.flips.tolist()
    said = json.loads((run / "manifest.json").read_text())["effects"]["images"]
    assert {outcome: counts[0] for outcome, counts in said.items() if counts[0]} == dict.fromkeys(outcomes, 1)

    with pytest.raises(KeyboardInterrupt):
        analyze(plan, tmp_path / "stopped", workers=0, store=store, progress=StopAtEffects)
    again = analyze(plan, tmp_path / "stopped", workers=0, store=store, resume=True)
    assert (again / "effects.parquet").read_bytes() == (run / "effects.parquet").read_bytes()
    (run / "effects.parquet").write_bytes((run / "regions.parquet").read_bytes())
    with pytest.raises(UsageError, match=r"effects.parquet: .*changed after the run wrote it"):
        RunFolder.read(run)
    other = plan_analysis(detector, read_data(str(faces)), threshold=0.4)
    with pytest.raises(UsageError, match="effects was 1, is None"):
        analyze(other, again, workers=0, store=store, resume=True)


class Deadly(LandmarkStore):
    """Kills the process that asks it."""

    def face(self, pixels):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_told_of(detector, small, tmp_path):
    plan = plan_analysis(detector, read_data(str(small)))
    with pytest.raises(XFaceError, match=r"died .* resume with --resume and fewer --workers"):
        analyze(plan, tmp_path / "run", workers=1, store=Deadly(tmp_path))


class Implausible(LandmarkStore):
    """Finds landmarks that can't be a face's."""

    def face(self, pixels):
        return Face(False, notes=("the landmarks found can't be a face's: the mouth is above the eyes",))


def test_an_implausible_face_enters_no_mean_and_is_listed_with_its_reason(detector, small, tmp_path):
    plan = plan_analysis(detector, read_data(str(small)))
    found = tables(analyze(plan, tmp_path / "run", workers=0, store=Implausible(tmp_path)))
    assert set(found["images"]["status"]) == {"no_face"}
    assert found["images"]["reason"].str.contains("can't be a face's: the mouth is above").all()
    assert found["regions"]["share"].isna().all()


@pytest.mark.parametrize("workers", [0, 1])
def test_landmarks_that_cannot_be_kept_stop_the_run(detector, small, tmp_path, workers):
    (tmp_path / "file").write_text("")
    plan = plan_analysis(detector, read_data(str(small)))
    with pytest.raises(LandmarkError, match=r"^landmarks cannot be kept: cannot write") as refusal:
        analyze(plan, tmp_path / "run", workers=workers, store=LandmarkStore(tmp_path / "file" / "store"))
    assert "Traceback" not in str(refusal.value)


def test_the_command_tells_what_failed(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = [
        "analyze",
        "--device",
        "cpu",
        "--workers",
        "0",
        "--effects",
        "1",
        "--data",
        faces / "manifest.csv",
    ]
    done = run(*words, "--out", tmp_path / "run")
    assert done.status == 1
    assert "nothing significant" not in done.out  # too few groups: nothing was tested
    assert "False positives against true negatives: regions not tested (fewer than 10 groups: " in done.out
    assert "11 images:" in done.out
    assert done.out.endswith(f"open {tmp_path / 'run' / 'report' / 'index.html'}\n")
    assert "xface: 1 image missing, the first: cannot read" in done.err
    assert run(*words, "--split", "test", "--out", tmp_path / "three").status == 1
    assert run(*words, "--out", tmp_path / "run").status == 2


COMMAND_OF_SMALL_PARTS = [
    sys.executable,
    "-c",
    "import xface.analysis.plan as plan, xface.analysis.effects as effects; plan.PART, effects.PART = 8, 2; "
    "from xface_cli.main import main; main()",
]
MANY = 20
"""Images for three parts."""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Few faces, many times."""
    folder = tmp_path_factory.mktemp("many")
    rows = []
    for number in range(MANY):
        label = ("real", "fake")[number % 2]
        path = folder / f"{number}.jpg"
        if number < 4:
            change = list(CHANGES.values())[number]
            change(Image.open(SAMPLES / f"{label}.jpg").resize((160, 160))).save(path)
        else:
            shutil.copy(folder / f"{number % 4}.jpg", path)
        rows.append({"path": path.name, "label": label, "group": f"v{number % 10}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


def started(many, out, *words):
    """The command in a new process of its own group."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(many / "cache")}
    options = [
        "--weights",
        "meso4",
        "--device",
        "cpu",
        "--workers",
        "1",
        "--effects",
        "2",
        "--data",
        str(many),
    ]
    command = [*COMMAND_OF_SMALL_PARTS, "analyze", *options, "--out", str(out), *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, preexec_fn=heeding_interrupts)  # fmt: skip


def wait_for_parts(folder: Path, process, count: int):
    while process.poll() is None and len(list(folder.glob("parts/images/*.parquet"))) < count:
        time.sleep(0.02)


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_and_resumed_it_is_the_run_that_was_never_stopped(many, tmp_path, kills):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert started(many, whole).wait(timeout=300) == 0
    chance = random.Random()
    for number in range(kills):
        if broken.exists():  # a kill that came too late
            broken.rename(tmp_path / f"done-{number}")
        process = started(many, broken, "--resume")
        wait_for_parts(tmp_path / "broken.part", process, number % 4)
        time.sleep(chance.uniform(0, 1.5))
        process.send_signal(signal.SIGINT if number == 2 else signal.SIGKILL)
        process.wait(timeout=60)
        assert not broken.exists() or process.returncode == 0
        if process.returncode == 130:
            assert "with --resume resumes it" in process.stderr.read()
    if not broken.exists():
        assert started(many, broken, "--resume").wait(timeout=300) == 0
    for name in (*TABLES, EFFECTS):
        assert (whole / f"{name}.parquet").read_bytes() == (broken / f"{name}.parquet").read_bytes()
    images = tables(whole)["images"]
    assert images["row"].tolist() == list(range(MANY))
    assert not list(broken.rglob("*.part")) + list(broken.rglob("part-*"))


def test_all_that_is_made_of_one_face_is_one_group(tmp_path):
    rows = [
        "path,label,pair",
        "z.png,real,",
        "a.png,fake,z.png",
        "b.png,fake,z.png",
        "c.png,fake,b.png",
        "d.png,real,",
    ]
    for row in rows[1:]:
        shutil.copy(SAMPLES / "real.jpg", tmp_path / row.split(",")[0])
    (tmp_path / "faces.csv").write_text("\n".join(rows))
    one, *others, alone = read_data(str(tmp_path / "faces.csv")).groups
    assert set(others) == {one} != {""}
    assert alone == ""
