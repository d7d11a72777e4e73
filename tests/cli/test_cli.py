"""The command line as a user meets it: what it prints, writes and returns.

What the commands print and write on fixed inputs is in the golden record (`test_golden.py`).
"""

import csv
import io
import json
import os
import signal
import struct
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import (
    CELL,
    COMMAND,
    FAKE,
    REAL,
    arrays_of,
    columns,
    fresh,
    heeding_interrupts,
    meso4,
    one_cell,
    quick,
    run,
    truncated,
)
from PIL import Image
from test_regions import FACE
from xface_cli.main import COMMANDS

import xface
from xface.faces import REGIONS, region_labels
from xface.faces import dlib_models as predictor
from xface.images.pictures import MAX_PIXELS
from xface.wording import UNTRAINED


class TestExplain:
    def test_files_folders_and_globs_mix(self, tmp_path):
        (tmp_path / "in" / "sub").mkdir(parents=True)
        for name in ("face2.png", "face10.png", "sub/face1.png"):
            Image.new("RGB", (32, 32), "grey").save(tmp_path / "in" / name)
        (tmp_path / "in" / "notes.txt").write_text("no picture")
        done = run("predict", "--json", tmp_path / "in", tmp_path / "in" / "face*.png", FAKE)
        names = [Path(line["image"]).name for line in done.lines]
        assert names == ["face2.png", "face10.png", "face1.png", "face2.png", "face10.png", "fake.jpg"]
        assert done.status == 0

    def test_each_target_gets_its_own_gradient(self, tmp_path):
        """One logit z: real is z, fake is -z, and the margin is twice the predicted one."""
        maps = {}
        for target in ("fake", "real", "margin"):
            done = quick(tmp_path / target, "--json", "--maps", "--target", target, FAKE)
            assert done.lines[0]["target"] == target
            maps[target] = arrays_of(tmp_path / target)["vanilla"]
        assert np.array_equal(maps["real"], -maps["fake"])
        assert np.array_equal(maps["margin"], 2 * maps[done.lines[0]["prediction"]["label"]])

    def test_existing_files_are_replaced_and_that_is_said(self, tmp_path):
        first, second = quick(tmp_path, FAKE), quick(tmp_path, "--json", FAKE)
        assert "replaced" not in first.err
        assert "replaced 2 earlier files" in second.err
        assert len(second.lines) == 1
        assert not list(tmp_path.glob("*.part"))

    def test_several_faces_are_noted_and_none_is_no_failure(self, tmp_path, shared_data):
        several, none = (shared_data / "multi_face" / name for name in ("2009_004587.jpg", "dogs.jpg"))
        done = quick(tmp_path, several, none)
        first, second = done.out.split(f"{none}: ")
        assert "faces found: the largest is analysed" in first
        assert "no face" in second
        assert done.status == 0

    def test_a_face_is_found_once_and_kept_where_it_can_be(self, tmp_path, monkeypatch):
        """The kept face is moved by hand: what is read again lies there."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        [first] = quick(tmp_path, "--json", FAKE).lines
        [kept] = (tmp_path / "cache" / "xface" / "landmarks").rglob("*.json")
        face = json.loads(kept.read_text())
        face["landmarks"] = (np.array(face["landmarks"]) + 1).tolist()
        kept.write_text(json.dumps(face))
        [second] = quick(tmp_path, "--json", FAKE).lines
        moved = np.subtract(second["face"]["landmarks"], first["face"]["landmarks"])
        assert np.allclose(moved, 1, atol=0.02)
        monkeypatch.setenv("XDG_CACHE_HOME", str(FAKE))
        third = quick(tmp_path, "--json", FAKE)
        assert third.lines[0]["face"] == first["face"]
        assert "are not kept" in third.err

    def test_an_untrained_network_is_said_on_stderr(self, tmp_path):
        assert UNTRAINED in quick(tmp_path, "--arch", "meso4", "--weights", "none", FAKE).err
        assert UNTRAINED in run("predict", "--weights", "none", FAKE).err
        assert UNTRAINED not in run("predict", FAKE).err

    @pytest.mark.parametrize(("head", "status"), [(0.0, "zero"), (1e30, "non_finite")])
    def test_what_is_undefined_is_null(self, tmp_path, head, status):
        tensors = {
            "dense.head.weight": torch.full((2, 16), head),
            "dense.hidden.bias": torch.full((16,), 1e3),
        }
        weights = meso4(tmp_path / "w.safetensors", **tensors)
        words = ["explain", "--weights", weights, "--out", tmp_path, "--method", "guided_gradcam", FAKE]
        done = run(*words, "--json")
        [line] = done.lines
        assert done.status == 0
        assert line["maps"][0]["status"] == status
        measures = ("share", "lift", "rank", "peak", "face_share", "face_lift")
        assert {row[key] for row in line["regions"] for key in measures} == {None}
        table = run(*words, "--effects", "none").out.splitlines()
        assert {row.split()[-1] for row in table if row[:14].strip() in REGIONS} == {"-"}

    def test_a_planted_place_is_named_by_table_and_pictures(self, tmp_path):
        """A face whose mouth covers the only cell that the network looks at, at a known brightest pixel."""
        pixels = np.random.default_rng(4).integers(0, 200, (256, 256, 3), np.uint8)
        pixels[141, 150] = 255
        Image.fromarray(pixels).save(tmp_path / "face.png")
        points = (FACE - [100, 165]) * 2.5 + 32 * CELL + 15.5
        np.savetxt(tmp_path / "points.csv", points, delimiter=",")
        mouth = region_labels(points, (256, 256)) == list(REGIONS).index("mouth")
        assert mouth[128:160, 128:160].all()
        words = ["--weights", one_cell(tmp_path / "one.safetensors"), "--landmarks", tmp_path / "points.csv"]
        words += ["--method", "hirescam", "--target", "fake", tmp_path / "face.png"]
        done = quick(tmp_path / "out", *words, "--maps")
        gradient = arrays_of(tmp_path / "out")["vanilla"]
        assert np.argwhere(np.abs(gradient).max(axis=0)).tolist() == [[141, 150]]
        rows = {row[:14].strip(): row.split() for row in done.out.splitlines() if row[:14].strip() in REGIONS}
        assert rows["mouth"][:4] == ["mouth", f"{mouth.mean():.1%}", "100%", f"{1 / mouth.mean():.0f}x"]
        assert {row[2] for name, row in rows.items() if name != "mouth"} == {"0.0%"}
        pictures = [path for path in (tmp_path / "out").glob("*.png") if "panel" not in path.name]
        for path in pictures:
            face = np.asarray(Image.open(path).convert("L"))[:512]
            y, x = np.array(np.unravel_index(face.argmax(), face.shape)) / 2
            assert (y, x) == (pytest.approx(141, abs=5), pytest.approx(150, abs=5))
        assert len(pictures) == 2


def png(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def single_pixel() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    return buffer.getvalue()


BAD_FILES = {
    "not an image": (b"these are words", "not an image"),
    "truncated JPEG": (truncated(), "cut short"),
    "0 bytes": (b"", "0 bytes"),
    "1x1": (single_pixel(), "1x1"),
    "over 100 megapixels": (png(20_000, MAX_PIXELS // 20_000 + 1), "megapixels"),
    "a folder without pictures": (None, "there is no image in it"),
}

WRONG = [
    ([], 2, "Usage"),
    (["explain"], 2, "IMAGE"),
    (["explain", ""], 2, "empty"),
    (["exlain", FAKE], 2, "exlain"),
    (["explain", "--bogus", FAKE], 2, "--bogus"),
    (["explain", "--layer", "block4.nrm", FAKE], 2, "did you mean 'block4.norm'"),
    (["explain", "--method", "gradcm", FAKE], 2, "did you mean 'gradcam'"),
    (["explain", "--arch", "resnet19", FAKE], 2, "did you mean 'resnet18'"),
    (["explain", "--arch", "vgg16", FAKE], 2, "'none' for an untrained network"),
    (["explain", "--weights", "mesoo4", FAKE], 2, "did you mean 'meso4'"),
    (["explain", "--weights", "absent.pth", FAKE], 1, "absent.pth"),
    (["explain", "--weights", FAKE, FAKE], 1, "a JPEG picture"),
    (["explain", "--target", "fale", FAKE], 2, "'fake', 'real'"),
    (["explain", "--device", "gpu", FAKE], 2, "auto, cpu, cuda"),
    (["explain", "--face-detector", "hogg", FAKE], 2, "not one of 'hog', 'cnn'"),
    (["explain", "--method", "nope", "bad.jpg"], 2, "unknown method 'nope'"),
    (["explain", "--method", "vanilla", "--layer", "nope", "bad.jpg"], 2, "unknown layer 'nope'"),
    (["explain", "--layer", "all", "--target", "nope", "bad.jpg"], 2, "'fake', 'real'"),
    (["explain", "--landmarks", "absent.pts", FAKE], 1, "absent.pts"),
    (["explain", "--landmarks", FAKE, FAKE], 1, ".pts"),
    (["regions", "--method", "gradcan", FAKE], 2, "did you mean 'gradcam'"),
    (["regions", "--layer", "x", FAKE], 2, "unknown layer 'x'"),
    (["regions", "--target", "x", FAKE], 2, "'fake', 'real'"),
    (["regions", "--format", "x", FAKE], 2, "'x' is not one of"),
    (["predict", "--positive", "forged", FAKE], 2, "no class 'forged'; this detector has 'fake', 'real'"),
    (["layers", "--arch", "vgg"], 2, "did you mean 'vgg19', 'vgg16'"),
    (["layers", "--arch", "timm/resnet27"], 2, "unknown timm network 'resnet27'; did you mean 'resnet26"),
    (["summary", "--depth", "deep"], 2, "deep"),
]


def spelled(words) -> str | None:
    return " ".join(Path(str(word)).name for word in words) if isinstance(words, list) else None


class TestBadInput:
    @pytest.mark.parametrize("name", BAD_FILES)
    def test_a_bad_image_is_named_with_its_reason(self, tmp_path, name):
        content, reason = BAD_FILES[name]
        bad = tmp_path / "bad one.jpg"
        bad.mkdir() if content is None else bad.write_bytes(content)
        for done in (run("predict", bad), quick(tmp_path / "out", bad)):
            assert (done.status, done.out) == (1, "")
            assert repr(str(bad)) in done.err
            assert reason in done.err
            assert ";" in done.err  # what is wrong; what to do
            assert "1 of 1 images failed\n" in done.err

    def test_a_bad_image_among_others_costs_only_itself(self, tmp_path):
        paths = [tmp_path / f"{number}.jpg" for number in range(3)]
        for path in paths:
            path.write_bytes(FAKE.read_bytes())
        paths[1].write_bytes(truncated())
        done = quick(tmp_path / "out", "--json", tmp_path, tmp_path / "nowhere.jpg", tmp_path / "*.png")
        assert done.status == 1
        assert [line["image"] for line in done.lines[:3]] == [str(path) for path in paths]
        assert ["error" in line for line in done.lines] == [False, True, False, True, True]
        assert set(done.lines[1]) == {"image", "error"}
        for said in ("3 of 5 images failed, the others are done", "no such file", "no image matches"):
            assert said in done.err
        made = sorted(path.name[:4] for path in (tmp_path / "out").glob("*vanilla*.png"))
        assert made == ["0-0-", "2-2-"]  # numbers are places in the list

    @pytest.mark.parametrize("mode", ["L", "RGBA", "16 bit", "turned"])
    def test_other_kinds_of_pixels_are_judged_like_their_plain_twin(self, tmp_path, mode):
        colour = Image.open(FAKE).convert("RGB")
        grey = colour.convert("L")
        twin = colour if mode in ("RGBA", "turned") else grey.convert("RGB")
        twin.save(tmp_path / "twin.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        {
            "L": lambda path: grey.save(path),
            "RGBA": lambda path: colour.convert("RGBA").save(path),
            "16 bit": lambda path: Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(path),
            "turned": lambda path: colour.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif),
        }[mode](tmp_path / "odd.png")
        plain, odd = run("predict", "--json", tmp_path / "twin.png", tmp_path / "odd.png").lines
        assert odd["prediction"] == plain["prediction"]

    def test_names_are_printed_on_one_line_and_written_safely(self, tmp_path):
        names = ['it\'s "it".jpg', "two\nlines.jpg", "Zoë 顔.jpg", "[1]*.jpg", "\x1b[31m.jpg", "-$a$.jpg"]
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.write_bytes(FAKE.read_bytes())
        found = run("predict", "--json", *paths).lines
        assert [line["image"] for line in found] == [str(path) for path in paths]
        listed = run("predict", *paths).out.splitlines()
        assert len(listed) == len(names)
        assert all("probability" in line and line.isprintable() for line in listed)
        done = quick(tmp_path / "out", *paths[:3])
        assert done.status == 0
        assert done.out.replace("\n", "").isprintable()
        made = [path.name for path in (tmp_path / "out").iterdir()]
        assert sorted(name[:2] for name in made) == ["0-", "0-", "1-", "1-", "2-", "2-"]
        assert not set("".join(made)) & set(" \n'\"")

    def test_a_name_that_is_no_text_is_no_traceback(self, tmp_path):
        path = tmp_path / os.fsdecode(b"\xff\xfe.jpg")
        path.write_bytes(FAKE.read_bytes())
        environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
        done = fresh("predict", path, tmp_path / "顔.jpg", cwd=tmp_path, env=environment)
        assert "\\udcff\\udcfe.jpg: " in done.stdout
        assert "\\u9854.jpg" in done.stderr
        assert "Traceback" not in done.stderr
        [line] = run("predict", "--json", path).out.splitlines()
        line.encode("ascii")
        assert json.loads(line)["image"].endswith(r"\udcff\udcfe.jpg")

    @pytest.mark.parametrize(("words", "status", "said"), WRONG, ids=spelled)
    def test_wrong_calls_end_with_the_remedy(self, tmp_path, monkeypatch, words, status, said):
        monkeypatch.chdir(tmp_path)
        done = run(*words)
        assert (done.status, done.out) == (status, "")
        assert said in done.err
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_an_absent_gpu_is_a_wrong_call(self):
        done = run("predict", "--device", "cuda", FAKE)
        assert done.status == 2
        assert "no CUDA on this machine; use cpu or auto" in done.err

    @pytest.mark.parametrize(("below", "remedy"), [("", "give another path"), ("deeper", "check the path")])
    def test_an_output_folder_that_cannot_be(self, tmp_path, below, remedy):
        (tmp_path / "taken").write_text("mine")
        done = quick(tmp_path / "taken" / below, FAKE)
        assert (done.status, done.out) == (1, "")
        assert str(tmp_path / "taken" / below) in done.err
        assert remedy in done.err
        assert (tmp_path / "taken").read_text() == "mine"

    @pytest.mark.slow
    def test_an_interrupted_batch_leaves_whole_files_only(self, tmp_path):
        folder = tmp_path / "out"
        words = ["explain", "--method", "vanilla", "--out", str(folder), *[str(FAKE)] * 200]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen([*COMMAND, *words], **pipes, preexec_fn=heeding_interrupts) as job:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and len(list(folder.glob("*panel*.png"))) < 2:
                time.sleep(0.02)
            job.send_signal(signal.SIGINT)
            _, err = job.communicate(timeout=30)
        assert job.returncode == 130
        assert "Traceback" not in err
        assert list(folder.glob("*.part")) == []
        pictures = list(folder.glob("*.png"))
        assert 2 < len(pictures) < 400
        for path in pictures:
            with Image.open(path) as image:
                image.load()


class TestLandmarks:
    @staticmethod
    def write(path: Path, faces: dict[str, np.ndarray]) -> Path:
        header = ["image", *(f"x{i}" for i in range(68)), *(f"y{i}" for i in range(68))]
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([header, *([name, *face.T.ravel()] for name, face in faces.items())])
        return path

    def test_a_pts_file_stands_in_for_dlib(self, tmp_path):
        points = "\n".join(f"{x:.6f} {y:.6f}" for x, y in FACE + 0.123456)
        (tmp_path / "a.pts").write_text(f"version: 1\nn_points: 68\n{{\n{points}\n}}\n")
        [line] = quick(tmp_path, "--json", "--landmarks", tmp_path / "a.pts", FAKE).lines
        assert line["face"]["landmarks"] == (FACE + 0.123456).round(2).tolist()

    def test_a_file_without_names_serves_one_image(self, tmp_path):
        (tmp_path / "a.csv").write_text("".join(f"{x},{y}\n" for x, y in FACE))
        assert quick(tmp_path, "--landmarks", tmp_path / "a.csv", FAKE).status == 0
        done = quick(tmp_path, "--landmarks", tmp_path / "a.csv", FAKE, REAL)
        assert done.status == 2
        assert "a.csv" in done.err
        assert "column `image`" in done.err

    def test_a_table_serves_each_image_by_its_name_and_what_it_lacks_costs_only_itself(self, tmp_path):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "real.jpg").write_bytes(REAL.read_bytes())
        table = self.write(tmp_path / "faces.csv", {"samples/real.jpg": FACE, str(FAKE): FACE + 20})
        images = [FAKE, tmp_path / "other" / "real.jpg", REAL]
        done = quick(tmp_path / "out", "--json", "--landmarks", table, *images)
        assert done.status == 1
        first, second, third = done.lines
        assert first["face"]["landmarks"] == (FACE + 20).round(2).tolist()
        assert third["face"]["landmarks"] == FACE.round(2).tolist()
        assert "faces.csv' has no landmarks for" in second["error"]

    def test_landmarks_in_other_pixels_are_refused_or_noted(self, tmp_path):
        with Image.open(FAKE) as image:
            width = image.width
        table = self.write(tmp_path / "faces.csv", {str(FAKE): FACE + width, str(REAL): FACE + width - 100})
        done = quick(tmp_path / "out", "--json", "--landmarks", table, FAKE, REAL)
        assert done.status == 1
        assert "give them in pixels of the upright original" in done.lines[0]["error"]
        [note] = done.lines[1]["notes"]
        assert "landmarks lie outside the picture" in note

    def test_the_cnn_is_only_asked_where_hog_finds_nothing(self, tmp_path):
        [one] = quick(tmp_path, "--json", FAKE).lines
        [other] = quick(tmp_path, "--json", "--face-detector", "cnn", FAKE).lines
        assert [line["detector"].pop("face_detector") for line in (one, other)] == ["hog", "cnn"]
        assert other == one


class TestOtherCommands:
    def test_help_and_version(self):
        listed = run("--help").out
        for name in COMMANDS:
            assert f"  {name} " in listed
            done = run(name, "--help")
            assert done.status == 0
            assert columns(done.out) <= 90
        assert run("--version").out == f"xface, version {xface.__version__}\n"

    def test_summary_counts_parameters(self):
        """ResNet-18 of torchvision with two classes: 11,176,512 + 512 x 2 + 2."""
        done = run("summary", "--arch", "resnet18")
        for kind, count in (("Total", "11,177,538"), ("Trainable", "11,177,538"), ("Non-trainable", "0")):
            assert f"{kind} params: {count}\n" in done.out
        assert "[1, 512, 7, 7]" in done.out
        assert len(run("summary", "--arch", "resnet18", "--depth", 1).out) < len(done.out) / 2
        assert "Total params: 27,977\n" in run("summary").out  # Afchar et al. 2018, table 1


LANDMARK_FILES = {
    "missing": (lambda path: None, ["is not installed", "pip install face_recognition_models"]),
    "wrong": (lambda path: path.write_bytes(b"something else"), ["SHA-256 wrong: "]),
    "unreadable": (
        lambda path: path.symlink_to("/proc/self/mem"),  # its first page is not there
        ["cannot be read", "pip install face_recognition_models"],
    ),
}


class TestDoctor:
    def test_a_sound_installation(self):
        done = run("doctor")
        assert done.status == 0
        assert "[!!]" not in done.out
        for said in ("torch ", "CPU with", "SHA-256 right", "bundled detector", "Python 3."):
            assert said in done.out
        assert str(predictor.LANDMARK_MODEL.path()) in done.out

    @pytest.mark.parametrize("kind", LANDMARK_FILES)
    def test_a_landmark_file_that_is_not_right(self, monkeypatch, tmp_path, kind):
        monkeypatch.setattr(predictor, "model_folders", lambda: (tmp_path,))
        make, saying = LANDMARK_FILES[kind]
        make(tmp_path / predictor.LANDMARK_MODEL.name)
        done = run("doctor")
        assert done.status == 1
        [line] = [line for line in done.out.splitlines() if predictor.LANDMARK_MODEL.name in line]
        assert line.startswith("[!!]")
        assert all(said in line for said in [*saying, str(tmp_path)])

    def test_libraries_that_do_not_load(self, tmp_path):
        (tmp_path / "dlib.py").write_text("raise ImportError('libGL.so.1 is not there')")
        (tmp_path / "cv2.py").write_text("raise OSError('libGL.so.1 is not there')")
        done = fresh("doctor", cwd=tmp_path, code="import sys; sys.modules['torch'] = None")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        for module, package in (("dlib", "dlib-bin"), ("cv2", "opencv-python-headless")):
            said = f"[!!] {module} cannot be imported (libGL.so.1 is not there): "
            assert f"{said}pip install --force-reinstall {package}" in done.stdout.splitlines()
        assert "[!!] torch cannot be imported" in done.stdout
        assert "SHA-256 right" in done.stdout
