"""A process that reads pictures is killed at any moment: one error that says so, and the run can resume."""

import os
import random
import signal
import time
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest
from torch.utils.data import DataLoader
from unbroken_runs import WORK, ended, forked, tables

from xface.data.workers import dead_workers_reported
from xface.errors import OutputError, XFaceError
from xface.runs.tables import TABLES


def workers_of(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def kill_one(after: float, how: int) -> None:
    """Once there are workers, and some time has passed, kill one of them."""
    while not (found := workers_of(os.getpid())):
        time.sleep(0.005)
    time.sleep(after)
    if found := workers_of(os.getpid()):
        os.kill(random.choice(found), how)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="workers are found in /proc")
@pytest.mark.parametrize("kills", [2])
@pytest.mark.parametrize("name", WORK)
def test_a_worker_killed_at_any_moment_is_told_of_and_the_run_goes_on(place, tmp_path, name, kills):
    work, lasts = WORK[name]
    seed = random.randrange(2**32)
    print(f"seed of the moments: {seed}")
    chance = random.Random(seed)
    hits = 0
    for number in range(kills):
        out = tmp_path / f"run{number}"
        how = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
        after = chance.uniform(0, lasts if number else 0.2)

        def killed(out=out, after=after, how=how) -> None:
            Thread(target=kill_one, args=(after, how), daemon=True).start()
            work(place, out, 2)

        file = out.with_suffix(".said")
        status, said = ended(forked(killed, file), file)
        assert status in (0, 1), said
        assert status == 0 or "a process that reads pictures died" in said
        assert status == 0 or ("--resume" in said and "\n" not in said)
        hits += status
        work(place, out, 0)
        if name == "analyze":
            one, other = tables(place / "run"), tables(out)
            for table in TABLES:
                pd.testing.assert_frame_equal(one[table], other[table])
        else:
            assert (out / "best.safetensors").read_bytes() == (
                place / "trained" / "best.safetensors"
            ).read_bytes()
    print(f"{hits} of {kills} kills ended a run")


DEATH = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")


@pytest.mark.parametrize("error", [
    DEATH, RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), EOFError(),
    ConnectionResetError(104, "reset"), BrokenPipeError(32, "broken"),
])  # fmt: skip
def test_what_a_death_raises_is_one_error(error, monkeypatch):
    monkeypatch.setattr("xface.data.workers.SECONDS", 0)
    with (
        pytest.raises(XFaceError, match=r"^a process that reads pictures died \(.*; do so$"),
        dead_workers_reported("do so"),
    ):
        raise error


def test_a_death_is_raised_where_a_batch_is_waited_for_and_nowhere_else():
    """In the midst of computing it would pass for a network's error, or be lost in a finaliser."""
    computed = []

    def read():
        with dead_workers_reported("do so"):
            others = set(workers_of(os.getpid()))  # what earlier tests left, such as a tracker of resources
            batches = iter(DataLoader(range(9), batch_size=None, num_workers=1, prefetch_factor=1))
            next(batches)
            (worker,) = set(workers_of(os.getpid())) - others
            os.kill(worker, signal.SIGKILL)
            time.sleep(0.5)
            computed.append(True)
            list(batches)

    with pytest.raises(XFaceError, match="a process that reads pictures died"):
        read()
    assert computed


def test_so_is_an_error_that_comes_of_a_death_while_something_is_written():
    def write():
        with dead_workers_reported("do so"):
            try:
                raise DEATH
            except RuntimeError as error:
                raise OutputError("cannot be written; make room") from error

    with pytest.raises(XFaceError, match="pictures died"):
        write()


@pytest.mark.parametrize("error", [
    RuntimeError("Caught RuntimeError in DataLoader worker process 0."), ValueError("x"), KeyError("x"),
    OSError(28, "no space"), OutputError("make room"),
])  # fmt: skip
def test_other_errors_stay_what_they_are(error, monkeypatch):
    monkeypatch.setattr("xface.data.workers.SECONDS", 0)
    with pytest.raises(type(error)) as raised, dead_workers_reported("do so"):
        raise error
    assert raised.value is error
