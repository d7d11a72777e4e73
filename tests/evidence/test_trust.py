"""`xface trust` from files to verdicts: planted truths, kinds of data, and kills."""

import json
import os
import signal
from dataclasses import replace

import command_line
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from project import SAMPLES
from test_regions import FACE
from torch import nn

from xface.attribution import METHODS, Method
from xface.data import read_samples
from xface.detectors.card import Card
from xface.detectors.loading import load
from xface.errors import DataError, UnknownNameError, UsageError
from xface.evidence.baselines import gaussian
from xface.evidence.checks import Figure
from xface.evidence.hiding import ShownFace
from xface.evidence.trust.grades import graded
from xface.evidence.trust.plan import plan_trust
from xface.evidence.trust.run import trust
from xface.evidence.trust.tables import TABLES
from xface.evidence.trust.verdicts import Answerers, Judge, Table
from xface.faces.regions import REGIONS, region_labels
from xface.preprocessing import Preprocessing
from xface.results import CONTRADICTED, INFORMATIVE, NO_BETTER, NOT_CHECKED, Face
from xface.runs.trust import CheckRecord, read_trust

SIDE, COUNT = 64, 14
POINTS = FACE * (SIDE / 240)
LABELS = region_labels(POINTS, (SIDE, SIDE))
IOD = float(np.linalg.norm(POINTS[36:42].mean(axis=0) - POINTS[42:48].mean(axis=0)))


class OneFace:
    """Finds the same face in all pictures but grey ones."""

    detector = "hog"

    def face(self, pixels):
        if pixels.std() == 0:
            return Face(False, notes=("there is none",))
        low, high = POINTS.min(axis=0).astype(int), POINTS.max(axis=0).astype(int)
        return Face(True, (*low.tolist(), *high.tolist()), POINTS, "drawn")


class Mouth(nn.Module):
    """The logit of fake is how much red the mouth has, by weights that an untrained copy lacks."""

    def __init__(self):
        super().__init__()
        weights = torch.from_numpy(list(REGIONS).index("mouth") == LABELS).float()
        self.where = nn.Parameter(20 * weights / weights.sum(), requires_grad=False)

    def forward(self, images):
        red = images[:, 0] - images[:, 1]  # not rectified: the untrained network's map would show the red
        logit = (red * self.where).sum(dim=(1, 2)) - 1
        return torch.stack([logit, -logit], dim=1)


def centre(trace, layer):
    face = ShownFace(trace.images[0], torch.from_numpy(LABELS), IOD)
    return gaussian(face, 0).expand(len(trace.images), SIDE, SIDE)


def picture(trace, layer):
    return trace.images.detach().mean(dim=1)


