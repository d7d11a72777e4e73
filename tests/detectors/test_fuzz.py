"""Hundreds of mutated checkpoints: each ends in a network or one clear error, and none is executed."""

import os
import pickle
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import mutations
import numpy as np
import pytest
import torch
from mutations import Case, gadgets, mutated
from speed import first_quick

from xface.detectors import load
from xface.errors import CheckpointError, XFaceError
from xface.networks import ARCHITECTURES
from xface.networks.blueprints import on_meta

RUNS = [(20, 120), (21, 300)]  # seed and number of cases
SECONDS = 10
FORBIDDEN = {
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
    "subprocess.Popen", "socket.__new__", "socket.connect", "socket.getaddrinfo", "urllib.Request",
    "exec", "compile", "pickle.find_class", "marshal.loads", "code.__new__", "ctypes.dlopen",
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate",
    "shutil.copyfile", "shutil.rmtree", "tempfile.mkstemp",
}  # fmt: skip
"""Of Python's audit events, those of running something, of other files and of the network."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Recorder:
    """Notes forbidden audit events while it watches; a hook stays for as long as Python runs."""

    def __init__(self) -> None:
        self.is_watching = False
        self.events: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_watching and (event in FORBIDDEN or (event == "open" and _writes(arguments))):
            self.events.append(event)

    @contextmanager
    def watch(self) -> Iterator[list[str]]:
        self.events, self.is_watching = [], True
        try:
            yield self.events
        finally:
            self.is_watching = False


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return any(letter in (mode or "") for letter in "wax+") or bool(flags and flags & WRITING)


class TooSlow(BaseException):
    """No Exception: a reader must not take it for a damaged file."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


FACE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def outcome(path: Path) -> str:
    """`restored` or the error's message; anything else that happens is raised."""
    try:
        detector = load(path, device="cpu")
    except XFaceError as error:
        message = str(error)
        assert isinstance(error, CheckpointError), message  # noqa: PT017
        assert message.isprintable()
        assert len(message) < 5000
        assert path.name in message
        return message
    tensors = [t for t in detector.model.state_dict().values() if t.is_floating_point()]
    assert tensors
    assert all(tensor.isfinite().all() and tensor.dtype is torch.float32 for tensor in tensors)
    try:
        [prediction] = detector.predict(FACE)
    except CheckpointError as error:
        assert "no finite logits" in str(error)  # noqa: PT017
        assert max(float(tensor.abs().max()) for tensor in tensors if tensor.numel()) > 1e5
    else:
        assert np.isfinite(list(prediction.probabilities.values())).all()
    return "restored"


def fault(case: Case, folder: Path, recorder: Recorder) -> str:
    """What went wrong with a case, if anything did; its file is removed again."""
    path = folder / f"case{case.suffix}"
    path.write_bytes(case.content)
    with warnings.catch_warnings(record=True) as warned, recorder.watch() as events:
        warnings.simplefilter("always")
        try:
            with limit(SECONDS):
                outcome(path)
            wrong = ""
        except (Exception, TooSlow) as error:
            wrong = f"{type(error).__name__}: {error}"
    path.unlink()
    said = [str(warning.message)[:80] for warning in warned]
    left = [str(file) for file in folder.iterdir()] + (["canary"] if mutations.CANARY.exists() else [])
    return "; ".join(filter(None, [wrong, *said, *events, *left]))


@pytest.fixture
def warm(tmp_path: Path) -> None:
    """What is imported and compiled once per process is no part of any case."""
    for name, content in (("a.pth", {"a": torch.zeros(1)}), ("b.pth", mutations.bases()["timm"]())):
        torch.save(content, tmp_path / name)
        with suppress(CheckpointError):
            load(tmp_path / name, device="cpu").predict(FACE)
        (tmp_path / name).unlink()
    for entry in ARCHITECTURES.values():
        on_meta(entry)
    "".encode("cp437")  # in which zip archives hold names
    "".encode("raw-unicode-escape")  # in which pickles of protocol 0 hold text
    (tmp_path / "c.h5").write_bytes(mutations._keras())
    with suppress(CheckpointError):
        load(tmp_path / "c.h5", device="cpu")
    (tmp_path / "c.h5").unlink()


@pytest.mark.parametrize("name", mutations.INTACT)
def test_unchanged_they_are_restored(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(mutations.intact()[name])
    assert outcome(tmp_path / name) == "restored"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer that interrupts")
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(("seed", "count"), first_quick(RUNS))
def test_mutated_checkpoints_end_in_a_network_or_one_error(
    seed: int,
    count: int,
    recorder: Recorder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(mutations, "CANARY", tmp_path.parent / "canary")
    faults = {
        f"{number} {case.name}": fault(case, tmp_path, recorder)
        for number, case in enumerate(mutated(seed, count))
    }
    assert len(faults) == count
    assert {name: wrong for name, wrong in faults.items() if wrong} == {}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", gadgets(Path("x")))
def test_the_same_pickles_are_dangerous_elsewhere(name: str, recorder: Recorder, tmp_path: Path) -> None:
    """Canary and audit hook notice what a careless reader does with each of them."""
    canary = tmp_path / "canary"
    content = pickle.dumps(gadgets(canary)[name])
    with recorder.watch() as events, suppress(Exception):
        pickle.loads(content)
    assert canary.exists()
    assert set(events) & FORBIDDEN - {"pickle.find_class"} or "open" in events
