"""A label is a class, a spelling that is said, or an error with its count: never "not fake" in silence."""

import itertools
import os

import numpy as np
import pandas as pd
import pytest
from command_line import run
from PIL import Image
from test_evaluation import GREYS, HALF, picture, planted, scored

from xface.analysis.labelled_data import read_data
from xface.data import Samples, Vocabulary, read_samples
from xface.data.labels import SPELLINGS
from xface.errors import DataError, UnknownNameError, UsageError
from xface.evaluation.evaluation import evaluate
from xface.evaluation.folder import TABLE_FORMATS
from xface.evaluation.labelled_sets import LabelledSet, evaluate_set, read_sets, validated_threshold
from xface.evaluation.scoring import vocabulary
from xface.training.config_files import as_config
from xface.training.data_module import divided, write_samples, written_samples
from xface.training.yaml_files import parse

WORDS = [(word, meaning) for meaning, words in SPELLINGS.items() for word in words]


@pytest.fixture
def pictures(tmp_path):
    """Four pictures a, b, c, d; rows are written to a CSV beside them."""
    for name in "abcd":
        picture(tmp_path / f"{name}.png", 50)

    def written(*labels, column="label"):
        rows = "".join(f"{name}.png,{label}\n" for name, label in zip("abcd", labels, strict=False))
        (tmp_path / "faces.csv").write_text(f"path,{column}\n{rows}")
        return tmp_path / "faces.csv"

    return written


@pytest.mark.parametrize(("word", "meaning"), [*WORDS, ("1", "fake"), ("0", "real"), ("1.0", "fake")])
@pytest.mark.parametrize("change", [str, str.upper, lambda word: f"\u00a0{word.title()}\u3000"])
def test_common_spellings_are_read_and_said(pictures, word, meaning, change):
    spelled = change(word)
    samples = read_samples(pictures(spelled, "fake", "real"))
    assert samples.labels == [meaning, "fake", "real"]
    if spelled == meaning:
        assert samples.notes == ()
    else:
        assert f"{spelled!r} {meaning} (1)" in samples.notes[0]


UNKNOWN = ["faek", "Deepfakes", "", "2", "-1", "true", "fake?", "not fake", "unreal", "nan", "fake;real", "f"]


@pytest.mark.parametrize("label", UNKNOWN)
def test_other_labels_are_an_error_with_their_count(pictures, label):
    with pytest.raises(DataError, match=r"none of the classes fake, real") as refused:
        read_samples(pictures(label, "fake", label, "real"))
    assert f"{label!r} (2, from line 2)" in str(refused.value)
    assert "--label NAME=CLASS" in str(refused.value)


def test_many_other_labels_are_counted(tmp_path):
    rows = "".join(f"{n}.png,who{n}\n" for n in range(500))
    (tmp_path / "faces.csv").write_text(f"path,label\n{rows}")
    with pytest.raises(DataError, match="and 488 more"):
        read_samples(tmp_path / "faces.csv")


def test_what_is_given_goes_before_all_else(pictures):
    words = Vocabulary(given={"Deepfakes": "fake", "original": "fake", "": "real", "unheard": "real"})
    samples = read_samples(pictures("deepfakes", "original", "", "real"), labels=words)
    assert samples.labels == ["fake", "fake", "real", "real"]
    assert "'deepfakes' fake (1)" in samples.notes[0]
    assert samples.notes[1].endswith("is labelled 'unheard': --label has no use there")
    with pytest.raises(UnknownNameError, match="class 'swap'"):
        Vocabulary(given={"Deepfakes": "swap"})


@pytest.mark.parametrize(
    ("classes", "positive", "expected"),
    [
        (("Fake", "Real"), "Fake", {"fake": "fake", "REAL": "real", "forged": "fake", "1": "fake"}),
        (("real", "fake"), "real", {"fake": "fake", "genuine": "real", "0": "real"}),
        (("camera", "generated"), "generated", {"fake": "generated", "real": "camera", "Camera": "camera"}),
        (("a", "b"), "b", {"fake": "b", "real": "a", "forged": "b", "B": "b", "c": None}),
        (("live", "fake"), "fake", {"real": "live", "original": "live"}),
        (("0", "1"), "0", {"0": "0", "1": "1"}),
        (("original", "Deepfakes", "FaceSwap"), "Deepfakes",
         {"real": "original", "faceswap": "FaceSwap", "fake": None, "forged": None, "1": None, "0": None}),
        (("real", "fake", "swap"), "fake", {"fake": "fake", "forged": None, "genuine": "real"}),
        (("real", "genuine", "swap"), "swap", {"original": None, "real": "real"}),
    ],
)  # fmt: skip
def test_the_classes_of_any_card(classes, positive, expected):
    words = Vocabulary.of_detector(classes, positive)
    assert {label: words.class_of(label) for label in expected} == expected
    assert words.read([words.positive_label], "x") == ([words.positive_label], ())


