"""One process at a time writes into a run's folder; one that died holds nothing; a lost folder is noticed."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from threading import Thread

import pytest
from command_line import heeding_interrupts
from project import ROOT
from run_folders import make_run
from unbroken_runs import WORK, ended, forked

from xface.errors import OutputError, UsageError
from xface.report.run.page import write_report
from xface.runs.lock import LOCK, held

HOLD = """
import sys, time
from functools import partial
from pathlib import Path
from xface.runs.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, preexec_fn=heeding_interrupts)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_told_who_holds_the_folder(holder, tmp_path):
    with (
        pytest.raises(UsageError, match=rf"is being written by process {holder.pid} on .* since 20"),
        held(tmp_path),
    ):
        pass
    with pytest.raises(UsageError), held(tmp_path):  # being refused has not let go of the other's lock
        pass


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_died_holds_nothing(holder, tmp_path, how):
    holder.send_signal(how)
    holder.wait(30)
    with held(tmp_path) as lock:
        lock.check()
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_a_process_that_is_stopped_still_holds_it(holder, tmp_path):
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(UsageError, match="is being written"), held(tmp_path):
        pass


def test_a_copy_of_a_folder_with_its_lock_is_free(holder, tmp_path):
    copy = shutil.copytree(tmp_path, tmp_path / "copy")
    with held(copy):
        pass


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\x00", b'{"process": 1, "host": "another", "since": 0}']
)
def test_what_an_old_lock_says_holds_nothing(tmp_path, content):
    (tmp_path / LOCK).write_bytes(content)
    with held(tmp_path):
        pass


def test_threads_of_one_process_exclude_one_another(tmp_path):
    refused = []

    def try_it():
        try:
            with held(tmp_path):
                pass
        except UsageError as error:
            refused.append(str(error))

    with held(tmp_path) as lock, held(tmp_path, "another"):
        thread = Thread(target=try_it)
        thread.start()
        thread.join()
        lock.check()
    assert len(refused) == 1
    assert f"process {os.getpid()}, this one" in refused[0]


LOSSES = {
    "removed": shutil.rmtree,
    "emptied": lambda folder: [path.unlink() for path in folder.iterdir()],
    "moved": lambda folder: folder.rename(folder.with_name("elsewhere")),
    "replaced": lambda folder: (shutil.rmtree(folder), folder.mkdir(), (folder / LOCK).touch()),
    "a file": lambda folder: (shutil.rmtree(folder), folder.touch()),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_folder_that_is_lost_is_one_clear_error(tmp_path, loss):
    folder = tmp_path / "run"
    folder.mkdir()

    def work():
        with held(folder) as lock, lock.loss_reported("go on"):
            LOSSES[loss](folder)
            (folder / "more").write_text("")
            lock.check()

    with pytest.raises(OutputError, match="was removed or replaced while it was being written"):
        work()


@pytest.mark.parametrize(("name", "sizes"), [("analyze", (20_000,)), ("train", (500, 200_000))])
def test_a_full_disk_is_one_error_and_the_run_goes_on(place, tmp_path, name, sizes):
    """As on a full disk, no file may be larger than so many bytes."""
    out, said = tmp_path / "run", tmp_path / "said"

    def limited(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        WORK[name][0](place, out, 0)

    for size in sizes:
        status, told = ended(forked(partial(limited, size), said), said)
        assert (status, "\n" in told) == (1, False), told
        assert str(out) in told
    WORK[name][0](place, out, 0)


@pytest.mark.parametrize("name", WORK)
def test_two_runs_on_one_folder_and_a_folder_that_is_removed_under_one(place, tmp_path, name):
    out, said = tmp_path / "run", [tmp_path / "first", tmp_path / "second"]
    folder = tmp_path / ("run.part" if name == "analyze" else "run")
    first = forked(partial(WORK[name][0], place, out, 0), said[0])
    while not (folder / LOCK).exists() or not (folder / LOCK).read_text():  # made, then signed
        assert first.is_alive()
    os.kill(first.pid, signal.SIGSTOP)
    status, told = ended(forked(partial(WORK[name][0], place, out, 0), said[1]), said[1])
    assert (status, f"is being written by process {first.pid}" in told) == (1, True), told
    shutil.rmtree(folder)
    os.kill(first.pid, signal.SIGCONT)
    status, told = ended(first, said[0])
    assert (status, "was removed or replaced" in told, "\n" in told) == (1, True, False), told


def test_a_report_is_drawn_by_one_process_at_a_time(tmp_path):
    run = make_run(tmp_path / "run", 60)
    with held(run, ".xface-report-lock"), pytest.raises(UsageError, match="is being written by process"):
        write_report(run)
    assert write_report(run).is_file()
    assert not [path.name for path in run.iterdir() if "lock" in path.name]
