"""YAML files as plain values that remember where they were written, and changes to them by dotted keys."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from xface.errors import UsageError
from xface.files.json_text import MOST_DIGITS
from xface.files.paths import check_utf8, read_text

KeyPath: TypeAlias = tuple[str | int, ...]

MOST_BYTES = 200_000
MOST_VALUES = 10_000
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FRACTION = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge")
}


class _Loader(yaml.SafeLoader):
    """YAML's safe loader with the numbers of YAML 1.2.

    YAML 1.1 takes 1e-4 for a text, 1:30 for 90, 010 for 8, and 2026-11-27 for a date.
    """


_Loader.yaml_implicit_resolvers = {
    letter: [
        (tag, pattern)
        for tag, pattern in known
        if tag.rpartition(":")[2] not in ("int", "float", "timestamp")
    ]
    for letter, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in (("float", _FRACTION), ("int", _NUMBER)):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern.pattern})$"), list("-+.0123456789")
    )


@dataclass(frozen=True)
class Document:
    """What a file says, and where: `origins` has the place of each key, such as `line 12`.

    Example:
        >>> document = parse("optimizer:\\n  lr: 1e-4\\n", "run.yaml")
        >>> document.values, document.place(("optimizer", "lr"))
        ({'optimizer': {'lr': 0.0001}}, 'run.yaml, line 2')
    """

    name: str
    values: dict[str, Any]
    origins: Mapping[KeyPath, str] = field(default_factory=dict, repr=False)

    def place(self, path: KeyPath) -> str:
        """Where a key was written; for one that wasn't, where what it would belong to was."""
        known = (self.origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.origins)
        place = next(known, "")
        return place if place.startswith("--set") else ", ".join(filter(None, (self.name, place)))

    def holds(self, path: KeyPath) -> bool:
        """Whether there is such a key."""
        value: Any = self.values
        for key in path:
            if not (isinstance(value, Mapping) and key in value):
                return isinstance(value, list) and isinstance(key, int) and key < len(value)
            value = value[key]
        return True

    def changed(self, assignments: Sequence[str]) -> Document:
        """The document with `key.key=value` set; values are YAML.

        Raises:
            UsageError: one isn't of that form, or its value is no YAML.

        Example:
            >>> Document("run.yaml", {}).changed(["optimizer.lr=1e-3", "data.crop=box"]).values
            {'optimizer': {'lr': 0.001}, 'data': {'crop': 'box'}}
        """
        values, origins = self.values, dict(self.origins)
        for assignment in assignments:
            path, value = _assignment(assignment)
            values = _with(values, path, value)
            origins[path] = f"--set {assignment}"
        return Document(self.name, values, origins)


def read(file: Path) -> Document:
    """Read a YAML file that holds one mapping; raises UsageError, which names the line.

    Example:
        >>> read(Path("nowhere.yaml"))
        Traceback (most recent call last):
        xface.errors.UsageError: cannot read 'nowhere.yaml': there is no such file or folder; check the path
    """
    return parse(read_text(file, UsageError, MOST_BYTES), str(file))


def parse(text: str, name: str) -> Document:
    """Read YAML; `name` is what messages call it.

    Raises:
        UsageError: it is no YAML, no mapping, has a key twice, or a tag that would run code.

    Example:
        >>> parse("seed: 1\\nseed: 2\\n", "run.yaml")
        Traceback (most recent call last):
        xface.errors.UsageError: run.yaml, line 2: the key 'seed' occurs twice
    """
    reader = _Reader(text, name)
    values = reader.value()
    if not isinstance(values, dict):
        raise UsageError(f"{name} must hold keys and values, such as `network: resnet18`")
    return Document(name, values, reader.origins)


