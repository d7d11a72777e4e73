"""The report of a run, drawn from its folder: what it holds, what it costs, and that nothing breaks out."""

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from project import ROOT
from run_folders import FORMULA, HOSTILE, REGIONS, SCRIPT, make_run
from test_regions import FACE
from xface_cli.main import xface as commands

from xface.errors import OutputError
from xface.faces import REGIONS as DRAWN_REGIONS
from xface.faces import region_labels
from xface.faces.drawn_regions import drawn_regions
from xface.report.colours import contrast, ink_on, lift_colour
from xface.report.html.csv_tables import Table, empty_row, write_csv, write_tables
from xface.report.html.forest import forest_rows
from xface.report.run.face_drawing import HEIGHT, WIDTH, beneath_first, face_svg
from xface.report.run.forest import lift_forest
from xface.report.run.gallery import most_confident_errors, rows_under
from xface.report.run.nearest import nearest_correct, traits_of
from xface.report.run.outlines import bend
from xface.report.run.page import SINGLE_IMAGES, Page, write_report
from xface.report.run.page_data import as_data, as_script
from xface.report.run.sections import SECTIONS, Report, Section
from xface.report.run.sections.findings import Sentences
from xface.report.run.thumbnails import tops
from xface.runs.folder import Kind, RunFolder
from xface.runs.regions import regions_of
from xface.wording import estimate

BLOCKED = ("torch", "torchvision", "dlib", "cv2", "captum", "pytorch_grad_cam", "lightning", "sklearn",
           "scipy", "statsmodels")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "run")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder) -> RunFolder:
    return RunFolder.read(folder)


def is_error(outcome: str) -> bool:
    return outcome in {"FP", "FN"}


