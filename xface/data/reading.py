"""Reading ahead: the next pictures are read while the last ones are used, in threads or in processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader

from xface.data.workers import ending_with_this_process, quieten_opencv
from xface.errors import XFaceError

Read = TypeVar("Read")

THREADS = 4
AHEAD = 16


def read_ahead(
    read: Callable[[int], Read], count: int, workers: int | None = None, ahead: int = AHEAD
) -> Iterator[Read]:
    """What `read` gives for the numbers 0 to `count` - 1, in order.

    An error that it raises is raised in its place, and ends the reading: errors of single pictures must be
    among what it gives.

    Args:
        read: reads one picture, or one batch of them; for worker processes it must be picklable.
        count: how many there are.
        workers: processes that read: for what Python itself computes, as attributes of faces; 0 reads in this
            one. None reads in threads: decoding and resizing let go of the interpreter.
        ahead: how many threads read before they are asked for; all are held in memory.

    Example:
        >>> list(read_ahead(str, 3)), list(read_ahead(str, 3, workers=0))
        (['0', '1', '2'], ['0', '1', '2'])
    """
    if workers is None:
        return _in_threads(read, count, ahead)
    return _in_processes(read, count, workers) if workers else map(read, range(count))


def _in_threads(read: Callable[[int], Read], count: int, ahead: int) -> Iterator[Read]:
    pool, waiting = ThreadPoolExecutor(THREADS), deque[Future[Read]]()
    try:
        for number in range(count):
            waiting.append(pool.submit(read, number))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _in_processes(read: Callable[[int], Read], count: int, workers: int) -> Iterator[Read]:
    quieten_opencv(workers)
    how: Any = {
        "num_workers": min(workers, count),
        "collate_fn": _as_it_is,
        "generator": torch.Generator(),  # takes nothing from torch's state
        "worker_init_fn": ending_with_this_process(),
    }
    for item in DataLoader(_Items(read, count), batch_size=None, **how):  # type: ignore[arg-type]
        if isinstance(item, _Failure):
            raise item.error
        yield item


@dataclass(frozen=True)
class _Failure:
    """An error as it was raised: torch would wrap it."""

    error: XFaceError


@dataclass(frozen=True)
class _Items(Generic[Read]):
    """A dataset of what `read` gives."""

    read: Callable[[int], Read]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Read | _Failure:
        try:
            return self.read(number)
        except XFaceError as error:
            return _Failure(error)


def _as_it_is(item: Any) -> Any:
    return item
