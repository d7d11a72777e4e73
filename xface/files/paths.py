"""Files that users name: what lies at a path, whether it can be read or written, and the text in it.

Whoever touches such a path does it within `reading` or `writing`, so that what the system says against it
becomes one of xface's errors, with the path and what to do.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from xface.errors import OutputError, XFaceError

PathLike: TypeAlias = "str | os.PathLike[str]"

MOST_TEXT = 1_000_000
"""The most bytes that a text may have: a card, a .pts file."""
MOST_TABLE = 200_000_000
"""The most bytes that a table may have: about a million rows of a manifest."""

_CHECK = "check the path"
REASONS = {
    errno.ENOENT: f"there is no such file or folder; {_CHECK}",
    errno.ENOTDIR: f"a part of the path is a file, not a folder; {_CHECK}",
    errno.ENAMETOOLONG: "no path or name in it may be so long; shorten it",
    errno.ELOOP: "its links lead in a circle; remove them",
    errno.EISDIR: "it is a folder; give a file",
    errno.EEXIST: "something else is there; remove it, or give another path",
    errno.ENOTEMPTY: "something else is there; remove it, or give another path",
    errno.ENOSPC: "there is no room on the device; make room, or give another path",
    errno.EDQUOT: "there is no room on the device; make room, or give another path",
    errno.EROFS: "its device can only be read; give another path",
}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
ABLE = {"write": "writable"}


@contextmanager
def reading(path: PathLike, kind: type[XFaceError], verb: str = "read") -> Iterator[None]:
    """Turn an OSError into a `kind` that names `path`, says why it cannot be read, and what to do.

    Example:
        >>> from xface.errors import UsageError
        >>> with reading("nowhere", UsageError):
        ...     os.listdir("nowhere")
        Traceback (most recent call last):
        xface.errors.UsageError: cannot read 'nowhere': there is no such file or folder; check the path
    """
    name = os.fspath(path)
    if "\0" in name:
        raise kind(f"cannot {verb} {name!r}: no path holds a null character; {_CHECK}")
    try:
        yield
    except OSError as error:
        raise kind(f"cannot {verb} {name!r}: {_reason(error, name, verb)}") from error


@contextmanager
def writing(path: PathLike, kind: type[XFaceError] = OutputError) -> Iterator[None]:
    """`reading`, for what is to be written.

    Example:
        >>> with writing("nowhere/file"), open("nowhere/file", "w"):
        ...     pass
        Traceback (most recent call last):
        xface.errors.OutputError: cannot write 'nowhere/file': there is no such file or folder; check the path
    """
    with reading(path, kind, "write"):
        yield


def status(path: PathLike, kind: type[XFaceError]) -> os.stat_result | None:
    """What the system says of what lies at a path, None if nothing does.

    Raises:
        XFaceError: of the given kind, where that cannot be known: a folder that may not be entered, links in
            a circle.

    Example:
        >>> from xface.errors import UsageError
        >>> status("nowhere", UsageError) is None, is_file("nowhere", UsageError), is_folder(".", UsageError)
        (True, False, True)
    """
    with reading(path, kind):
        try:
            return os.stat(path)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise


def absolute(path: PathLike, kind: type[XFaceError]) -> Path:
    """A path from the root on, links in it as they are.

    Raises:
        XFaceError: of the given kind: it holds a null character, or the working directory was removed.

    Example:
        >>> absolute("/faces/../face.png", OutputError)
        PosixPath('/faces/../face.png')
    """
    with reading(path, kind, "find"):
        return Path(path).absolute()


def as_utf8(text: str) -> str:
    """A text in which what UTF-8 lacks, as undecodable bytes of a file's name, is spelled out.

    Example:
        >>> as_utf8("a\\udc80.jpg")
        'a\\\\udc80.jpg'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def check_utf8(path: PathLike, kind: type[XFaceError], reader: str) -> None:
    """Raise a `kind` for a path that isn't text in UTF-8, where `reader`, a library, takes no other.

    Example:
        >>> check_utf8("\\udc80", OutputError, "PyTorch")
        Traceback (most recent call last):
        xface.errors.OutputError: '\\udc80' is not UTF-8 text, as PyTorch needs; rename it, or its folder
    """
    if as_utf8(name := os.fspath(path)) != name:
        raise kind(f"{name!r} is not UTF-8 text, as {reader} needs; rename it, or its folder")


def identity(path: PathLike) -> Hashable:
    """What is the same for all names of one file, links of either kind; the path where nothing lies.

    Size and time are part of it, as on some shared folders files have numbers that aren't their own.

    Example:
        >>> identity(".") == identity(os.getcwd()), identity("nowhere")
        (True, 'nowhere')
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return os.fspath(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def is_file(path: PathLike, kind: type[XFaceError]) -> bool:
    """Whether a regular file lies at a path; raises as `status` does."""
    found = status(path, kind)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: PathLike, kind: type[XFaceError]) -> bool:
    """Whether a folder lies at a path; raises as `status` does."""
    found = status(path, kind)
    return found is not None and stat.S_ISDIR(found.st_mode)


def check_file(path: PathLike, kind: type[XFaceError], most: int | None = None) -> None:
    """Raise a `kind` unless a path leads to a regular file that isn't empty, of at most so many bytes.

    A device or a pipe would be waited for, or read without end.

    Example:
        >>> from xface.errors import UsageError
        >>> check_file("/dev/null", UsageError)
        Traceback (most recent call last):
        xface.errors.UsageError: cannot read '/dev/null': it is a device or a pipe; save it to a file first
    """
    with reading(path, kind):
        found = os.stat(path)
    if reason := _no_file(found, most):
        raise kind(f"cannot read {os.fspath(path)!r}: {reason}")


def read_text(path: PathLike, kind: type[XFaceError], most: int = MOST_TEXT) -> str:
    r"""The text in UTF-8 that a file holds, with `\n` at the ends of lines.

    Raises:
        XFaceError: of the given kind: it cannot be read, is no text, or has more than `most` bytes.

    Example:
        >>> from xface.errors import UsageError
        >>> read_text(".", UsageError)
        Traceback (most recent call last):
        xface.errors.UsageError: cannot read '.': it is a folder; give a file
    """
    check_file(path, kind, most)
    try:
        with reading(path, kind), open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise kind(f"cannot read {os.fspath(path)!r}: it is not UTF-8 text; save it as such") from error


def _no_file(found: os.stat_result, most: int | None) -> str:
    if stat.S_ISDIR(found.st_mode):
        return REASONS[errno.EISDIR]
    if not stat.S_ISREG(found.st_mode):
        return "it is a device or a pipe; save it to a file first"
    if found.st_size == 0:
        return "it is empty (0 bytes); copy or download it again"
    if most is not None and found.st_size > most:
        return f"it has {found.st_size:,} bytes, more than {most:,}; give the right file, or split it"
    return ""


def _reason(error: OSError, name: str, verb: str) -> str:
    relative = error.filename is None or not os.path.isabs(name)  # os.getcwd names no file
    if error.errno == errno.ENOENT and relative and _is_adrift():
        return "the working directory was removed; change to another"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"permission denied; make it and its folder {ABLE.get(verb, 'readable')}"
    said = REASONS.get(error.errno or 0, f"{error.strerror or error}; {_CHECK}")
    other = error.filename
    elsewhere = isinstance(other, str) and other != name and not name.startswith(other)
    return f"{said} ({other!r})" if elsewhere else said


def _is_adrift() -> bool:
    """Whether the working directory is there no more."""
    try:
        os.getcwd()
    except OSError:
        return True
    return False
