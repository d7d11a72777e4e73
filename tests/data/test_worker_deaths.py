"""A process that reads pictures is killed at any moment: one error that says so, and the run can resume."""

import multiprocessing
import os
import random
import signal
import time
import traceback
from pathlib import Path
from threading import Thread

import cv2
import pandas as pd
import pytest
from PIL import Image
from project import SAMPLES
from test_analyze import tables
from torch.utils.data import DataLoader

import xface
from xface.analysis.labelled_data import read_data
from xface.analysis.pipeline import analyze
from xface.analysis.plan import plan_analysis
from xface.data.workers import dead_workers_reported
from xface.errors import OutputError, XFaceError
from xface.faces.landmark_cache import LandmarkStore
from xface.runs.tables import TABLES
from xface.training import resume, train
from xface.training.config import Config

COUNT = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pictures, their manifest and their landmarks, and an unbroken analysis and training of them."""
    place = tmp_path_factory.mktemp("place")
    rows = []
    for number in range(COUNT):
        label = ("real", "fake")[number % 2]
        path = place / f"{number}.png"
        Image.open(SAMPLES / f"{label}.jpg").resize((96 + number, 96 + number)).save(path)
        rows.append((path.name, label, f"g{number // 2}"))
    pd.DataFrame(rows, columns=["path", "label", "group"]).to_csv(place / "manifest.csv", index=False)
    analysed(place, place / "run", 0)
    trained(place, place / "trained", 0)
    return place


def analysed(place: Path, out: Path, workers: int) -> None:
    detector = xface.load("meso4", device="cpu")
    store = LandmarkStore(place / "landmarks")
    plan = plan_analysis(detector, read_data(str(place / "manifest.csv")))
    analyze(plan, out, workers=workers, store=store, resume=True)


def trained(place: Path, out: Path, workers: int) -> None:
    if (out / "config.yaml").is_file():
        resume(out)
        return
    data = {"train": str(place / "manifest.csv")}
    train(Config(network="meso4", data=data, prefix=str(out), batch_size=4, num_epochs=1,
                 num_workers=workers, device="cpu"))  # fmt: skip


WORK = {"analyze": (analysed, 2.0), "train": (trained, 3.0)}


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


def forked(call, said: Path) -> multiprocessing.Process:
    """Call it in a fork of this process, which ends with 1 for an XFaceError and 2 for any other."""

    def run() -> None:
        try:
            call()
        except XFaceError as error:
            said.write_text(str(error))
            os._exit(1)
        except BaseException:
            said.write_text(traceback.format_exc())
            os._exit(2)
        os._exit(0)

    cv2.setNumThreads(1)
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def ended(process: multiprocessing.Process, said: Path) -> tuple[int, str]:
    """Exit status and last words of a fork, which must not hang."""
    process.join(120)
    if process.is_alive():
        process.kill()
        pytest.fail("it hangs")
    return process.exitcode, said.read_text() if said.exists() else ""


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
