"""Every path that a user can name, as every bad thing that it can be: an error that names it."""

from __future__ import annotations

import ctypes
import inspect
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from xface_cli.main import xface

import xface as xface_package
from xface import analysis, data, faces, report, training
from xface import detectors as models
from xface.analysis import read_data
from xface.data import Samples, read_samples
from xface.detectors.bundled import bundled
from xface.detectors.card import Card, read_card, write_card
from xface.detectors.card_editing import CardChanges, change_card
from xface.detectors.conversion import convert
from xface.errors import UsageError, XFaceError
from xface.faces import read_landmarks
from xface.files.json_text import parse
from xface.files.writing import appearing
from xface.images.picture_files import find_pictures
from xface.images.pictures import read_picture
from xface.preprocessing import PRESETS
from xface.report.run.page import write_report
from xface.training.data_module import write_samples

SECONDS = 30
CARD = Card("meso4", ("fake", "real"), PRESETS["meso"])


def _made(path: Path, make: Callable[..., object], *arguments: object) -> str:
    make(path, *arguments)
    return str(path)


def _write_locked(path: Path) -> None:
    path.write_text("x")
    path.chmod(0)


def _locked_folder(folder: Path) -> str:
    (folder / "locked").mkdir()
    (folder / "locked" / "x").write_text("x")
    (folder / "locked").chmod(0)
    return str(folder / "locked" / "x")


def _undecodable(folder: Path) -> str:
    return os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")


def _from_nowhere(folder: Path) -> str:
    (folder / "cwd").mkdir()
    os.chdir(folder / "cwd")
    (folder / "cwd").rmdir()
    return "x"


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(40 << 30)


BAD: dict[str, Callable[[Path], str]] = {
    "a name of 300 bytes": lambda folder: str(folder / ("x" * 300)),
    "a path of 6000 bytes": lambda folder: str(folder) + "/x" * 3000,
    "a null byte": lambda folder: str(folder / "a\0b"),
    "below a file": lambda folder: _made(folder / "file", Path.write_text, "x") + "/x",
    "a link to itself": lambda folder: _made(folder / "circle", Path.symlink_to, "circle"),
    "a dangling link": lambda folder: _made(folder / "dangling", Path.symlink_to, folder / "nowhere"),
    "below a dangling link": lambda folder: (
        _made(folder / "gone", Path.symlink_to, folder / "nowhere") + "/x"
    ),
    "in a locked folder": _locked_folder,
    "a locked file": lambda folder: _made(folder / "unreadable", _write_locked),
    "a pipe": lambda folder: _made(folder / "pipe", os.mkfifo),
    "40 GiB of nothing": lambda folder: _made(folder / "sparse", _sparse),
    "an empty file": lambda folder: _made(folder / "empty", Path.touch),
    "an empty folder": lambda folder: _made(folder / "folder", Path.mkdir),
    "bytes that are no text": _undecodable,
    "a working directory that was removed": _from_nowhere,
    "an endless device": lambda folder: "/dev/zero",
    "a device without room": lambda folder: "/dev/full",
    "the kernel's own memory": lambda folder: "/proc/self/mem",
    "a log that never ends": lambda folder: "/proc/kmsg",
    "no name": lambda folder: "",
}


