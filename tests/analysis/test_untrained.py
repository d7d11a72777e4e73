"""A run of an untrained network says so wherever a reader may begin: page, tables, comparison, terminal."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from command_line import run as command
from project import SAMPLES
from run_folders import make_run
from xface_cli.main import xface as commands

from xface.findings.comparison import ComparedRun, compare
from xface.wording import UNTRAINED, sentence

SAYINGS = [{"trained": False}, {"weights_sha256": None}]
"""What a manifest has, and what one of an older version has."""


def changed(folder: Path, **detector) -> Path:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["detector"] |= detector
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(("saying", "options"), [(SAYINGS[0], []), (SAYINGS[1], ["--single-file"])])
def test_the_page_begins_with_it(tmp_path, saying, options):
    folder = changed(make_run(tmp_path / "run", 40), **saying)
    done = CliRunner().invoke(commands, ["report", str(folder), *options], catch_exceptions=False)
    page = Path(done.stdout.strip()).read_text()
    assert page.index(UNTRAINED) < page.index("<main>")
    assert UNTRAINED in done.stderr


def test_a_comparison_says_which_of_the_runs_is_untrained(tmp_path):
    first, second = (make_run(tmp_path / name, 60, hostile=False) for name in ("one", "two"))
    changed(second, trained=False)
    done = CliRunner().invoke(
        commands, ["report", str(first), "--compare", str(second)], catch_exceptions=False
    )
    page = Path(done.stdout.strip()).read_text()
    compared = page[page.index('id="compare-title"') : page.index('id="gallery-title"')]
    for name, untrained in (("one", False), ("two", True)):
        assert (sentence(f"{name}: {UNTRAINED}")[:-1] in compared) == untrained
        assert (f"{name}: {UNTRAINED}" in done.stderr) == untrained
    assert UNTRAINED not in page[: page.index('id="compare-title"')]


def test_so_does_the_library():
    images = pd.DataFrame({"row": [0, 1], "image": ["a", "b"], "group": ["", ""], "sha256": ["a", "b"],
                           "outcome": ["TP", "FN"]})  # fmt: skip
    regions = pd.DataFrame({"row": [], "method": [], "layer": [], "region": [], "status": [], "lift": []})
    run = ComparedRun(images, regions, {"detector": {"trained": False}, "threshold": {"value": 0.5}})
    found = compare(run, run)
    assert [run["trained"] for run in found.runs] == [False, False]
    assert sum(UNTRAINED in note for note in found.notes) == 2


def test_an_analysis_says_it_in_findings_table_and_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "faces.csv").write_text("".join(
        ["path,label\n", *(f"{SAMPLES / label}.jpg,{label}\n" for label in ("real", "fake"))]))  # fmt: skip
    words = ["--arch", "meso4", "--weights", "none", "--device", "cpu"]
    out = tmp_path / "run"
    done = command("analyze", *words, "--workers", "0", "--data", tmp_path / "faces.csv", "--out", out)
    assert (done.status, done.out.startswith(UNTRAINED)) == (0, True)
    assert "not tested" in done.out  # what was looked for is said all the same
    findings = json.loads((out / "findings.json").read_text())
    assert findings["summary"]["trained"] is False
    assert findings["sentences"][0]["text"].startswith(UNTRAINED)
    assert UNTRAINED in (out / "report" / "tables" / "sentences.csv").read_text()
    done = command("evaluate", *words, "--json", tmp_path / "faces.csv")
    assert UNTRAINED in json.loads(done.out)["cautions"][0]
