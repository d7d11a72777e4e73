"""The network that checks ask: a detector's scores and maps, also with its weights made random."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from xface.attribution import attribute
from xface.attribution.maps import Key, Maps, furthest
from xface.attribution.targets import class_scores
from xface.detectors.detector import Detector
from xface.detectors.fitting import FittingBatches
from xface.evidence.effects import at_once, log_odds
from xface.evidence.randomised import cascade
from xface.faces.measures import amount, resized
from xface.results import ByteArray, FloatArray

REMEDY = "ask for fewer methods or layers at once, or use --device cpu"


@dataclass(eq=False)
class AskedNetwork:
    """A detector, asked for its positive class, and the maps of it that are to be checked.

    `rules` and `notes` add up what the engine says of the maps.
    """

    detector: Detector
    target: int
    methods: Sequence[str]
    layers: Sequence[str]
    rules: dict[Key, str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._fitting = FittingBatches(self.detector.device, REMEDY)

    @cached_property
    def networks(self) -> dict[str, nn.Module]:
        """Copies with random weights, from the top down to each stage."""
        return cascade(self.detector.model, self.detector.arch.stages)

    @property
    def stages(self) -> Sequence[str]:
        """See `xface.evidence.checks.check.Network`."""
        return list(self.networks)

    @property
    def boundary(self) -> float:
        """See `Network`: the log-odds of the card's threshold, 0 without one."""
        threshold = self.detector.card.threshold
        return 0.0 if threshold is None else math.log(threshold / (1 - threshold))

    @torch.inference_mode()
    def scores(self, images: Tensor) -> FloatArray:
        """See `Network`."""
        return np.array(self._fitting(lambda part: self._scores(images[part]), len(images)), np.float64)

    def _scores(self, images: Tensor) -> Iterable[float]:
        logits = [self.detector.logits(part) for part in torch.split(images, at_once(self.detector, images))]
        scores = class_scores(torch.cat(logits), len(images)).double()
        found: list[float] = log_odds(scores, self.target).tolist()
        return found

    def amounts(self, images: Tensor, stage: str | None = None) -> Tensor:
        """See `Network`."""
        model = self.detector.model if stage is None else self.networks[stage]
        found = self._fitting(
            lambda part: self._amounts(model, images[part], stage is None).unbind(1), len(images)
        )
        return torch.stack(found, dim=1)

    def _amounts(self, model: nn.Module, images: Tensor, said: bool) -> Tensor:
        maps = attribute(model, images.to(self.detector.device), self.target, self.methods, self.layers)
        if said:
            self._keep(maps)
        size = (images.shape[2], images.shape[3])
        return torch.stack([self._defined(maps, key, size) for key in maps])

    def _defined(self, maps: Maps, key: Key, size: tuple[int, int]) -> Tensor:
        """The amounts (N, H, W) of one kind of map, NaN where it isn't defined."""
        well = torch.tensor([status == "ok" for status in maps.status[key]], device=maps[key].device)
        return resized(amount(maps[key]), size).where(well[:, None, None], torch.nan)

    def _keep(self, maps: Maps) -> None:
        self.rules = {key: furthest([maps.rule[key], *filter(None, [self.rules.get(key)])]) for key in maps}
        self.notes |= dict.fromkeys(maps.notes)

    def pixels(self, image: Tensor) -> ByteArray:
        """See `Network`."""
        return self.detector.card.preprocessing.pixels_of(image)

    def prepared(self, pixels: ByteArray) -> Tensor:
        """See `Network`."""
        return self.detector.card.preprocessing.normalised(pixels).to(self.detector.device)
