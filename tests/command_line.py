"""The command line called in this process and in new ones, and small detectors for it."""

import io
import json
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from project import ROOT
from xface_cli.main import main

FAKE, REAL = ROOT / "samples" / "fake.jpg", ROOT / "samples" / "real.jpg"
COMMAND = [sys.executable, "-c", "from xface_cli.main import main; main()"]


def heeding_interrupts() -> None:
    """What a shell starts in the background ignores SIGINT, and so does all that is started from there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Run:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict]:
        """Each line of stdout as one JSON object, without NaN or Infinity."""
        return [json.loads(line, parse_constant=refuse) for line in self.out.splitlines()]


def refuse(literal: str):
    raise AssertionError(f"{literal} is no JSON")


def run(*words) -> Run:
    """Call the command's own `main` in this process."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["xface", *map(str, words)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    assert "Traceback" not in err.getvalue() + out.getvalue()
    return Run(ended.value.code or 0, out.getvalue(), err.getvalue())


def fresh(*words, cwd: Path, code: str = "", **options) -> subprocess.CompletedProcess:
    """The same in a new process."""
    command = [sys.executable, "-c", f"{code}\n{COMMAND[2]}", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, **options)


def quick(folder: Path, *words) -> Run:
    """`explain` by one quick method into `folder`."""
    return run("explain", "--device", "cpu", "--method", "vanilla", "--out", folder, *words)


def columns(text: str) -> int:
    return max(map(len, text.splitlines()))


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    [path] = folder.glob("*.npz")
    with np.load(path) as content:
        return dict(content)


def truncated() -> bytes:
    return FAKE.read_bytes()[:9000]


CELL = 4
"""Row and column of the only cell of its 8 x 8 that the planted Meso-4 looks at: pixels 128 to 159."""


def meso4(path: Path, **tensors) -> Path:
    """A Meso-4 checkpoint with a card; `tensors` replace the untrained network's own."""
    import torch
    from safetensors.torch import save_file

    from xface.detectors import Card
    from xface.detectors.card import card_path, write_card
    from xface.networks import ARCHITECTURES
    from xface.preprocessing import PRESETS

    torch.manual_seed(1)
    network = ARCHITECTURES["meso4"].build(2)
    save_file({**network.state_dict(), **tensors}, path)
    write_card(Card("meso4", ("fake", "real"), PRESETS["meso"]), card_path(path))
    return path


def handed_through() -> dict:
    """Weights of a Meso-4 whose blocks hand the mean colour, as their first channel, through to the pooling.

    So the last map's cells hold the brightest pixel of each 32 x 32.
    """
    import torch

    from xface.networks import ARCHITECTURES

    network, state = ARCHITECTURES["meso4"].build(2), {}
    for block in range(1, 5):
        weight = network.get_parameter(f"block{block}.conv.weight").detach() * 0
        middle = weight.shape[2] // 2
        weight[0, : 3 if block == 1 else 1, middle, middle] = 1
        state |= {f"block{block}.conv.weight": weight, f"block{block}.conv.bias": torch.zeros(len(weight))}
    return state | {
        "dense.hidden.weight": torch.zeros(16, 16 * 8 * 8),
        "dense.hidden.bias": torch.zeros(16),
        "dense.head.weight": torch.zeros(2, 16),
        "dense.head.bias": torch.zeros(2),
    }


def one_cell(path: Path) -> Path:
    """A Meso-4 whose score is the brightest pixel of one cell, where all of the input's gradient lies."""
    state = handed_through()
    state["dense.hidden.weight"][0, 8 * CELL + CELL] = state["dense.head.weight"][0, 0] = 1
    return meso4(path, **state)
