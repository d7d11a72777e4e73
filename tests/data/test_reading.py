"""Reading ahead, in threads, in this process and in worker processes, gives the same."""

import random
import threading
import time

import pytest

from xface.data.reading import read_ahead
from xface.errors import ImageError, XFaceError

WAYS = pytest.mark.parametrize("workers", [None, 0, 2])


def late(number):
    time.sleep(random.random() / 500)
    return number, bytes(number)


def failing(number):
    if number == 5:
        raise ImageError("the fifth")
    return number


@WAYS
@pytest.mark.parametrize("count", [0, 1, 40])
def test_all_come_in_order(workers, count):
    assert list(read_ahead(late, count, workers)) == [(number, bytes(number)) for number in range(count)]


@WAYS
def test_an_error_comes_in_its_place_as_it_was_raised(workers):
    read = read_ahead(failing, 40, workers)
    assert [next(read) for _ in range(5)] == list(range(5))
    with pytest.raises(XFaceError, match=r"^the fifth$"):
        next(read)


def test_threads_read_so_many_ahead_and_end_with_their_reader():
    asked, before = [], threading.active_count()
    read = read_ahead(asked.append, 100, ahead=6)
    for _ in range(3):
        next(read)
    until = time.monotonic() + 20
    while len(asked) < 3 + 6 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(asked) == 3 + 6
    read.close()
    assert threading.active_count() <= before
