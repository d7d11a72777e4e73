"""A run's folder, read back and checked: what was changed by hand is refused, with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from xface.errors import UsageError, XFaceError
from xface.files.hashes import sha256_of
from xface.validation import dotted, in_words

Model = TypeVar("Model", bound=BaseModel)
REMEDY = "make the run again"
COMMANDS = {"trust.json": "trust"}  # that write what not every run has


def read_json(file: Path, model: type[Model], remedy: str = REMEDY) -> tuple[dict[str, Any], Model]:
    """A JSON file's content as it stands there, and as the model has it.

    Raises:
        UsageError: it is absent, is no JSON, holds what no JSON can (NaN, half a surrogate pair), or isn't as
            the model says.
    """
    with failures_named(file, remedy):
        if not file.is_file():
            raise FileNotFoundError(file)
        content = json.loads(file.read_bytes().decode("utf-8"))
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8")
        try:
            return content, model.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(in_words(first, dotted(first["loc"]))) from error


def check_hashes(
    folder: Path, expected: Mapping[str, str], names: Iterable[str], remedy: str = REMEDY
) -> None:
    """Raise UsageError for a file that isn't as the run wrote it; of what has no hash nothing is known."""
    for name in names:
        if name in expected and sha256_of(folder / name) != expected[name]:
            with failures_named(folder / name, remedy):
                (folder / name).open("rb").close()
                raise ValueError("it was changed after the run wrote it")


@contextmanager
def failures_named(file: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turn what reading a file of a run raises into a UsageError that names it; no pipe is waited for."""
    try:
        if file.exists() and not file.is_file():
            raise ValueError("it is not a regular file")
        yield
    except XFaceError:
        raise
    except FileNotFoundError as error:
        command = COMMANDS.get(file.name, "analyze")
        remedy = f"give the folder that `xface {command} --out` made, or finish the run with --resume"
        raise UsageError(f"{file} is missing; {remedy}") from error
    except RecursionError as error:
        raise UsageError(f"{file}: cannot be read (it is nested too deeply); {remedy}") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"{file}: cannot be read ({reason}); {remedy}") from error
