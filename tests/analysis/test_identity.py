"""What a run resumes with is known by what it holds, not by its name: pictures, cards, models."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import SAMPLES

import xface
from xface.analysis.labelled_data import read_data
from xface.analysis.pipeline import analyze
from xface.analysis.plan import plan_analysis
from xface.errors import ImageError, UsageError
from xface.faces.landmark_cache import LandmarkStore
from xface.files.hashes import hashes, sha256_of
from xface.images import pictures
from xface.images.pictures import read_hashed


def replaced_alike(path: Path) -> None:
    """Another picture under the same name, of the same size and time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-60] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "another picture": lambda folder: shutil.copy(folder / "fake.jpg", folder / "real.jpg"),
    "alike but for a bit": lambda folder: replaced_alike(folder / "real.jpg"),
    "gone": lambda folder: (folder / "real.jpg").unlink(),
    "there at last": lambda folder: shutil.copy(folder / "real.jpg", folder / "gone.jpg"),
    "readable at last": lambda folder: shutil.copy(folder / "real.jpg", folder / "broken.jpg"),
    "a link to another": lambda folder: (
        (folder / "real.jpg").unlink(),
        (folder / "real.jpg").symlink_to(SAMPLES / "fake.jpg"),
    ),
}
NAMES = {"there at last": "gone.jpg", "readable at last": "broken.jpg"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Pictures, a run over them that was stopped after its rows were written, and a whole one."""
    folder = tmp_path_factory.mktemp("kept")
    for label in ("real", "fake"):
        shutil.copy(SAMPLES / f"{label}.jpg", folder)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    lines = ["path,label", "real.jpg,real", "fake.jpg,fake", "broken.jpg,real", "gone.jpg,fake"]
    (folder / "faces.csv").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "xface.analysis.pipeline._conclude", lambda run: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        patched.setattr("xface.runs.writing.NewRun.drop_parts", lambda run: None)
        patched.setattr("xface.analysis.pipeline._join", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            analysed(folder, folder / "stopped")
    analysed(folder, folder / "whole")
    return folder


def analysed(folder: Path, out: Path, resume: bool = False, **changes) -> Path:
    detector = replace(xface.load("meso4", device="cpu"), **changes)
    store = LandmarkStore(folder / "landmarks")
    plan = plan_analysis(detector, read_data(str(folder / "faces.csv")))
    return analyze(plan, out, workers=0, store=store, resume=resume)


@pytest.mark.parametrize("run", ["stopped", "whole"])
@pytest.mark.parametrize("change", CHANGES)
def test_no_run_goes_on_with_a_picture_that_holds_something_else(kept, tmp_path, monkeypatch, change, run):
    """The manifest names its pictures by absolute paths, so all is changed in place and put back."""
    backup = shutil.copytree(kept, tmp_path / "backup")
    try:
        CHANGES[change](kept)
        with pytest.raises(
            UsageError, match=rf"1 image of .* changed after .*{NAMES.get(change, 'real.jpg')}"
        ):
            analysed(kept, kept / run, resume=True)
    finally:
        shutil.rmtree(kept)
        shutil.copytree(backup, kept)
    if run == "whole":
        assert analysed(kept, kept / run, resume=True) == kept / run


def test_a_part_that_was_damaged_is_made_again(kept, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(kept / "stopped.part", tmp_path / "run.part")
    [part] = (tmp_path / "run.part" / "parts" / "regions").iterdir()
    part.write_bytes(part.read_bytes()[:-9])
    analysed(kept, out, resume=True)
    for table in ("images", "regions", "thumbnails"):
        one, other = (place / f"{table}.parquet" for place in (out, kept / "whole"))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("change", [
    {"detector": {"arch": "x"}}, {"classes": ["x"]}, {"positive": "x"},
    {"threshold": {"value": 0.1, "origin": ""}},
])  # fmt: skip
def test_what_a_stopped_manifest_says_of_the_detector_is_said_anew(kept, tmp_path, change):
    file = shutil.copytree(kept / "stopped.part", tmp_path / "run.part") / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    analysed(kept, tmp_path / "run", resume=True)
    made, whole = (
        json.loads((run / "manifest.json").read_text()) for run in (tmp_path / "run", kept / "whole")
    )
    assert {name: made[name] for name in change} == {name: whole[name] for name in change}


def test_another_card_or_model_is_another_run(kept, monkeypatch):
    card = xface.load("meso4", device="cpu").card
    other = replace(card, preprocessing=replace(card.preprocessing, mean=(0.5, 0.5, 0.5)))
    with pytest.raises(UsageError, match="card preprocessing mean was"):
        analysed(kept, kept / "stopped", resume=True, card=other)
    monkeypatch.setattr("xface.faces.landmarks.sha256_of", lambda path: "0" * 64)
    with pytest.raises(UsageError, match=r"face detector models .* was"):
        analysed(kept, kept / "stopped", resume=True)


def test_a_hash_is_of_the_very_file_that_was_read(tmp_path, monkeypatch):
    path = tmp_path / "face.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    reads = []

    def replacing(file):
        picture = picture_in(file)
        reads.append(file.path)
        if len(reads) <= times:
            Image.fromarray(np.full((32, 32, 3), len(reads), np.uint8)).save(path)
        return picture

    picture_in = pictures._picture_in
    monkeypatch.setattr(pictures, "_picture_in", replacing)
    times = 1
    picture, sha256 = read_hashed(str(path))
    assert (sha256, picture.pixels.max()) == (sha256_of(path), 1)
    times = 99
    with pytest.raises(ImageError, match="it is changed while it is read"):
        read_hashed(str(path))


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp", "gif", "bmp"])
def test_a_picture_and_its_hash_take_one_opening(tmp_path, ending):
    path, opened = tmp_path / f"face.{ending}", []
    Image.open(SAMPLES / "real.jpg").save(path)
    watching = False
    sys.addaudithook(lambda event, values: opened.append(values[0]) if event == "open" and watching else None)
    watching = True
    picture, sha256 = read_hashed(str(path))
    watching = False
    assert opened.count(str(path)) == 1
    assert sha256 == sha256_of(path)
    assert np.array_equal(picture.pixels, pictures.read_picture(path).pixels)


def test_what_is_no_file_has_no_hash(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    names = [
        "",
        "gone",
        "a\0b",
        "x" * 300,
        str(tmp_path),
        str(tmp_path / "pipe"),
        str(tmp_path / "loop"),
        "/dev/zero",
    ]
    assert list(hashes(names)) == [""] * len(names)


def test_a_manifest_that_is_none_any_more_is_refused(kept, tmp_path):
    for file, content in (
        ("manifest.json", "{}"),
        ("manifest.json", "x"),
        ("manifest.json", json.dumps([1])),
    ):
        shutil.copytree(kept / "stopped.part", tmp_path / "run.part", dirs_exist_ok=True)
        (tmp_path / "run.part" / file).write_text(content)
        with pytest.raises(
            UsageError, match=r"manifest\.json: cannot be read .*; remove '.*run\.part' to start again"
        ):
            analysed(kept, tmp_path / "run", resume=True)
