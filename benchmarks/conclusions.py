"""Whether the statistics of `xface analyze` hold: how often they find what is not there, and what is.

    python benchmarks/conclusions.py [--runs N] [--seed N] [--out FILE]

Each run simulates 60 videos of 20 frames of real faces. The numbers of a video's frames are correlated by
0.7, its odds of an error vary from video to video by a standard deviation of 1.5, and where no effect is
planted the two have nothing to do with one another. A family has found something if any of its rows is a
finding at 5 %. A run shows something if `conclude` says so of any family: half of its videos are forged, and
two kinds of map have eleven regions each. The same is asked of Student's test over frames, as if they were
independent. Then all errors add half a standard deviation to every number, and the intervals are asked
whether they hold it. Run r has seed `seed` + r.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from xface.findings.contrasts import contrasts, corrected
from xface.findings.findings import conclude
from xface.runs.attributes import attributes_of
from xface.statistics.bootstrap import estimate
from xface.statistics.effects import false_discovery
from xface.statistics.means import mean_differences
from xface.statistics.permutation import permute
from xface.statistics.regression import regress
from xface.statistics.slices import find_slices

VIDEOS, FRAMES, ICC, SPREAD, EFFECT = 60, 20, 0.7, 1.5, 0.5
REGIONS, ATTRIBUTES, LEVEL = 22, 12, 0.05
PERMUTATIONS = 1999
KINDS = [{"method": "gradcam", "layer": layer} for layer in ("layer3", "layer4")]
NAMES = [*(f"region{k}" for k in range(REGIONS // len(KINDS) - 1)), "background"]


def simulated(seed: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (N, columns), wrong verdicts (N,) and video numbers (N,)."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(VIDEOS), FRAMES)
    odds = -1.2 + SPREAD * rng.normal(size=VIDEOS)
    wrong = rng.random(len(codes)) < 1 / (1 + np.exp(-odds[codes]))
    own = rng.normal(size=(VIDEOS, columns))[codes]
    return np.sqrt(ICC) * own + np.sqrt(1 - ICC) * rng.normal(size=(len(codes), columns)), wrong, codes


def without_effect(seed: int) -> dict[str, bool]:
    """Which families find something where there is nothing; regions are long-tailed, as lifts are."""
    values, wrong, codes = simulated(seed, REGIONS + ATTRIBUTES)
    regions, attributes = np.exp(values[:, :REGIONS] / 2), values[:, REGIONS:]
    names = [f"a{k}" for k in range(ATTRIBUTES)]
    outcomes = np.where(wrong, "FP", "TN")
    naive = ttest_ind(regions[wrong], regions[~wrong]).pvalue
    slices = find_slices(names[:6], attributes[:, :6], wrong, codes, seed=seed)
    return {
        "primary contrast": permute(regions[:, :1], wrong, codes, PERMUTATIONS, seed).p_values()[0] <= LEVEL,
        "region table": found(regions, outcomes, codes, seed),
        "attribute table": found(attributes, outcomes, codes, seed),
        "regression": any(row.finding for row in regress(names, attributes, wrong, codes).rows),
        "slices": any(each.finding for each in slices),
        "primary contrast, frames taken for independent": naive[0] <= LEVEL,
        "any of the five": shows_something(regions, attributes, wrong, codes),
        "region table, frames taken for independent": min(false_discovery(naive.tolist())) <= LEVEL,
    }


def found(values: np.ndarray, outcomes: np.ndarray, codes: np.ndarray, seed: int) -> bool:
    rows = contrasts([{}] * values.shape[1], values, outcomes, codes, PERMUTATIONS, seed)
    return any(row.finding for row in corrected(rows))


def shows_something(
    regions: np.ndarray, attributes: np.ndarray, wrong: np.ndarray, codes: np.ndarray
) -> bool:
    """Whether a run with these numbers has any sentence that is not "nothing found"."""
    fake, count = codes % 2 == 0, len(codes)
    images = pd.DataFrame({
        "row": np.arange(count), "image": "", "group": codes.astype(str),
        "label": np.where(fake, "fake", "real"), "status": "ok", "reason": "",
        "score": np.where(fake ^ wrong, 0.75, 0.25),
        "outcome": np.select([fake & wrong, fake, wrong], ["FN", "TP", "FP"], "TN"),
    })  # fmt: skip
    images[list(attributes_of({}))] = attributes
    shares = regions.reshape(count, len(KINDS), -1)
    shares = shares / shares.sum(axis=2, keepdims=True)
    index = pd.MultiIndex.from_product([range(count), [kind["layer"] for kind in KINDS], NAMES])
    table = pd.DataFrame({"share": shares.ravel(), "lift": shares.ravel() * len(NAMES)}, index)
    table = table.rename_axis(["row", "layer", "region"]).reset_index()
    table = table.assign(method="gradcam", status="ok", coarse=False)
    found = conclude(images, table, {"threshold": {"value": 0.5, "origin": "given"}, "kinds": KINDS})
    return any(sentence.about != "none" for sentence in found.sentences)


def with_effect(seed: int) -> dict[str, bool]:
    """Whether a planted difference is found, and held by its interval: symmetric bootstrap-t, percentiles."""
    values, wrong, codes = simulated(seed, 2)
    values[:, 1] = (np.exp(values[:, 1]) - np.exp(0.5)) / np.sqrt(np.e * (np.e - 1))
    values += EFFECT * wrong[:, None]
    names = ("a normal number", "a long-tailed number")
    held = mean_differences(values, wrong, ~wrong, codes, seed=seed)

    def gap(weights: np.ndarray) -> np.ndarray:
        sides = [(weights * side) @ values / (weights @ side)[:, None] for side in (wrong, ~wrong)]
        return (sides[0] - sides[1]).T

    percentiles = estimate(gap, codes.astype(str), len(codes), resamples=999, seed=seed)
    p = permute(values, wrong, codes, PERMUTATIONS, seed).p_values()
    return {
        **{f"found: {name}": each <= LEVEL for name, each in zip(names, p, strict=True)},
        **{f"held: {name}": holds(each) for name, each in zip(names, held, strict=True)},
        **{
            f"held by percentiles: {name}": holds(each) for name, each in zip(names, percentiles, strict=True)
        },
    }


def holds(interval) -> bool:
    return interval.low is not None and interval.low <= EFFECT <= interval.high


@click.command()
@click.option("--runs", default=500)
@click.option("--seed", default=0)
@click.option("--out", type=click.Path(path_type=Path))
def main(runs: int, seed: int, out: Path | None) -> None:
    start, nothing, planted = time.process_time(), Counter(), Counter()
    for number in range(runs):
        nothing.update({name: int(hit) for name, hit in without_effect(seed + number).items()})
        planted.update({name: int(hit) for name, hit in with_effect(seed + number).items()})
        if (number + 1) % 50 == 0:
            click.echo(
                f"{number + 1} runs, {time.process_time() - start:.0f} s: {dict(nothing)} {dict(planted)}"
            )
    result = {
        "runs": runs,
        "seed": seed,
        "videos": VIDEOS,
        "frames": FRAMES,
        "correlation_of_frames": ICC,
        "effect": EFFECT,
        "found_without_effect": {name: round(count / runs, 4) for name, count in nothing.items()},
        "with_effect": {name: round(count / runs, 4) for name, count in planted.items()},
        "cpu_seconds": round(time.process_time() - start),
    }
    click.echo(json.dumps(result, indent=2))
    if out:
        out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
