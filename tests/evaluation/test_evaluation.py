"""Evaluations of a planted detector, whose scores are known from the pictures' grey."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from project import ROOT
from scipy.integrate import trapezoid
from torch import nn

from xface.data import Samples
from xface.detectors import Card, Detector
from xface.detectors.detector import BATCH
from xface.errors import OutputError, UnknownNameError, UsageError
from xface.evaluation.evaluation import evaluate
from xface.evaluation.figure import draw_evaluation
from xface.evaluation.folder import save_evaluations
from xface.evaluation.labelled_sets import LabelledSet, check_apart, evaluate_set, read_sets, read_validation
from xface.evaluation.scoring import score
from xface.evaluation.table import evaluation_table, sets_table
from xface.evaluation.thresholds import Threshold
from xface.files.writing import appearing
from xface.networks import architecture
from xface.preprocessing import Preprocessing
from xface.statistics.metrics import METRICS, measure

HALF = Threshold(0.5, "default")


class Grey(nn.Module):
    """The logit is ten times the mean grey above one half; a white picture gives no finite logit."""

    def __init__(self, logits=1):
        super().__init__()
        self.logits, self.sizes = logits, []

    def forward(self, x):
        self.sizes.append(len(x))
        z = 10 * (x.mean(dim=(1, 2, 3)) - 0.5)[:, None]
        z = torch.where(z >= 5, torch.nan, z)
        return z if self.logits == 1 else torch.cat([torch.zeros_like(z), z], dim=1)


def planted(classes=("real", "fake"), positive="fake", logits=1, size=(16, 16)):
    card = Card("meso4", classes, Preprocessing(size), positive=positive)
    return Detector(architecture("meso4"), Grey(logits).eval(), card, torch.device("cpu"))


def probability(grey):
    return 1 / (1 + math.exp(-10 * (grey / 255 - 0.5)))


def picture(path, grey, side=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), grey, np.uint8)).save(path)
    return str(path)


GREYS = {"fake": [40, 120, 140, 180, 200, 240], "real": [10, 60, 100, 130, 150, 190]}


@pytest.fixture
def faces(tmp_path):
    rows = [
        {"path": picture(tmp_path / label / f"{grey}.png", grey), "label": label, "grey": grey}
        for label, greys in GREYS.items()
        for grey in greys
    ]
    return pd.DataFrame(rows)


def scored(labels, scores, **columns):
    table = pd.DataFrame({"label": labels, "score": scores, **columns})
    return table.assign(path=[f"/{i}.png" for i in range(len(table))], reason=columns.get("reason", ""))


class TestScores:
    @pytest.mark.parametrize("logits", [1, 2])
    def test_are_the_positive_classs_probabilities(self, faces, logits):
        done = []
        table = score(planted(logits=logits), faces, done.append)
        assert table["score"].tolist() == pytest.approx([probability(g) for g in faces["grey"]], rel=1e-5)
        assert set(table["reason"]) == {""}
        assert sum(done) == len(faces)

    @pytest.mark.parametrize("logits", [1, 2])
    def test_sure_verdicts_do_not_tie(self, tmp_path, logits):
        """In float32 a logit of 18 has the probability 1, as one of 20 has."""
        detector = planted(logits=logits)
        detector.model.register_forward_hook(lambda module, inputs, output: output * 5)
        paths = [picture(tmp_path / f"{grey}.png", grey) for grey in (220, 230, 240)]
        scores = score(detector, pd.DataFrame({"path": paths}))["score"]
        assert scores.is_unique
        assert scores.is_monotonic_increasing

    def test_a_detector_without_a_positive_class_is_refused(self, faces):
        with pytest.raises(UsageError, match="which one is the forgery: --positive NAME"):
            score(planted(classes=("a", "b"), positive=None), faces)

    def test_bad_images_cost_themselves(self, faces, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"no picture")
        bad = [str(tmp_path / "broken.png"), str(tmp_path / "gone.png"), picture(tmp_path / "white.png", 255)]
        mixed = pd.concat([faces[:3], pd.DataFrame({"path": bad, "label": "fake"}), faces[3:]])
        table = score(planted(), mixed).reset_index(drop=True)
        failed = table[table["reason"] != ""]
        assert failed.index.tolist() == [3, 4, 5]
        assert failed["score"].isna().all()
        for reason, words in zip(failed["reason"], ("not an image", "no such file", "finite"), strict=True):
            assert words in reason
        expected = [probability(g) for g in faces["grey"]]
        assert table["score"].dropna().tolist() == pytest.approx(expected, rel=1e-5)

    def test_are_the_same_in_any_batch(self, tmp_path):
        greys = [(7 * i) % 250 for i in range(2 * BATCH + 5)]
        table = pd.DataFrame({"path": [picture(tmp_path / f"{i}.png", g) for i, g in enumerate(greys)]})
        detector = planted()
        scores = score(detector, table)["score"]
        assert detector.model.sizes == [BATCH, BATCH, 5]
        assert scores.tolist() == pytest.approx([probability(g) for g in greys], rel=1e-5)

    def test_sizes_may_differ_where_the_card_keeps_them(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            "xface.detectors.detector.takes", lambda *_: True
        )  # of Grey, which has no weights
        sides = [20, 20, 30, 20]
        paths = [picture(tmp_path / f"{i}.png", 50 * i, side) for i, side in enumerate(sides)]
        detector = planted(size=None)
        scores = score(detector, pd.DataFrame({"path": paths}))["score"]
        assert scores.tolist() == pytest.approx([probability(50 * i) for i in range(4)], rel=1e-5)


class TestEvaluate:
    def test_the_planted_detector(self, faces):
        """At 0.5, which is a grey of 127.5, 4 of 6 fakes and 3 of 6 reals are right."""
        found = evaluate(score(planted(), faces), "faces", HALF)
        metrics = {name: each.value for name, each in found.whole[0].metrics.items()}
        assert metrics["auc"] == pytest.approx(sum(f > r for f in GREYS["fake"] for r in GREYS["real"]) / 36)
        assert [metrics[cell] for cell in ("tp", "fn", "fp", "tn")] == [4, 2, 3, 3]
        assert metrics["accuracy"] == pytest.approx(7 / 12)
        assert metrics["precision"] == pytest.approx(4 / 7)
        brier = [(probability(g) - (label == "fake")) ** 2 for label, gs in GREYS.items() for g in gs]
        assert metrics["brier"] == pytest.approx(np.mean(brier), rel=1e-5)

    def test_outcomes_and_calls_of_each_image(self):
        table = scored(
            ["fake", "fake", "real", "real", "fake"],
            [0.5, 0.4, 0.6, 0.1, float("nan")],
            reason=["", "", "", "", "broken"],
        )
        found = evaluate(table, "x", HALF)
        assert found.table["outcome"].tolist() == ["TP", "FN", "FP", "TN", ""]
        assert found.table["called"].tolist() == ["fake", "real", "fake", "real", ""]
        assert found.failed["reason"].tolist() == ["broken"]
        assert found.whole[0].count == 4

    def test_videos_by_mean_and_maximum(self):
        """Video a: fake, mean 0.5, maximum 0.9; b: real, 0.4 and 0.6; c is fake and d real, of one frame."""
        table = scored(
            ["fake"] * 3 + ["real"] * 2 + ["fake", "real"],
            [0.9, 0.3, 0.3, 0.6, 0.2, 0.7, 0.55],
            group=["a", "a", "a", "b", "b", "c", "d"],
        )
        frames, mean, top = evaluate(table, "x", HALF).whole
        assert [s.unit for s in (frames, mean, top)] == ["image", "group", "group"]
        assert [s.pool for s in (frames, mean, top)] == [None, "mean", "max"]
        assert [(s.count, s.positives, s.groups) for s in (frames, mean, top)] == [
            (7, 4, 4),
            (4, 2, 4),
            (4, 2, 4),
        ]
        assert mean.metrics == measure([1, 0, 1, 0], [0.5, 0.4, 0.7, 0.55], 0.5, list("abcd"))
        assert top.metrics == measure([1, 0, 1, 0], [0.9, 0.6, 0.7, 0.55], 0.5, list("abcd"))

    def test_a_real_video_and_its_forgery_in_one_group_are_two_videos(self):
        table = scored(["fake", "fake", "real", "real"], [0.9, 0.7, 0.3, 0.1], group=["a"] * 4)
        _, mean, _ = evaluate(table, "x", HALF).whole
        assert (mean.count, mean.positives, mean.groups) == (2, 1, 1)
        assert mean.metrics["auc"].value == 1

    def test_a_column_video_goes_before_groups_but_intervals_keep_to_groups(self):
        rng = np.random.default_rng(0)
        labels = np.repeat(["fake", "real"], 120)
        table = scored(
            labels,
            np.clip(rng.normal(np.where(labels == "fake", 0.6, 0.4), 0.3), 0, 1),
            group=np.repeat([f"actor {i}" for i in range(12)], 20),
            video=np.repeat([f"video {i}" for i in range(60)], 4),
        )
        frames, mean, _ = evaluate(table, "x", HALF).whole
        assert (mean.unit, mean.count, mean.groups, frames.groups) == ("video", 60, 12, 12)
        pooled = table.groupby(["video", "group", "label"])["score"].mean().reset_index()
        expected = measure(pooled["label"] == "fake", pooled["score"], 0.5, pooled["group"])
        for name, each in expected.items():
            assert mean.metrics[name].to_json() == pytest.approx(each.to_json(), abs=1e-9)

    def test_groups_of_one_image_per_class_are_no_videos(self):
        table = scored(["fake", "real"] * 10, np.linspace(0.1, 0.9, 20), group=np.repeat(range(10), 2))
        assert [summary.unit for summary in evaluate(table, "x", HALF).whole] == ["image"]

    def test_all_that_is_made_of_one_face_is_one_group(self):
        pairs = ["", "/0.png", "/0.png", "/4.png", "/3.png", ""]
        table = scored(["real", "fake", "fake", "real", "fake", "fake"], np.linspace(0.1, 0.9, 6), pair=pairs)
        found = evaluate(table, "x", HALF)
        assert [(each.unit, each.groups) for each in found.whole] == [("image", 3)]
        assert found.table["group"].tolist() == ["/0.png"] * 3 + ["/3.png"] * 2 + [""]
        assert not any("no groups are named" in caution for caution in found.cautions)

    def test_a_kind_of_forgery_is_measured_against_all_real_faces(self):
        table = scored(
            ["fake", "fake", "fake", "real", "real"],
            [0.9, 0.2, 0.8, 0.3, 0.1],
            kind=["swap", "swap", "mouth", "", ""],
        )
        mouth, swap = evaluate(table, "x", HALF, by=["kind"]).parts
        assert (mouth.value, mouth.rest, mouth.count, mouth.positives) == ("mouth", True, 3, 1)
        assert (swap.value, swap.rest, swap.count, swap.positives) == ("swap", True, 4, 2)
        assert swap.metrics["auc"].value == 0.75
        assert mouth.metrics["auc"].value == 1

    def test_a_value_with_both_classes_stands_alone(self):
        table = scored(["fake", "real"] * 2, [0.9, 0.2, 0.1, 0.3], source=["a", "a", "b", "b"])
        parts = evaluate(table, "x", HALF, by=["source"]).parts
        assert [(p.value, p.rest, p.count, p.metrics["auc"].value) for p in parts] == [
            ("a", False, 2, 1.0),
            ("b", False, 2, 0.0),
        ]

    def test_an_unknown_column_is_named_before_any_image_is_read(self, faces):
        each = LabelledSet("x", Samples(faces.assign(path="/nowhere.png")))
        with pytest.raises(UnknownNameError, match="grey"):
            evaluate_set(planted(), each, HALF, ["gray"], lambda done: None)

    def test_nothing_scored_is_an_error_with_the_reason(self):
        table = scored(["fake"], [float("nan")], reason=["it is a folder"])
        with pytest.raises(UsageError, match="it is a folder"):
            evaluate(table, "x", HALF)

    def test_cautions(self):
        one = scored(
            ["fake"] * 3, [0.1, 0.2, float("nan")], split=["train", "test", "test"], reason=["", "", "bad"]
        )
        words = " ".join(evaluate(one, "x", HALF, notes=["2 files are missing"]).cautions)
        for part in ("2 files are missing", "several splits (test, train)", "no groups", "fewer than 10",
                     "only one class", "1 of 3 fake"):  # fmt: skip
            assert part in words
        fine = scored(["fake", "real"] * 20, np.linspace(0, 1, 40), group=np.arange(40).astype(str))
        assert evaluate(fine, "x", HALF).cautions == ()


def simulated(name="set", count=200, seed=0, **options):
    rng = np.random.default_rng(seed)
    labels = np.array(["fake", "real"])[rng.integers(0, 2, count)]
    scores = np.clip(rng.normal(np.where(labels == "fake", 0.6, 0.4), 0.2), 0, 1)
    kinds = np.where(labels == "fake", np.where(rng.random(count) < 0.5, "swap", "mouth"), "")
    return evaluate(scored(labels, scores, kind=kinds), name, HALF, by=["kind"], resamples=100, **options)


class TestText:
    def test_the_table_has_every_metric_with_its_interval(self):
        found = simulated()
        lines = evaluation_table(found).splitlines()
        for name, metric in METRICS.items():
            if not metric.count:
                [line] = [line for line in lines if line.startswith(f"{metric.title}  ")]
                each = found.whole[0].metrics[name]
                assert f"{each.value:.3f} ({each.low:.3f}-{each.high:.3f})" in line
        assert "100 bootstrap resamples of groups" in lines[2]

    def test_the_confusion_matrix_stands_the_right_way_round(self):
        table = scored(["fake"] * 7 + ["real"] * 8, [0.9] * 4 + [0.1] * 3 + [0.9] * 2 + [0.1] * 6)
        lines = evaluation_table(evaluate(table, "x", HALF, resamples=50)).splitlines()
        fake, real = ([cell for cell in line.split() if cell.isdigit()] for line in lines[-2:])
        assert lines[-3].split() == ["images", "called", "fake", "called", "real"]
        assert (fake, real) == (["4", "3"], ["2", "6"])

    def test_undefined_is_said_with_the_reason(self):
        found = evaluate(scored(["real"] * 12, np.linspace(0, 0.4, 12)), "x", HALF)
        text = evaluation_table(found)
        for title, reason in (
            ("AUC", "one class only"),
            ("precision", "no positive call"),
            ("recall", "no positive"),
        ):
            [line] = [line for line in text.splitlines() if line.startswith(title)]
            assert line.endswith(f"undefined: {reason}")
        assert "undefined" in sets_table([found])

    def test_names_from_outside_break_no_line(self):
        text = sets_table([simulated("a\nb\x1b[31m")])
        assert "\x1b" not in text
        assert len(text.splitlines()) == 2


class TestFiles:
    def test_scores_json_and_figures(self, tmp_path):
        sets = [simulated("one"), simulated("../two", seed=1)]
        save_evaluations(sets, {"arch": "x"}, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {
            "scores.csv", "evaluation.json", "0-one.png", "1-_._two.png"
        }  # fmt: skip
        table = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
        assert table["data"].value_counts().to_dict() == {"one": 200, "../two": 200}
        again = measure(table["positive"][:200], table["score"][:200], resamples=100)
        content = json.loads((tmp_path / "evaluation.json").read_text())
        assert content["evaluations"][0]["whole"][0]["metrics"]["auc"] == pytest.approx(
            again["auc"].to_json()
        )

    def test_a_folder_appears_whole(self, tmp_path):
        with appearing(tmp_path / "a" / "out") as aside:
            (aside / "file").write_text("x")
            assert not (tmp_path / "a" / "out").exists()
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]
        assert (tmp_path / "a" / "out" / "file").read_text() == "x"

    @pytest.mark.parametrize("ending", [KeyboardInterrupt, UsageError])
    def test_or_not_at_all(self, tmp_path, ending):
        def fail():
            with appearing(tmp_path / "out") as aside:
                (aside / "file").write_text("half")
                raise ending

        with pytest.raises(ending):
            fail()
        assert list(tmp_path.iterdir()) == []

    def test_one_that_is_there_keeps_its_other_files(self, tmp_path):
        (tmp_path / "old").write_text("old")
        (tmp_path / "file").write_text("old")
        with appearing(tmp_path) as aside:
            (aside / "file").write_text("new")
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old": "old", "file": "new"}
        assert list(tmp_path.parent.glob(".*.part")) == []

    def test_a_place_that_cannot_be_written_is_refused_first(self, tmp_path):
        (tmp_path / "file").write_text("")
        for place in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(OutputError), appearing(place):
                raise AssertionError("it must not begin")

    def test_the_figure_shows_the_curve_that_the_area_is_of(self):
        found = simulated()
        roc, precision, calibration, histogram = draw_evaluation(found).axes
        curve = next(line for line in roc.lines if str(line.get_label()).startswith("AUC"))
        assert trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(
            found.whole[0].metrics["auc"].value
        )
        threshold = next(line for line in precision.lines if line.get_label() == "at the threshold")
        metrics = found.whole[0].metrics
        assert (threshold.get_xdata()[0], threshold.get_ydata()[0]) == (
            metrics["recall"].value,
            metrics["precision"].value,
        )
        assert sum(int(text.get_text()) for text in calibration.texts) == 200
        for cell in (roc, precision, calibration, histogram):
            assert cell.get_title()
            assert cell.get_xlabel()
            assert cell.get_ylabel()

    def test_one_class_is_drawn_as_undefined(self):
        found = evaluate(scored(["real"] * 12, np.linspace(0, 1, 12)), "$x^2$", HALF)
        figure = draw_evaluation(found)
        figure.canvas.draw()
        assert "undefined" in figure.axes[0].texts[0].get_text()


def test_scores_are_summed_up_and_drawn_without_torch():
    code = """
