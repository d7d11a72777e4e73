"""YAML configs and JSON cards: what has no one meaning is refused, with its line and key."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xface.detectors.card import read_card
from xface.errors import CheckpointError, UsageError
from xface.files.json_text import parse as parse_json
from xface.preprocessing import Preprocessing
from xface.training.yaml_files import Document, parse

NULL, HALF = "\\0", "\\ud800"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("!!timestamp x", "the tag 'tag:yaml.org,2002:timestamp'"),
        ("!!timestamp 2026-11-27", "the tag"),
        ("!!binary aGk=", "the tag"),
        ("!!set {a}", "the tag"),
        ("!!omap [a: 1]", "the tag"),
        ("!!pairs [a: 1]", "the tag"),
        ("!own x", "the tag '!own'"),
        ("!!python/name:os.system", "the tag"),
        ("!!python/tuple [1]", "the tag"),
        ("!!int x", "'x' is not a valid int"),
        ("!!float x", "'x' is not a valid float"),
        ("!!bool x", "'x' is not a valid bool"),
        ("!!float ''", "'' is not a valid float"),
        ("!!int ''", "'' is not a valid int"),
        ("!!map x", "expected a mapping"),
        ("!!str [1]", "expected a scalar"),
        ("1" * 24, "a whole number has at most 15 digits, not 24"),
        ("-" + "9" * 5000, "a whole number has at most 15 digits"),
        ("[[" + "1" * 24 + "]]", "a whole number has at most 15 digits"),
        (".inf", ".inf is not a finite number"),
        ("-.INF", "not a finite number"),
        (".nan", "not a finite number"),
        ("1e999", "not a finite number"),
        ("[1, .nan]", "not a finite number"),
        (f'"a{NULL}b"', r"a text cannot hold '\x00'"),
        (f'"{HALF}"', r"a text cannot hold '\ud800'"),
        (r'"\e[31m"', r"a text cannot hold '\x1b'"),
        (f'{{"{NULL}": 1}}', r"a text cannot hold '\x00'"),
        ("{[1]: 2}", "a key must be a word"),
        ("{{a: 1}: 2}", "a key must be a word"),
        ("{? !!timestamp x : 1}", "the tag"),
        ("{a: 1, a: 2}", "the key 'a' occurs twice"),
        ("{<<: 1}", "expected a mapping"),
        ("*nowhere", "undefined alias"),
        ("&a [*a]", "nested too deeply"),
        ("[" * 5000, "nested too deeply"),
        ("{a: " * 3000, "nested too deeply"),
    ],
)
def test_yaml_is_refused_with_its_line_and_key(value: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(f"first: 1\nsecond:\n  third: {value}\n", "a.yaml")
    message = str(caught.value)
    assert said in message
    assert message.startswith("a.yaml, line 3: ") or "deeply" in message
    with pytest.raises(UsageError, match="--set"):
        Document("a.yaml", {}).changed([f"second.third={value}"])


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("1e-4", 1e-4),
        ("-2.5E3", -2500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("3", 3),
        ("-3", -3),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("010", "010"),
        ("2026-11-27", "2026-11-27"),
        ("0x10", "0x10"),
        ("yes", True),
        ("~", None),
        ('"é\\tü"', "é\tü"),
        ("!!str 12", "12"),
        ("999999999999999", 999999999999999),
        ("x1e5", "x1e5"),
        ("1e5x", "1e5x"),
        ("-", None),
    ],
)
def test_yaml_means_what_it_shows(value: str, meant: object) -> None:
    found = parse(f"a: {value}\n" if value != "-" else "a:\n", "a.yaml").values["a"]
    assert (type(found), found) == (type(meant), meant)


def test_aliases_of_aliases_end() -> None:
    lines = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]" for i in range(20)]
    with pytest.raises(UsageError, match="more than 10,000 values"):
        parse("\n".join(lines), "a.yaml")
    merged = ["a0: &a0 {x: 1}"] + [
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 20)
    ]
    with pytest.raises(UsageError, match="more than 10,000 values"):
        parse("\n".join(merged), "a.yaml")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("NaN", "NaN is not a finite number"),
        ("-Infinity", "-Infinity is not a finite number"),
        ("1e999", "1e999 is not a finite number"),
        ("1" * 24, "has more than 15 digits"),
        ("-" + "1" * 5000, "has more than 15 digits"),
        ('{"a": 1, "a": 1}', "the key 'a' occurs twice"),
        ('"\\u0000"', r"no text holds '\x00'"),
        ('["\\ud800"]', r"no text holds '\ud800'"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("'a'", "not valid JSON"),
        ("1,}", "not valid JSON"),
        ("01", "not valid JSON"),
    ],
)
def test_json_is_refused_with_its_line_and_key(value: str, said: str, tmp_path: Path) -> None:
    text = f'{{"notes": "1 NaN \\" 1e999: -Infinity",\n "threshold":\n {value}}}'
    with pytest.raises(ValueError, match=r".") as caught:
        parse_json(text)
    message = str(caught.value)
    assert said in message
    assert "deeply" in message or message.startswith(("line 3", "line 2, key 'threshold'"))
    if "number" in said or "digits" in said:
        assert message.startswith("line 3, key 'threshold': ")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"a\.json"):
        read_card(tmp_path / "a.json")


def test_json_otherwise_is_what_python_reads() -> None:
    content = {"a": [1, -2.5, 1e-7, True, None, 'ü\n"\\', {"b": {"c": []}}], "": 999999999999999}
    assert parse_json(json.dumps(content)) == parse_json(json.dumps(content, indent=1)) == content


def test_a_card_of_a_hundred_thousand_repeated_keys_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{" + ", ".join(f'"k{i % 30_000}": 1' for i in range(60_000)) + "}")
    with pytest.raises(CheckpointError, match="occurs twice"):
        read_card(tmp_path / "a.json")


@pytest.mark.parametrize("number", [10**400, 1e300, -1e39, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["scale", "mean", "std"])
def test_preprocessing_is_computed_in_float32(name: str, number: float) -> None:
    value = number if name == "scale" else (number, 1.0, 1.0)
    with pytest.raises(UsageError, match="finite in float32"):
        Preprocessing((8, 8), **{name: value})
    for small in (1e-60, 0):
        with pytest.raises(UsageError, match="not 0"):
            Preprocessing((8, 8), scale=small)
    assert np.float32(Preprocessing((8, 8), scale=1e-6).scale) > 0
