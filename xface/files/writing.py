"""Atomic writing: a file or folder is written under another name, and renamed when it is complete."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from xface.errors import OutputError
from xface.files.paths import absolute, writing


@contextmanager
def written_among_others(path: Path) -> Iterator[Path]:
    """`written_aside` for a folder of the user's: under a new name, so that no file of theirs is touched."""
    with written_aside(path, path.with_name(f".xface-{token_hex(16)}.part")) as part:
        yield part


@contextmanager
def written_aside(path: Path, part: Path | None = None) -> Iterator[Path]:
    """A path beside `path` to write to; it is renamed to that in the end, and removed if this isn't reached.

    Without `part` it is `path` with .part after it: in a folder of xface's own what a killed run left there
    is then rewritten.

    Raises:
        OutputError: the folder is missing, or cannot be written.
    """
    part = part or path.with_name(f"{path.name}.part")
    with writing(path):
        try:
            yield part
            part.replace(path)
        finally:
            with suppress(OSError):  # the folder has become unwritable
                part.unlink(missing_ok=True)


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """An empty folder to write into; what is in it comes to `folder` if all goes well, else nothing does.

    A folder that exists keeps its other files, and gets each new one whole. Raises OutputError where nothing
    can be written, before the work begins.
    """
    target = absolute(folder, OutputError)
    with writing(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            os.listdir(target)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".part", dir=target.parent))
        try:
            yield aside
            _move(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to write into; in the end it takes the place of `folder` and of all that was in there.

    It is `folder` with .part after it, and is removed if the end isn't reached. Raises OSError.
    """
    part, old = (folder.with_name(f"{folder.name}.{ending}") for ending in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _move(aside: Path, target: Path) -> None:
    aside.chmod(0o755)
    if not target.exists():
        try:
            aside.rename(target)
            return
        except OSError:
            if not target.is_dir():  # another process may have been faster
                raise
    for file in aside.iterdir():
        file.replace(target / file.name)
