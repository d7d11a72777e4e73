"""Samplers: in which order an epoch visits the samples, decided by seed and epoch alone."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch.utils.data import Sampler

from xface.data.labelled_pictures import Samples
from xface.data.labels import CLASSES
from xface.registry import Registry

Indices = NDArray[np.int64]
Key = tuple[int, int]
"""(epoch, index of the sample): what a sampler gives and `FaceDataset` takes."""
REPEATED = 2**32
"""What is added to the epoch of a sample that comes again in it: more than there are epochs."""


class EpochSampler(Sampler[Key]):
    """An order of the samples for each epoch; gives (epoch, index) keys.

    The epoch travels with the index, so that workers that live through all epochs augment by the right one.
    `set_epoch` is called before each epoch (Lightning does so itself). Of several processes, each takes every
    `replicas`-th block from the `rank`-th on; for equal lengths the first blocks come again at the end.

    An epoch can be several `passes` through the samples, each with an order and a key of its own.

    A sampler of one's own gives `order(epoch)`: the indices of one pass, (n,), of which `block` consecutive
    ones stay together.
    """

    block = 1
    passes = 1

    def __init__(self, samples: Samples, seed: int = 0, replicas: int = 1, rank: int = 0) -> None:
        self.samples, self.seed, self.replicas, self.rank = samples, seed, replicas, rank
        self.epoch = 0

    @abstractmethod
    def order(self, epoch: int) -> Indices:
        """The indices of one pass over all processes, (n,), decided by seed and the pass's number."""

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def rng(self, epoch: int) -> np.random.Generator:
        """The random numbers of an epoch."""
        return np.random.default_rng((self.seed, epoch))

    def __len__(self) -> int:
        return self.passes * len(self._share(np.arange(self.size)))

    @property
    def size(self) -> int:
        """The number of indices in a pass over all processes."""
        return len(self.samples)

    def __iter__(self) -> Iterator[Key]:
        for number in range(self.epoch * self.passes, (self.epoch + 1) * self.passes):
            yield from self._keys(number)

    def _keys(self, number: int) -> list[Key]:
        return [(number, int(index)) for index in self._share(self.order(number))]

    def _share(self, order: Indices) -> Indices:
        if self.replicas == 1:
            return order
        step = self.block * self.replicas
        full = np.resize(order, -(-len(order) // step) * step)
        return full.reshape(-1, self.replicas, self.block)[:, self.rank].reshape(-1)


class ShuffledSampler(EpochSampler):
    """Every sample once an epoch, in random order.

    Example:
        >>> import pandas as pd
        >>> four = Samples(pd.DataFrame({"path": list("abcd"), "label": ["real"] * 4}))
        >>> sorted(ShuffledSampler(four))
        [(0, 0), (0, 1), (0, 2), (0, 3)]
    """

    def order(self, epoch: int) -> Indices:
        """A permutation, (N,)."""
        return self.rng(epoch).permutation(len(self.samples))


class BalancedSampler(EpochSampler):
    """As many samples of each class an epoch, to within one, and as many in all as there are.

    Of the larger classes a different part is left out each epoch; those of the smaller come as often as
    needed, to within one, augmented otherwise each time. `by` names the columns whose combinations are
    balanced; a combination that no sample has is left out.

    Example:
        >>> import pandas as pd
        >>> five = Samples(pd.DataFrame({"path": list("abcde"), "label": ["real"] * 4 + ["fake"]}))
        >>> sum(index == 4 for _, index in BalancedSampler(five)) in (2, 3)
        True
    """

    def __init__(
        self,
        samples: Samples,
        seed: int = 0,
        replicas: int = 1,
        rank: int = 0,
        by: Sequence[str] = ("label",),
    ) -> None:
        super().__init__(samples, seed, replicas, rank)
        kinds: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for row, kind in enumerate(zip(*(samples.column(name) for name in by), strict=True)):
            kinds[kind].append(row)
        self._kinds = [np.array(rows, np.int64) for _, rows in sorted(kinds.items())]

    def order(self, epoch: int) -> Indices:
        """Indices, (N,), in random order."""
        rng, whole = self.rng(epoch), len(self.samples)
        counts = np.full(len(self._kinds), whole // len(self._kinds))
        counts[rng.permutation(len(counts))[: whole % len(counts)]] += 1
        drawn = [_rounds(rows, int(n), rng) for rows, n in zip(self._kinds, counts, strict=True)]
        return rng.permutation(np.concatenate(drawn))

    def _keys(self, number: int) -> list[Key]:
        order = self.order(number)
        again = pd.Series(order).groupby(order).cumcount() * REPEATED + number
        return [(int(again[place]), int(order[place])) for place in self._share(np.arange(len(order)))]


class PairSampler(EpochSampler):
    """A real face and the fake made from it, one after the other: in one batch if its size is even.

    Pairs are those of the column `pair`; a real face with several fakes comes once with each. Samples whose
    counterpart isn't there are put together at random, a real with a fake as long as there are both, so that
    all batches are as balanced as they can be. Every sample comes at least once an epoch.

    Example:
        >>> import pandas as pd
        >>> table = {"path": ["/r", "/f"], "label": ["real", "fake"], "pair": ["/f", "/r"]}
        >>> sorted(PairSampler(Samples(pd.DataFrame(table))))
        [(0, 0), (0, 1)]
    """

    block = 2

    def __init__(self, samples: Samples, seed: int = 0, replicas: int = 1, rank: int = 0) -> None:
        super().__init__(samples, seed, replicas, rank)
        self.pairs = matched(samples)
        alone = np.setdiff1d(np.arange(len(samples)), self.pairs)
        labels = np.array(samples.labels, dtype=object)[alone]
        self._alone = [alone[labels == name] for name in sorted(set(labels))]

    @property
    def size(self) -> int:
        """The number of indices in a pass over all processes."""
        return self.pairs.size + sum(map(len, self._alone))

    def order(self, epoch: int) -> Indices:
        """Pairs in random order, each in random order itself; an odd sample comes last, (n,)."""
        rng = self.rng(epoch)
        spare = _interleaved([rng.permutation(rows) for rows in self._alone])
        odd = spare[len(spare) // 2 * 2 :]
        pairs = np.concatenate([self.pairs, spare[: len(spare) // 2 * 2].reshape(-1, 2)])
        return np.concatenate([rng.permuted(rng.permutation(pairs), axis=1).reshape(-1), odd])


SAMPLERS: Registry[type[EpochSampler]] = Registry("sampler")
SAMPLERS.add("shuffled", ShuffledSampler)
SAMPLERS.add("balanced", BalancedSampler)
SAMPLERS.add("pairs", PairSampler)


def matched(samples: Samples) -> Indices:
    """The index of each sample and of the one that its `pair` names, of another class, (P, 2).

    Two samples that name each other are one pair.
    """
    rows = {path: row for row, path in enumerate(samples.paths)}
    labels, found = samples.labels, dict[tuple[int, int], None]()
    for row, pair in enumerate(samples.column("pair")):
        other = rows.get(pair)
        if other is not None and labels[other] != labels[row]:
            found[min(row, other), max(row, other)] = None
    return np.array(list(found), np.int64).reshape(-1, 2)


def class_weights(samples: Samples, classes: Sequence[str] = CLASSES) -> NDArray[np.float32]:
    """The weight of each class in a loss that makes up for unequal numbers: N / (K n_k), 0 if it has none.

    Example:
        >>> import pandas as pd
        >>> five = Samples(pd.DataFrame({"path": list("abcde"), "label": ["real"] * 4 + ["fake"]}))
        >>> class_weights(five).tolist()
        [2.5, 0.625]
    """
    counts = np.bincount(samples.label_indices(classes), minlength=len(classes))
    weights = len(samples) / (len(classes) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype(np.float32)


def _rounds(rows: Indices, count: int, rng: np.random.Generator) -> Indices:
    """`count` of the rows: all of them as often as fits, and some of them once more."""
    rounds = [rng.permutation(rows) for _ in range(-(-count // len(rows)))]
    return np.concatenate([rows[:0], *rounds])[:count]


def _interleaved(kinds: Sequence[Indices]) -> Indices:
    """One of each kind in turn, as long as there are two kinds left; then what remains."""
    places = [np.arange(len(rows)) * len(kinds) + place for place, rows in enumerate(kinds)]
    if not kinds:
        return np.empty(0, np.int64)
    return np.concatenate(kinds)[np.argsort(np.concatenate(places), kind="stable")]
