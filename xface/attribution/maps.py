"""The maps of one call, by method and layer, each with its status and rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite

from torch import Tensor

Key = tuple[str, str | None]

RULES = ("partial", "extended", "published")
"""What a map's rule can be, the furthest from the publication first."""


@dataclass(frozen=True)
class Maps(Mapping[Key, Tensor]):
    """Raw float32 maps of N images, by method and layer (None for the methods that work at the input).

    `maps["gradcam", "layer4"]` is (N, h, w), `maps["guided", None]` is (N, C, H, W).
    `status[key]` has `ok`, `zero` or `non_finite` per image; `rule[key]` is `published`, `extended` or
    `partial`; `output` is the network's raw output (N, ...) and `targets` the explained class per image.
    `undefined` has, by method, why its map is not defined; where the methods were named it is empty, as that
    raises.
    `notes` say in sentences what is to be known of these maps.
    """

    tensors: dict[Key, Tensor]
    status: dict[Key, list[str]]
    rule: dict[Key, str]
    output: Tensor
    targets: Tensor
    undefined: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, key: Key) -> Tensor:
        return self.tensors[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __repr__(self) -> str:
        return "\n".join(
            [
                "Maps",
                *(self._line(key) for key in self),
                *(f"  {said}" for said in (*gaps(self.undefined), *self.notes)),
            ]
        )

    def _line(self, key: Key) -> str:
        counts = {s: self.status[key].count(s) for s in dict.fromkeys(self.status[key])}
        place = f"{key[0]} at {key[1]}" if key[1] else key[0]
        return f"  {place}: {tuple(self[key].shape)}, {self.rule[key]}, " + ", ".join(
            f"{count} {status}" for status, count in counts.items()
        )


def furthest(rules: Iterable[str]) -> str:
    """Of several rules, such as those of one map in several batches, the furthest from the publication.

    Example:
        >>> furthest(["published", "partial", "extended"]), furthest([])
        ('partial', 'published')
    """
    return min(rules, key=RULES.index, default="published")


def gaps(undefined: dict[str, str]) -> tuple[str, ...]:
    """Return a sentence for each reason why methods are undefined, from the reasons by method.

    Example:
        >>> gaps({"guided": "no rectifier", "deconvnet": "no rectifier", "gradcam": "no feature map"})
        ('no guided, deconvnet for this network: no rectifier', 'no gradcam for this network: no feature map')
    """
    methods: dict[str, list[str]] = {}
    for method, reason in undefined.items():
        methods.setdefault(reason, []).append(method)
    return tuple(f"no {', '.join(names)} for this network: {reason}" for reason, names in methods.items())


def status_of(tensor: Tensor, explained: list[bool]) -> list[str]:
    """Return `non_finite`, `zero` or `ok` for each map of a batch (N, ...).

    `explained` says which images have a finite score: a map of any other explains nothing, whatever it holds.

    Example:
        >>> import torch
        >>> status_of(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, float("nan")]]), [True] * 3)
        ['zero', 'ok', 'non_finite']
    """
    rest = tuple(range(1, tensor.ndim))
    low, high = tensor.amin(dim=rest), tensor.amax(dim=rest)  # both are NaN where any value is
    return [
        "non_finite" if not (sound and isfinite(a) and isfinite(b)) else "zero" if a == b == 0 else "ok"
        for a, b, sound in zip(low.tolist(), high.tolist(), explained, strict=True)
    ]