def words_of(folder: Path) -> str:
    """The page's text, a space for each tag and line."""
    page = (folder / "report" / "index.html").read_text()
    return " ".join(re.sub(r"<script.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL).split())


def stored(folder: Path, name: str):
    text = (folder / "report" / name).read_text(encoding="ascii")
    return json.loads(re.fullmatch(r'xfaceData\("[\w-]+",(.*)\);\n', text, re.DOTALL).group(1))


def tables_of(run: RunFolder, compare=None) -> dict[str, Table]:
    report = Report(run, compare=compare)
    return {table.name: table for section in SECTIONS.values() for table in section.tables(report)}


class TestPage:
    def test_it_lets_in_its_own_elements_script_and_style_only(self, folder):
        page = (folder / "report" / "index.html").read_text()
        assert "<img src=x" not in page
        assert page.count("<script") == page.count("</script>") == 2
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert not re.search(r"\son\w+=\s*[\"']", page)
        assert set(re.findall(r"https?://[^\s\"'<`]+", page)) <= {"http://www.w3.org/2000/svg"}
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1).replace("&#39;", "'")
        assert "default-src 'none'" in policy
        assert not re.search("unsafe|http", policy)
        for tag in ("script", "style"):
            body = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL).group(1)
            digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
            assert re.search(rf"{tag}-src [^;]*'sha256-{re.escape(digest)}'", policy)

    def test_lifts_are_those_of_the_table(self, folder):
        table = pd.read_parquet(folder / "regions.parquet").sample(60, random_state=0)
        lifts = [stored(folder, f"data/lifts-{kind}.js") for kind in (0, 1)]
        kinds = {"gradcam": 0, "vanilla": 1}
        for row in table.itertuples():
            found = lifts[kinds[row.method]][row.region][row.row]
            assert (np.nan if found is None else found) == pytest.approx(row.lift, rel=0.006, nan_ok=True)

    def test_every_image_is_known_with_its_exact_score(self, folder, run):
        images = stored(folder, "data/images.js")
        assert images["row"] == list(range(300))
        assert images["image"][3:6] == [f"faces/{HOSTILE}", SCRIPT, FORMULA]
        scores = [np.nan if score is None else score for score in images["score"]]
        np.testing.assert_array_equal(scores, run.numbers("score"))
        outcome = [("T" if (s >= 0.5) == (label == "fake") else "F") + ("P" if s >= 0.5 else "N")
                   for s, label in zip(scores, images["label"], strict=True)]  # fmt: skip
        told = zip(outcome, images["outcome"], scores, strict=True)
        judged = [(one, other) for one, other, score in told if np.isfinite(score)]
        assert len(judged) == 298
        assert all(one == other for one, other in judged)

    def test_thumbnails_and_maps_are_those_of_the_run(self, folder, run):
        images = stored(folder, "data/images.js")
        for entry in list(run.thumbnails())[::37]:
            row = entry["row"]
            assert (folder / f"report/thumbnails/0/{row}.jpg").read_bytes() == entry["face"]
            detail = stored(folder, f"thumbnails/maps-{images['chunk'][row]}.js")[str(row)]
            assert detail["size"] == [107, 128]
            for amap, grid in zip(detail["maps"], entry["maps"], strict=True):
                assert (amap is None) == (grid is None)
                assert amap is None or base64.b64decode(amap["grid"]) == grid
        assert [i for i, chunk in enumerate(images["chunk"]) if chunk is None] == [19, 20]

    def test_a_colour_stands_for_the_same_value_in_all_maps_of_a_kind(self, run):
        peaks = [entry["peaks"] for entry in run.thumbnails()]
        for kind, top in enumerate(tops(run)):
            known = sorted(each[kind] for each in peaks if each[kind] is not None)
            assert known[int(0.94 * len(known))] <= top <= known[int(0.96 * len(known))]

    def test_it_is_whole_or_absent(self, folder, tmp_path, monkeypatch):
        copy = tmp_path / "run"
        shutil.copytree(folder, copy)
        before = (copy / "report" / "index.html").read_bytes()

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("xface.report.run.page.write_figures", fail)
        with pytest.raises(OutputError, match="No space left"):
            write_report(copy)
        assert (copy / "report" / "index.html").read_bytes() == before
        monkeypatch.undo()
        (copy / "report" / "stale").touch()
        write_report(copy)
        assert sorted(each.name for each in (copy / "report").iterdir()) == [
            "data", "figures", "index.html", "tables", "thumbnails"]  # fmt: skip
        assert not list(copy.glob("report.*"))

    def test_a_run_without_findings_faces_or_kinds_has_a_page_too(self, tmp_path):
        folder = make_run(tmp_path / "run", 80)
        path = folder / "findings.json"
        findings = json.loads(path.read_text())
        empty = {
            name: []
            for name in (
                "repairs",
                "regions",
                "contrasts",
                "attributes",
                "slices",
                "clusters",
                "breakdowns",
                "sentences",
            )
        }
        nothing = {"value": None, "low": None, "high": None}
        summary = {**findings["summary"], "scores": dict.fromkeys(findings["summary"]["scores"], nothing),
                   "prevalence": nothing, "excluded": []}  # fmt: skip
        health = {"statuses": [], "coarse": [], "warnings": []}
        regression = {"outcome": "wrong", "rows": [], "n": 0, "groups": 0, "note": "too few errors"}
        bare = {"primary": None, "summary": summary, "health": health, "regression": regression}
        path.write_text(json.dumps({**findings, **empty, **bare}))
        page = write_report(folder).read_text()
        assert "Nothing could be tested." in page
        assert "Nothing found." not in page
        assert "Not tested: no combination of attributes" in page
        assert "No combination" not in page
        assert "too few errors" in page
        with open(folder / "report" / "tables" / "attributes.csv", newline="") as file:
            [head] = csv.reader(file)
        assert head[:7] == ["attribute", "contrast", "n", "groups", "missing", "means_a", "means_a_low"]
        assert "None" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)

    def test_the_means_are_there_as_a_table(self, folder, run):
        text = words_of(folder)
        row = run.findings["regions"][0]
        assert text.count("Mean lift Mean share") == len(run.kinds)
        assert f"{row['n']} {row['groups']} {estimate(row['lift'])}" in text

    def test_who_is_related_how_long_it_took_and_what_is_uneven_is_said(self, folder, tmp_path):
        text = words_of(folder)
        assert "Groups 100 groups of 300 images, by video" in text
        assert re.search(r"Time decode 3.1 s, .* conclusions 4 s, report [\d.]+ s", text)
        assert text.index("Faces are not found evenly") < text.index("Images left out")
        assert "file missing not classified; by label: fake 1 of 150, real 0 of 150 0.40" in text
        assert "zero map vanilla 1 of" in text
        alone = make_run(tmp_path / "alone", 40)
        images = pd.read_parquet(alone / "images.parquet")
        images.assign(group=images["image"]).to_parquet(alone / "images.parquet")
        write_report(alone)
        assert "Groups each image by itself" in words_of(alone)

    def test_reasons_too_many_to_read_are_folded(self, run):
        row = {"status": "missing", "count": 1, "by_label": {"real": 1}}
        rows = [{**row, "reason": f"a{n}.jpg: no such file"} for n in range(6000)]
        faceless = {"status": "no_face", "reason": "no face", "count": 3, "by_label": {"fake": 3}}
        summary = {**run.findings["summary"], "excluded": [*rows, faceless]}
        page = Page(RunFolder(run.path, run.manifest, {**run.findings, "summary": summary}, run.images),
                    {}, {}, None).html()  # fmt: skip
        assert "6,000 reasons, the first: a0.jpg: no such file" in page
        assert "a1.jpg" not in page
        assert "real 6,000" in page

    def test_no_text_of_the_run_can_become_an_element(self, run):
        """Every name and sentence hostile, but for those by which rows are found."""
        keys = {"created", "attribute", "outcome", "contrast", "column"}

        def spoilt(value, key=""):
            if isinstance(value, dict):
                return {name: spoilt(each, name) for name, each in value.items()}
            if isinstance(value, list):
                return [spoilt(each, key) for each in value]
            return f"{value}{HOSTILE}{SCRIPT}" if isinstance(value, str) and key not in keys else value

        manifest = {**spoilt(run.manifest), "kinds": run.manifest["kinds"]}
        evil = RunFolder(run.path, manifest, spoilt(run.findings), run.images)
        page = Page(evil, {}, {}, None).html()
        clean = Page(run, {}, {}, None).html()
        assert page.count("onerror=alert(1)") > clean.count("onerror=alert(1)") + 100
        assert not page.count("<img")
        assert page.count("<script") == 2

    def test_a_drawing_escapes_its_names(self, run):
        kind = Kind("<script>", "<img>")
        forest = lift_forest(run, run.kinds[0])
        named = replace(forest, series=tuple(replace(each, name=kind.name) for each in forest.series))
        drawn = forest_rows(named)[0]["drawing"]
        assert "&lt;script&gt; at &lt;img&gt;" in drawn
        assert "<script" not in drawn + face_svg(regions_of({}), {"nose": 1.0}, kind.name)


