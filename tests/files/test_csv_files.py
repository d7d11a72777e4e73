"""Tables as spreadsheets and other machines write them, and cells that no spreadsheet runs."""

import csv
import itertools
import os
import random
import re

import numpy as np
import pandas as pd
import pytest
from test_evaluation import picture, simulated

from xface.data import DataError, Samples, read_samples
from xface.errors import LandmarkError
from xface.evaluation.folder import TABLE_FORMATS, save_evaluations
from xface.faces import read_landmarks
from xface.files.csv_files import escaped, read_rows, unescaped, write_rows, write_table
from xface.report.html.csv_tables import write_csv
from xface.training.data_module import write_samples
from xface.training.history import COLUMNS, write_epochs
from xface.training.history import read_rows as read_epochs

FORMULAS = [
    "=cmd|'/C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u00a0=1", "\ufeff=1",
    "\u200b=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x", "=", "-", "-x.png", "+49 30", "'=1", "''=1",
    '=HYPERLINK("http://x","y")',
    "-1", "+1", "-0.5", "'-5", "-1;=1", "-inf", "+nan", "-0x1", "-1,5", "1-\n=1", "\0=1",
]  # fmt: skip
HARMLESS = ["a.jpg", "/faces/=.png", "", " ", "1=1", "it's", "'tis", "x@y.z", "a\tb"]


def starts_a_formula(text):
    """As OWASP says, blanks and invisible signs before it left out."""
    seen = re.sub(r"^[\s\0\ufeff\u200b]+", "", text)
    return seen[:1] in set("=+-@\uff1d\uff0b\uff0d\uff20")


@pytest.mark.parametrize("text", FORMULAS + HARMLESS)
def test_no_text_is_a_formula_and_none_is_changed_for_good(text):
    assert not starts_a_formula(escaped(text))
    assert unescaped(escaped(text)) == text
    assert unescaped(escaped(escaped(text))) == escaped(text)


def test_harmless_texts_stay_as_they_are():
    assert [escaped(text) for text in HARMLESS] == HARMLESS


def test_random_texts_come_back():
    chance = random.Random(0)
    for _ in range(5000):
        text = "".join(chance.choice("'=+-@ \t\n1.e\ufeff\u00a0a") for _ in range(chance.randint(0, 6)))
        assert unescaped(escaped(text)) == text
        assert not starts_a_formula(escaped(text))


def written_tables(tmp_path):
    """Every kind of CSV that is written, with formulas where names from outside come in."""
    texts = {"=name": FORMULAS}
    write_table(pd.DataFrame(texts), tmp_path / "table.csv")
    write_rows(tmp_path / "rows.csv", list(texts), ({"=name": text} for text in FORMULAS))
    write_csv(({"=name": text} for text in FORMULAS), tmp_path / "report.csv", {})
    TABLE_FORMATS["csv"](pd.DataFrame(texts).astype("category"), tmp_path / "regions.csv")
    TABLE_FORMATS["csv"](pd.DataFrame(texts, dtype="string"), tmp_path / "means.csv")
    named = Samples(pd.DataFrame({"path": FORMULAS, "label": "real", "=name": FORMULAS}))
    write_samples({"train": named}, tmp_path / "samples.csv")
    save_evaluations([simulated("=cmd()")], {}, tmp_path)


def test_no_table_that_is_written_holds_a_formula(tmp_path):
    written_tables(tmp_path)
    tables = sorted(tmp_path.glob("*.csv"))
    assert len(tables) == 7
    for path in tables:
        with open(path, newline="", encoding="utf-8") as file:
            cells = list(itertools.chain.from_iterable(csv.reader(file)))
        assert cells
        assert not [cell for cell in cells if starts_a_formula(cell) or "\0" in cell], path.name
        if path.name not in ("scores.csv", "samples.csv"):
            written = [
                text.replace("\0", r"\x00") for text in ("=name", *FORMULAS)
            ]  # csv of Python 3.10 lacks NUL
            assert [unescaped(cell) for cell in cells] == written


def test_numbers_stay_numbers(tmp_path):
    table = pd.DataFrame({"x": [-0.5, np.nan, 1e-7], "n": [1, 2, 3], "b": [True, False, True]})
    write_table(table, tmp_path / "new.csv")
    table.to_csv(tmp_path / "old.csv", index=False, lineterminator="\r\n")
    assert (tmp_path / "new.csv").read_bytes() == (tmp_path / "old.csv").read_bytes()
    rows = [{name: float(place) for place, name in enumerate(COLUMNS)} | {"epoch": 1, "lr": float("nan")}]
    write_epochs(rows, tmp_path / "metrics.csv")
    assert str(read_epochs(tmp_path / "metrics.csv")) == str(rows)


@pytest.fixture
def folder(tmp_path):
    for name in ("fake/1.png", "fake/2.png", "real/1.png", "real/2.png"):
        picture(tmp_path / "set" / name, 50)
    return tmp_path / "set"


