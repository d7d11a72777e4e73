"""Examples: where each map did best and worst, as pictures in a trust run's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from xface.evidence.checks import CHECKS
from xface.evidence.trust.plan import TrustPlan
from xface.evidence.trust.reading import CaseReader, ReadCase
from xface.faces.landmark_cache import LandmarkStore
from xface.files.paths import as_utf8
from xface.report.colours import blend, heat_of
from xface.results import AttributionMap, ByteArray, FloatArray
from xface.runs.trust import Example

FIGURES = ("pixel_auc", "agreement")
"""The first of these that was measured says which pictures are best and worst: 0 and 1 would tie."""

FOLDER = "examples"
OUTLINE = (0, 255, 255)


class Extreme(NamedTuple):
    """Where a map is best or worst: the map's place, which end, the case's place, and the value there."""

    kind: int
    end: str
    case: int
    value: float


def extremes(cases: NDArray[np.int64], values: FloatArray, kinds: int, better: str) -> Iterator[Extreme]:
    """Best and worst of the first `kinds` columns of values (N, A); none where all are alike.

    Example:
        >>> list(extremes(np.array([4, 7]), np.array([[0.2], [0.9]]), 1, "higher"))
        [Extreme(kind=0, end='best', case=7, value=0.9), Extreme(kind=0, end='worst', case=4, value=0.2)]
    """
    for kind in range(kinds):
        known = np.flatnonzero(np.isfinite(values[:, kind]))
        if len(known) < 2 or np.ptp(values[known, kind]) == 0:
            continue
        order = known[np.argsort(values[known, kind], kind="stable")]
        ends = ("worst", "best") if better == "higher" else ("best", "worst")
        found = dict(zip(ends, (order[0], order[-1]), strict=True))
        for end in ("best", "worst"):
            yield Extreme(kind, end, int(cases[found[end]]), float(values[found[end], kind]))


def write_examples(plan: TrustPlan, figures: pa.Table, store: LandmarkStore, folder: Path) -> list[Example]:
    """Draw best and worst of each map into `examples/` of the run's folder; without the figures, none.

    Cases are read again; one that no longer can be is left out.
    """
    for name in FIGURES:
        of_case = pc.and_(pc.equal(figures["figure"], name), pc.equal(figures["by"], ""))
        rows = figures.filter(of_case)
        if len(rows):
            break
    else:
        return []
    better = next(check.figures[name].better for check in CHECKS.values() if name in check.figures)
    values = np.array(rows["values"].to_pylist(), np.float64)
    found = list(extremes(rows["case"].to_numpy(), values, len(plan.kinds), better))
    (folder / FOLDER).mkdir(exist_ok=True)
    drawn = _drawn(plan, sorted({each.case for each in found}), store)
    return [
        _example(plan, name, each, drawn[each.case], folder) for each in sorted(found) if each.case in drawn
    ]


class Drawn(NamedTuple):
    """A case as the network sees it, and all maps of it, (K, H, W)."""

    read: ReadCase
    view: ByteArray
    amounts: FloatArray


def _drawn(plan: TrustPlan, places: Sequence[int], store: LandmarkStore) -> dict[int, Drawn]:
    reader = CaseReader((), plan.detector.card.preprocessing, plan.crop, store)
    found = {}
    for place in places:
        read = reader.read(plan.cases.cases[place])
        if read.face is not None:
            amounts = plan.network.amounts(read.face.image[None])[:, 0].cpu().numpy()
            found[place] = Drawn(read, plan.network.pixels(read.face.image), amounts)
    return found


def _example(plan: TrustPlan, name: str, each: Extreme, drawn: Drawn, folder: Path) -> Example:
    method, layer = plan.kinds[each.kind]
    file = f"{FOLDER}/{each.kind}-{each.end}.jpg"
    Image.fromarray(_picture(drawn, each.kind)).save(folder / file, quality=90)
    outlined = ", manipulated pixels outlined" if drawn.read.mask is not None else ""
    return Example(
        check=name, method=method, layer=layer, end=each.end, value=each.value, file=file,  # type: ignore[arg-type]
        image=as_utf8(os.path.basename(drawn.read.case.path)),
        words=f"left the picture{outlined}, right the map",
    )  # fmt: skip


def _picture(drawn: Drawn, kind: int) -> ByteArray:
    """The picture, the edge of what is manipulated drawn in, and beside it the map over the face in grey."""
    view = drawn.view.copy()
    if drawn.read.mask is not None:
        view[_edge(drawn.read.mask)] = OUTLINE
    amap = AttributionMap("", None, "ok", "published", drawn.amounts[kind])
    heat = heat_of(amap, (view.shape[0], view.shape[1]))
    return np.concatenate([view, drawn.view // 3 if heat is None else blend(heat, drawn.view)], axis=1)


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a mask that have a neighbour outside it."""
    padded = np.pad(mask, 1, "edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inside)