class TestSections:
    """A section is one entry of the registry, whoever adds it."""

    def test_one_from_outside_is_in_the_page_with_its_table_and_figure(self, tmp_path, monkeypatch):
        monkeypatch.setattr(SECTIONS, "_entries", dict(SECTIONS))
        section = Section(
            f"Devices {HOSTILE}",
            "<p id='dev'>{{ count }} on {{ run.manifest.device }}: {{ name }}</p>",
            lambda report: {"name": SCRIPT, "count": len(report.run.rows)},
            figures=lambda report: [("devices", Figure())],
            tables=lambda report: [Table("devices", ("device",), [{"device": FORMULA}])],
            subsets=lambda report: {"devices": [[1, 2]]},
            script="starts.push(() => 0);",
        )
        SECTIONS.add("devices", section)
        folder = make_run(tmp_path / "run", 40)
        page = write_report(folder).read_text()
        body = re.search(r'<section id="devices" .*?</section>', page, re.DOTALL).group()
        assert '<h2 id="devices-title">Devices &lt;img' in body
        assert f"<p id='dev'>40 on {RunFolder.read(folder).manifest['device']}: &lt;/script&gt;" in body
        assert '<a href="#devices">Devices &lt;img' in page
        assert page.index('id="provenance"') < page.index('id="devices"') < page.index("</main>")
        assert page.count("<script") == 2
        assert page.count(section.script) == 1
        assert '"devices":[[1,2]]' in page
        assert (folder / "report/tables/devices.csv").read_text().splitlines() == ["device", f"'{FORMULA}"]
        assert (folder / "report/figures/devices.png").is_file()

    def test_subsets_of_one_name_are_refused(self, run, monkeypatch):
        section = Section("A", "", subsets=lambda report: {"sentences": [[1]]})
        monkeypatch.setattr(SECTIONS, "_entries", {**SECTIONS, "mine": section})
        with pytest.raises(ValueError, match="section 'mine' has subsets 'sentences'"):
            Page(run, {}, {}, None).html()

    def test_one_without_data_is_left_out(self, run, monkeypatch):
        monkeypatch.setattr(
            SECTIONS, "_entries", {"none": Section("None of it", "here", lambda report: None)}
        )
        assert "None of it" not in Page(run, {}, {}, None).html()


