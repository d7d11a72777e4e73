"""The golden record: what users see of xface, in text files under tests/golden/ that a diff shows well.

| file | records |
|---|---|
| `names.txt` | the public Python names with signatures, fields and methods, and the entries of registries |
| `help.txt` | `--help` of every command |
| `outputs/` | what commands print and which files they write, on fixed inputs |
| `schemas/` | columns, keys and types of runs, evaluations, training runs, their cards and checkpoints |
| `old/` | files that an earlier version wrote; they have to open, and are never made again (`make_old.py`) |

The record changes by decision only. To change it: `pytest tests/test_golden.py --write-golden`, look at
`git diff tests/golden`, and name each change with its reason where the change is described.
"""

import difflib
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from golden.file_schema import schema
from golden.names import public_names
from golden.record import HERE, as_text, differences, settled
from PIL import Image
from project import ROOT
from xface_cli.main import main
from xface_cli.main import xface as commands

GOLDEN = ROOT / "tests" / "golden"
VERSIONS = sorted(path.name for path in (GOLDEN / "old").iterdir())
MEANT = (
    "\n\nIf this is meant: pytest tests/test_golden.py --write-golden, look at git diff tests/golden, and "
    "name the change with its reason in the commit."
)


OUTPUTS = {
    "explain": "explain --json --device cpu --maps --out explained fake.jpg",
    "explain-layers": "explain --json --device cpu --arch resnet18 --method gradcam --method guided_gradcam "
    "--layer layer1 --layer layer4 --target margin --out layers real.jpg",
    "explain-failures": "explain --json --device cpu --method vanilla --out failed grey.png broken.png",
    "regions": "regions --json --device cpu --method gradcam --out regions fake.jpg real.jpg",
    "predict": "predict --json --device cpu fake.jpg real.jpg broken.png",
    "predict-old": "predict --json --device cpu --weights detector.safetensors faces/fake faces/real",
    "evaluate": f"evaluate --json --device cpu --by kind --out evaluated {HERE}/rows.csv",
    "analyze": "analyze --device cpu --workers 0 --maps --method gradcam --method guided --by kind "
    f"--at-fpr 0.1 --cost 5:1 --out analysed --data {HERE}/rows.csv",
    "report": "report analysed --compare old/analysis",
    "card": "card --json detector.safetensors",
    "card-change": "card --json --threshold 0.7 --crop box:0.3 --preset seed --notes new changed.safetensors",
    "card-text": "card detector.safetensors",
    "convert": "convert old/stopped/last.ckpt clean.safetensors --classes fake,real --preset meso",
    "models": "models --json",
    "methods": "methods",
    "layers": "layers --arch resnet18",
    "wrong-usage": "explain --device cpu --method nonsense fake.jpg",
}
TRAINING = """
{network: cozzolino, data: {train: faces/manifest.csv, test: faces/manifest.csv}, input_size: 32,
batch_size: 4, num_epochs: 1, device: cpu, schedule: {type: StepLR, step_size: 2},
early_stopping: {}, prefix: trained}
"""
SCHEMAS = {
    "explained": OUTPUTS["explain"],
    "regions": OUTPUTS["regions"],
    "evaluated": OUTPUTS["evaluate"],
    "analysis": "analyze --device cpu --workers 0 --threshold 0.0637 --out analysis --data many.csv",
    "trained": "train training.yaml",
    "grid": 'train training.yaml --grid --set grid={"optimizer.lr":[0.1]} --set prefix=grid',
}
PRESETS = ("imagenet", "seed", "meso", "inception", "none")
"""Names that cards may hold, from the first version on."""


