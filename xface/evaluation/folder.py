"""What an evaluation leaves on disk, in a folder that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xface.evaluation.evaluation import Evaluation
from xface.evaluation.figure import draw_evaluation
from xface.files.csv_files import write_table
from xface.files.json_text import written
from xface.files.names import safe_name
from xface.files.paths import as_utf8

if TYPE_CHECKING:
    import pandas as pd

DPI = 130
TABLE_FORMATS: Mapping[str, Callable[[pd.DataFrame, Path], object]] = {
    "csv": write_table,
    "parquet": lambda table, path: table.map(_as_utf8).to_parquet(path, index=False),
}


def _as_utf8(cell: Any) -> Any:
    return as_utf8(cell) if isinstance(cell, str) else cell


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
