"""Whether the statistics of `xface analyze` hold: how often they find what is not there, and what is.

    python benchmarks/conclusions.py [--runs N] [--seed N] [--only PART]... [--out FILE]

A scenario simulates whole runs for `conclude`: videos of real and of forged faces, whose frames' scores,
twelve attributes, two kinds of maps of eleven regions and effects of hiding fourteen parts belong together
within a video by 0.7, and have nothing to do with one another but for what is planted; of a column, each
video has one of four values. Verdicts are by scores at 0.5. Of 100 images of each outcome parts are hidden:
the eyes change the logit by more than a control area, everything else by as much as one, and an image turns
whose logit is nearer to the threshold than that. `top` counts runs with any sentence at the top, `any` those
with any finding at all, `same` those that say of false positives or of false negatives that their maps look
like those of right verdicts, `more than the control` those in which a part repairs more than its control.
`families` asks each family by itself, and Student's test over frames as if they were independent; `repairs`
its family, for effects that are alike for all scores or not. The other parts ask whether intervals hold what
was planted, and how often two sides are called the same. Run r has seed `seed` + r.
"""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import ttest_ind

from xface.findings import breakdowns, findings
from xface.findings import contrasts as row_contrasts
from xface.findings import repairs as row_repairs
from xface.findings.columns import Judged
from xface.findings.contrasts import contrasts, corrected
from xface.findings.findings import Findings, conclude
from xface.findings.repairs import HiddenParts, against_right
from xface.runs.attributes import attributes_of
from xface.statistics.adjustment import MARGIN, adjusted_differences
from xface.statistics.bootstrap import Estimate, estimate, finite
from xface.statistics.effects import false_discovery
from xface.statistics.means import mean_differences
from xface.statistics.permutation import permute
from xface.statistics.regression import regress
from xface.statistics.slices import find_slices

