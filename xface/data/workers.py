"""Worker processes that don't outlive the process for which they read."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from threading import Thread

SECONDS = 1.0


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