class TestSentences:
    """What was not tested is never told as tested and absent."""

    @pytest.mark.parametrize(("name", "table"), [("regions", "contrasts"), ("attributes", "attributes")])
    def test_a_contrast_without_any_p_value_is_not_tested(self, run, name, table):
        rows = [{**row, "p": None} if row["contrast"] == "FN-TP" else row for row in run.findings[table]]
        sentences = [
            {"about": "none", "text": "", "contrast": each, "name": name} for each in ("FP-TN", "FN-TP")
        ]
        sorted_ = Sentences.of({**run.findings, table: rows, "sentences": sentences})
        assert [each["number"] for each in sorted_.absent] == [0]
        assert [each["number"] for each in sorted_.untested] == [1]
        assert sorted_.any_tested

    @pytest.mark.parametrize("name", ["regression", "slices", "by manipulation"])
    def test_so_are_a_regression_and_slices_without_rows(self, run, name):
        sentences = [{"about": "none", "text": "", "contrast": "", "name": name}]
        there = Sentences.of({**run.findings, "sentences": sentences})
        empty = {"regression": {"rows": []}, "slices": [], "breakdowns": []}
        gone = Sentences.of({**run.findings, "sentences": sentences, **empty})
        assert (len(there.absent), len(there.untested)) == (1, 0)
        assert (len(gone.absent), len(gone.untested)) == (0, 1)


