"""Frames of videos as a detector's run might leave them: numbers and verdicts both belong to the video."""

import numpy as np


def frames(seed, videos=60, count=20, columns=1, effect=0.0, spread=1.5, icc=0.7):
    """Values (N, columns), wrong verdicts (N,) and video numbers (N,).

    The values of a video's frames are correlated by `icc`, its odds of an error differ from others' by a
    standard deviation of `spread`; the two have nothing to do with one another but for `effect`, which a
    wrong verdict adds to each value.
    """
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(videos), count)
    odds = -1.2 + spread * rng.normal(size=videos)
    wrong = rng.random(len(codes)) < 1 / (1 + np.exp(-odds[codes]))
    own = rng.normal(size=(videos, columns))[codes]
    values = np.sqrt(icc) * own + np.sqrt(1 - icc) * rng.normal(size=(len(codes), columns))
    return values + effect * wrong[:, None], wrong, codes
