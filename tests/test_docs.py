"""The documentation names everything that is registered, and says of it what the code says."""

import json
import os
import re
import runpy
import shutil
import subprocess
from collections import defaultdict
from dataclasses import fields, replace

import numpy as np
import pytest
from project import ROOT
from xface_cli.main import COMMANDS, main

import xface
from xface import errors
from xface.attribution import METHODS
from xface.attribution.rectifiers import RECTIFIER_NAMES
from xface.detectors import Card, load
from xface.detectors.card import read_card
from xface.detectors.checkpoints.state_dicts import PREFIXES, WRAPPERS
from xface.detectors.class_names import KEYS
from xface.detectors.recognition import NAMED_BY
from xface.faces import ATTRIBUTES, REGIONS
from xface.images.pictures import FORMATS
from xface.networks import ARCHITECTURES
from xface.preprocessing import PRESETS, Preprocessing
from xface.results import RegionMeasure
from xface.wording import STATUS

PAGES = [ROOT / "README.md", ROOT / "samples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def row(name: str, text: str) -> list[str]:
    """The cells of the one table row whose first cell is this name in code quotes, or has it among others."""
    rows = [re.split(r"\s*(?<!\\)\|\s*", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    [found] = [cells for cells in rows if f"`{name}`" in cells[0].split(", ")]
    return found


def anchors(text: str) -> set[str]:
    """The anchors that a page's headings have on GitHub."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


NAMED = {
    "rectifiers": ("docs/methods.md", [name for name in RECTIFIER_NAMES if not name.startswith("_")]),
    "statuses": ("docs/methods.md", [*STATUS, "ok"]),
    "regions": ("docs/regions.md", [*REGIONS]),
    "wrappers, prefixes and keys": ("docs/checkpoints.md", [*WRAPPERS, *PREFIXES, *KEYS, *NAMED_BY]),
    "parts of a map and a region": (
        "docs/output.md",
        ["method", "layer", "status", "rule", "file", *(field.name for field in fields(RegionMeasure))],
    ),
}


@pytest.mark.parametrize("kind", NAMED)
def test_each_is_named(kind):
    name, names = NAMED[kind]
    assert [each for each in names if f"`{each}`" not in page(name)] == []


def test_methods_presets_and_attributes_have_rows_that_say_what_the_code_says():
    for name, method in METHODS.items():
        _, _, shape, source = row(name, page("docs/methods.md"))
        assert method.paper in source
        is_cam = method.layered and not method.rules
        assert shape == ("(h, w)" if is_cam else "(3, H, W), signed")
    for name, preset in PRESETS.items():
        assert row(name, page("docs/checkpoints.md"))[1] == str(preset)
    for name, entry in ATTRIBUTES.items():
        cells = [cell.replace("\\|", "|") for cell in row(name, page("docs/attributes.md"))[1:]]
        assert cells == [entry.unit, entry.what, entry.formula, entry.source]


def test_every_architecture_has_its_layers_and_preset():
    table = page("docs/architectures.md").partition("<!-- /architectures -->")[0]
    listed = json.loads(page("tests/golden/outputs/models.json"))["out"]
    counts = {entry["arch"]: entry["parameters"] for entry in listed}
    for name, entry in ARCHITECTURES.items():
        _, parameters, layer, stages, preset = row(name, table)
        assert parameters == f"{counts[name]:,}"
        assert layer == f"`{entry.layer}`"
        assert stages == ", ".join(f"`{stage}`" for stage in entry.stages)
        named, _, side = preset.partition(", ")
        settings = PRESETS[named.strip("`")]
        size = {"size": (int(side.split()[0]),) * 2} if side else {}
        shorter = {"shorter_side": entry.preprocessing.shorter_side}
        assert replace(settings, **{**size, **shorter}) == entry.preprocessing


@pytest.mark.parametrize("kind", [Card, Preprocessing])
def test_every_entry_of_a_card_is_explained(kind):
    text = page("docs/checkpoints.md").partition("## The card")[2]
    for field in fields(kind):
        assert field.name == "source" or row(field.name, text)


@pytest.mark.parametrize("name", ["README.md", "docs/checkpoints.md"])
def test_cards_shown_are_valid(name, tmp_path):
    shown = re.findall(r'(?s)(\{\s*"arch".*?\n?\})(?=\n```|`|\n)', page(name))
    assert shown
    for index, text in enumerate(shown):
        path = tmp_path / f"{index}.json"
        path.write_text(text)
        assert read_card(path).arch in ARCHITECTURES


def test_every_error_is_listed_under_its_parent():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 5
    for kind in kinds:
        parent = "" if kind is errors.XFaceError else f"`{kind.__base__.__name__}`"
        assert row(kind.__name__, page("docs/output.md"))[1] == parent


def test_every_key_of_the_json_is_described():
    text = page("docs/output.md")
    grey = np.full((64, 64, 3), 128, np.uint8)
    found = xface.explain(load("none", "meso4", "cpu"), grey, ["vanilla"]).to_json()
    for key in found:
        assert row(key, text)


def test_every_format_and_command_is_named():
    assert all(name in page("docs/output.md").upper() for name in FORMATS)
    assert all(f"xface {name}" in page("README.md") for name in COMMANDS)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_installation_shows_what_make_runs():
    command = ["make", "-n", "VENV=.venv", "PYTHON=python3", "--always-make", "demo", "test"]
    outside = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    run = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=True)
    text = page("docs/installation.md").partition("`make test` run\n")[2]
    shown = text.partition("\nEach installs")[0].split("\n")
    lines = [line.strip() for line in shown if line]
    assert len(lines) == 5
    assert set(lines) <= set(run.stdout.splitlines())


@pytest.mark.parametrize("name", ["README.md", "docs/installation.md", "docs/speed.md"])
def test_make_has_the_targets_that_pages_name(name):
    targets = re.findall(r"^([a-z-]+):", page("Makefile"), flags=re.MULTILINE)
    named = re.findall(r"(?:`|    )make (?:[A-Z]+=\S* )*([a-z-]+)", page(name))
    assert named
    assert set(named) <= set(targets)


def test_every_package_has_its_paragraph():
    modules = [
        path for path in (ROOT / "xface").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    names = {path.stem for path in modules} - {"__init__"} | {"xface_cli"}
    assert len(names) > 15
    described = re.findall(r"(?:^|\. )\*\*`(\w+)`\*\*", page("docs/architecture.md"), flags=re.MULTILINE)
    assert sorted(described) == sorted(names)


def test_the_drawn_floors_are_those_that_are_checked():
    floors = runpy.run_path(str(ROOT / "docs" / "floors.py"))["floors"]()
    texts = re.findall(r'<text style="[^"]*"[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>', page("docs/floors.svg"))
    drawn = defaultdict(list)
    for height, text in texts:
        if text in {name for floor in floors for name in floor}:
            drawn[float(height)].append(text)
    assert [drawn[height] for height in sorted(drawn)] == floors


def test_the_bundled_detectors_have_the_scores_of_their_card():
    scores = json.loads(page("weights/meso4.json"))["scores"]
    text = page("docs/bundled.md")
    for figure in (f"{scores['test_auc']:.3f}", f"{scores['test_accuracy']:.3f}", str(scores["test_images"])):
        assert figure in text


def test_readme_shows_what_make_demo_prints(monkeypatch, capsys, tmp_path):
    """Numbers may differ in the last digit on another machine; `make docs` writes the output anew."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        "sys.argv", ["xface", "explain", "--device", "cpu", "--out", str(tmp_path), "samples/fake.jpg"]
    )
    with pytest.raises(SystemExit, match="0"):
        main()
    printed = capsys.readouterr().out.replace(str(tmp_path), "results").strip()
    shown = re.search(r"<!-- output -->\n```text\n(.*?)\n```", page("README.md"), flags=re.DOTALL)[1]
    assert NUMBER.sub("#", " ".join(printed.split())) == NUMBER.sub("#", " ".join(shown.split()))
    assert np.allclose(*[np.array(NUMBER.findall(text), float) for text in (printed, shown)], atol=0.11)
