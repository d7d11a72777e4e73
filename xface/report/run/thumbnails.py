"""The faces and maps that a page loads only when they are looked at."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xface.errors import UsageError
from xface.report.run.page_data import as_script, plain
from xface.runs.folder import RunFolder

CHUNK = 24  # images whose maps come in one file
FOLDER = 1000  # pictures in one folder
CLIPPED = 95  # percentile of the maps' peaks that the last colour stands for


def face_file(row: int) -> str:
    """Where an image's face lies, below the page.

    Example:
        >>> face_file(12345)
        'thumbnails/12/12345.jpg'
    """
    return f"thumbnails/{row // FOLDER}/{row}.jpg"


def write_thumbnails(run: RunFolder, folder: Path) -> dict[int, int]:
    """Write the faces as JPEG, and scripts with the maps of `CHUNK` images; return each row's script."""
    place: dict[int, int] = {}
    entries = run.thumbnails()
    while chunk := list(islice(entries, CHUNK)):
        name = f"maps-{len(place) // CHUNK}"
        for entry in chunk:
            file = folder / face_file(entry["row"])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(entry["face"])
        details = {entry["row"]: detail(run, entry) for entry in chunk}
        (folder / "thumbnails" / f"{name}.js").write_text(as_script(name, details), encoding="ascii")
        place |= dict.fromkeys(details, len(place) // CHUNK)
    return place


def embedded(run: RunFolder, rows: set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row and detail, its face within, of these rows."""
    for entry in run.thumbnails():
        if entry["row"] in rows:
            yield int(entry["row"]), {**detail(run, entry), "face": data_url(entry["face"])}


def data_url(face: bytes) -> str:
    """A JPEG as an address that holds it."""
    return f"data:image/jpeg;base64,{_text(face)}"


def detail(run: RunFolder, entry: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of one image: the face's size, its landmarks, its maps and its regions' lifts."""
    at = run.positions(np.array([entry["row"]]))[0]
    table = run.regions
    return {
        "size": size_of(entry),
        "landmarks": plain(entry["landmarks"]) if entry["landmarks"] is not None else None,
        "maps": [
            None if grid is None else {"grid": _text(grid), "shape": shape, "peak": plain([peak], None)[0]}
            for grid, shape, peak in zip(entry["maps"], entry["shapes"], entry["peaks"], strict=True)
        ],
        "status": table.status[at].tolist(),
        "lifts": [plain(kind, 3) for kind in table.lift[at]],
    }


def size_of(entry: dict[str, Any]) -> tuple[int, int]:
    """Width and height of a thumbnail; UsageError for one that is no picture."""
    try:
        return Image.open(io.BytesIO(entry["face"])).size
    except (OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise UsageError(
            f"the thumbnail of row {entry['row']} cannot be read ({error}); make the run again"
        ) from error


def tops(run: RunFolder) -> list[float]:
    """Per kind of map, the value that the last colour stands for in all its pictures."""
    peaks = [entry["peaks"] for entry in run.thumbnails(["peaks"])]
    maps = np.array(peaks, float).reshape(-1, len(run.kinds))
    maps = np.where(np.isfinite(maps) & (maps > 0), maps, np.nan)
    return [float(np.nanpercentile(kind, CLIPPED)) if np.isfinite(kind).any() else 1.0 for kind in maps.T]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
