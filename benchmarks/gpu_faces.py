"""The faces that `benchmarks/gpu.py` measures with, and their landmarks, for a machine that can find none.

    XDG_CACHE_HOME=CACHE python benchmarks/gpu_faces.py DATA FOLDER [--faces N]

Copies N faces of each data set in DATA, with their part of its manifest.csv, and puts their landmarks into
the cache; a face comes with its counterpart.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import pandas as pd

from xface.faces.landmark_cache import LandmarkStore
from xface.images.pictures import read_picture

SETS = ("dfdc_pairs", "stylegan_ffhq")
SEED = 0


def chosen(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """So many rows at random, each with its counterpart."""
    paths: dict[str, None] = {}
    for row in table.sample(frac=1, random_state=SEED).to_dict("records"):
        if len(paths) >= count:
            break
        paths |= dict.fromkeys([row["path"], row.get("pair", row["path"])])
    return table[table["path"].isin(paths)]


def copy(source: Path, table: pd.DataFrame, folder: Path) -> None:
    for path in table["path"]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, folder / path)
    table.to_csv(folder / "manifest.csv", index=False)


@click.command(help=__doc__)
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--faces", default=512, show_default=True)
def main(data: Path, folder: Path, faces: int) -> None:
    store, found = LandmarkStore(), 0
    for name in SETS:
        table = chosen(pd.read_csv(data / name / "manifest.csv"), faces)
        copy(data / name, table, folder / name)
        for path in table["path"]:
            found += store.landmarks(read_picture(str(folder / name / path)).pixels) is not None
    click.echo(f"{found} of {len(SETS) * faces} faces have landmarks, in {store.folder}")


if __name__ == "__main__":
    main()