class TestComparison:
    def test_fixed_new_and_remaining_errors_are_counted_and_lead_to_their_images(self, folder, tmp_path):
        other = self.another(folder, tmp_path)
        images = pd.read_parquet(other / "images.parquet")
        wrong = images.index[images["outcome"].isin(["FP", "FN"])]
        right = images.index[images["outcome"].isin(["TP", "TN"])]
        turned = [*wrong[:12], *right[:5]]
        images.loc[turned, "outcome"] = images.loc[turned, "outcome"].map(
            {"FP": "TN", "TN": "FP", "FN": "TP", "TP": "FN"}
        )
        images.to_parquet(other / "images.parquet")
        done = CliRunner().invoke(
            commands, ["report", str(folder), "--compare", str(other)], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        page = Path(done.stdout.strip()).read_text()
        text = re.sub(r"<[^>]*>", "", page)
        kept = len(wrong) - 12
        assert f"the other corrects 12 errors, makes 5 new and keeps {kept}" in text
        settings = json.loads(re.search(r'id="data-page">(.*?)</script>', page).group(1))
        fixed, new, still = settings["subsets"]["changes"]
        assert (fixed, new) == (wrong[:12].tolist(), right[:5].tolist())
        assert set(still) == set(wrong[12:])
        with open(folder / "report" / "tables" / "changes.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["row"]) for row in rows if row["change"] == "fixed"] == fixed
        assert [int(row["row"]) for row in rows if row["change"] == "new"] == new
        names = images["image"].tolist()
        assert all(row["image"].lstrip("'") == names[int(row["row_other"])] for row in rows)

    def test_a_region_that_moved_is_listed_alone(self, folder, tmp_path):
        other = self.another(folder, tmp_path)
        regions = pd.read_parquet(other / "regions.parquet")
        noses = (regions["region"] == "nose") & (regions["method"] == "vanilla")
        regions.loc[noses, "lift"] += np.random.default_rng(0).uniform(0.4, 0.6, noses.sum())
        regions.to_parquet(other / "regions.parquet")
        text = self.compared(folder, other)
        [told] = re.findall(
            r"Difference of lift vanilla nose (\d+) (\d+) ([\d.]+) \(.* A region is listed", text
        )
        assert int(told[0]) == np.isfinite(regions["lift"][noses]).sum()
        assert float(told[2]) == pytest.approx(0.5, abs=0.02)

    def test_runs_without_a_map_in_common_are_not_called_alike(self, folder, tmp_path):
        other = self.another(folder, tmp_path)
        regions = pd.read_parquet(other / "regions.parquet")
        regions.assign(method="lrp").to_parquet(other / "regions.parquet")
        text = self.compared(folder, other, kinds=[{"method": "lrp", "layer": "", "rule": "published"}])
        assert "Not tested: no map is of the same method and layer in both runs." in text
        assert "No region's lift changed" not in text

    def another(self, folder, tmp_path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "the other", ignore=shutil.ignore_patterns("report")))

    def compared(self, folder, other, **changes) -> str:
        """What the page says of the other run, whose manifest is changed so."""
        manifest = json.loads((other / "manifest.json").read_text())
        (other / "manifest.json").write_text(json.dumps({**manifest, **changes}))
        done = CliRunner().invoke(
            commands, ["report", str(folder), "--compare", str(other)], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        text = words_of(folder)
        return text[text.index("Comparison with another run") : text.index("Gallery Most confident")]


class TestSingleFile:
    def test_it_holds_the_most_confident_errors_and_nothing_beside_it(self, tmp_path):
        folder = make_run(tmp_path / "run", 1500)
        path = write_report(folder, single_file=True)
        assert path == folder / "report.html"
        assert not (folder / "report").exists()
        page = path.read_text()
        assert len(page) < 8e6
        blocks = re.findall(r'<script type="application/json" id="data-([\w-]+)">(.*?)</script>', page)
        data = {name: json.loads(text) for name, text in blocks}
        images, run = data["images"], RunFolder.read(folder)
        errors = {
            row for row, outcome in zip(images["row"], images["outcome"], strict=True) if outcome[0] == "F"
        }
        scores, outcomes = run.numbers("score"), np.array(run.texts("outcome"), object)
        sure = np.where(np.isin(outcomes, ["FP", "FN"]), np.abs(scores - 0.5), -1)
        assert errors >= set(np.argsort(-sure, kind="stable")[:SINGLE_IMAGES].tolist())
        assert f"holds {len(images['row'])} of 1,500 images" in page
        assert len(images["row"]) + len(data["rest"]["score"]) == 1500 - 2 + np.isnan(
            [np.nan if s is None else s for s in images["score"]]).sum()  # fmt: skip
        assert set(data["maps-0"]) <= {str(row) for row in images["row"]}
        assert 'src="thumbnails' not in page

    def test_its_size_has_a_cap(self, tmp_path, monkeypatch):
        folder = make_run(tmp_path / "run", 250)
        whole = write_report(folder, single_file=True).stat().st_size
        faces = re.findall(r"base64,[\w+/=]{500,}", (folder / "report.html").read_text())
        bare = whole - sum(map(len, faces))
        for cap in (whole - 1, (whole + bare) // 2):
            monkeypatch.setattr("xface.report.run.page.SINGLE_BYTES", cap)
            page = write_report(folder, single_file=True)
            assert 0.7 * cap < page.stat().st_size <= cap
        monkeypatch.setattr("xface.report.run.page.SINGLE_BYTES", 10_000)
        with pytest.raises(OutputError, match=r"too large for mail \(0\.\d MB even without images"):
            write_report(folder, single_file=True)


class TestGallery:
    def test_the_most_confident_errors_come_first(self, run):
        scores, outcomes = run.numbers("score"), run.texts("outcome")
        chosen = most_confident_errors(run, 20)
        assert {outcomes[i] for i in chosen} <= {"FP", "FN"}
        worst = min(abs(scores[i] - 0.5) for i in chosen)
        left = [i for i, o in enumerate(outcomes) if o in {"FP", "FN"} and i not in set(chosen.tolist())]
        assert all(abs(scores[i] - 0.5) <= worst for i in left)
        assert len(most_confident_errors(run, 10_000)) == 300

    def test_the_nearest_correct_image_is_of_the_same_class_and_none_is_nearer(self, run):
        found, outcomes, traits = nearest_correct(run), run.texts("outcome"), traits_of(run)
        usable = [status == "ok" for status in run.texts("status")]
        pairs = {"FP": "TN", "FN": "TP"}
        assert sum(i >= 0 for i in found) == sum(
            o in pairs and u for o, u in zip(outcomes, usable, strict=True)
        )
        for index in np.flatnonzero(found >= 0)[:20]:
            assert outcomes[found[index]] == pairs[outcomes[index]]
            others = [i for i, o in enumerate(outcomes) if o == pairs[outcomes[index]] and usable[i]]
            distances = {i: np.linalg.norm(traits[i] - traits[index]) for i in others}
            assert distances[int(found[index])] == pytest.approx(min(distances.values()))

    def test_a_slice_lies_above_its_low_end_and_not_above_its_high(self, run):
        values = run.numbers("brightness")
        low, high = np.nanquantile(values, [0.3, 0.6], method="nearest")
        rows = rows_under(run, [{"attribute": "brightness", "low": low, "high": high}])
        assert rows == [i for i, value in enumerate(values) if low < value <= high]


def inside(outlines: list[str]) -> np.ndarray:
    """The pixels within an odd number of outlines."""
    masks = [Image.new("1", (WIDTH, HEIGHT)) for _ in outlines]
    for mask, outline in zip(masks, outlines, strict=True):
        ImageDraw.Draw(mask).polygon([*map(float, re.split("[ ,]", outline))], fill=1)
    return np.logical_xor.reduce([np.asarray(mask) for mask in masks])


class TestDrawings:
    @pytest.mark.parametrize("regions", [regions_of({}), drawn_regions()], ids=["before", "now"])
    def test_the_drawn_face_has_the_regions_and_their_places(self, regions):
        labels, drawn = region_labels(FACE, (HEIGHT, WIDTH)), np.full((HEIGHT, WIDTH), -1)
        assert list(regions) == list(DRAWN_REGIONS) == list(REGIONS)
        for name, region in beneath_first(regions):
            drawn[inside(region["outlines"])] = list(regions).index(name)
        assert (drawn == labels).mean() > 0.97
        for number, region in enumerate(regions.values()):
            x, y = region["label"]
            assert labels[round(y), round(x)] == number

    def test_the_forest_shows_every_mean_at_its_place_and_marks_findings(self, run):
        forest = lift_forest(run, run.kinds[0])
        rows = forest_rows(forest)
        svg = "".join(row["drawing"] for row in rows)
        labels = [line.label.removesuffix(" (coarse)") for line in forest.lines]
        assert labels == [name.replace("_", " ") for name in REGIONS]
        assert [line.label for line in forest.lines if "coarse" in line.label] == ["left eye (coarse)"]
        marks = [float(x) for x in re.findall(r'<circle cx="([\d.]+)%"', svg)]
        means = [e["value"] for line in forest.lines for e in line.estimates[:2]]
        order = np.argsort(means)
        assert (np.diff(np.array(marks)[order]) >= -0.011).all()
        marked = {
            row["label"].removesuffix(" (coarse)") for row in rows if "FP > TN (q 0.001)" in row["remarks"]
        }
        assert marked == {"right eye", "left eye"}

    def test_outlines_lie_on_the_regions_of_a_face_of_another_shape(self):
        turned = FACE @ np.array([[0.8, 0.15], [-0.1, 1.1]]) + (30, 20)
        turned[48:] += (6, 4)  # the mouth askew
        labels = region_labels(turned - 0.5, (HEIGHT + 60, WIDTH + 40))
        for number, (name, region) in enumerate(regions_of({}).items()):
            if name in ("right_eye", "mouth", "nose", "left_eye"):
                points = np.array([place.split(",") for place in region["outlines"][0].split()], float)
                mask = Image.new("1", labels.shape[::-1])
                ImageDraw.Draw(mask).polygon([*map(tuple, bend(points, FACE, turned))], fill=1)
                found, true = np.asarray(mask), labels == number
                assert (found & true).sum() / (found | true).sum() > 0.8, name

    def test_each_sentence_at_the_top_has_its_picture(self, folder, run):
        page = (folder / "report" / "index.html").read_text()
        top = re.search(r'<section id="top".*?</section>', page, re.DOTALL).group()
        told = [each for each in run.findings["sentences"] if each.get("top")]
        pictures = top.count("Outlined: ") + top.count("<title>Median ") + top.count("<title>Misclassified: ")
        assert top.count("<li>") == top.count("<figure>") == pictures == len(told) > 0
        face = re.search(r'class="picture face"><img src="thumbnails/0/(\d+).jpg"', top).group(1)
        assert int(face) in next(each for each in told if each["about"] == "region")["rows"]

    def test_numbers_are_told_from_every_colour_of_the_face(self):
        colours = [lift_colour(lift) for lift in (*np.geomspace(0.2, 5, 200), None)]
        assert min(contrast(ink_on(colour), colour) for colour in colours) >= 4.5

    def test_figures_are_pictures(self, folder):
        names = {path.name for path in (folder / "report" / "figures").iterdir()}
        assert names == {"attributes.png", "scores.png", "faces-0-gradcam-layer4.png", "faces-1-vanilla.png",
                         "regions-0-gradcam-layer4.png", "regions-1-vanilla.png", "repairs-FN.png",
                         "repairs-FP.png"}  # fmt: skip
        for name in names:
            with Image.open(folder / "report" / "figures" / name) as image:
                image.load()
                assert min(image.size) > 300


class TestTables:
    def test_an_empty_table_has_the_head_of_a_full_one(self, folder, run, tmp_path):
        for name, table in tables_of(run, {"regions": []}).items():
            write_csv([], tmp_path / f"{name}.csv", empty_row(table.columns))
        written = list((folder / "report" / "tables").glob("*.csv"))
        assert len(written) >= 10
        for path in written:
            head, empty = (next(csv.reader(file.open(newline=""))) for file in (path, tmp_path / path.name))
            assert set(head) <= set(empty)

    def test_no_table_takes_the_place_of_another(self, tmp_path):
        with pytest.raises(ValueError, match="two sections of the report have a table 'a'"):
            write_tables([Table("a", ("b",), [])] * 2, tmp_path / "tables")

    def test_the_tables_hold_the_findings(self, folder, run):
        with open(folder / "report" / "tables" / "contrasts.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(run.findings["contrasts"])
        assert float(rows[0]["difference_low"]) == run.findings["contrasts"][0]["difference"]["low"]
        with open(folder / "report" / "tables" / "images.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows[5]["image"] == f"'{FORMULA}"
        assert [row["score"] for row in rows[19:21]] == ["", ""]


class TestData:
    @pytest.mark.parametrize("text", [SCRIPT, HOSTILE, "\u2028\u2029", "<!--<script>", "]]>", "\\\"'", "顔"])
    def test_what_is_embedded_comes_back_and_breaks_out_of_nothing(self, text):
        data = as_data({text: [text]})
        assert json.loads(data) == {text: [text]}
        assert data.isascii()
        assert not set(data) & set("<>&")
        assert as_script(text, 1).isascii()


@pytest.mark.slow
def test_it_is_drawn_where_no_network_library_can_be_imported(tmp_path):
    folder = make_run(tmp_path / "run", 80)
    code = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED}:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Blocker())
from xface_cli.main import main
sys.argv = ["xface", "report", {str(folder)!r}]
main()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == folder / "report" / "index.html"
    assert (folder / "report" / "index.html").is_file()
