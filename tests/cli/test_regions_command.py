"""`xface regions`, and the tables over several images that it writes."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from command_line import FAKE, REAL, meso4, one_cell, run, truncated
from PIL import Image
from safetensors.torch import load_file, save_file
from test_report import a_map, findings
from torch import full, tensor

import xface
from xface.analysis.effect_means import effect_means, mean_effect_table
from xface.analysis.region_means import (
    NUMBERS,
    left_out,
    mean_measures,
    region_means,
    region_rows,
)
from xface.explanation import EFFECT_COLUMNS
from xface.faces import REGIONS
from xface.images.pictures import read_picture
from xface.report import region_table

METHODS = ["--method", "gradcam", "--method", "vanilla"]


def regions(folder, *words):
    return run("regions", "--device", "cpu", *METHODS, "--out", folder, *words)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    return regions(folder, FAKE), folder


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A folder of two faces, a picture without one, and a broken file: the run, its output, its input."""
    source, out = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    for name, path in (("a.jpg", FAKE), ("d.jpg", REAL)):
        (source / name).write_bytes(path.read_bytes())
    Image.new("RGB", (64, 64), "grey").save(source / "b.png")
    (source / "c.jpg").write_bytes(truncated())
    return regions(out, source), out, source


class TestOneImage:
    def test_it_prints_what_explain_prints_and_where_the_chart_is(self, one, tmp_path):
        done, folder = one
        explained = run("explain", "--device", "cpu", *METHODS, "--out", tmp_path, FAKE)
        assert done.out.partition("\nchart: ")[0] == explained.out.partition("\npanel: ")[0]
        [chart] = folder.iterdir()
        assert done.out.splitlines()[-2] == f"chart: {chart}"
        assert (done.status, done.err) == (0, "")

    def test_json_is_one_object_with_the_chart(self, one, tmp_path):
        done = regions(tmp_path, "--json", FAKE)
        [line] = done.lines
        found = xface.explain(xface.load(device="cpu"), FAKE, ["gradcam", "vanilla"])
        assert line["regions"] == [asdict(row) for row in found.regions]
        assert line["chart"] == str(next(tmp_path.glob("*.png")))
        assert set(line) == {*json.loads(json.dumps(found.to_json())), "chart"}
        assert done.err == ""


