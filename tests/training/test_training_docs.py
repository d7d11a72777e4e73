"""docs/training.md has each key that a config can have, with its default and allowed values."""

import re
from collections import defaultdict
from dataclasses import fields

import pytest
from project import ROOT

from xface.data.augmentation import AUGMENTATIONS
from xface.data.labelled_pictures import COLUMNS as CSV_COLUMNS
from xface.data.manifest import FLAGS
from xface.data.self_blending import SelfBlending
from xface.training import config as schema
from xface.training.config import FOLLOWED, METRICS, Config
from xface.training.defaults import completed
from xface.training.history import COLUMNS
from xface.training.run import CONFIG, DONE, LAST, SAMPLES, WEIGHTS
from xface.training.yaml_files import parse

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]+)`")
WORDS = {"gt": "over {}", "ge": "{} or more", "lt": "under {}", "le": "{} or less"}
BOUND = re.compile(r"(?:over|under) \d+|\d+ or (?:more|less)")


def rows(text: str) -> dict[str, list[str]]:
    """The other cells of each table row, by the names in code quotes in its first."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            first, *others = re.split(r"\s*\|\s*", line)[1:-1]
            for name in CODE.findall(first):
                assert name not in found, f"{name} has two rows"
                found[name] = others
    return found


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def marked(name: str) -> str:
    return PAGE.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]


def parts_of(node: object) -> list[dict]:
    """A JSON schema's node and all below it, references followed not."""
    if isinstance(node, list):
        return [part for item in node for part in parts_of(item)]
    if not isinstance(node, dict):
        return []
    kept = {key: value for key, value in node.items() if key not in ("default", "discriminator")}
    return [node, *(part for value in kept.values() for part in parts_of(value))]


def keys() -> dict[str, list[tuple[str, dict, bool]]]:
    """Of each dotted key the models that have it: their names, its schema, and whether it is required."""
    whole, found = Config.model_json_schema(), defaultdict(list)

    def walk(model: dict, prefix: str) -> None:
        for name, node in model["properties"].items():
            found[prefix + name].append((model["title"], node, name in model.get("required", ())))
            for part in parts_of(node):
                if "$ref" in part and name != "preprocessing":  # whose keys docs/checkpoints.md has
                    walk(whole["$defs"][part["$ref"].rpartition("/")[2]], f"{prefix}{name}.")

    walk(whole, "")
    return dict(found)


KEYS = keys()
KEY_ROWS = rows(marked("keys"))


def is_default(cell: str, node: dict, required: bool) -> bool:
    if required:
        return cell == "required"
    if "$ref" in node:
        return cell == "the keys below"
    written = parse(f"value: {cell.strip('`')}", "cell").values["value"]
    return written == node["default"] or (cell != "`null`" and str(written) == node["default"])


def test_every_key_has_a_row_and_no_row_another_key():
    assert len(KEYS) > 60
    assert {"data.split.group_size", "schedule.warmup", "input_size.width", "prefix"} <= KEYS.keys()
    assert KEY_ROWS.keys() == KEYS.keys()


def test_the_default_is_the_schemas():
    for key, models in KEYS.items():
        cells = re.findall(r"(`[^`]+`|required) with `(\w+)`", KEY_ROWS[key][0])
        by_model = {model: cell for cell, model in cells}
        for model, node, required in models:
            assert is_default(by_model.get(model, KEY_ROWS[key][0]), node, required), (key, model)


def named_values(parts: list[dict]) -> set[str]:
    """The values that a schema lists, as YAML writes them."""
    listed = [value for part in parts for value in (*part.get("enum", ()), *{part.get("const")} - {None})]
    truths = {"true", "false"} if any(part.get("type") == "boolean" for part in parts) else set()
    return truths | {str(value).lower() if isinstance(value, bool) else str(value) for value in listed}


def bounds(parts: list[dict]) -> set[str]:
    """A schema's bounds in the page's words, such as `over 0`."""
    return {words.format(part[kind]) for part in parts for kind, words in WORDS.items() if kind in part}


def test_what_is_allowed_is_what_the_schema_allows():
    for key, models in KEYS.items():
        allowed, parts = KEY_ROWS[key][1], [part for _, node, _ in models for part in parts_of(node)]
        if any(part.get("enum") == list(METRICS) for part in parts):
            assert allowed == "a metric", key
            continue
        if values := named_values(parts):
            assert set(CODE.findall(allowed)) - {"null"} == values, key
        assert ("`null`" in allowed) == any(part.get("type") == "null" for part in parts), key
        assert set(BOUND.findall(allowed)) == bounds(parts), key


def test_each_schedules_keys_are_those_of_its_type():
    for key, models in KEYS.items():
        if key.startswith("schedule.") and key != "schedule.type":
            said = KEY_ROWS[key][2].partition(":")[0]
            assert set(CODE.findall(said)) == {model for model, _, _ in models}


def defaults(kind: type) -> dict[str, object]:
    """The defaults of a dataclass as YAML has them."""
    return {f.name: list(f.default) if isinstance(f.default, tuple) else f.default for f in fields(kind)}


def test_every_augmentation_has_its_settings():
    found = rows(marked("augmentations"))
    assert found.keys() == set(AUGMENTATIONS)
    for name, (_, settings) in found.items():
        assert parse("\n".join(CODE.findall(settings)), name).values == defaults(AUGMENTATIONS[name])


def test_every_setting_of_self_blending_has_its_default():
    said = [f"{name}: {cells[0].strip('`')}" for name, cells in rows(marked("blending")).items()]
    assert parse("\n".join(said), "page").values == defaults(SelfBlending)


def test_the_followed_names_mean_what_the_page_says():
    found = rows(section("YAML files of Fake Face Detection"))
    assert {name: cells[0].strip("`") for name, cells in found.items()} == FOLLOWED
    for name in FOLLOWED:
        full = completed(Config(network=name, data={"train": "a.csv"}, prefix="run"))
        assert full.schedule == schema.StepLR(type="StepLR", step_size=5, gamma=0.1)
        assert (full.preprocessing.colours, full.preprocessing.size) == ("BGR", (224, 224))


LEFT = {CONFIG, SAMPLES, LAST, WEIGHTS, DONE, "metrics.csv", "best.json", "tensorboard", *COLUMNS}
WAYS = set(schema.Split.model_json_schema()["properties"]["by"]["enum"])
RECIPES = {path.name for path in (ROOT / "configs").glob("*.yaml")}


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Data", {*CSV_COLUMNS, *FLAGS}),
        ("Splits and leakage", WAYS),
        ("What a run leaves", LEFT),
        ("Recipes", RECIPES),
    ],
)
def test_columns_splits_files_and_recipes_are_all_there_and_no_others(title, names):
    assert rows(section(title)).keys() == names