def manifest(folder, text, **how):
    (folder / "faces.csv").write_text(text, encoding="utf-8", newline="", **how)
    return read_samples(folder / "faces.csv")


@pytest.mark.parametrize(
    "text",
    [
        "path,label,,\r\nfake/1.png,fake,,\r\nreal/1.png,real,,\r\n",
        "path,label\r\nfake/1.png,fake,,,\r\nreal/1.png,real\r\n",
        "path,label,,\nfake/1.png,fake\nreal/1.png,real\n",
        "path,label,,\n,,,\nfake/1.png,fake,,\n,,,\nreal/1.png,real,,\n,,,\n,,,\n",
        "path,,label,\nfake/1.png,,fake,\nreal/1.png,,real,\n",
        "\ufeffpath,label, ,\u00a0\r\nfake/1.png,fake, ,\u00a0\r\nreal/1.png,real,,\r\n",
        '"path","label","",""\n"fake/1.png","fake","",""\n"real/1.png","real","",""\n',
        ",,path,label\n,,fake/1.png,fake\n,,real/1.png,real\n",
    ],
)
def test_empty_columns_as_excel_writes_them(folder, text):
    samples = manifest(folder, text)
    assert samples.labels == ["fake", "real"]
    assert samples.paths == [str(folder / "fake" / "1.png"), str(folder / "real" / "1.png")]
    assert set(samples.table) == {"path", "label", "group", "pair", "split", "source"}
    assert samples.notes == ()


def test_rows_that_lack_their_last_cells_are_said(folder):
    samples = manifest(
        folder, "path,label,group,kind\nfake/1.png,fake,g,x\nreal/1.png,real\n\nreal/2.png,real,h\n"
    )
    assert samples.column("group") == ["g", "", "h"]
    assert samples.notes[0].startswith("2 rows of")
    assert samples.notes[0].endswith("line 3, ...")
    with pytest.raises(DataError, match="line 3: 3 cells under 2 columns"):
        manifest(folder, "path,label\nfake/1.png,fake\nreal/1.png,real,extra\n")


def test_several_columns_without_a_name_are_kept(folder):
    samples = manifest(folder, ",path,label,,\n0,fake/1.png,fake,x,y\n1,real/1.png,real,,z\n")
    assert samples.column("") == ["0", "1"]
    assert samples.column("column 4") == ["x", ""]
    assert samples.column("column 5") == ["y", "z"]


BLANKS = ["\u00a0", "\u3000", "\u2003", "\u200a", "\u1680", "\x85", "\u2028", "\x1c"]


@pytest.mark.parametrize("blank", BLANKS)
def test_blanks_of_unicode_are_part_of_a_name(folder, blank):
    for name in (f"{blank}1.png", f"1.png{blank}", f"{blank}"):
        picture(folder / "1.png", 1)
        (folder / "1.png").rename(folder / "real" / name)
        samples = manifest(folder, f'path,label,group\n"real/{name}",real,"{blank}g"\nfake/1.png,fake,g\n')
        assert samples.paths[0] == str(folder / "real" / name)
        assert samples.column("group") == [f"{blank}g", "g"]
        assert len(samples) == 2


def test_blanks_around_a_path_count_only_where_there_is_such_a_file(folder):
    (folder / "real" / "1.png").rename(folder / "real" / "1.png ")
    samples = manifest(folder, "path,label\nreal/1.png ,real\nreal/2.png \t,real\nfake/1.png\u00a0,fake\n")
    assert [path.rsplit("/", 1)[1] for path in samples.paths] == ["1.png ", "2.png", "1.png"]


def test_a_runs_samples_come_back_whatever_their_names(tmp_path):
    names = ["=1.png", "-1.png", " 1.png", "1.png ", "\u00a01.png", "'=1.png", "a,b.png", 'a"b.png',
             "a\nb.png", "a\\b.png", "C:x.png", "\\1.png"]  # fmt: skip
    rows = [(picture(tmp_path / "set" / "x.png", 1), name) for name in names]
    paths = []
    for _, name in rows:
        path = tmp_path / "set" / name
        path.write_bytes((tmp_path / "set" / "x.png").read_bytes())
        paths.append(str(path))
    table = pd.DataFrame({"path": paths, "label": "real", "group": names, "=kind": names})
    write_samples({"train": Samples(table)}, tmp_path / "samples.csv")
    again = read_samples(tmp_path / "samples.csv")
    assert again.paths == paths
    assert again.column("group") == [name.strip(" ") for name in names]
    assert again.column("=kind") == [name.strip(" ") for name in names]
    assert again.notes == ()


