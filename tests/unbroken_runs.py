"""An unbroken analysis and training of a few pictures, made once, and the same work in forks."""

import faulthandler
import multiprocessing
import os
import traceback
from pathlib import Path

import pytest

COUNT = 24
HANGS = 120.0
"""Seconds after which a fork is taken to hang; what its threads were at is then shown."""


def tables(run: Path) -> dict:
    """The tables of a run as data frames."""
    import pyarrow.parquet as pq

    from xface.runs.tables import TABLES

    return {name: pq.ParquetFile(run / f"{name}.parquet").read().to_pandas() for name in TABLES}


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Pictures, their manifest and their landmarks, and an unbroken analysis and training of them."""
    import pandas as pd
    from PIL import Image
    from project import SAMPLES

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
    import xface
    from xface.analysis.labelled_data import read_data
    from xface.analysis.pipeline import analyze
    from xface.analysis.plan import plan_analysis
    from xface.faces.landmark_cache import LandmarkStore

    detector = xface.load("meso4", device="cpu")
    store = LandmarkStore(place / "landmarks")
    plan = plan_analysis(detector, read_data(str(place / "manifest.csv")))
    analyze(plan, out, workers=workers, store=store, resume=True)


def trained(place: Path, out: Path, workers: int) -> None:
    from xface.training import resume, train
    from xface.training.config import Config

    if (out / "config.yaml").is_file():
        resume(out)
        return
    data = {"train": str(place / "manifest.csv")}
    train(Config(network="meso4", data=data, prefix=str(out), batch_size=4, num_epochs=1,
                 num_workers=workers, device="cpu"))  # fmt: skip


WORK = {"analyze": (analysed, 2.0), "train": (trained, 3.0)}


def forked(call, said: Path) -> multiprocessing.Process:
    """Call it in a fork of this process, which ends with 1 for an XFaceError and 2 for any other."""
    import cv2

    from xface.errors import XFaceError

    def run() -> None:
        try:
            with said.with_suffix(".stacks").open("w") as stacks:
                faulthandler.dump_traceback_later(HANGS - 20, file=stacks)
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
    process.join(HANGS)
    if process.is_alive():
        process.kill()
        pytest.fail(f"it hangs\n{said.with_suffix('.stacks').read_text()}")
    return process.exitcode, said.read_text() if said.exists() else ""
