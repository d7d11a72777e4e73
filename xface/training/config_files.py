"""From YAML to a config; every error says where, what is allowed, and what may have been meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from xface.errors import UsageError
from xface.training.config import Config
from xface.training.defaults import completed
from xface.training.yaml_files import Document, KeyPath, read
from xface.validation import dotted, in_words


def read_config(file: str | Path, changes: Sequence[str] = ()) -> Config:
    """Read a training config from YAML; `changes` are `key.key=value`, as of --set.

    Raises:
        UsageError: the file cannot be read, or a key or value in it is wrong; lists all that are.

    Example:
        >>> read_config("nowhere.yaml")
        Traceback (most recent call last):
        xface.errors.UsageError: cannot read 'nowhere.yaml': there is no such file or folder; check the path
    """
    return as_config(read(Path(file)).changed(changes))


def as_config(document: Document) -> Config:
    """Check what a document says, and spell out what it implies; raises UsageError.

    Example:
        >>> from xface.training.yaml_files import parse
        >>> text = "network: resnet18\\ndata: {train: a.csv}\\nprefix: run\\nbatchsize: 8"
        >>> as_config(parse(text, "a.yaml"))
        Traceback (most recent call last):
        xface.errors.UsageError: a.yaml, line 4: unknown key 'batchsize'; did you mean 'batch_size'?
    """
    try:
        config = Config.model_validate(document.values)
    except ValidationError as error:
        raise UsageError("\n".join(refusals(error, document))) from error
    return completed(config)


def refusals(error: ValidationError, document: Document) -> list[str]:
    """A line for each thing that is wrong; of a value that fits none of several kinds, one line."""
    lines: dict[KeyPath, str] = {}
    for problem in error.errors():
        path = _written_path(problem["loc"], document)
        lines.setdefault(path, f"{document.place(path)}: {_said(problem, path)}")
    return list(lines.values())


def _written_path(loc: tuple[int | str, ...], document: Document) -> KeyPath:
    """The keys as written: pydantic puts the kinds of a union's members between them."""
    path: KeyPath = ()
    for step, last in _with_last(loc):
        if document.holds((*path, step)) or (last and step in _keys_at(path)):
            path = (*path, step)
    return path


def _with_last(loc: tuple[int | str, ...]) -> Iterator[tuple[int | str, bool]]:
    return ((step, i == len(loc) - 1) for i, step in enumerate(loc))


def _said(problem: Any, path: KeyPath) -> str:
    name, kind, context = dotted(path), problem["type"], problem.get("ctx", {})
    given = problem["input"]
    if kind == "extra_forbidden":
        return f"unknown key {name!r}; {_hint(str(path[-1]), _keys_at(path[:-1]))}"
    if kind in ("literal_error", "union_tag_invalid"):
        allowed = _allowed(context.get("expected") or context["expected_tags"])
        value = given.get("type") if kind == "union_tag_invalid" else given
        name = f"{name}.type" if kind == "union_tag_invalid" else name
        return f"{name} cannot be {value!r}; {_hint(str(value), allowed)}"
    return in_words(problem, name)


def _allowed(expected: str) -> list[str]:
    """The values in pydantic's enumeration, such as "'Adam', 'SGD' or 'AdamW'"."""
    return [part.strip(" '") for part in expected.replace(" or ", ", ").split(",")]


def _hint(given: str, known: Sequence[str]) -> str:
    near = get_close_matches(given, known, n=3, cutoff=0.6)
    folded = [name for name in known if name.casefold() == given.casefold()]
    if near or folded:
        meant = folded or near
        listed = "" if len(known) > 8 else f" (allowed: {', '.join(known)})"
        return f"did you mean {' or '.join(map(repr, meant))}?{listed}"
    return f"allowed are {', '.join(known)}"


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that may stand at a place of the schema."""
    models: list[Any] = [Config]
    for step in path:
        fields = [model.model_fields[str(step)] for model in models if str(step) in model.model_fields]
        models = [found for field in fields for found in _models_in(field.annotation)]
    return list(dict.fromkeys(key for model in models for key in model.model_fields))


def _models_in(annotation: Any) -> list[Any]:
    # Python 3.10 takes dict[str, int] for a type
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]
