"""Worker processes that don't outlive the process for which they read."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Thread

from xface.errors import XFaceError

SECONDS = 1.0
DIED = re.compile(r"DataLoader worker \(pid")
"""What torch says of a worker that has gone; of an error in one that lives it says `worker process`."""


@contextmanager
def deaths_told(remedy: str) -> Iterator[None]:
    """Turn whatever the death of a worker raises into one XFaceError, which ends in `remedy`.

    torch tells of it from a signal's handler, hence anywhere in the main thread: while a batch is waited for
    as well as while something is computed or written. What the worker was sending then breaks off too, and
    may be noticed before the signal comes.
    """
    try:
        yield
    except Exception as error:
        if (reason := _death(error)) is None:
            raise
        raise XFaceError(
            f"a process that reads pictures died ({reason}), perhaps for lack of memory; {remedy}"
        ) from error


def _death(error: BaseException) -> str | None:
    """How a worker died, if an error comes of that."""
    seen: BaseException | None = error
    while seen is not None:
        if DIED.search(str(seen)):
            return " ".join(str(seen).split())
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, XFaceError):
        return None
    try:
        time.sleep(SECONDS)
    except RuntimeError as late:
        return " ".join(str(late).split()) if DIED.search(str(late)) else None
    return "what it was sending broke off" if isinstance(error, ConnectionError | EOFError) else None


def ending_with_this_process() -> Callable[[int], None]:
    """A `worker_init_fn` for torch's DataLoader: its workers end when the process that calls this has gone.

    torch looks after that only while a worker waits for work. One whose queue is full, with nobody left to
    read it, would wait for ever, and keep its memory: what a kill of the process leaves behind.
    """
    return partial(_watch, os.getpid())


def _watch(parent: int, worker: int) -> None:
    Thread(target=_outlive, args=(parent,), daemon=True).start()


def _outlive(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)  # a thread cannot end its process in another way