@pytest.mark.parametrize("digit", ["1", "0", "1.0", "0.0"])
@pytest.mark.parametrize("meaning", ["fake", "real"])
def test_digits_have_their_usual_meaning_unless_one_is_given_another(digit, meaning):
    usual = {"1": "fake", "1.0": "fake", "0": "real", "0.0": "real"}
    words = Vocabulary(given={digit: meaning})
    others = usual if usual[digit] == meaning else dict.fromkeys(usual)
    assert {label: words.class_of(label) for label in usual} == others | {digit: meaning}


def test_labels_of_several_kinds_never_count_as_not_fake(tmp_path):
    """Whatever subset of labels a multi-class detector's data has, each is a class of it or refused."""
    detector = planted(classes=("real", "swap", "gan"), positive="swap")
    known, unknown = ["real", "swap", "GAN", "genuine"], ["fake", "Deepfakes", "1", "sawp"]
    for labels in itertools.chain.from_iterable(itertools.combinations(known + unknown, n) for n in (1, 2)):
        words = vocabulary(detector)
        if set(labels) & set(unknown):
            with pytest.raises(DataError):
                words.read(labels, "x")
        else:
            assert set(words.read(labels, "x")[0]) <= set(detector.classes)


@pytest.mark.parametrize("labels", [("fake", "real", "fak"), ("fake", "real", "Deepfakes"), ("fake", "")])
def test_scores_with_unknown_labels_are_not_summed_up(labels):
    with pytest.raises(DataError, match="none of the classes"):
        evaluate(scored(list(labels), np.linspace(0, 1, len(labels))), "x", HALF)


def test_scores_of_more_classes_need_their_names():
    table = scored(["swap", "gan", "real", "Real"], [0.9, 0.1, 0.2, 0.3])
    found = evaluate(table, "x", HALF, "swap", classes=("swap", "gan", "real"))
    assert found.table["outcome"].tolist() == ["TP", "TN", "TN", "TN"]
    with pytest.raises(UnknownNameError):
        evaluate(table, "x", HALF, "swap")


def labelled(tmp_path, fake, real):
    rows = [
        (picture(tmp_path / f"{kind}{grey}.png", grey), label)
        for kind, label in (("fake", fake), ("real", real))
        for grey in GREYS[kind]
    ]
    return pd.DataFrame(rows, columns=["path", "label"])


def test_misspelt_labels_in_sets_thresholds_and_analyses(tmp_path):
    table = labelled(tmp_path, "forged", "real")
    table.loc[0, "label"] = "forgd"
    table.to_csv(tmp_path / "set.csv", index=False)
    each, detector = LabelledSet("set", Samples(table)), planted()
    for call in (
        lambda: read_sets([str(tmp_path / "set.csv")]),
        lambda: read_data(str(tmp_path / "set.csv")),
        lambda: evaluate_set(detector, each, HALF, [], lambda done: None),
        lambda: validated_threshold(detector, each, "accuracy", lambda done: None),
    ):
        with pytest.raises(DataError, match=r"'forgd' \(1"):
            call()


@pytest.mark.parametrize(("fake", "real"), [("forged", "0"), ("generated", "camera"), ("FAKE", "Real")])
def test_any_spelling_gives_the_same_numbers(tmp_path, fake, real):
    detector = planted(classes=("camera", "generated"), positive="generated")
    usual, other = (
        evaluate_set(detector, LabelledSet("x", Samples(labelled(tmp_path, *names))), HALF, [], print)
        for names in (("fake", "real"), (fake, real))
    )
    assert usual.positive == other.positive == "generated"
    assert usual.whole[0].metrics == other.whole[0].metrics
    assert any("are read as" in caution for caution in usual.cautions)