@pytest.fixture
def same_as_recorded(request):
    """A function that compares what was found with the record of that name, or writes the record."""

    def compare(name: str, found: object) -> None:
        file, text = GOLDEN / name, found if isinstance(found, str) else as_text(found)
        assert str(ROOT) not in text  # a record is of no one machine
        if request.config.getoption("--write-golden"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        before = file.read_text(encoding="utf-8") if file.exists() else "null"
        if isinstance(found, str):
            lines = difflib.unified_diff(
                before.splitlines(), text.splitlines(), "recorded", "found", n=1, lineterm=""
            )
        else:
            lines = differences(json.loads(before), json.loads(text))
        if told := list(lines):
            pytest.fail(f"{name} is not as recorded:\n" + "\n".join(told[:60]) + MEANT, pytrace=False)

    return compare


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A function that runs a command once, in a folder with all inputs, and returns what it recorded."""
    folder = tmp_path_factory.mktemp("golden")
    fill(folder)
    fill_with_many(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        patch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
        yield cache(run)


def fill(folder: Path, version: str = VERSIONS[0]) -> None:
    """Pictures, tables, a detector and a config, as the commands of OUTPUTS and SCHEMAS name them."""
    shutil.copytree(GOLDEN / "faces", folder / "faces")
    shutil.copytree(GOLDEN / "old" / version, folder / "old")
    for name in ("fake.jpg", "real.jpg"):
        shutil.copy(ROOT / "samples" / name, folder)
    for name in ("detector", "changed"):
        for ending in (".safetensors", ".json"):
            shutil.copy(folder / "old" / f"detector{ending}", folder / f"{name}{ending}")
    shutil.copy(folder / "faces" / "fake" / "0.png", folder / "grey.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n no more")
    (folder / "training.yaml").write_text(TRAINING)
    rows = [f"faces/{label}/{n}.png,{label},{label}{n},{'eyes' if n % 2 else 'mouth'}" for n in range(6)
            for label in ("fake", "real")]  # fmt: skip
    rows += ["fake.jpg,fake,a,eyes", "real.jpg,real,a,", "broken.png,real,b,"]
    (folder / "rows.csv").write_text("path,label,group,kind\n" + "\n".join(rows) + "\n")


def fill_with_many(folder: Path) -> None:
    """Faces of different light and frame, labelled by turns: enough for each kind of conclusion."""
    (folder / "many").mkdir()
    rows = ["path,label", "broken.png,fake", "grey.png,real"]
    pixels = np.asarray(Image.open(folder / "fake.jpg"), float)
    for n in range(56):
        light = (pixels[n % 7 :, n // 7 :] * (0.6 + 0.05 * (n % 9))).clip(0, 255).astype(np.uint8)
        Image.fromarray(light).save(folder / "many" / f"{n}.bmp")
        rows.append(f"many/{n}.bmp,{('fake', 'real')[n // 2 % 2]}")
    (folder / "many.csv").write_text("\n".join(rows) + "\n")


def run(command: str) -> dict:
    """Exit status, what was printed, and the files that are new, with what the machine decides left out."""
    before, out, err = set(files(Path())), StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["xface", *command.split()])
        with pytest.raises(SystemExit) as ended:
            main()
    new = [name for name in files(Path()) if name not in before]
    found = {"status": ended.value.code or 0, "out": lines(out), "err": lines(err), "new files": new}
    return {"command": command, **settled(found)}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def lines(stream: StringIO) -> list:
    return [json.loads(line) if line.startswith("{") else line for line in stream.getvalue().splitlines()]


def test_public_names(same_as_recorded):
    same_as_recorded("names.txt", public_names())


def test_help_of_every_command(same_as_recorded):
    texts = []
    for name in (None, *commands.list_commands(None)):
        words = ["--help"] if name is None else [name, "--help"]
        done = CliRunner().invoke(commands, words, prog_name="xface", terminal_width=80)
        texts.append(f"$ xface {' '.join(words)}\n{done.output}")
    same_as_recorded("help.txt", "\n".join(texts))


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs(name, done, same_as_recorded):
    if name == "report":
        done(OUTPUTS["analyze"])
    same_as_recorded(f"outputs/{name}.json", done(OUTPUTS[name]))


def test_the_manifest_of_an_analysis(done, same_as_recorded):
    done(OUTPUTS["analyze"])
    same_as_recorded("outputs/manifest.json", settled(json.loads(Path("analysed/manifest.json").read_text())))


def test_presets_on_cards(done, same_as_recorded):
    found = {}
    for preset in PRESETS:
        shutil.copy("detector.safetensors", f"{preset}.safetensors")
        card = {"arch": "cozzolino", "classes": ["fake", "real"], "preprocessing": preset}
        Path(f"{preset}.json").write_text(json.dumps(card))
        found[preset] = done(f"card --json {preset}.safetensors")
    same_as_recorded("outputs/presets.json", found)


@pytest.mark.parametrize("folder", SCHEMAS)
def test_schemas(folder, done, same_as_recorded):
    assert done(SCHEMAS[folder])["status"] in (0, 1)
    found = {name: schema(Path(folder, name)) for name in files(Path(folder))}
    same_as_recorded(f"schemas/{folder}.json", found)


@pytest.fixture(params=VERSIONS)
def old(request, tmp_path, monkeypatch) -> Path:
    """What a version wrote, in a new working directory with the pictures that it was made from."""
    fill(tmp_path, request.param)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "old"


def test_an_old_analysis_opens(old):
    told = run("report old/analysis")
    assert (told["status"], told["err"]) == (0, [])
    report = old / "analysis" / "report"
    assert (report / "index.html").is_file()
    assert "fake.jpg" in (report / "tables" / "images.csv").read_text()
    assert len((report / "tables" / "regions.csv").read_text().splitlines()) > 20


def test_an_old_training_run_goes_on(old):
    shutil.copytree(old / "stopped", "stopped")
    before = Path("stopped/metrics.csv").read_text().splitlines()
    assert run("train --resume stopped")["status"] == 0
    after = Path("stopped/metrics.csv").read_text().splitlines()
    assert (len(after), after[:2]) == (4, before[:2])  # it was stopped before the second epoch was kept
    [verdict] = run("predict --json --device cpu --weights stopped/best.safetensors fake.jpg")["out"]
    assert verdict["detector"]["card"]["scores"]["validation_images"] == 4


def test_an_old_finished_run_is_left_as_it_is(old):
    content = {name: (old / "finished" / name).read_bytes() for name in files(old / "finished")}
    told = run("train --resume old/finished")
    assert (told["status"], told["err"]) == (0, [])
    assert {name: (old / "finished" / name).read_bytes() for name in files(old / "finished")} == content


def test_no_record_is_left_behind():
    kept = {path.stem for path in (GOLDEN / "outputs").iterdir()}
    assert kept == {*OUTPUTS, "manifest", "presets"}
    assert {path.stem for path in (GOLDEN / "schemas").iterdir()} == {*SCHEMAS}