import sys
import numpy as np, pandas as pd
from xface.evaluation import Threshold, draw_evaluation, evaluate
from xface.evaluation.table import evaluation_table
columns = {"path": "x", "label": ["fake", "real"] * 10, "score": np.linspace(0, 1, 20), "reason": ""}
table = pd.DataFrame(columns)
found = evaluate(table, "x", Threshold(0.5, "default"))
draw_evaluation(found).canvas.draw()
print(evaluation_table(found), [name for name in ("torch", "dlib", "cv2") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("[]\n"), done.stdout + done.stderr


class TestSets:
    @pytest.fixture
    def manifest(self, faces, tmp_path):
        split = ["val", "test"] * 6
        path = tmp_path / "planted" / "manifest.csv"
        path.parent.mkdir()
        faces.assign(split=split).to_csv(path, index=False)
        return path

    def test_a_split_is_picked(self, manifest):
        [whole], [test] = read_sets([str(manifest)]), read_sets([str(manifest.parent)], "test")
        assert (whole.name, test.name) == ("planted", "planted")
        assert (len(whole.samples), len(test.samples)) == (12, 6)
        assert set(test.samples.column("split")) == {"test"}

    def test_two_of_one_name_bear_their_paths(self, manifest, tmp_path):
        other = tmp_path / "b" / "planted"
        picture(other / "real" / "1.png", 3)
        first, second = read_sets([str(manifest), str(other)])
        assert (first.name, second.name) == (str(manifest), str(other))

    def test_validation_takes_its_own_split(self, manifest):
        validation = read_validation(str(manifest))
        assert set(validation.samples.column("split")) == {"val"}
        assert validation.name == "planted, split val"
        check_apart(validation, read_sets([str(manifest)], "test"))

    def test_validation_on_test_images_is_refused(self, manifest):
        with pytest.raises(UsageError, match="6 images of planted"):
            check_apart(read_validation(str(manifest)), read_sets([str(manifest)]))