class TestDigits:
    """1 is usually fake; a table whose folders or columns say the reverse is not guessed."""

    @pytest.mark.parametrize(("one", "zero"), [("fake", "real"), ("real", "fake")])
    @pytest.mark.parametrize("how", ["folders", "column"])
    def test_are_held_against_what_else_is_said(self, tmp_path, one, zero, how):
        rows = []
        for digit, kind in (("1", one), ("0", zero)):
            place = tmp_path / (kind if how == "folders" else "all") / f"{digit}.png"
            picture(place, 50)
            rows.append((str(place.relative_to(tmp_path)), digit, kind if how == "column" else "x"))
        table = pd.DataFrame(rows, columns=["path", "label", "label_str"])
        table.to_csv(tmp_path / "faces.csv", index=False)
        if one == "fake":
            assert read_samples(tmp_path / "faces.csv").labels == ["fake", "real"]
        else:
            with pytest.raises(DataError, match=r"reverse for 2 files.* --label 1=real --label 0=fake"):
                read_samples(tmp_path / "faces.csv")
            given = Vocabulary(given={"1": "real", "0": "fake"})
            assert read_samples(tmp_path / "faces.csv", labels=given).labels == ["real", "fake"]


class TestFolders:
    @pytest.fixture
    def tree(self, tmp_path):
        for name in ("original/1.png", "manipulated/2.png", "Deepfakes/3.png", "0/4.png", "misc/5.png"):
            picture(tmp_path / "set" / name, 50)
        return tmp_path / "set"

    def test_are_known_by_common_spellings(self, tree):
        samples = read_samples(tree)
        assert sorted(samples.labels) == ["fake", "real"]
        assert "'0' (1)" in samples.notes[0]
        assert "'Deepfakes' (1)" in samples.notes[0]
        assert samples.notes[0].startswith("3 pictures in")
        assert "'original' real (1)" in samples.notes[1]

    def test_or_as_given(self, tree):
        words = Vocabulary(given={"deepfakes": "fake", "0": "real"})
        assert sorted(read_samples(tree, labels=words).labels) == ["fake", "fake", "real", "real"]

    def test_of_more_classes(self, tree):
        words = Vocabulary(("original", "Deepfakes", "misc"))
        assert sorted(read_samples(tree, labels=words).labels) == ["Deepfakes", "misc", "original"]

    def test_a_class_goes_before_a_spelling(self, tmp_path):
        picture(tmp_path / "set" / "original" / "fake" / "1.png", 50)
        assert read_samples(tmp_path / "set").labels == ["fake"]


class TestCommands:
    @pytest.fixture
    def data(self, tmp_path):
        labelled(tmp_path, "Deepfakes", "source").to_csv(tmp_path / "faces.csv", index=False)
        return tmp_path / "faces.csv"

    @pytest.mark.parametrize("command", [("evaluate",), ("analyze", "--out", "OUT", "--data")])
    def test_unknown_labels_are_refused_or_mapped(self, data, tmp_path, monkeypatch, command):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        words = [tmp_path / "out" if word == "OUT" else word for word in command]
        refused = run(*words, data, "--device", "cpu", "--weights", "meso4")
        assert refused.status == 1
        assert "'Deepfakes' (6, from line 2), 'source' (6, from line 8)" in refused.err
        mapping = ["--label", "Deepfakes=fake", "--label", "source=real"]
        done = run(*words, data, "--device", "cpu", "--weights", "meso4", *mapping)
        assert done.status == 0, done.err
        assert "'Deepfakes' fake (6), 'source' real (6)" in done.err

    def test_those_of_a_validation_set_are_said(self, data, tmp_path):
        labelled(tmp_path / "other", "forged", "real").to_csv(tmp_path / "other.csv", index=False)
        words = ["evaluate", "--device", "cpu", "--validation", tmp_path / "other.csv", data]
        done = run(*words, "--label", "Deepfakes=fake", "--label", "source=real", "--json")
        assert "'forged' fake (6)" in done.err

    @pytest.mark.parametrize("words", [["x"], ["=", "x="], ["a=fake", "a=real"], ["a=swap"], ["a= "]])
    def test_a_wrong_mapping_is_wrong_usage(self, data, words):
        mapping = [part for word in words for part in ("--label", word)]
        assert run("evaluate", "--device", "cpu", data, *mapping).status == 2

    def test_training_maps_labels(self, tmp_path):
        labelled(tmp_path, "Deepfakes", "0").to_csv(tmp_path / "faces.csv", index=False)
        text = f"network: meso4\ndata: {{train: {tmp_path}/faces.csv}}\nprefix: {tmp_path}/run\n"
        with pytest.raises(DataError, match=r"'Deepfakes' \(6"):
            divided(as_config(parse(text, "run.yaml")).data)
        config = as_config(parse(text, "run.yaml").changed(["data.labels={Deepfakes: fake}"]))
        parts, notes = divided(config.data)
        assert sum(part.counts()["fake"] for part in parts.values()) == 6
        assert "'0' real (6), 'Deepfakes' fake (6)" in notes[0]
        write_samples(parts, tmp_path / "samples.csv")
        again = written_samples(tmp_path / "samples.csv", config.data.classes)
        assert {name: part.labels for name, part in again.items()} == {n: p.labels for n, p in parts.items()}
        with pytest.raises(UsageError, match="unknown class 'swap'"):
            as_config(parse(text, "run.yaml").changed(["data.labels={Deepfakes: swap}"]))
        numbered = parse(text, "run.yaml").changed(["data.labels={0: real, Deepfakes: fake}"])
        assert as_config(numbered).data.labels == {"0": "real", "Deepfakes": "fake"}