VIDEOS, FRAMES, ICC, SPREAD, EFFECT = 60, 20, 0.7, 1.5, 0.5
REGIONS, ATTRIBUTES, LEVEL = 22, 12, 0.05
COLUMNS, SAVED = 10, 10
PERMUTATIONS = 1999
KINDS = [{"method": "gradcam", "layer": layer} for layer in ("layer3", "layer4")]
NAMES = ["right_eye", "left_eye", *(f"region{k}" for k in range(REGIONS // len(KINDS) - 3)), "background"]
PARTS_HIDDEN = [*NAMES, "eyes", "eyebrows", "cheeks"]
EYES = np.array([name in ("right_eye", "left_eye", "eyes") for name in PARTS_HIDDEN])
HIDDEN, VALUES, BY = 100, 4, "device"
MANIFEST = {"threshold": {"value": 0.5, "origin": "given"}, "kinds": KINDS, "by": [BY]}
Rng = np.random.Generator

findings.clusters_of_errors = findings.region_means = lambda *given: ()
findings.summarise = lambda *given: {}
breakdowns.measure = lambda *given, **options: {"auc": None}
"""What no sentence tells is left out, to be quick."""


@dataclass(frozen=True)
class Frames:
    """Simulated frames, verdicts by the score at 0.5: `codes` are their videos, all (N,).

    `attributes` (N, 12), `maps` (N, kinds, regions), the logarithms of unnormalised shares, and `hiding` (N,
    2, parts), what hiding a part and its control does beside its mean, are normal. `values` (N,) are those of
    the column.
    """

    codes: np.ndarray
    fake: np.ndarray
    logit: np.ndarray
    attributes: np.ndarray
    maps: np.ndarray
    hiding: np.ndarray
    values: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        return (self.logit >= 0) != self.fake


def means(values: np.ndarray, first: np.ndarray, second: np.ndarray | None, *given, **options) -> list:
    """Differences of means without the intervals, on which no finding depends."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        sides = [np.nanmean(values[side], axis=0) for side in (first, second) if side is not None]
    return [Estimate(finite(each)) for each in (sides[0] - sides[1] if sides[1:] else sides[0])]


def part(of: np.ndarray, among: np.ndarray, codes: np.ndarray) -> Estimate:
    """A rate, likewise."""
    return Estimate(float(of[among].mean()) if among.any() else None)


row_contrasts.mean_differences = row_repairs.mean_differences = means
row_repairs.rate = breakdowns.rate = part

Plant = Callable[[Frames, np.ndarray], np.ndarray]
"""From frames and shares (N, kinds, regions) to the shares with something planted."""

Strength = Callable[[Frames], np.ndarray]
"""From frames to how many times its mean hiding anything does in each image (N, 1)."""


@dataclass(frozen=True)
class Scenario:
    """How many videos of each class and how long; how their scores vary, within and between them.

    `distance` is how far the mean logit of a class lies on its right side.
    """

    videos: int = VIDEOS // 2
    frames: Callable[[Rng, int], np.ndarray] = lambda rng, videos: np.full(videos, 12)
    distance: float = 1.2
    between: float = SPREAD
    within: float = 1.0
    plant: Plant = lambda frames, shares: shares
    attribute: float = 0.0
    strength: Strength = lambda frames: np.ones((len(frames.codes), 1))
    repaired: float = 0.0

    def draw(self, rng: Rng) -> Frames:
        lengths = np.maximum(1, self.frames(rng, 2 * self.videos))
        codes = np.repeat(np.arange(2 * self.videos), lengths)
        fake = codes % 2 == 0
        sign = np.where(fake, 1, -1)
        score = sign * self.distance + self.between * rng.normal(size=2 * self.videos)[codes]
        score += self.within * rng.normal(size=len(codes))
        numbers = correlated(rng, codes, ATTRIBUTES + REGIONS)
        numbers[:, 0] -= self.attribute * ((score >= 0) != fake)
        maps = numbers[:, ATTRIBUTES:].reshape(len(codes), len(KINDS), -1)
        hiding = correlated(rng, codes, 2 * len(PARTS_HIDDEN)).reshape(len(codes), 2, -1)
        values = rng.integers(VALUES, size=2 * self.videos)[codes]
        return Frames(codes, fake, score, numbers[:, :ATTRIBUTES], maps, hiding, values)

    def conclude(self, seed: int) -> Findings:
        """What `conclude` says of a run."""
        frames = self.draw(np.random.default_rng(seed))
        shares = np.exp(frames.maps / 2)
        shares = self.plant(frames, shares / shares.sum(axis=2, keepdims=True))
        effects = self.effects(frames, np.random.default_rng(seed))
        return conclude(*tables(frames, shares), MANIFEST, effects)

    def effects(self, frames: Frames, rng: Rng) -> pd.DataFrame:
        """The table of effects: what hiding parts, and areas of their size, does to some of the frames."""
        strength = self.strength(frames)
        parts = strength * np.where(EYES, 1.5, 0.5) + 0.5 * frames.hiding[:, 0]
        parts += self.repaired * (frames.wrong & ~frames.fake)[:, None] * EYES
        controls = strength * 0.5 + 0.5 * frames.hiding[:, 1]
        far = np.abs(frames.logit)[:, None]
        kinds = 2 * frames.fake + frames.wrong
        chosen = [rng.permutation(np.flatnonzero(kinds == kind))[:HIDDEN] for kind in range(4)]
        rows = np.sort(np.concatenate(chosen))
        index = pd.MultiIndex.from_product([rows, PARTS_HIDDEN], names=["row", "region"])
        columns = {"effect": parts, "flips": parts > far, "control_flips": controls > far}
        table = pd.DataFrame({name: each[rows].ravel() for name, each in columns.items()}, index)
        return table.reset_index().assign(status="clear", area=0.05, control_area=0.05)


def correlated(rng: Rng, codes: np.ndarray, columns: int) -> np.ndarray:
    own = rng.normal(size=(codes.max() + 1, columns))[codes]
    return np.sqrt(ICC) * own + np.sqrt(1 - ICC) * rng.normal(size=(len(codes), columns))


def follows(curve: Callable[[np.ndarray], np.ndarray]) -> Plant:
    """The eyes' shares follow the logit of the score in a curve, from about a tenth to a half of the map."""

    def plant(frames: Frames, shares: np.ndarray) -> np.ndarray:
        eyes = shares[:, :, :2]
        part = (
            0.3 + 0.07 * curve(frames.logit)[:, None, None] + 0.2 * (eyes.sum(axis=2, keepdims=True) - 0.18)
        )
        part = np.clip(part, 0.01, 0.9)
        eyes = eyes / eyes.sum(axis=2, keepdims=True) * part
        rest = shares[:, :, 2:] / shares[:, :, 2:].sum(axis=2, keepdims=True) * (1 - part)
        return np.concatenate([eyes, rest], axis=2)

    return plant


def near(frames: Frames) -> np.ndarray:
    """Hiding does the more, the nearer the threshold is, up to twice as much."""
    return 2 * np.exp(-np.abs(frames.logit))[:, None]


def growing(frames: Frames) -> np.ndarray:
    """What hiding does grows with the distance from the threshold."""
    return (0.5 + np.abs(frames.logit) / 2)[:, None]


def on_false_alarms(frames: Frames, shares: np.ndarray) -> np.ndarray:
    """False alarms have half as much again on the eyes."""
    raised = shares.copy()
    raised[frames.wrong & ~frames.fake, :, :2] *= 1.5
    return raised / raised.sum(axis=2, keepdims=True)


def unequal(rng: Rng, videos: int) -> np.ndarray:
    """Videos from one frame to some hundred."""
    return np.minimum(np.exp(1.8 + 1.2 * rng.normal(size=videos)), 400).astype(int)


def single(rng: Rng, videos: int) -> np.ndarray:
    return np.ones(videos, int)


def short(rng: Rng, videos: int) -> np.ndarray:
    return np.full(videos, 6)


def curved(score: np.ndarray) -> np.ndarray:
    return 2 * np.tanh(score / 1.5 + 0.7)


FEW = {"videos": 24, "distance": 0.0, "between": 3.0, "within": 0.3}
SCENARIOS = {
    "correlated frames": Scenario(),
    "single images": Scenario(videos=300, frames=single, distance=1.5, strength=near),
    "12 against 12 videos": Scenario(**FEW),
    "12 against 12 images": Scenario(**FEW, frames=single, strength=near),
    "unequal videos": Scenario(frames=unequal, strength=near),
    "share linear in the logit": Scenario(plant=follows(lambda z: z), strength=growing),
    "share linear in the probability": Scenario(plant=follows(lambda z: 4 * expit(z) - 2), strength=near),
    "share linear, 12 against 12 videos": Scenario(**FEW, plant=follows(lambda z: z / 2), strength=growing),
    "share linear, unequal videos": Scenario(frames=unequal, plant=follows(lambda z: z), strength=growing),
    "share curved in the logit": Scenario(plant=follows(curved), strength=growing),
    "share linear, 300 videos": Scenario(
        videos=150, frames=short, plant=follows(lambda z: z), strength=growing
    ),
    "share curved, 300 videos": Scenario(videos=150, frames=short, plant=follows(curved), strength=near),
    "eyes on false alarms, 300 videos": Scenario(videos=150, frames=short, plant=on_false_alarms),
    "an attribute of errors, 300 videos": Scenario(videos=150, frames=short, attribute=0.5),
    "eyes repair false alarms, 300 videos": Scenario(videos=150, frames=short, repaired=1.0),
}


def tables(frames: Frames, shares: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of a run."""
    fake, called, count = frames.fake, frames.logit >= 0, len(frames.codes)
    images = pd.DataFrame({
        "row": np.arange(count), "image": "", "group": frames.codes.astype(str),
        "label": np.where(fake, "fake", "real"), "status": "ok", "reason": "", "score": expit(frames.logit),
        "outcome": np.select([fake & called, fake, called], ["TP", "FN", "FP"], "TN"),
    })  # fmt: skip
    images[list(attributes_of({}))] = frames.attributes
    images[BY] = [f"device {value}" for value in frames.values]
    index = pd.MultiIndex.from_product([range(count), [kind["layer"] for kind in KINDS], NAMES])
    table = pd.DataFrame({"share": shares.ravel(), "lift": shares.ravel() * len(NAMES)}, index)
    table = table.rename_axis(["row", "layer", "region"]).reset_index()
    return images, table.assign(method="gradcam", status="ok", coarse=False)


def scenario(name: str, seed: int) -> dict[str, bool]:
    """What a run of a scenario shows: at the top, and at all."""
    found = SCENARIOS[name].conclude(seed)
    top = [each for each in found.sentences if each.top]
    return {
        "top": bool(top),
        "top: maps": any(each.about == "region" for each in top),
        "top: attributes": any(each.about == "attribute" for each in top),
        "top: slices": any(each.about == "slice" for each in top),
        "top: repairs": any(each.about == "repair" for each in top),
        "any": any(each.about not in ("none", "count", "same") for each in found.sentences),
        "any: repairs": any(row.finding for row in found.repairs),
        "any: by": any(each.about == "by" for each in found.sentences),
        "more than the control": any(row.is_more_than_control() for row in found.repairs),
        "raw FP-TN or FN-TP": any(row.raw.finding for row in found.contrasts if row.equivalence is None),
        "same": any(each.about == "same" and each.name == "regions" for each in found.sentences),
    }


STRENGTHS = {"alike": Scenario.strength, "more near the threshold": near, "more far from it": growing}
REPAIRED = ("correlated frames", "single images", "12 against 12 videos", "unequal videos")


def repaired(name: str, seed: int) -> dict[str, bool]:
    """Whether hiding any part is found to turn more errors than right verdicts at equal scores, and raw.

    What hiding does has nothing to do with errors, but is alike for all scores, or not.
    """
    result = {}
    for words in REPAIRED:
        frames = SCENARIOS[words].draw(np.random.default_rng(seed))
        images = tables(frames, np.exp(frames.maps))[0]
        judged = Judged.of(images, 0.5)
        for how, strength in STRENGTHS.items():
            effects = replace(SCENARIOS[words], strength=strength).effects(
                frames, np.random.default_rng(seed)
            )
            rows = against_right(HiddenParts.of(effects, judged), judged)
            result[f"{words}, {how}"] = any(row.finding for row in rows)
            result[f"{words}, {how}, raw"] = any(row.raw.finding for row in rows)
    return result


def simulated(seed: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (N, columns), wrong verdicts (N,) and video numbers (N,)."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(VIDEOS), FRAMES)
    odds = -1.2 + SPREAD * rng.normal(size=VIDEOS)
    wrong = rng.random(len(codes)) < expit(odds[codes])
    return correlated(rng, codes, columns), wrong, codes


def families(name: str, seed: int) -> dict[str, bool]:
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
        "region table, frames taken for independent": min(false_discovery(naive.tolist())) <= LEVEL,
    }


def found(values: np.ndarray, outcomes: np.ndarray, codes: np.ndarray, seed: int) -> bool:
    rows = contrasts([{}] * values.shape[1], values, outcomes, codes, PERMUTATIONS, seed)
    return any(row.finding for row in corrected(rows))


def intervals(name: str, seed: int) -> dict[str, bool]:
    """Whether a planted difference is found, and held by its interval: symmetric bootstrap-t, percentiles."""
    values, wrong, codes = simulated(seed, 2)
    values[:, 1] = standard_lognormal(values[:, 1])
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


def standard_lognormal(values: np.ndarray) -> np.ndarray:
    return (np.exp(values) - np.exp(0.5)) / np.sqrt(np.e * (np.e - 1))


def holds(interval, value: float = EFFECT) -> bool:
    return interval.low is not None and interval.low <= value <= interval.high


def heavy_tails(name: str, seed: int) -> dict[str, float]:
    """How often intervals of 10 against 60 groups of log-normal numbers (sigma 1) hold no difference."""
    rng, found = np.random.default_rng(seed), {}
    for words, frames in (("single images", 1), ("videos", FRAMES)):
        codes = np.repeat(np.arange(70), frames)
        for few in (codes < 10, codes >= 60):
            values = standard_lognormal(correlated(rng, codes, COLUMNS))
            held = [holds(each, 0.0) for each in mean_differences(values, few, ~few, codes, seed=seed)]
            found[f"held: {words}"] = found.get(f"held: {words}", 0.0) + np.mean(held) / 2
    return found


EQUAL = {"videos": Scenario(), "12 against 12 videos": Scenario(**FEW),
         "single images": Scenario(videos=300, frames=single, distance=1.5)}  # fmt: skip


def equal_scores(name: str, seed: int) -> dict[str, bool]:
    """Comparisons of false alarms with hits, and with right verdicts on real faces, at equal scores.

    One number follows the score, one differs by the margin besides, one by `EFFECT`, and one moves it, in
    each scenario: a picture's darkness, say, to which the detector gives weight whatever the truth.
    """
    result = {}
    for words, each in EQUAL.items():
        frames = each.draw(np.random.default_rng(seed))
        alarms = frames.wrong & ~frames.fake
        values = frames.attributes[:, :4] + 0.5 * frames.logit[:, None]
        values[:, 1] += MARGIN * alarms
        values[:, 2] += EFFECT * alarms
        values[:, 3] -= 0.5 * each.distance * np.where(frames.fake, 1, -1)
        for against, side in (("hits", frames.fake & ~frames.wrong), ("right", ~frames.fake & ~frames.wrong)):
            both = alarms | side
            given = (values[both], alarms[both], expit(frames.logit[both]), frames.codes[both])
            found = adjusted_differences(*given, PERMUTATIONS, seed)
            result[f"held: {against}, {words}"] = holds(found.differences[2])
            ps = found.tested.p_values() <= LEVEL
            result[f"found where nothing is: {against}, {words}"] = ps[0]
            result[f"found, what moves the score: {against}, {words}"] = ps[3]
            if against == "right":
                raw = permute(values[both], alarms[both], frames.codes[both], PERMUTATIONS, seed).p_values()
                result[f"found, what moves the score: {against} as it stands, {words}"] = raw[3] <= LEVEL
            else:
                same = found.equivalence(np.full(4, MARGIN)) <= LEVEL
                result |= {f"called the same at the margin: {words}": same[1],
                           f"called the same where nothing is: {words}": same[0]}  # fmt: skip
    return result


PARTS = {
    **dict.fromkeys(SCENARIOS, scenario), "repairs": repaired, "families": families, "intervals": intervals,
    "heavy tails, 10 against 60 groups": heavy_tails, "at equal scores": equal_scores,
}  # fmt: skip
RUNS = {
    **dict.fromkeys(PARTS, 300),
    **{name: 120 for name in SCENARIOS if name.startswith("share")},
    **{name: 30 for name in SCENARIOS if name.endswith("300 videos")},
    "repairs": 150,
    **dict.fromkeys(("families", "intervals"), 500),
}
"""How many runs each part has: about 30 minutes of a processor in all."""


@click.command()
@click.option("--runs", type=int, help="As many of each part, instead of its own number.")
@click.option("--seed", default=0)
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)))
@click.option(
    "--out", type=click.Path(path_type=Path), help="What is not run anew is left as it stands there."
)
def main(runs: int | None, seed: int, only: tuple[str, ...], out: Path | None) -> None:
    before = json.loads(out.read_text()) if out and out.exists() else {}
    kept = before.get("parts", {}) if only else {}
    for name in only or PARTS:
        start, counts = time.process_time(), Counter()
        count = runs or RUNS[name]
        for number in range(count):
            counts.update({key: float(hit) for key, hit in PARTS[name](name, seed + number).items()})
            done = number + 1
            if done % SAVED == 0 or done == count:
                rates = {key: round(hits / done, 4) for key, hits in counts.items()}
                seconds = round(time.process_time() - start)
                kept[name] = {"runs": done, "seed": seed, "cpu_seconds": seconds, **rates}
                if out:
                    ordered = {"parts": {each: kept[each] for each in PARTS if each in kept}}
                    out.write_text(json.dumps(ordered, indent=2) + "\n")
        click.echo(json.dumps({name: kept[name]}))


if __name__ == "__main__":
    main()
