"""Samples are read from CSV files and folders as they are, and whatever is left out is said."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xface.analysis.labelled_data import read_data
from xface.data import DataError, Samples, join, read_samples
from xface.data.labelled_pictures import apart
from xface.data.listing import Listing
from xface.data.sources import SOURCES, PictureSource
from xface.evaluation.labelled_sets import read_sets
from xface.images.picture_files import find_pictures
from xface.training.config import Data
from xface.training.data_module import divided


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "sub/c.png", "d.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    return tmp_path / "set"


def written(folder, text, name="faces.csv"):
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_labels_by_name_in_any_case_and_paths_relative_to_the_csv(folder, monkeypatch):
    path = written(
        folder, f"path,label,age\na.png,REAL,30\n ./sub/../b.png , Fake ,\n{folder}/d.png,fake,5\n"
    )
    monkeypatch.chdir(folder.parent)
    for samples in (read_samples(path), read_samples("set/faces.csv")):
        assert samples.paths == [str(folder / name) for name in ("a.png", "b.png", "d.png")]
        assert samples.labels == ["real", "fake", "fake"]
        assert samples.column("age") == ["30", "", "5"]
        assert samples.column("source") == ["set"] * 3
        assert samples.column("group") == samples.column("split") == samples.column("pair") == [""] * 3
        [said] = samples.notes
        assert said.endswith("faces.csv' are read as: 'Fake' fake (1), 'REAL' real (1)")


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("real", ["1", "0", "1"]),
        ("Real", ["True", "FALSE", "true"]),
        ("fake", ["0", "1", "0.0"]),
        ("real", ["1.0", "0.0", "1.0"]),
    ],
)
def test_a_flag_says_which_class(folder, header, cells):
    rows = "".join(f"{name},{cell}\n" for name, cell in zip(("a.png", "b.png", "d.png"), cells, strict=True))
    samples = read_samples(written(folder, f"path,{header}\n{rows}"))
    assert samples.labels == ["real", "fake", "real"]
    assert samples.label_indices().tolist() == [1, 0, 1]
    assert samples.label_indices(("real", "fake")).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("\n", "lists no picture; below the header `path,label`"),
        ("path,label\n", "lists no picture; below the header `path,label`"),
        ("file,label\na.png,real\n", "no column 'path', only file, label"),
        ("path,class\na.png,real\n", "no column 'label' or 'real', only path, class"),
        ("path;label\na.png;real\n", "no column 'path', only path;label; separate columns by commas"),
        (
            "path,label\na.png,real\nb.png,\n",
            r"classes fake, real: '' \(1, line 3\); .*--label NAME=CLASS",
        ),
        ("path,label\na.png,faek\nb.png,3\nd.png,faek\n", r"'faek' \(2, from line 2\), '3' \(1, line 3\)"),
        (
            "path,real\na.png,maybe\n",
            r"real don't say which class it is \(line 2: 'maybe'\); write 0 or 1",
        ),
        ("path,label\na.png,real\nb.png,fake,3\n", "line 3: 3 cells under 2 columns"),
        ('path,label\n"a.png,real\n', "cannot read .* as CSV"),
        ("path,label\nx.png,real\n", "none of the 1 files .* is there .*x.png"),
        ("path,label\na.png,real\n./a.png,fake\n", "a.png' has two labels"),
        ("path,label,Label\na.png,real,fake\n", "has the column 'label' twice"),
        ("path,path,label\na.png,b.png,fake\n", "has the column 'path' twice"),
        ("path,label,real\na.png,real,0\n", "line 2: label says real, but real fake; mend one"),
        ("path,real,fake\na.png,1,1\n", "line 2: real says real, but fake fake; mend one"),
    ],
)
def test_errors_say_where_and_what_to_do(folder, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_samples(written(folder, text))
    assert "faces.csv" in str(caught.value)


def test_text_that_is_no_utf8_is_refused(folder):
    path = folder / "latin.csv"
    path.write_bytes("path,label\nJosé.png,real\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.csv.*UTF-8"):
        read_samples(path)


def test_missing_and_repeated_files_are_left_out_and_counted(folder):
    lines = [f"gone{n}.png,real" for n in range(5)]
    text = "\n".join(["path,label", "a.png,real", *lines, "b.png,fake", "sub/../a.png,real"])
    samples = read_samples(written(folder, text))
    assert samples.paths == [str(folder / "a.png"), str(folder / "b.png")]
    missing, repeated = samples.notes
    assert missing.startswith("5 files")
    assert f"line 3: '{folder}/gone0.png'" in missing
    assert missing.endswith(", ...")
    assert repeated.startswith("1 rows")
    assert "a.png" in repeated


LINKS = {
    "symbolic": lambda target, name: name.symlink_to(target),
    "relative": lambda target, name: name.symlink_to(os.path.relpath(target, name.parent)),
    "of a link": lambda target, name: name.symlink_to(linked_to(target, name.with_suffix(".way")).name),
    "hard": lambda target, name: name.hardlink_to(target),
}


def linked_to(target, name):
    name.symlink_to(target)
    return name


@pytest.fixture(params=LINKS)
def linked(request, folder):
    """A folder in which sub/x.png is another name of a.png."""
    LINKS[request.param](folder / "a.png", folder / "sub" / "x.png")
    return folder


def test_a_file_of_two_names_counts_once(linked):
    text = "path,label,pair\na.png,real,b.png\nb.png,fake,sub/x.png\nsub/x.png,real,b.png\n"
    samples = read_samples(written(linked, text))
    assert samples.paths == [f"{linked}/a.png", f"{linked}/b.png"]
    assert samples.column("pair") == [f"{linked}/b.png", f"{linked}/a.png"]
    assert samples.notes == (
        f"1 rows of '{linked}/faces.csv' repeat a file and are left out: '{linked}/sub/x.png' (which is "
        f"'{linked}/a.png')",
    )
    with pytest.raises(DataError, match=r"a.png', there also called '.*x.png', has two labels"):
        read_samples(written(linked, text.replace("x.png,real", "x.png,fake")))
    one, two = (
        read_samples(written(linked, f"path,label\n{name},real\nd.png,real\n"))
        for name in ("a.png", "sub/x.png")
    )
    assert join([one, two]).paths == [f"{linked}/a.png", f"{linked}/d.png"]
    assert len(apart(two, one, "two")) == 0


def test_so_it_does_in_folders(linked):
    (linked / "sub").rename(linked / "real")
    assert read_samples(linked).counts() == {"real": 2}  # a.png itself lies in no class
    found = find_pictures([linked])
    assert [path.name for path in found.paths] == ["a.png", "b.png", "d.png", "c.png"]
    assert re.search(r"1 \.png(, 1 \.way)? \(another name of a file that is there\)", found.notes[-1])
    (linked / "fake").mkdir()
    os.link(linked / "a.png", linked / "fake" / "y.png")
    with pytest.raises(DataError, match=r"fake/y.png', there also called '.*real/x.png', has two labels"):
        read_samples(linked)


def test_a_folder_that_is_linked_into_itself_counts_once(folder):
    (folder / "sub" / "up").symlink_to("..")
    for argument in (folder, folder / "**", folder / "**" / "*.png"):
        assert "1 up (folder that is hidden or a link)" in find_pictures([argument]).notes[0]
        assert sorted(path.name for path in find_pictures([argument]).paths) == [
            "a.png",
            "b.png",
            "c.png",
            "d.png",
        ]


def test_folders_of_any_case_and_depth(tmp_path):
    names = ["Real/1.png", "train/FAKE/deep/2.png", "val/real/3.png", "real/test/4.png", "other/5.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "real" / "notes.txt").write_text("no picture")
    samples = read_samples(tmp_path)
    found = {
        path.rsplit("/", 1)[1]: kind for path, *kind in samples.table[["path", "label", "split"]].to_numpy()
    }
    assert found == {
        "1.png": ["real", ""],
        "2.png": ["fake", "train"],
        "3.png": ["real", "val"],
        "4.png": ["real", "test"],
    }
    assert "1 pictures" in samples.notes[0]
    assert "those in 'other' (1)" in samples.notes[0]
    assert "1 .txt (no picture)" in samples.notes[1]
    assert samples.notes[2].endswith("are read as: 'Real' real (1), 'FAKE' fake (1)")


def test_a_folder_that_contradicts_itself_or_has_no_classes(tmp_path):
    with pytest.raises(DataError, match="no pictures in folders called fake and real"):
        read_samples(tmp_path)
    (tmp_path / "real" / "fake").mkdir(parents=True)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "real" / "fake" / "a.png")
    with pytest.raises(DataError, match="below a folder real and a folder fake"):
        read_samples(tmp_path)


def test_several_sources_keep_their_names_and_their_groups_apart(folder):
    first = written(folder, "path,label,group,age\na.png,real,g1,3\nb.png,fake,,4\n", "one.csv")
    second = written(folder / "sub", "path,label,group\nc.png,fake,g1\n../a.png,real,g1\n", "two.csv")
    samples = read_samples([first, second])
    assert [path.rsplit("/", 1)[1] for path in samples.paths] == ["a.png", "b.png", "c.png"]
    assert samples.column("source") == ["set", "set", "sub"]
    assert samples.column("group") == ["set:g1", "", "sub:g1"]
    assert samples.column("age") == ["3", "4", ""]
    assert samples.notes[0].startswith("1 rows of the sources repeat a file")
    assert join([samples]) is samples


def test_selection_by_mask_positions_and_split(folder):
    table = pd.DataFrame(
        {"path": list("abc"), "label": ["real", "fake", "real"], "split": ["train", "", "test"]}
    )
    samples = Samples(table, ("a note",))
    assert samples.select(np.array([True, False, True])).paths == ["a", "c"]
    assert samples.select([2, 0]).paths == ["c", "a"]
    assert samples.of_split("test").paths == ["c"]
    assert list(table.columns) == ["path", "label", "split"]  # the caller's table stays as it was
    with pytest.raises(DataError, match="split 'val'; the splits are: test, train"):
        samples.of_split("val")
    with pytest.raises(DataError, match="no column 'age'"):
        samples.column("age")
    with pytest.raises(DataError, match=r"none of the classes real, swap: 'fake' \(1\)"):
        samples.label_indices(("real", "swap"))


def test_the_shared_manifests(shared_data):
    pairs, ffhq = (
        read_samples(shared_data / "dfdc_pairs"),
        read_samples(shared_data / "stylegan_ffhq/manifest.csv"),
    )
    assert pairs.counts() == {"fake": 4500, "real": 4500}
    assert ffhq.counts() == {"fake": 950, "real": 950}
    assert pairs.notes == ffhq.notes == ()
    assert {name: len(pairs.of_split(name)) for name in ("train", "val", "test")} == {
        "train": 7200, "val": 900, "test": 900,
    }  # fmt: skip
    counterpart = dict(zip(pairs.paths, pairs.column("pair"), strict=True))
    assert all(counterpart[counterpart[path]] == path for path in pairs.paths)


def test_what_other_samples_have_too_is_left_out_and_counted(folder):
    train = read_samples(written(folder, "path,label\na.png,real\nb.png,fake\n", "train.csv"))
    test = read_samples(written(folder, "path,label\nd.png,real\nb.png,fake\nsub/c.png,fake\n", "test.csv"))
    left = apart(test, train, "test.csv")
    assert left.paths == [str(folder / "d.png"), str(folder / "sub/c.png")]
    assert left.notes == (
        f"1 files of 'test.csv' are in the other data too and are left out of it: '{folder}/b.png'",
    )
    assert apart(left, train, "test.csv").notes == left.notes
    swapped = Samples(test.table.assign(label="real"))
    with pytest.raises(DataError, match=r"b\.png' is real in 'test\.csv', but fake elsewhere"):
        apart(swapped, train, "test.csv")


class TestMadeUpSource:
    """A source is one entry of the registry, whoever adds it."""

    @pytest.fixture
    def lists(self, monkeypatch):
        def read(argument, labels):
            rows = [line.split() for line in Path(argument).read_text().splitlines()]
            return Listing(pd.DataFrame(rows, columns=["path", "label", "group"][: len(rows[0])]))

        monkeypatch.setattr(SOURCES, "_entries", dict(SOURCES))
        SOURCES.add("list", PictureSource(lambda argument: argument.endswith(".lst"), read))

    def test_it_is_read_as_those_within(self, folder, lists):
        (folder / "faces.lst").write_text(
            f"a.png original v1\n{folder}/b.png FAKE v2\nsub/../a.png real v1\n"
        )
        samples = read_samples(folder / "faces.lst")
        assert samples.paths == [str(folder / "a.png"), str(folder / "b.png")]
        assert samples.labels == ["real", "fake"]
        assert [note.split(" ")[0] for note in samples.notes] == ["1", "labels"]
        both = read_samples([written(folder, "path,label\na.png,real\n"), folder / "faces.lst"])
        assert both.column("group") == ["", "faces.lst:v2"]

    def test_missing_files_and_strange_labels_are_told(self, folder, lists):
        (folder / "faces.lst").write_text("a.png real\ngone.png fake\n")
        assert "are missing: '" in read_samples(folder / "faces.lst").notes[0]
        assert len(read_samples(folder / "faces.lst", keep_missing=True)) == 2
        (folder / "faces.lst").write_text("a.png cat\n")
        with pytest.raises(DataError, match=r"faces.lst' has labels that are none of the classes"):
            read_samples(folder / "faces.lst")
        with pytest.raises(DataError, match=r"cannot read .*no.lst'"):
            read_samples(folder / "no.lst")

    def test_its_argument_need_not_be_a_path(self, folder, monkeypatch):
        table = pd.DataFrame({"path": [folder / "a.png"], "label": "real", "age": [float("nan")], "n": [3]})
        monkeypatch.setattr(SOURCES, "_entries", dict(SOURCES))
        SOURCES.add("db", PictureSource(lambda argument: "://" in argument, lambda *_: Listing(table)))
        samples = read_samples("db://faces" * 60)
        assert (samples.paths, samples.column("age"), samples.column("n")) == (
            [f"{folder}/a.png"],
            [""],
            ["3"],
        )

    def test_evaluate_analyze_and_train_read_it_too(self, folder, monkeypatch):
        tables = {"db://all": ["a.png", "b.png"], "db://held_out": ["sub/c.png", "d.png"]}

        def read(argument, labels):
            paths = [folder / name for name in tables[argument]]
            return Listing(pd.DataFrame({"path": paths, "label": ["real", "fake"]}))

        monkeypatch.setattr(SOURCES, "_entries", dict(SOURCES))
        SOURCES.add("db", PictureSource(lambda argument: argument in tables, read))
        expected = [f"{folder}/a.png", f"{folder}/b.png"]
        assert [each.samples.paths for each in read_sets(["db://all"], None, None)] == [expected]
        assert read_data("db://all").samples.paths == expected
        parts, _ = divided(Data(train="db://all", test="db://held_out", random_split=False))
        assert parts["train"].paths == expected
        assert parts["val"].paths == [f"{folder}/sub/c.png", f"{folder}/d.png"]

    @pytest.mark.parametrize("lacking", ["path", "label"])
    def test_a_listing_without_a_column_is_refused(self, lacking):
        table = pd.DataFrame({"path": ["a"], "label": ["real"]}).drop(columns=lacking)
        with pytest.raises(DataError, match=f"need a column '{lacking}'"):
            Listing(table)