def test_a_run_does_not_go_on_with_fewer_pictures(tmp_path):
    table = labelled(tmp_path, "fake", "real").assign(split=["train", "val"] * 6)
    write_samples({"train": Samples(table[::2]), "val": Samples(table[1::2])}, tmp_path / "samples.csv")
    (tmp_path / "fake40.png").unlink()
    with pytest.raises(UsageError, match=r"1 pictures of .* changed .*fake40\.png'; put back what was there"):
        written_samples(tmp_path / "samples.csv", ("fake", "real"))


@pytest.mark.parametrize("how", ["folder", "table"])
def test_names_that_are_no_utf_8_are_read(tmp_path, how):
    folder = tmp_path / "set\udcff"
    for label in ("fake", "real"):
        picture(folder / label / "a\udc80.png", 50)
        picture(folder / label / "b.png", 50)
    (folder / "faces.csv").write_text("path,label\nfake/b.png,fake\nreal/b.png,real\n")
    read = read_samples([folder if how == "folder" else folder / "faces.csv", folder / "fake" / ".."])
    assert read.counts() == {"fake": 2, "real": 2}
    assert {os.path.dirname(path) for path in read.paths} == {str(folder / "fake"), str(folder / "real")}
    assert read_data(str(folder), limit=1).samples.counts() == {"fake": 1, "real": 1}
    [named] = read_sets([str(folder)])
    assert named.name == r"set\udcff"
    for write in TABLE_FORMATS.values():
        write(named.samples.table, tmp_path / "table")


class TestLimit:
    @pytest.fixture
    def data(self, tmp_path):
        """All real faces come first, as in many manifests."""
        labels = ["real"] * 30 + ["fake"] * 12
        names = [tmp_path / f"{n}.png" for n in range(42)]
        for name in names:
            Image.new("RGB", (16, 16)).save(name)
        pd.DataFrame({"path": names, "label": labels}).to_csv(tmp_path / "faces.csv", index=False)
        return tmp_path / "faces.csv"

    def test_takes_as_many_of_each_class_and_says_so(self, data):
        found = read_data(str(data), limit=5)
        assert found.samples.counts() == {"fake": 5, "real": 5}
        assert read_data(str(data), limit=20).samples.counts() == {"fake": 12, "real": 20}
        assert (
            "at most 5 images of each class, drawn at random (seed 0) of 12 fake, 30 real"
            in found.samples.notes
        )
        assert read_data(str(data), limit=100).samples.paths == read_data(str(data)).samples.paths

    def test_is_drawn_by_a_seed_not_by_the_order_of_rows(self, data, tmp_path):
        one = read_data(str(data), limit=6).samples.paths
        assert one != read_data(str(data)).samples.paths[:6]
        assert set(one) < set(read_data(str(data), limit=9).samples.paths)
        pd.read_csv(data)[::-1].to_csv(tmp_path / "turned.csv", index=False)
        assert set(read_data(str(tmp_path / "turned.csv"), limit=6).samples.paths) == set(one)
