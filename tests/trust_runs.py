"""Runs of `xface trust`, written by hand: three maps, their baselines, region effects, hostile names."""

import copy
import json
from pathlib import Path

from PIL import Image

HOSTILE = "<img src=x onerror=alert(1)>.jpg"
CHECKS = {
    "partial_swap": {
        "family": "partial_swap", "title": "names the forged region first", "about": "how often it does",
        "better": "higher", "percent": True, "ranks": True, "source": "xface",
    },
    "agreement": {
        "family": "region_agreement", "title": "agreement with effects, per area", "about": "correlation",
        "better": "higher", "ranks": True, "source": "xface",
    },
    "deletion": {
        "family": "removal", "title": "deletion", "about": "mean change of the score", "better": "lower",
        "source": "Petsiuk et al. 2018",
    },
    "randomisation": {
        "family": "randomisation", "title": "similarity to the untrained network's map",
        "about": "Spearman's correlation", "better": "lower", "source": "Adebayo et al. 2018",
    },
}  # fmt: skip
FRACTIONS, LAYERS = ("0.05", "0.1", "0.2", "0.4"), ("fc", "layer4", "layer1")


def figure(value, n=65, spread=0.12, baseline=None, difference=None, parts=()):
    """A check's record, its interval `spread` to both sides."""
    around = lambda x: None if x is None else [x - spread, x + spread]  # noqa: E731
    return {
        "value": value, "interval": around(value), "n": n, "best_baseline": baseline,
        "difference": difference, "difference_interval": around(difference),
        "simultaneous_interval": around(difference), "parts": list(parts),
    }  # fmt: skip


def parts(by, names, start, step):
    return [{"by": by, "name": name, "value": start + k * step, "interval": None, "n": 60}
            for k, name in enumerate(names)]  # fmt: skip


def checks(swap, agreement, deletion, randomisation=None, baseline=None):
    """All records of one answerer; `baseline` is its best one's value by check."""
    given = {"partial_swap": (swap, 0.35), "agreement": (agreement, 0.09), "deletion": (deletion, -0.4)}
    found = {
        name: figure(value, baseline=baseline and "gaussian", difference=value - base if baseline else None)
        for name, (value, base) in given.items()
    }
    regions = parts("region", ("mouth", "nose"), swap, -0.1)
    found["partial_swap"]["parts"] = regions + parts("strength", ("0.7 to 1.4", "over 2.8"), swap, 0.1)
    found["deletion"]["parts"] = parts("fraction", FRACTIONS, deletion, -0.2)
    if randomisation is not None:
        found["randomisation"] = figure(
            randomisation, 60, 0.05, parts=parts("layer", LAYERS, randomisation, 0.1)
        )
    return found


GRADCAM = "informative: names the forged region first: 72 % (95 % 60 to 84 %); the face's centre: 35 %"
VANILLA = "no better than the face's centre: names the forged region first: 22 %; the face's centre: 35 %"
RECORD = {
    "xface": "0.9", "command": ["xface", "trust", "--data", HOSTILE], "created": "2026-11-28T01:00:00+00:00",
    "versions": {"torch": "2.9"}, "device": "cpu",
    "detector": {"arch": "resnet18", "trained": True, "weights_sha256": "a" * 64, "notes": [], "card": {}},
    "data": {
        "source": f"/secret/place/{HOSTILE}", "sha256": "b" * 64, "forged": 110, "made": 0,
        "pairs": 108, "masked": 107, "swaps": 65, "masks": "pairs", "groups": 56, "notes": [],
        "left_out": [{"what": "pair", "reason": f"not aligned {HOSTILE}", "count": 3, "example": HOSTILE}],
    },
    "seeds": {"cases": 0}, "settings": {"limit": None}, "checks": CHECKS,
    "maps": [
        {"method": "vanilla", "layer": None, "grade": "no better than the face's centre", "verdict": VANILLA,
         "decided_by": "partial_swap",
         "checks": checks(0.22, 0.17, -0.5, 0.2, baseline=True)},
        {"method": "gradcam", "layer": "layer3", "grade": "informative", "verdict": GRADCAM,
         "decided_by": "partial_swap",
         "checks": checks(0.72, 0.3, -1.2, 0.1, baseline=True)},
        {"method": "gradcam", "layer": "layer4", "grade": "informative", "verdict": GRADCAM,
         "decided_by": "partial_swap",
         "checks": checks(0.62, 0.4, -1.0, 0.1, baseline=True)},
    ],
    "baselines": [
        *({"method": method, "layer": layer, "of": of, "verdict": "baseline: ...", "checks": checks(*values)}
          for method, of, layer, values in (
              ("gaussian", None, None, (0.35, 0.09, -0.4)), ("edges", None, None, (0.2, 0.05, -0.3)),
              ("untrained", "vanilla", None, (0.15, 0.01, -0.2)),
              ("untrained", "gradcam", "layer3", (0.15, 0.01, -0.2)),
              ("untrained", "gradcam", "layer4", (0.15, 0.01, -0.2)))),
    ],
    "effects": [
        {"method": "effects", "layer": None, "grade": "informative", "verdict": "informative: 74 %",
         "decided_by": "partial_swap",
         "checks": {**checks(0.74, 0.9, -1.5, baseline=True), "agreement": figure(None, 0)}},
    ],
    "examples": [
        {"check": "partial_swap", "method": "gradcam", "layer": "layer3", "end": "best", "image": HOSTILE,
         "value": 1.0, "file": "examples/0.jpg", "words": "the mouth was pasted; it names the mouth"},
        {"check": "partial_swap", "method": "gradcam", "layer": "layer3", "end": "worst", "image": "b.jpg",
         "value": 0.0, "file": "../outside.jpg", "words": "the nose was pasted; it names the jaw"},
    ],
    "notes": [f"a note {HOSTILE}"],
}  # fmt: skip


def trust_record(**changes) -> dict:
    return copy.deepcopy(RECORD) | changes


def make_trust(folder: Path, **changes) -> Path:
    """Write a trust run's folder (but for `report/`) and return it."""
    (folder / "examples").mkdir(parents=True)
    Image.new("RGB", (96, 96), (90, 120, 150)).save(folder / "examples" / "0.jpg")
    (folder / "trust.json").write_text(json.dumps(trust_record(**changes)), encoding="utf-8")
    return folder


def of_detector(detector) -> dict:
    """A record's `detector`, as a run of this one writes it."""
    return json.loads(json.dumps(detector.to_json()))