class TestSeveral:
    def test_a_bad_image_costs_only_itself(self, several):
        done, out, source = several
        assert done.status == 1
        assert "1 of 4 images failed, the others are done" in done.err
        assert done.err.count(str(source / "c.jpg")) == 1
        made = {path.name.partition("-meso4")[0] for path in out.glob("[0-9]*.png")}
        assert made == {"0-a", "3-d"}  # no chart without a face
        assert not list(out.parent.glob(".*part"))

    def test_the_table_has_a_row_per_image_map_and_region(self, several):
        _, out, source = several
        table = pd.read_csv(out / "regions.csv", keep_default_na=False, na_values=dict.fromkeys(NUMBERS, ""))
        keys = [(m, layer, r) for m, layer in (("gradcam", "block4.norm"), ("vanilla", "")) for r in REGIONS]
        for name, status in (("a.jpg", "ok"), ("b.png", "no_face"), ("d.jpg", "ok")):
            own = table[table["image"] == str(source / name)]
            assert list(own[["method", "layer", "region"]].itertuples(index=False, name=None)) == keys
            assert set(own["status"]) == {status}
            assert own[NUMBERS[:3]].isna().all(axis=None) == (status == "no_face")
        assert len(table) == 3 * len(keys)

    def test_means_are_those_of_the_images_with_a_face(self, several):
        _, out, _ = several
        detector = xface.load(device="cpu")
        found = [xface.explain(detector, path, ["gradcam", "vanilla"]).regions for path in (FAKE, REAL)]
        means = pd.read_csv(out / "regions-mean.csv", keep_default_na=False, na_values={"face_share": ""})
        assert len(means) == len(found[0])
        for row, first, second in zip(means.to_dict("records"), *found, strict=True):
            assert (row["method"], row["region"]) == (first.method, first.region)
            for name in ("share", "lift", "area", "rank"):
                assert row[name] == pytest.approx((getattr(first, name) + getattr(second, name)) / 2)
            assert [row[name] for name in ("images", "no_face", "undefined", "n")] == [3, 1, 0, 2]

    def test_means_are_printed_with_what_they_leave_out(self, several):
        done, out, _ = several
        text = done.out.partition("mean over images\n\n")[2]
        assert [line.split()[0] for line in text.splitlines() if line[:14].strip() in REGIONS] == list(
            REGIONS
        )
        assert "gradcam at block4.norm: n = 2; left out: 1 without a face\n" in text
        assert f"tables and mean chart: {out}\n" in done.err
        assert (out / "regions-mean.png").stat().st_size > 5000

    def test_json_keeps_stdout_to_its_lines(self, several, tmp_path):
        done = regions(tmp_path, "--json", "--format", "parquet", several[2])
        assert ["error" in line for line in done.lines] == [False, False, True, False]
        assert done.lines[1]["chart"] is None
        assert done.lines[1]["regions"] == []
        table = pd.read_parquet(tmp_path / "regions.parquet")
        pd.testing.assert_frame_equal(region_means(table), pd.read_parquet(tmp_path / "regions-mean.parquet"))

    def test_classes_that_mix_are_noted(self, tmp_path):
        """A network that calls a bright face fake and a dark one real."""
        Image.fromarray(np.asarray(Image.open(FAKE)) // 3).save(tmp_path / "dark.png")
        images, weights = (FAKE, tmp_path / "dark.png"), one_cell(tmp_path / "w.safetensors")
        detector = xface.load(weights, device="cpu")
        tensors = [detector.prepare(read_picture(path)).tensor for path in images]
        bright, dark = (float(detector.logits(each[None])[0, 0]) for each in tensors)
        bias = tensor([-(bright + dark) / 2, 0.0])
        save_file({**load_file(weights), "dense.head.bias": bias}, weights)
        done = regions(tmp_path / "out", "--weights", weights, *images)
        assert "note: the maps explain fake in 1 images, real in 1 images; --target CLASS" in done.err

    def test_undefined_maps_are_left_out_and_counted(self, tmp_path):
        dead = meso4(tmp_path / "dead.safetensors", **{"dense.head.weight": full((2, 16), 0.0)})
        done = regions(tmp_path / "out", "--weights", dead, FAKE, REAL)
        means = pd.read_csv(tmp_path / "out" / "regions-mean.csv")
        assert set(means["undefined"]) == {2}
        assert set(means["n"]) == {0}
        assert means["lift"].isna().all()
        assert "vanilla: n = 0; left out: 2 with an undefined map\n" in done.out
        assert done.status == 0


class TestMeans:
    @pytest.fixture(scope="class")
    def images(self):
        """Three images with planted maps, of which one is zero, and one without a face."""
        rng = np.random.default_rng(0)
        maps = [a_map("vanilla", None, rng.random((8, 8))) for _ in range(3)]
        maps[1] = a_map("vanilla", None, np.zeros((8, 8)), status="zero")
        found = [findings(amap, image=f"{n}.jpg") for n, amap in enumerate(maps)]
        return [*found, findings(maps[0], face=False, image="3.jpg", label="real")]

    def test_a_region_outside_one_picture_is_averaged_over_the_others(self, images):
        gone = tuple(
            replace(row, share=0.0, lift=None) if row.region == "jaw" else row for row in images[0].regions
        )
        rows = pd.concat([region_rows(replace(images[0], regions=gone)), region_rows(images[2])])
        jaw = region_means(rows).set_index("region").loc["jaw"]
        expected = next(row for row in images[2].regions if row.region == "jaw")
        assert (jaw["n"], jaw["lift"]) == (1, pytest.approx(expected.lift))
        assert jaw["share"] == pytest.approx(expected.share / 2)

    def test_the_mean_of_one_image_is_that_image(self, images):
        means = region_means(region_rows(images[0]))
        found = mean_measures(means)
        for one, other in zip(found, images[0].regions, strict=True):
            assert (one.method, one.layer, one.region, one.coarse) == (
                other.method, other.layer, other.region, other.coarse)  # fmt: skip
            assert one.lift == pytest.approx(other.lift)
        assert region_table(replace(images[0], regions=tuple(found))) == region_table(images[0])
        assert left_out(means) == {("vanilla", None): "n = 1"}


class TestEffects:
    def test_means_are_those_of_the_images_with_a_face_and_flips_are_counted(self, several):
        done, out, source = several
        rows = pd.read_csv(out / "effects.csv")
        assert len(rows) == 3 * len(REGIONS)
        assert set(rows[rows["image"] == str(source / "b.png")]["status"]) == {"no_face"}
        found = xface.explain(xface.load(device="cpu"), REAL, ["vanilla"]).effects
        own = rows[rows["image"] == str(source / "d.jpg")]
        assert own["effect"].tolist() == pytest.approx([row.effect for row in found], abs=1e-6)
        means = pd.read_csv(out / "effects-mean.csv").set_index("region")
        for region, each in rows[rows["status"] != "no_face"].groupby("region"):
            row = means.loc[region]
            assert row["effect"] == pytest.approx(each["effect"].mean())
            assert [row[name] for name in ("images", "no_face", "n")] == [3, 1, 2]
            assert row["flips"] == each["flips"].sum()
            assert row["within_noise"] == (each["status"] == "within_noise").sum()
        assert "mean effects over images\n\nregion" in done.out
        assert (out / "effects-mean.png").stat().st_size > 5000

    def test_means_of_ten_images_have_an_interval(self):
        values = np.random.default_rng(0).normal(2.0, 1.0, 24)
        row = {"label": "fake", "region": "nose", "status": "clear", "flips": False}
        rows = pd.DataFrame([{**row, "image": f"{n}.jpg", "effect": v} for n, v in enumerate(values)])
        rows = rows.reindex(columns=["image", "label", *EFFECT_COLUMNS])
        found = effect_means(rows).iloc[0]
        low, high = scipy.stats.t.interval(0.95, 23, values.mean(), scipy.stats.sem(values))
        assert high - low < found["effect_high"] - found["effect_low"] < 1.3 * (high - low)
        assert (found["effect_low"] + found["effect_high"]) / 2 == pytest.approx(values.mean())
        assert f"±{found['effect_high'] - found['effect']:.2f}" in mean_effect_table(effect_means(rows))
        again = rows.assign(image=[f"{n % 9}.jpg" for n in range(24)])  # nine images, some of them again
        assert np.isnan(effect_means(again).iloc[0]["effect_low"])

    def test_without_effects_there_are_no_tables_of_them(self, tmp_path):
        done = regions(tmp_path, "--effects", "none", FAKE, REAL)
        assert not list(tmp_path.glob("effects*"))
        assert "hiding" not in done.out
