"""Synthetic run folders as `xface analyze` leaves them, with planted effects and hostile names."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from test_regions import FACE

REGIONS = ("right_eye", "left_eye", "right_eyebrow", "left_eyebrow", "mouth", "nose", "forehead", "jaw",
           "right_cheek", "left_cheek", "background")  # fmt: skip
AREAS = np.array([0.02, 0.02, 0.02, 0.02, 0.04, 0.06, 0.1, 0.08, 0.1, 0.1, 0.44])
CONTRASTS = ("FP-TP", "FN-TN", "FP-TN", "FN-TP")
KINDS = (("gradcam", "layer4", (7, 6)), ("vanilla", "", (28, 23)))
ATTRIBUTES = ("sharpness", "eye_sharpness", "brightness", "contrast", "exposure", "blockiness", "face_size",
              "eye_openness", "mouth_openness", "yaw", "pitch", "roll")  # fmt: skip
MEANS = dict(zip(ATTRIBUTES, (400, 300, 0.5, 0.2, 0.02, 1.1, 180, 0.3, 0.1, 0, 0, 0), strict=True))
HOSTILE = "<img src=x onerror=alert(1)>.jpg"
SCRIPT = "</script><script>alert(2)</script><!--\u2028'\".jpg"
FORMULA = "=HYPERLINK(1).jpg"
HEIGHT, WIDTH = 128, 107
LANDMARKS = (FACE * (HEIGHT / 240)).astype(np.float32)
SCORES = ("auc", "eer", "average_precision", "accuracy", "balanced_accuracy", "brier")
REASONS = {
    "ok": "",
    "no_face": "no face found",
    "unreadable": "cut off in the middle",
    "missing": "no such file",
}


def make_run(folder: Path, count: int = 300, seed: int = 0, hostile: bool = True) -> Path:
    """Write a whole run folder (but for `report/`) and return it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    images = image_columns(count, rng, hostile)
    lifts = region_lifts(images["outcome"], rng)
    pq.write_table(pa.table(images), folder / "images.parquet")
    pq.write_table(pa.table(region_columns(images, lifts)), folder / "regions.parquet")
    pq.write_table(pa.table(effect_columns(images)), folder / "effects.parquet")
    pq.write_table(thumbnail_table(images, rng), folder / "thumbnails.parquet", row_group_size=256)
    evil = HOSTILE if hostile else ""
    for name, content in (("manifest", manifest(images, evil)), ("findings", findings(images, lifts, evil))):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def image_columns(count: int, rng: np.random.Generator, hostile: bool) -> dict:
    fake = rng.random(count) < 0.5
    score = np.clip(np.where(fake, 0.72, 0.28) + rng.normal(0, 0.25, count), 0.0001, 0.9999)
    status = np.full(count, "ok", object)
    status[[17, 18, 19, 20]] = ["no_face", "no_face", "unreadable", "missing"]
    score[[19, 20]] = np.nan
    called = np.where(score >= 0.5, "fake", "real").astype(object)
    outcome = np.char.add(np.where((score >= 0.5) == fake, "T", "F"), np.where(score >= 0.5, "P", "N"))
    outcome = np.where(np.isnan(score), "", outcome)
    called[np.isnan(score)] = ""
    names = [f"faces/{'fake' if f else 'real'}/{i:05}.jpg" for i, f in enumerate(fake)]
    if hostile:
        names[3], names[4], names[5] = f"faces/{HOSTILE}", SCRIPT, FORMULA
    columns = {
        "row": np.arange(count), "image": names, "label": np.where(fake, "fake", "real"),
        "group": [f"video{i // 3}" for i in range(count)],
        "manipulation": [HOSTILE if hostile and i % 7 == 0 else "swap" for i in range(count)],
        "sha256": [f"{i:064x}" for i in range(count)],
        "width": np.full(count, 299), "height": np.full(count, 299),
        "score": score, "called": called, "outcome": outcome, "status": status,
        "reason": [REASONS[each] for each in status],
    }  # fmt: skip
    return {**columns, **attributes(outcome, status, rng)}


def attributes(outcome: np.ndarray, status: np.ndarray, rng: np.random.Generator) -> dict:
    found = {}
    for name, mean in MEANS.items():
        values = mean + rng.normal(0, abs(mean) * 0.2 or 12, len(outcome))
        if name == "eye_sharpness":
            values[outcome == "FP"] *= 0.5
        values[status != "ok"] = np.nan
        values[rng.random(len(values)) < 0.01] = np.nan
        found[name] = values
    return found