def noise(trace, layer):
    seed = int(1e6 * float(trace.images.detach().sum().abs())) % 2**31
    return torch.rand(len(trace.images), SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


PLANTED = {each.__name__: each for each in (centre, picture, noise)}


@pytest.fixture(scope="module")
def detector():
    with_head = load("none", arch="resnet18", device="cpu")
    card = Card("resnet18", ("fake", "real"), Preprocessing((SIDE, SIDE)), source="test")
    arch = replace(with_head.arch, layer="", stages=())
    return replace(with_head, model=Mouth().eval(), arch=arch, card=card)


@pytest.fixture(scope="module")
def planted():
    with pytest.MonkeyPatch.context():
        entries = [METHODS.having(name, Method(name, name, "none", each)) for name, each in PLANTED.items()]
        for entry in entries:
            entry.__enter__()
        yield list(PLANTED)
        for entry in reversed(entries):
            entry.__exit__(None, None, None)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Real faces, smooth, and forgeries with red in all of the face; one is broken, one has no face."""
    folder, rng = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    rows = []
    for number in range(COUNT):
        grey = np.asarray(Image.fromarray(rng.integers(60, 160, (8, 8), np.uint8)).resize((SIDE, SIDE)))
        real = np.repeat(grey[..., None], 3, axis=2).copy()
        forged = real.copy()
        forged[list(REGIONS).index("background") != LABELS, 0] += rng.integers(50, 80, dtype=np.uint8)
        for kind, pixels in (("real", real), ("fake", forged)):
            Image.fromarray(pixels).save(folder / f"{kind}{number}.png")
        rows += [(f"real{number}.png", "real", f"fake{number}.png", f"g{number}", f"p{number}"),
                 (f"fake{number}.png", "fake", f"real{number}.png", f"g{number}", f"p{number}")]  # fmt: skip
    (folder / "fake0.png").write_bytes((folder / "fake0.png").read_bytes()[:100])
    Image.new("RGB", (SIDE, SIDE), "grey").save(folder / "fake1.png")
    table = pd.DataFrame(rows, columns=["path", "label", "pair", "group", "both"])
    table.to_csv(folder / "faces.csv", index=False)
    table.drop(columns="pair").to_csv(folder / "named.csv", index=False)
    table[table["label"] == "real"].drop(columns="pair").to_csv(folder / "real.csv", index=False)
    return folder


def plan(detector, source, methods=("vanilla",), **choice):
    return plan_trust(detector, read_samples(str(source), keep_missing=True), str(source), methods, **choice)


def run(planned, out, **how):
    trust(planned, out, workers=0, store=OneFace(), **how)
    return read_trust(out)


@pytest.fixture(scope="module")
def found(detector, planted, faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return run(plan(detector, faces / "faces.csv", ("vanilla", *planted)), out), out


def test_planted_truths_are_told_apart(found):
    record, _ = found
    maps = {each.method: each for each in record.maps}
    assert maps["vanilla"].grade == INFORMATIVE
    assert maps["vanilla"].checks["partial_swap"].value == 1
    assert maps["noise"].grade in (NO_BETTER, CONTRADICTED)
    assert maps["centre"].grade == maps["picture"].grade == CONTRADICTED
    gaussians = next(each for each in record.baselines if each.method == "gaussian")
    for name, check in maps["centre"].checks.items():
        if not name.startswith(("stability", "randomisation", "adversarial")):
            assert check.value == pytest.approx(gaussians.checks[name].value, abs=1e-6)
    [effects] = record.effects
    assert effects.grade == INFORMATIVE
    assert effects.checks["partial_swap"].value == 1
    parts = effects.checks["partial_swap"].parts
    assert {part.name for part in parts if part.by == "region"} == {"mouth"}
    assert all(each.verdict.startswith(each.grade) for each in (*record.maps, *record.effects))


def test_best_and_worst_are_shown_on_a_page(found):
    record, out = found
    page = (out / "report" / "index.html").read_text()
    assert f"xface report: {out.name}<" in page
    assert {(each.method, each.end) for each in record.examples} >= {("vanilla", "best"), ("noise", "worst")}
    noise = {each.end: each.value for each in record.examples if each.method == "noise"}
    assert noise["worst"] < record.maps[-1].checks["pixel_auc"].value < noise["best"]
    for number, each in enumerate(record.examples):
        assert Image.open(out / each.file).size == (2 * SIDE, SIDE)
        assert f'src="examples/{number}.jpg"' in page


def test_the_record_says_what_was_asked_and_what_was_left_out(found):
    record, out = found
    left = {(each.what, each.reason[:20]): each.count for each in record.data.left_out}
    assert sum(left.values()) == 2
    assert {what for what, _ in left} == {"picture"}
    assert {"there is none" in each.reason: each.failed for each in record.data.left_out} == {
        True: False,
        False: True,
    }
    data, shown = record.data, COUNT - 2
    assert (data.forged, data.made, data.pairs, data.masked, data.groups) == (shown, 0, shown, shown, shown)
    assert (data.swaps, data.masks) == (record.maps[0].checks["partial_swap"].n, "pairs")
    names = [(each.method, each.of) for each in record.baselines]
    assert names[:3] == [("gaussian", None), ("edges", None), ("random", None)]
    assert names[3:] == [("untrained", each.method) for each in record.maps]
    figures = set(record.checks)
    assert all(set(each.checks) == figures for each in (*record.maps, *record.baselines, *record.effects))
    content = json.loads((out / "trust.json").read_text())
    assert list(content["maps"][0]) == ["method", "layer", "checks", "grade", "verdict", "decided_by"]
    check = content["maps"][0]["checks"]["pixel_auc"]
    assert {"value", "interval", "n", "best_baseline", "difference", "difference_interval"} <= set(check)
    assert check["n"] == COUNT - 2


@pytest.mark.parametrize("column", [None, "both"])
def test_pairs_are_found_by_any_column(detector, faces, column, tmp_path):
    source = faces / ("faces.csv" if column is None else "named.csv")
    found = plan(detector, source, pairs=column).cases
    assert found.pairs == COUNT
    assert all(case.counterpart.endswith(case.path[-6:].replace("fake", "real")[-5:]) for case in found.cases)


def test_without_pairs_they_are_made_of_real_faces(detector, faces, tmp_path):
    record = run(plan(detector, faces / "real.csv", limit=11), tmp_path / "run")
    assert (record.data.forged, record.data.made, record.data.masks) == (0, 11, "self_blended")
    assert record.maps[0].checks["pixel_auc"].n > 0
    assert record.maps[0].checks["deletion"].n > 0


def test_masks_of_files_are_taken_but_for_those_of_another_size_and_empty_ones(detector, faces, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    white = np.zeros((SIDE, SIDE), np.uint8)
    white[40:60] = 255
    for number in range(2, COUNT):
        mask = Image.fromarray(white * (number != 3)).resize((SIDE + (number == 2), SIDE))
        mask.save(masks / f"fake{number}.png")
    planned = plan(detector, faces / "named.csv", pairs="both", masks=masks)
    assert planned.cases.masks == "files,pairs"
    record = run(planned, tmp_path / "run")
    reasons = [each.reason for each in record.data.left_out if each.what == "mask"]
    assert sorted(each[:22] for each in reasons) == ["its mask has 65x64 pix", "its mask marks no pixe"]
    assert (record.data.masked, record.data.pairs) == (COUNT - 4, COUNT - 2)
    with pytest.raises(DataError, match="has no mask for any"):
        plan(detector, faces / "faces.csv", masks=tmp_path / "run")


def test_wrong_choices_are_refused_before_anything_is_read(detector, faces):
    for choice, error, words in [
        ({"pairs": "nowhere"}, UnknownNameError, "nowhere"),
        ({"pairs": "label"}, DataError, "names no real picture for any"),
        ({"limit": 0}, UsageError, "leaves none"),
        ({"limit": 9, "quick": True}, UsageError, "--quick"),
        ({"group_by": "who"}, UnknownNameError, "who"),
        ({"split": "test"}, DataError, "no sample is of the split"),
    ]:
        with pytest.raises(error, match=words):
            plan(detector, faces / "faces.csv", **choice)


class Deadly(OneFace):
    """Kills its process at the n-th picture."""

    def __init__(self, at):
        self.left = at

    def face(self, pixels):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().face(pixels)


def test_killed_and_resumed_it_is_the_run_that_was_never_stopped(detector, faces, tmp_path, monkeypatch):
    monkeypatch.setattr("xface.evidence.trust.plan.PART", 4)
    planned = plan(detector, faces / "faces.csv")
    whole = run(planned, tmp_path / "whole")
    for at in (2, 6):
        if not (child := os.fork()):
            trust(planned, tmp_path / "broken", workers=0, store=Deadly(at), resume=True)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "broken").exists()
    with pytest.raises(UsageError, match="resume it with --resume"):
        run(planned, tmp_path / "broken")
    with pytest.raises(UsageError, match="limit was None, is 3"):
        run(plan(detector, faces / "faces.csv", limit=3), tmp_path / "broken", resume=True)
    resumed = run(planned, tmp_path / "broken", resume=True)
    for name in TABLES:
        files = [tmp_path / place / f"{name}.parquet" for place in ("whole", "broken")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert resumed.model_copy(update={"created": "", "command": []}) == whole.model_copy(
        update={"created": "", "command": []}
    )
    before = (tmp_path / "broken" / "trust.json").stat().st_mtime_ns
    run(planned, tmp_path / "broken", resume=True)
    assert (tmp_path / "broken" / "trust.json").stat().st_mtime_ns == before


def test_the_command_says_each_verdict_and_what_failed(tmp_path):
    rows = [(str(SAMPLES / "fake.jpg"), "fake"), (str(tmp_path / "gone.jpg"), "fake")]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(tmp_path / "two.csv", index=False)
    words = ["trust", "--device", "cpu", "--data", tmp_path / "two.csv", "--method", "vanilla",
             "--out", tmp_path / "run", "--workers", "0"]  # fmt: skip
    said = command_line.run(*words)
    assert said.status == 1
    assert "vanilla: not checked" in said.out
    assert "effects: not checked" in said.out
    assert "1 picture left out: there is no such file" in said.err
    again = command_line.run(*words, "--resume", "--json")
    assert json.loads(again.out)["data"]["forged"] == 1


def check(value, difference=None):
    interval = None if difference is None else [difference - 0.1, difference + 0.1]
    return CheckRecord(value=value, interval=[value - 0.1, value + 0.1], n=30, best_baseline="gaussian",
                       difference=difference, simultaneous_interval=interval)  # fmt: skip


def verdict_on(**known):
    none = CheckRecord(value=None, interval=None, n=0)
    names = ("partial_swap", "agreement", "pixel_auc", "randomisation", "deletion")
    checks = {name: known.get(name, none) for name in names}
    return graded(checks, dict.fromkeys(known, ("gaussian", 0.3)), names[:3])


@pytest.mark.parametrize(
    ("known", "grade"),
    [
        ({"partial_swap": check(0.8, 0.3)}, (INFORMATIVE, "partial_swap")),
        ({"partial_swap": check(0.4, 0.05), "pixel_auc": check(0.9, 0.3)}, (NO_BETTER, "partial_swap")),
        ({"agreement": check(0.4, 0.2), "pixel_auc": check(0.5, -0.3)}, (INFORMATIVE, "agreement")),
        ({"partial_swap": check(0.8, 0.3), "randomisation": check(0.9)}, (CONTRADICTED, "randomisation")),
        ({"partial_swap": check(0.8, 0.3), "randomisation": check(0.55)}, (INFORMATIVE, "partial_swap")),
        ({"deletion": check(-3.0, -2.0)}, (NOT_CHECKED, None)),
    ],
)
def test_the_grade_follows_the_rules(known, grade):
    found = verdict_on(**known)
    assert (found.grade, found.decided_by) == grade
    shown = found.words.replace("not shown to be better", "no better")
    assert shown.startswith(found.grade)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"partial_swap": check(0.3, -0.2)}, "; it is worse by 10 points or more"),
        ({"partial_swap": check(0.3, -0.06)}, "may be up to 16 points worse or 4 points better"),
        ({"pixel_auc": check(0.5, 0.05)}, "; by 30 cases it may be up to 0.05 worse or 0.15 better"),
    ],
)  # fmt: skip
def test_a_verdict_says_whether_no_better_is_shown_or_undecided(known, words):
    assert verdict_on(**known).words.endswith(words)


def test_of_maps_without_merit_seldom_is_any_called_informative():
    """Eight maps that are no better than the centre: once in forty, some interval lies above 0."""
    answerers = Answerers([(f"map{k}", None) for k in range(8)], ("gaussian",))
    rng, plain, wide = np.random.default_rng(0), 0, 0
    for _ in range(40):
        values = (rng.random((30, len(answerers))) < 0.4) * 1.0
        values[:, 8:16] = 0  # of the untrained network, never the best
        judge = Judge(answerers, {Figure("partial_swap"): Table(values, np.arange(30))})
        maps = judge.maps()
        checks = [each.checks["partial_swap"] for each in maps]
        plain += any(each.difference_interval[0] > 0 for each in checks)
        wide += any(each.grade == INFORMATIVE for each in maps)
        assert all(each.simultaneous_interval[0] < each.difference_interval[0] for each in checks)
    assert wide <= 3 < plain
