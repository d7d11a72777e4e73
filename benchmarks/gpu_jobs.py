"""Jobs of `benchmarks/gpu.py`: measurements of which each is caught, and left out once the time is used."""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
Job = tuple[str, Callable[[], Row]]


@dataclass(frozen=True)
class Setting:
    """Where to measure, whether only to show that all works, with which faces, and until what time."""

    device: str
    smoke: bool
    bundle: Path
    until: float

    @property
    def manifests(self) -> list[Path]:
        """The tables of the faces, one for each data set."""
        return sorted(self.bundle.glob("faces/*/manifest.csv"))


def rows(jobs: Iterable[Job], until: float) -> Iterator[Row]:
    """What each job found, why it failed, or that there was no time for it."""
    for what, job in jobs:
        if time.time() >= until:
            yield {"what": what, "not_run": "no time was left"}
            continue
        start = time.perf_counter()
        yield {"what": what, **caught(job), "took": round(time.perf_counter() - start, 1)}
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def caught(job: Callable[[], Row]) -> Row:
    try:
        return dict(job())
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"[:500]}


def plain(value: Any) -> Any:
    """Numbers with four digits, as JSON has them: null for what isn't finite."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value


def line(row: Row) -> str:
    """A row of the table: what is one number, word or yes and no; the rest is in the file alone."""
    told = [
        f"{key} {value}" for key, value in row.items() if key != "what" and not isinstance(value, dict | list)
    ]
    return f"  {row['what']:<46} {', '.join(told)}"