WINDOWS = {
    "relative": "{kind}\\{n}.png",
    "dotted": ".\\{kind}\\{n}.png",
    "upwards": "..\\set\\{kind}\\{n}.png",
    "mixed": "{kind}/..\\{kind}\\{n}.png",
    "absolute": "C:\\Users\\me\\set\\{kind}\\{n}.png",
    "slashed": "D:/data/{kind}/{n}.png",
    "share": "\\\\server\\share\\faces\\{kind}\\{n}.png",
    "rooted": "\\faces\\{kind}\\{n}.png",
    "long": "\\\\?\\C:\\faces\\{kind}\\{n}.png",
}


@pytest.mark.parametrize("form", WINDOWS.values(), ids=WINDOWS)
def test_paths_of_windows_are_found(folder, form):
    wanted = [(kind, n) for kind in ("fake", "real") for n in (1, 2)]
    written = [form.format(kind=kind, n=n) for kind, n in wanted]
    pairs = [form.format(kind={"fake": "real", "real": "fake"}[kind], n=n) for kind, n in wanted]
    rows = "".join(
        f"{path},{kind},{pair}\n" for path, (kind, _), pair in zip(written, wanted, pairs, strict=True)
    )
    samples = manifest(folder, f"path,label,pair\n{rows}")
    assert samples.paths == [str(folder / kind / f"{n}.png") for kind, n in wanted]
    assert samples.column("pair") == [samples.paths[(place + 2) % 4] for place in range(4)]
    absolute = form[0] not in "{."
    assert bool(samples.notes) == absolute
    assert not absolute or "are looked for in its folder" in samples.notes[0]


def test_one_root_stands_for_the_folder_so_that_no_two_files_become_one(folder):
    picture(folder / "1.png", 50)
    text = (
        "path,label\nC:\\a\\fake\\1.png,fake\nC:\\b\\fake\\1.png,real\nC:\\a\\no\\1.png,real\nE:\\1.png,real"
    )
    samples = manifest(folder, text)
    assert samples.paths == [str(folder / "fake" / "1.png")]
    assert "3 files that" in samples.notes[0]


@pytest.mark.skipif(os.sep == "\\", reason="a backslash is no part of names there")
def test_a_file_that_is_called_so_goes_before_a_path_of_windows(folder):
    (folder / "fake" / "1.png").rename(folder / "fake\\1.png")
    picture(folder / "fake" / "1.png", 50)
    assert manifest(folder, "path,label\nfake\\1.png,fake\n").paths == [str(folder / "fake\\1.png")]


POINTS = np.random.default_rng(0).uniform(20, 200, (68, 2)).round(2)
HEAD = ["image", *(f"{axis}{n}" for axis in "xy" for n in range(68))]


def landmark_file(tmp_path, faces, end=""):
    lines = [",".join(HEAD) + end] + [
        ",".join([name, *map(str, points.T.ravel())]) + end for name, points in faces.items()
    ]
    (tmp_path / "faces.csv").write_text("\r\n".join(lines), encoding="utf-8", newline="")
    return read_landmarks(tmp_path / "faces.csv")


@pytest.mark.parametrize("end", ["", ",", ",,,", ", ,"])
def test_landmarks_of_excel(tmp_path, end):
    found = landmark_file(tmp_path, {"a/1.jpg": POINTS}, end)
    assert np.array_equal(found.of("/data/a/1.jpg"), POINTS)
    (tmp_path / "one.csv").write_text(f"x,y{end}\n" + "".join(f"{x},{y}{end}\n" for x, y in POINTS))
    assert np.array_equal(read_landmarks(tmp_path / "one.csv").of("any.jpg"), POINTS)


@pytest.mark.parametrize(
    ("row", "image"),
    [
        ("a\\1.jpg", "/data/a/1.jpg"),
        (".\\a\\1.jpg", "/data/a/1.jpg"),
        ("C:\\faces\\a\\1.jpg", "/data/a/1.jpg"),
        ("D:/faces/a/1.jpg", "a/1.jpg"),
        ("\\\\server\\share\\a\\1.jpg", "/data/a/1.jpg"),
        ("1.jpg", "/data/1.jpg"),
    ],
)
def test_landmarks_under_paths_of_windows(tmp_path, row, image):
    found = landmark_file(tmp_path, {"b\\2.jpg": POINTS + 1, row: POINTS, "C:\\faces\\c\\1.jpeg": POINTS + 2})
    assert np.array_equal(found.of(image), POINTS)


@pytest.mark.parametrize(
    "rows",
    [
        ["C:\\faces\\b\\1.jpg"],  # only the file's name is the same
        ["C:\\x\\a\\1.jpg", "D:\\y\\a\\1.jpg"],  # two are as near
        ["b\\a\\1.jpg"],
    ],
)
def test_landmarks_are_not_guessed(tmp_path, rows):
    with pytest.raises(LandmarkError):
        landmark_file(tmp_path, dict.fromkeys(rows, POINTS)).of("/data/a/1.jpg")


def test_rows_by_line():
    assert read_rows(["", "a,b,", '"1', '2",3,', " ,,", "4"]) == {2: ["a", "b"], 4: ["12", "3"], 6: ["4"]}