def region_lifts(outcome: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lifts (images, kinds, regions): on false positives the maps lie on the eyes, else on the nose."""
    weight = AREAS * rng.gamma(4, 0.25, (len(outcome), len(KINDS), len(REGIONS)))
    weight[:, :, REGIONS.index("nose")] *= 2
    for region in ("right_eye", "left_eye"):
        weight[outcome == "FP", :, REGIONS.index(region)] *= 3
    return weight / weight.sum(axis=2, keepdims=True) / AREAS


def map_status(images: dict, position: int, kind: int) -> str:
    if images["status"][position] != "ok":
        return "no_face"
    return "zero" if position % 50 == 25 and kind == 1 else "ok"


def region_columns(images: dict, lifts: np.ndarray) -> dict:
    rows: dict[str, list] = {name: [] for name in (
        "row", "image", "method", "layer", "status", "region", "share", "lift", "area", "face_share",
        "face_lift", "coarse")}  # fmt: skip
    for position, image in enumerate(images["image"]):
        if images["status"][position] in {"unreadable", "missing"}:
            continue
        for kind, (method, layer, shape) in enumerate(KINDS):
            status = map_status(images, position, kind)
            for number, region in enumerate(REGIONS):
                lift = lifts[position, kind, number] if status == "ok" else np.nan
                coarse = shape[0] < 10 and AREAS[number] < 0.05
                values = (position, image, method, layer, status, region, lift * AREAS[number], lift,
                          AREAS[number], np.nan, np.nan, coarse)  # fmt: skip
                for column, value in zip(rows.values(), values, strict=True):
                    column.append(value)
    return rows


def face_picture(rng: np.random.Generator, points: np.ndarray) -> bytes:
    """A drawn face as JPEG."""
    skin = tuple(int(c) for c in (rng.integers(170, 240), rng.integers(130, 180), rng.integers(100, 140)))
    image = Image.new("RGB", (WIDTH, HEIGHT), tuple(int(c) for c in rng.integers(60, 140, 3)))
    draw = ImageDraw.Draw(image)
    draw.ellipse((12, 15, 95, 112), fill=skin)
    for start, end, colour in (
        (36, 42, "white"),
        (42, 48, "white"),
        (48, 60, "#a33a3a"),
        (27, 36, "#b07a58"),
    ):
        draw.polygon([tuple(map(float, p)) for p in points[start:end]], fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def thumbnail_table(images: dict, rng: np.random.Generator) -> pa.Table:
    faces = [(face_picture(rng, points), points) for points in
             (LANDMARKS + rng.normal(0, 1, (40, 1, 2)).astype(np.float32))]  # fmt: skip
    grids = [[blob(shape, rng) for _, _, shape in KINDS] for _ in range(40)]
    rows = []
    for position in np.flatnonzero(~np.isin(images["status"], ["unreadable", "missing"])):
        found = images["status"][position] == "ok"
        face, points = faces[position % 40]
        maps = [grid if map_status(images, position, kind) != "zero" else None
                for kind, grid in enumerate(grids[position % 40])]  # fmt: skip
        rows.append({
            "row": int(position), "face": face, "landmarks": points.ravel().tolist() if found else None,
            "maps": maps,
            "shapes": [grid and list(shape) for grid, (*_, shape) in zip(maps, KINDS, strict=True)],
            "peaks": [grid and float(rng.gamma(2, 0.5)) for grid in maps],
        })  # fmt: skip
    schema = pa.schema({
        "row": pa.int64(), "face": pa.binary(), "landmarks": pa.list_(pa.float32()),
        "maps": pa.list_(pa.binary()), "shapes": pa.list_(pa.list_(pa.int32())),
        "peaks": pa.list_(pa.float32()),
    })  # fmt: skip
    return pa.Table.from_pylist(rows, schema)


def blob(shape: tuple[int, int], rng: np.random.Generator) -> bytes:
    y, x = np.indices(shape)
    at = rng.random(2) * 0.6 + 0.2
    distance = (y / shape[0] - at[0]) ** 2 + (x / shape[1] - at[1]) ** 2
    return np.round(255 * np.exp(-distance / 0.03)).astype(np.uint8).tobytes()


def manifest(images: dict, evil: str) -> dict:
    return {
        "xface": "0.1.0", "created": "2026-01-02T03:04:05+00:00", "device": "cpu",
        "command": ["xface", "analyze", "--data", f"my faces/{evil}", "--out", "run"],
        "versions": {"python": "3.11.2", "torch": "2.10.0", "numpy": "2.4.0"},
        "detector": {"arch": "resnet18", "weights": f"weights/{evil}net.pth", "weights_sha256": "ab" * 32,
                     "card": {"source": "card.json", "classes": ["fake", "real"], "positive": "fake"}},
        "data": {"source": f"my faces/{evil}", "sha256": "cd" * 32, "images": len(images["row"]),
                 "notes": [f"2 rows of {evil} occur twice"]},
        "threshold": {"value": 0.5, "origin": "default"}, "positive": "fake", "classes": ["fake", "real"],
        "target": "fake", "group_by": "video",
        "settings": {"batch": 16, "seed": 0, "limit": None, "weights_sha256": "ab" * 32},
        "kinds": [{"method": m, "layer": layer, "rule": "published"} for m, layer, _ in KINDS],
        "stages": {"decode": 3.1, "landmarks": 20.2, "attributes": 1.5, "attribution": 31.0, "regions": 2.0,
                   "writing": 1.0, "conclusions": 4.0},
        "images_per_second": 9.6,
    }  # fmt: skip


def estimate(values, scale: float = 1.96) -> dict:
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return {"value": None, "low": None, "high": None}
    half = scale * values.std() / len(values) ** 0.5
    return {"value": values.mean(), "low": values.mean() - half, "high": values.mean() + half}


def mean_lifts(lifts: np.ndarray) -> dict:
    return dict(zip(REGIONS, lifts.mean(axis=0).tolist(), strict=True))


def findings(images: dict, lifts: np.ndarray, evil: str) -> dict:
    outcome, ok = images["outcome"], images["status"] == "ok"
    counts = {each: int((outcome == each).sum()) for each in ("TP", "FP", "TN", "FN")}
    score = {"value": 0.912, "low": 0.88, "high": 0.94}
    contrasts = list(contrast_rows(outcome, ok, lifts, images))
    primary = next(row for row in contrasts if row["finding"])
    fp, fn = (np.flatnonzero((outcome == each) & ok).tolist() for each in ("FP", "FN"))
    eyes = f"On false positives the maps lie on the eyes more than on true negatives {evil}"
    return {
        "level": 0.05,
        "summary": {
            "images": len(outcome), "scored": int((outcome != "").sum()), "groups": len(outcome) // 3,
            "prevalence": {"value": 0.5, "low": 0.45, "high": 0.55}, "counts": counts,
            "scores": dict.fromkeys(SCORES, score),
            "threshold": {"value": 0.5, "origin": "default"},
            "excluded": [{"status": status, "reason": REASONS[status], "count": 1, "by_label": {"real": 1},
                          "example": f"faces/{evil}{status}.jpg"}
                         for status in ("no_face", "unreadable", "missing")],
        },
        "health": {
            "statuses": [{"what": "no_face", "method": "", "layer": "", "p": 0.01, "uneven": True,
                          "by_outcome": {each: [2 if each == "FN" else 0, n] for each, n in counts.items()}},
                         {"what": "missing", "method": "", "layer": "", "p": 0.4, "uneven": False,
                          "by_outcome": {}, "by_label": {"fake": [1, 150], "real": [0, 150]}},
                         {"what": "zero map", "method": "vanilla", "layer": "", "p": None, "uneven": False,
                          "by_outcome": {each: [1, n] for each, n in counts.items()}}],
            "coarse": [{"method": "gradcam", "layer": "layer4", "region": "left_eye", "part": 1.0}],
            "warnings": [f"faces are not found evenly over outcomes {evil}"],
        },
        "primary": {"text": f"Do false positives draw the maps to the eyes? {evil}", "method": "gradcam",
                    "layer": "layer4", "contrast": "FP-TN", "region": "right_eye", "result": primary},
        "regions": list(region_rows(outcome, ok, lifts)), "contrasts": contrasts,
        "attributes": list(attribute_rows(images)),
        "regression": {
            "outcome": "wrong", "n": int(ok.sum()), "groups": len(outcome) // 3, "note": "",
            "rows": [{"attribute": name, "odds_ratio": {"value": 1 + i / 20, "low": 0.8, "high": 1.6},
                      "p": 0.2, "q": 0.4, "finding": name == "eye_sharpness"}
                     for i, name in enumerate(ATTRIBUTES)],
        },
        "slices": [{"conditions": [{"attribute": "eye_sharpness", "low": None, "high": 180.0,
                                    "words": "eye sharpness under 180"}],
                    "n": 40, "groups": 22, "errors": 25, "rate": {"value": 0.62, "low": 0.5, "high": 0.74},
                    "rest": {"value": 0.1, "low": 0.05, "high": 0.15}, "p": 0.0004,
                    "q": 0.002, "finding": True}],
        "clusters": [{"outcome": name, "method": "gradcam", "layer": "layer4", "number": number,
                      "size": len(rows[number::2]), "medoid": rows[number], "members": rows[number::2],
                      "lifts": mean_lifts(lifts[rows[number::2], 0])}
                     for name, rows in (("FP", fp), ("FN", fn)) for number in (0, 1)],
        "breakdowns": [breakdown(images, evil)],
        "proposals": [{"asked": {"false_positive_rate": 0.05}, "threshold": 0.6543, "note": "",
                       "false_positive_rate": {"value": 0.06, "low": 0.02, "high": 0.1}, "groups": [50, 50],
                       "recall": {"value": 0.7, "low": 0.6, "high": 0.8},
                       "text": f"Threshold for a false positive rate of at most 5 %: 0.6543 {evil}"}],
        "repairs": list(repair_rows(outcome, ok, evil)),
        "sentences": [
            {"text": eyes, "about": "region", "contrast": "FP-TN", "name": "right_eye", "rows": fp[:12],
             "top": 1, "p_all": 0.004},
            {"text": "False positives have less sharp eyes than true negatives.", "about": "attribute",
             "contrast": "FP-TN", "name": "eye_sharpness", "rows": fp[:5], "top": 2, "p_all": 0.01},
            {"text": f"With eye sharpness under 180, 62 % of 40 images are misclassified. {evil}",
             "about": "slice", "contrast": "", "name": "eye_sharpness", "rows": fp[:3], "top": 3,
             "p_all": 0.02},
            {"text": "False negatives against true positives: nothing significant.", "about": "none",
             "contrast": "FN-TP", "name": "regions", "rows": []}],
    }  # fmt: skip


def breakdown(images: dict, evil: str) -> dict:
    """Errors by `manipulation`, a value of which is the hostile name."""
    values, outcome = images["manipulation"], images["outcome"]
    nothing = {"value": None, "low": None, "high": None}
    parts = []
    for value in dict.fromkeys(values):
        inside = np.array([each == value for each in values]) & (outcome != "")
        rates = [
            {"outcome": error, "n": int((inside & np.isin(outcome, sides)).sum()),
             "errors": int((inside & (outcome == error)).sum()), "groups": [40, 60],
             "rate": {"value": 0.2, "low": 0.1, "high": 0.3}, "rest": {"value": 0.1, "low": 0, "high": 0.2},
             "p": p, "q": p, "finding": p is not None and value == "swap", "note": note}
            for error, sides, p, note in (("FP", ("FP", "TN"), None, f"not tested {evil}"),
                                          ("FN", ("FN", "TP"), 0.004, ""))
        ]  # fmt: skip
        parts.append({"words": value, "kind": "value", "value": value, "joined": 0, "low": None, "high": None,
                      "n": int(inside.sum()), "groups": 90, "auc": nothing, "against_all": False,
                      "rates": rates})  # fmt: skip
    return {"column": "manipulation", "parts": parts, "note": ""}


def effect_columns(images: dict) -> dict:
    """What hiding two parts of each face does."""
    hidden = [(row, name) for row, name, status in zip(images["row"], images["image"], images["status"],
                                                       strict=True) if status == "ok"]  # fmt: skip
    rows = [(row, name, part) for row, name in hidden for part in ("nose", "eyes")]
    words = dict(zip(("row", "image", "region"), map(list, zip(*rows, strict=True)), strict=True))
    numbers = ("effect", "effect_positive", "effect_probability", "spread", "control", "area", "control_area")
    turned = {name: [row % 3 == 0 for row, *_ in rows] for name in ("flips", "control_flips")}
    return {
        **words,
        "status": ["clear"] * len(rows),
        **{name: [0.5] * len(rows) for name in numbers},
        **turned,
    }


def repair_rows(outcome: np.ndarray, ok: np.ndarray, evil: str):
    """Hiding the eyes repairs false positives, as much elsewhere doesn't; the background has no like."""
    for name in ("TP", "FP", "TN", "FN"):
        rows = np.flatnonzero((outcome == name) & ok)
        for region in (*REGIONS, "eyes"):
            turned = len(rows) // 2 if (name, region) == ("FP", "eyes") else len(rows) // 8
            tested = name in ("FP", "FN") and region != "background"
            finding = tested and (name, region) == ("FP", "eyes")
            rates = [{"value": part, "low": part / 2, "high": (1 + part) / 2} for part in
                     (turned / len(rows), (len(rows) // 9) / len(rows))]  # fmt: skip
            yield {"outcome": name, "region": region, "images": int((outcome == name).sum()), "n": len(rows),
                   "groups": len(rows) // 2, "turned": turned, "rate": rates[0],
                   "control_turned": len(rows) // 9,
                   "control_rate": rates[1] if region != "background" else estimate([]),
                   "difference": estimate([0.1, 0.3]), "effect": estimate([1.0, 2.0]),
                   "p": 0.001 if finding else 0.4 if tested else None,
                   "q": 0.004 if finding else 0.7 if tested else None,
                   "finding": finding,
                   "note": "" if tested else f"there is no area of its size elsewhere {evil}",
                   "like_scores": rates[1] if tested else estimate([]),
                   "rows": rows[:turned][:12].tolist(),
                   "right_difference": estimate([0.1, 0.3] if tested else []),
                   **{f"right_{key}": (0.002 if finding else 0.6) if tested else None
                      for key in ("p", "q", "p_family", "p_all")},
                   "right_finding": finding, "right_note": ""}  # fmt: skip


def region_rows(outcome: np.ndarray, ok: np.ndarray, lifts: np.ndarray):
    for kind, (method, layer, _) in enumerate(KINDS):
        for number, region in enumerate(REGIONS):
            for each in ("TP", "FP", "TN", "FN"):
                values = lifts[(outcome == each) & ok, kind, number]
                yield {"method": method, "layer": layer, "region": region, "outcome": each, "n": len(values),
                       "groups": len(values) // 2, "lift": estimate(values),
                       "share": estimate(values * AREAS[number])}  # fmt: skip


def contrast_rows(outcome: np.ndarray, ok: np.ndarray, lifts: np.ndarray, images: dict):
    for kind, (method, layer, _) in enumerate(KINDS):
        for number, region in enumerate(REGIONS):
            for contrast in CONTRASTS:
                one, other = (lifts[(outcome == each) & ok, kind, number] for each in contrast.split("-"))
                yield {"method": method, "layer": layer, "region": region, "contrast": contrast,
                       **at_equal_scores(one, other, contrast == "FP-TN" and region.endswith("_eye")),
                       "coarse": region == "left_eye"}  # fmt: skip


def attribute_rows(images: dict):
    for name in ATTRIBUTES:
        for contrast in ("FP-TN", "FN-TP"):
            one, other = (images[name][images["outcome"] == each] for each in contrast.split("-"))
            found = comparison(one, other, contrast == "FP-TN" and name == "eye_sharpness")
            yield {
                "attribute": name,
                "contrast": contrast,
                "means": [estimate(one), estimate(other)],
                **found,
            }


def at_equal_scores(one: np.ndarray, other: np.ndarray, finding: bool) -> dict:
    found = comparison(one, other, finding)
    raw = {name: found[name] for name in ("difference", "delta", "p", "q")}
    return {**found, "adjusted": True, "raw": {**raw, "finding": True}, "p_all": 0.004 if finding else 1.0,
            "equivalence": {"margin": 0.2, "p": 0.01, "same": not finding}}  # fmt: skip


def comparison(one: np.ndarray, other: np.ndarray, finding: bool) -> dict:
    gap = estimate(one)
    shift = estimate(other)["value"] or 0.0
    difference = {name: None if value is None else value - shift for name, value in gap.items()}
    return {"n": [len(one), len(other)], "groups": [len(one) // 2, len(other) // 2], "difference": difference,
            "delta": 0.62 if finding else 0.05, "p": 0.0001 if finding else 0.4,
            "q": 0.001 if finding else 0.8,
            "finding": finding, "note": ""}  # fmt: skip
