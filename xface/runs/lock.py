"""A lock on a folder: one process at a time writes a run, and one that died holds nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TypeAlias

from xface.errors import OutputError, UsageError, XFaceError

LOCK = ".xface-lock"
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What systems of files say that know no locks: there a second process isn't noticed."""

Identity: TypeAlias = tuple[int, int]
Owner: TypeAlias = tuple[int, Identity, str]
_ours: set[Owner] = set()  # by process, as a fork has a copy: the kernel's locks are a process's
_guard = Lock()


@dataclass(frozen=True)
class Held:
    """A folder that this process holds."""

    folder: Path
    name: str
    identity: Identity

    def check(self) -> None:
        """Raise OutputError if what is at the folder's path isn't the folder that was locked."""
        if _identity(self.folder / self.name) != self.identity:
            raise OutputError(
                f"'{self.folder}' was removed or replaced while it was being written; start the run again"
            )

    @contextmanager
    def loss_reported(self, remedy: str) -> Iterator[None]:
        """Turn what the folder's loss, or a full disk, raises anywhere into one OutputError with a remedy."""
        try:
            yield
        except (OSError, XFaceError) as error:
            self.check()
            if isinstance(error, XFaceError):
                raise
            reason = " ".join(str(error).split())
            raise OutputError(f"'{self.folder}' cannot be written or read ({reason}); {remedy}") from error


@contextmanager
def held(folder: Path, name: str = LOCK) -> Iterator[Held]:
    """Hold a folder that exists, by a file `name` in it that says which process does.

    The lock is the kernel's: it ends with its process, however that ends, and on a folder shared over a
    network it is known to all hosts. What the file says is for people only, so one that was left behind holds
    nothing. The file goes when the lock is let go, wherever the folder has been moved to.

    Raises:
        UsageError: another process, or another thread of this one, holds the folder. OutputError: the file
            cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name, held(Path(name)), held(Path(name)):
        ...     pass
        Traceback (most recent call last):
        xface.errors.UsageError: ... is being written by process ...
    """
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise OutputError(f"'{folder}' cannot be opened ({error.strerror}); give another folder") from error
    owner = (os.getpid(), _of(os.fstat(place)), name)
    try:
        with _one_thread(owner, folder):
            file = _locked(place, folder, name)
            try:
                yield Held(folder, name, _of(os.fstat(file)))
            finally:
                with suppress(OSError):
                    os.unlink(name, dir_fd=place)
                os.close(file)
    finally:
        os.close(place)


@contextmanager
def _one_thread(owner: Owner, folder: Path) -> Iterator[None]:
    """The kernel lets a process lock a file twice, and closing it once would end both locks."""
    with _guard:
        if owner in _ours:
            raise _refusal(folder, f"process {os.getpid()}, this one")
        _ours.add(owner)
    try:
        yield
    finally:
        _ours.discard(owner)


def _locked(place: int, folder: Path, name: str) -> int:
    while True:
        try:
            file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666, dir_fd=place)
        except OSError as error:
            raise OutputError(
                f"'{folder}' cannot be written ({error.strerror}); give another folder"
            ) from error
        try:
            _lock(file, folder)
            if _identity(name, place) == _of(os.fstat(file)):  # else who held it has just let go of this file
                _sign(file)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, folder: Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return
        raise _refusal(folder, _signed(file)) from error


def _refusal(folder: Path, holder: str) -> UsageError:
    return UsageError(f"'{folder}' is being written by {holder}; wait for it, or name another folder")


def _sign(file: int) -> None:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    content = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
    with suppress(OSError):  # a full disk: it holds all the same
        os.ftruncate(file, 0)
        os.pwrite(file, f"{json.dumps(content)}\n".encode(), 0)


def _signed(file: int) -> str:
    try:
        content = json.loads(os.pread(file, 4096, 0))
        return f"process {int(content['process'])} on {content['host']!r} since {content['since']}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"


def _identity(path: Path | str, place: int | None = None) -> Identity | None:
    try:
        return _of(os.stat(path, dir_fd=place, follow_symlinks=False))
    except OSError:
        return None


def _of(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
