"""What an evaluation leaves on disk, in a folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xface.analysis.evaluation import Evaluation
from xface.analysis.figures import draw_evaluation
from xface.csv_files import write_table
from xface.errors import OutputError
from xface.files import absolute, as_utf8, writing
from xface.images import safe_name
from xface.json_text import written

if TYPE_CHECKING:
    import pandas as pd

DPI = 130
TABLE_FORMATS: Mapping[str, Callable[[pd.DataFrame, Path], object]] = {
    "csv": write_table,
    "parquet": lambda table, path: table.map(_as_utf8).to_parquet(path, index=False),
}


def _as_utf8(cell: Any) -> Any:
    return as_utf8(cell) if isinstance(cell, str) else cell


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """An empty folder to write into; what is in it comes to `folder` if all goes well, else nothing does.

    A folder that exists keeps its other files, and gets each new one whole. Raises OutputError where nothing
    can be written, before the work begins.
    """
    target = absolute(folder, OutputError)
    with writing(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            os.listdir(target)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".part", dir=target.parent))
        try:
            yield aside
            _move(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def save_evaluations(
    evaluations: Sequence[Evaluation], detector: Mapping[str, Any], folder: Path, table_format: str = "csv"
) -> None:
    """Write `scores` (a row per image of all sets), `evaluation.json`, and a figure per set."""
    import pandas as pd

    tables = [each.table.assign(data=each.data) for each in evaluations]
    TABLE_FORMATS[table_format](pd.concat(tables, ignore_index=True), folder / f"scores.{table_format}")
    content = {"detector": detector, "evaluations": [each.to_json() for each in evaluations]}
    (folder / "evaluation.json").write_text(written(content), encoding="utf-8")
    for index, each in enumerate(evaluations):
        draw_evaluation(each).savefig(folder / f"{index}-{safe_name(each.data)}.png", dpi=DPI)


def _move(aside: Path, target: Path) -> None:
    if not target.exists():
        aside.chmod(0o755)
        aside.rename(target)
        return
    for file in aside.iterdir():
        file.replace(target / file.name)
