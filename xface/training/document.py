"""YAML files as plain values that remember where they were written, and changes to them by dotted keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from xface.errors import UsageError

KeyPath: TypeAlias = tuple[str | int, ...]


MOST_VALUES = 10_000


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which takes 1e-4 for a number: YAML 1.1 wants 1.0e-4."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+|\d*\.\d+|\d+\.)[eE][-+]?\d+$"), list("-+.0123456789")
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
        xface.errors.UsageError: cannot read 'nowhere.yaml': No such file or directory
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise UsageError(f"cannot read {str(file)!r}: {reason}") from error
    return parse(text, str(file))


def parse(text: str, name: str) -> Document:
    """Read YAML; `name` is what messages call it.

    Raises:
        UsageError: it is no YAML, no mapping, has a key twice, or a tag that would run code.

    Example:
        >>> parse("seed: 1\\nseed: 2\\n", "run.yaml")
        Traceback (most recent call last):
        xface.errors.UsageError: run.yaml, line 2: the key 'seed' is there twice
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise UsageError(f"{name} must hold keys and values, such as `network: resnet18`")
        origins: dict[KeyPath, str] = {}
        _note_lines(node, (), origins, name)
        return Document(name, loader.construct_document(node), origins)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(_yaml_refusal(error, name)) from error
    finally:
        if loader is not None:
            loader.dispose()


def _yaml_refusal(error: Exception, name: str) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"{name}, line {mark.line + 1}" if mark else name
    said = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{place}: this is no valid YAML: {said}"


def _note_lines(node: yaml.Node, path: KeyPath, origins: dict[KeyPath, str], name: str) -> None:
    if len(origins) > MOST_VALUES:  # aliases of aliases make a page of text a tree without end
        raise UsageError(f"{name} holds more than {MOST_VALUES:,} values: this is no config")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value)
            if here in origins:
                raise UsageError(
                    f"{name}, line {key.start_mark.line + 1}: the key {key.value!r} is there twice"
                )
            origins[here] = f"line {key.start_mark.line + 1}"
            _note_lines(value, here, origins, name)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            origins[(*path, i)] = f"line {value.start_mark.line + 1}"
            _note_lines(value, (*path, i), origins, name)


def _assignment(text: str) -> tuple[tuple[str, ...], Any]:
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise UsageError(f"--set {text!r} must have the form key=value, such as optimizer.lr=1e-3")
    try:
        return path, yaml.load(value, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"--set {text!r}: the value is no valid YAML") from error


def _with(values: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    first, *rest = path
    if not rest:
        return {**values, first: value}
    inner = values.get(first)
    return {**values, first: _with(inner if isinstance(inner, Mapping) else {}, tuple(rest), value)}