@contextmanager
def _as_anybody() -> Iterator[None]:
    """Without root's rights to read and write all files, where the tests run as root."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before = (ctypes.c_uint32 * 6)()
    libc.capget(header, before)
    effective, *rest = before
    libc.capset(header, (ctypes.c_uint32 * 6)(effective & ~0b110, *rest))
    try:
        yield
    finally:
        libc.capset(header, before)


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"over {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


TELLING = {
    "a name of 300 bytes",
    "in a locked folder",
    "a pipe",
}


@pytest.fixture(
    params=[pytest.param(what, marks=() if what in TELLING else pytest.mark.slow) for what in BAD]
)
def bad(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    cwd = Path.cwd()
    os.chdir(tmp_path)  # an empty name is the working directory
    try:
        path = BAD[request.param](tmp_path)
        with _as_anybody(), _limited():
            yield path
    finally:
        os.chdir(cwd)
        with suppress(FileNotFoundError):
            (tmp_path / "locked").chmod(0o700)


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for label in ("real", "fake"):
        (folder / "faces" / label).mkdir(parents=True)
        for i in range(3):
            pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "faces" / label / f"{i}.png")
    (folder / "train.yaml").write_text(
        f"network: meso4\ndata: {{train: {folder}/faces}}\nprefix: run\nnum_epochs: 1\nnum_workers: 0\n"
    )
    (folder / "face.pts").write_text("{\n" + "".join(f"{i} {i * i}\n" for i in range(68)) + "}\n")
    columns = [f"{axis}{i}" for i in range(68) for axis in "xy"]
    (folder / "named.csv").write_text(f"image,{','.join(columns)}\na.png,{','.join(map(str, range(136)))}\n")
    return folder


COMMANDS = {
    "explain IMAGE": "explain --out {out} PATH",
    "explain --out": "explain --out PATH {image}",
    "explain --weights": "explain --weights PATH {image}",
    "explain --landmarks": "explain --landmarks PATH {image}",
    "regions IMAGE": "regions --out {out} PATH",
    "regions --out": "regions --out PATH {image}",
    "regions --landmarks": "regions --landmarks PATH {image}",
    "predict IMAGE": "predict PATH",
    "predict --weights": "predict --weights PATH {image}",
    "evaluate DATA": "evaluate PATH",
    "evaluate --validation": "evaluate --validation PATH {faces}",
    "evaluate --out": "evaluate --out PATH {faces}",
    "evaluate --weights": "evaluate --weights PATH {faces}",
    "analyze --data": "analyze --data PATH --out {out}",
    "analyze --out": "analyze --workers 0 --limit 2 --data {faces} --out PATH",
    "analyze --resume --out": "analyze --workers 0 --limit 2 --data {faces} --resume --out PATH",
    "analyze --weights": "analyze --weights PATH --data {faces} --out {out}",
    "report RUN": "report PATH",
    "report --compare": "report --compare PATH PATH",
    "train CONFIG": "train PATH",
    "train --grid CONFIG": "train --grid PATH",
    "train --resume": "train --resume PATH",
    "train data.train": "train {config} --set data.train=PATH --set prefix={out}",
    "train data.test": "train {config} --set data.test=PATH --set prefix={out}",
    "train data.cache": "train {config} --set data.cache=PATH --set prefix={out}",
    "train checkpoint": "train {config} --set checkpoint=PATH --set prefix={out}",
    "train prefix": "train {config} --set prefix=PATH",
    "layers --weights": "layers --weights PATH",
    "summary --weights": "summary --weights PATH",
    "card FILE": "card PATH",
    "card FILE --positive": "card --positive fake PATH",
    "convert IN": "convert PATH {out}.safetensors",
    "convert OUT": "convert meso4 PATH.safetensors",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_what_is_wrong_with_a_path(command: str, bad: str, good: Path, tmp_path: Path) -> None:
    places = {
        "out": tmp_path / "out",
        "faces": good / "faces",
        "image": good / "faces" / "real" / "0.png",
        "config": good / "train.yaml",
    }
    arguments = [word.format(**places).replace("PATH", bad) for word in COMMANDS[command].split()]
    result = CliRunner().invoke(xface, arguments)
    _check_named(result.exception, bad, result.output)


def test_names_that_are_no_text_are_spelled_out_where_they_are_written(good: Path, tmp_path: Path) -> None:
    faces = shutil.copytree(good / "faces", _undecodable(tmp_path))
    os.rename(f"{faces}/real/0.png", os.fsdecode(os.fsencode(faces) + b"/real/\xff.png"))
    analysed = f"analyze --workers 0 --limit 1 --method vanilla --data PATH --out {tmp_path}/run"
    for line in (
        analysed,
        f"{analysed} --resume",
        f"report {tmp_path}/run",
        f"regions --format parquet --method vanilla --out {tmp_path} PATH",
        f"evaluate --format parquet --out {tmp_path} PATH",
    ):
        result = CliRunner().invoke(xface, [word.replace("PATH", faces) for word in line.split()])
        assert result.exception is None, repr(result.exception)
    assert parse((tmp_path / "run" / "manifest.json").read_text())["data"]["source"].endswith(r"\udcff\udcfe")
    parse((tmp_path / "evaluation.json").read_text())
    images = pd.read_parquet(tmp_path / "regions.parquet")["image"]
    assert images.str.endswith(r"\udcff.png").any()


@pytest.mark.parametrize("reader", ["load", "convert", "train"])
def test_what_takes_no_such_name_says_so(reader: str, tmp_path: Path) -> None:
    odd = _undecodable(tmp_path)
    Path(odd).mkdir()
    shutil.copy(bundled()["meso4"], f"{odd}/a.safetensors")
    samples = Samples(pd.DataFrame({"path": [f"{odd}/a.png"], "label": ["real"]}, dtype=object))
    calls: dict[str, Callable[[], object]] = {
        "load": lambda: models.load(f"{odd}/a.safetensors"),
        "convert": lambda: convert("meso4", f"{odd}/b.safetensors"),
        "train": lambda: write_samples({"train": samples}, tmp_path / "samples.csv"),
    }
    with pytest.raises(XFaceError, match=r"udcff.* is not UTF-8 text, as .* needs; rename it, or its folder"):
        calls[reader]()


@pytest.mark.parametrize(
    "line",
    ["|a.png", "explain|a.png|", "regions|--out||a.png", "evaluate|--out=|.", "report|", "train|--resume|"],
)
def test_no_empty_name_stands_for_the_working_directory(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(xface, line.split("|"))
    assert isinstance(result.exception, UsageError)
    assert "is empty; give one" in str(result.exception)
    assert not list(tmp_path.iterdir())


def _check_named(error: BaseException | None, path: str, output: str = "") -> None:
    """Nothing but an error on purpose, which names the path or says what is wrong with all paths."""
    assert error is None or isinstance(error, (XFaceError, SystemExit)), repr(error)
    if isinstance(error, XFaceError) and path:
        said = str(error)
        assert repr(path)[1:60] in said or "working directory was removed" in said or path[:60] in said


FUNCTIONS: dict[str, Callable[[str, Path], object]] = {
    "xface.load(weights)": lambda path, good: xface_package.load(path),
    "xface.data.read_samples(source)": lambda path, good: read_samples(path),
    "xface.analysis.read_data(source)": lambda path, good: read_data(path),
    "xface.faces.read_landmarks(path)": lambda path, good: read_landmarks(path),
    "xface.detectors.load(weights)": lambda path, good: models.load(path),
    "xface.detectors.read_checkpoint(path)": lambda path, good: models.read_checkpoint(path),
    "xface.report.ensure_folder(folder)": lambda path, good: report.ensure_folder(path),
    "xface.training.read_config(file)": lambda path, good: training.read_config(path),
    "xface.training.resume(folder)": lambda path, good: training.resume(path),
    "xface.detectors.card.read_card(path)": lambda path, good: read_card(Path(path)),
    "xface.detectors.card.write_card(path)": lambda path, good: write_card(CARD, Path(path)),
    "xface.detectors.card_editing.change_card(weights)": lambda path, good: change_card(path, CardChanges()),
    "xface.detectors.conversion.convert(out)": lambda path, good: convert("meso4", path),
    "xface.images.pictures.read_picture(source)": lambda path, good: read_picture(path),
    "xface.images.picture_files.find_pictures(arguments)": lambda path, good: (
        [*map(read_picture, find_pictures([path]).paths)]
    ),
    "xface.report.run.page.write_report(run)": lambda path, good: write_report(Path(path)),
    "xface.faces.LandmarkFile.of(image)": lambda path, good: read_landmarks(good / "named.csv").of(path),
    "xface.files.writing.appearing(folder)": lambda path, good: _appeared(path),
}


def _appeared(path: str) -> None:
    with appearing(Path(path)) as folder:
        (folder / "x").touch()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_name_what_is_wrong_with_a_path(function: str, bad: str, good: Path) -> None:
    error = None
    try:
        FUNCTIONS[function](bad, good)
    except Exception as raised:
        error = raised
    _check_named(error, bad)


def test_every_public_function_that_takes_a_path_is_here() -> None:
    """Those of xface's packages; commands stand for those that write, and for `explain`."""
    found = set()
    for package in (xface_package, data, analysis, faces, models, report, training):
        for name in package.__all__:
            if not inspect.isfunction(function := getattr(package, name)):
                continue
            for parameter in inspect.signature(function).parameters.values():
                if re.search("Path|Source", str(parameter.annotation)):
                    found.add(f"{package.__name__}.{name}({parameter.name})")
    written = {"xface.report.save(folder)", "xface.report.save_chart(folder)", "xface.analysis.analyze(out)"}
    explained = {"xface.explain(picture)", "xface.explain(detector)"}
    assert found - explained - written <= set(FUNCTIONS)
