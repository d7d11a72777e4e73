"""Worker processes that don't outlive the process for which they read."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread, current_thread, main_thread
from types import FrameType
from typing import Any

import cv2
from torch.utils.data._utils.signal_handling import _set_SIGCHLD_handler

from xface.errors import XFaceError

SECONDS = 1.0
DIED = re.compile(r"DataLoader worker \(pid")
"""What torch says of a worker that has gone; of an error in one that lives it says `worker process`."""


@contextmanager
def dead_workers_reported(remedy: str) -> Iterator[None]:
    """Turn whatever the death of a worker raises into one XFaceError, which ends in `remedy`.

    What the worker was sending breaks off too, and may be noticed before the signal of its death comes.
    """
    with _raised_while_waiting() as deaths:
        try:
            yield
        except Exception as error:
            if (reason := _death(error, deaths)) is None:
                raise
            raise XFaceError(
                f"a process that reads pictures died ({reason}), perhaps for lack of memory; {remedy}"
            ) from error


@contextmanager
def _raised_while_waiting() -> Iterator[list[str]]:
    """The deaths so far; torch's error of one comes only where a batch is waited for.

    torch raises it from a signal's handler, in the midst of anything. Where errors are expected of a network
    it would pass for one of those, and from a finaliser it would be printed and lost.
    """
    deaths: list[str] = []
    if current_thread() is not main_thread():
        yield deaths
        return
    _set_SIGCHLD_handler()
    before: Any = signal.getsignal(signal.SIGCHLD)

    def note(number: int, frame: FrameType | None) -> None:
        try:
            before(number, frame)
        except RuntimeError as error:
            deaths.append(" ".join(str(error).split()))
        if deaths and _is_waiting(frame):
            raise RuntimeError(deaths[0])

    done = Event()
    Thread(target=_remind, args=(deaths, done), daemon=True).start()
    signal.signal(signal.SIGCHLD, note)
    try:
        yield deaths
    finally:
        done.set()
        signal.signal(signal.SIGCHLD, before)


def _is_waiting(frame: FrameType | None) -> bool:
    """Whether a frame is in torch's wait for a batch, which may be one that a dead worker cannot finish."""
    while frame is not None and frame.f_code.co_name != "_try_get_data":
        frame = frame.f_back
    return frame is not None


def _remind(deaths: list[str], done: Event) -> None:
    """Send the main thread the signal of a death again and again, until it waits for a batch.

    The handler itself must not start a thread for that: what it breaks into may be the start of another,
    whose lock it would wait for in vain.
    """
    while not done.wait(SECONDS):
        if deaths:
            signal.pthread_kill(main_thread().ident or 0, signal.SIGCHLD)


def _death(error: BaseException, deaths: list[str]) -> str | None:
    """How a worker died, if an error comes of that."""
    seen: BaseException | None = error
    while seen is not None:
        if DIED.search(str(seen)):
            return " ".join(str(seen).split())
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, XFaceError):
        return None
    time.sleep(SECONDS)
    if deaths:
        return deaths[0]
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


def quieten_opencv(workers: int) -> None:
    """Keep OpenCV to one thread where there are to be worker processes, which inherit that.

    A process forked off while OpenCV holds threads of its own hangs when it first touches their number, and
    with a worker for each core they would only be in each other's way.
    """
    if workers:
        cv2.setNumThreads(1)