class _Reader:
    """One YAML text, and the lines in which its keys stand."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        self.origins: dict[KeyPath, str] = {}

    def value(self) -> Any:
        """What the text says; UsageError with the line for what is no YAML, or no value of a config."""
        loader = None
        try:
            loader = _Loader(self.text)
            node = loader.get_single_node()
            if node is None:
                return None
            self._check(node, (), loader)
            return loader.construct_document(node)
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            raise self._no_yaml(error) from error
        finally:
            if loader is not None:
                loader.dispose()

    def _check(self, node: yaml.Node, path: KeyPath, loader: _Loader) -> None:
        """Note the line of each key, and refuse what a config cannot hold."""
        if len(self.origins) > MOST_VALUES:  # aliases of aliases make a page of text a tree without end
            raise UsageError(f"{self.name} holds more than {MOST_VALUES:,} values: this is not a config")
        if node.tag not in _TAGS:
            raise self._refusal(node, path, f"the tag {node.tag!r} is none of a config's; leave it out")
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._check(value, self._noted(key, path, loader), loader)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                self.origins[(*path, i)] = f"line {value.start_mark.line + 1}"
                self._check(value, (*path, i), loader)
        else:
            self._check_scalar(node, path, loader)

    def _noted(self, key: yaml.Node, path: KeyPath, loader: _Loader) -> KeyPath:
        if not isinstance(key, yaml.ScalarNode):
            raise self._refusal(key, path, "a key must be a word, not a list or a mapping")
        here = (*path, key.value)
        if here in self.origins:
            line = key.start_mark.line + 1
            raise UsageError(f"{self.name}, line {line}: the key {key.value!r} occurs twice")
        self.origins[here] = f"line {key.start_mark.line + 1}"
        if key.tag not in _TAGS:
            raise self._refusal(key, here, f"the tag {key.tag!r} is none of a config's; leave it out")
        if key.tag != _MERGE:
            self._check_scalar(key, here, loader)
        return here

    def _check_scalar(self, node: yaml.Node, path: KeyPath, loader: _Loader) -> None:
        if node.tag.endswith(":int") and len(node.value) > MOST_DIGITS:
            raise self._refusal(
                node, path, f"a whole number has at most {MOST_DIGITS} digits, not {len(node.value)}"
            )
        try:
            value = loader.construct_object(node)
        except (ValueError, LookupError) as error:
            raise self._refusal(
                node, path, f"{node.value!r} is not a valid {node.tag.rpartition(':')[2]}"
            ) from error
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refusal(node, path, f"{node.value} is not a finite number")
        if isinstance(value, str) and (odd := _unprintable(value)):
            raise self._refusal(node, path, f"a text cannot hold {odd!r}; write it without")

    def _refusal(self, node: yaml.Node, path: KeyPath, reason: str) -> UsageError:
        key = ".".join(map(str, path))
        where = f"{self.name}, line {node.start_mark.line + 1}"
        return UsageError(f"{where}: {key}: {reason}" if key else f"{where}: {reason}")

    def _no_yaml(self, error: Exception) -> UsageError:
        mark = getattr(error, "problem_mark", None)
        line = mark.line if mark else None
        if isinstance(error, yaml.reader.ReaderError):
            line = self.text.count("\n", 0, error.position)
        said = getattr(error, "problem", None) or str(error).partition("\n")[0]
        if isinstance(error, RecursionError):
            said = "it is nested too deeply"
        place = self.name if line is None else f"{self.name}, line {line + 1}"
        return UsageError(f"{place}: this is not valid YAML: {said}")


_MERGE = "tag:yaml.org,2002:merge"


def _unprintable(text: str) -> str:
    """The first character that is no part of a text: of control, or half of a pair."""
    return next((c for c in text if c not in "\t\n" and unicodedata.category(c) in ("Cc", "Cs")), "")


def _assignment(text: str) -> tuple[tuple[str, ...], Any]:
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise UsageError(f"--set {text!r} must have the form key=value, such as optimizer.lr=1e-3")
    check_utf8(value, UsageError, "a config")
    return path, _Reader(value, f"--set {text!r}").value()


def _with(values: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    first, *rest = path
    if not rest:
        return {**values, first: value}
    inner = values.get(first)
    return {**values, first: _with(inner if isinstance(inner, Mapping) else {}, tuple(rest), value)}
