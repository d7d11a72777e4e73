"""Which reading of a layer's output is right, found by an experiment.

The network is shown two textures, and pictures that hold one in some bands and the other elsewhere. In a
right reading each position answers to the texture that covers it: networks with global mixing answer
everywhere, but most strongly there. With d1 and d2 the L1 distances of a position's features to those that
the two textures give there, its answer is (d2 - d1) / (d1 + d2), from -1 to 1. A reading's score is the
correlation of answer and cover over the positions. A reading is right if it scores 0.5 or more both across
and down for halves of the picture, and 0.1 more than any other for halves and quarters taken together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from threading import get_ident
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xface.errors import AttributionError
from xface.feature_maps.grids import Grid, Side, as_images, check_shape, readings

LEAST_SCORE, LEAST_MARGIN = 0.5, 0.1
BANDS = (2, 4)  # halves, then quarters, across and down
GAPS = (1 / 8, 1 / 4, 3 / 8, 1 / 2)  # of a side, which padding at one end may take


def layouts(
    model: nn.Module, outputs: Mapping[str, Tensor], certain: AbstractSet[str], images: Tensor
) -> dict[str, Grid]:
    """Return how the outputs of layers are read; `certain` are those that surely lie as (N, K, h, w).

    What was found is remembered for as long as the network lives; only what is new and uncertain costs an
    experiment. Raises AttributionError for a layer of which no reading is right.
    """
    known = {name: _remembered(model, name, images) for name in outputs}
    fits = {n: grid for n, grid in known.items() if grid and grid.read(outputs[n]).shape[1:] == grid.shape}
    uncertain = [name for name in outputs if name not in certain and name not in fits]
    found = experiment(model, uncertain, images) if uncertain else {}
    for reading in found.values():
        if isinstance(reading, AttributionError):
            raise reading
    read = {name: reading for name, reading in found.items() if isinstance(reading, Grid)}
    grids = {name: fits.get(name) or read.get(name) or as_images(output) for name, output in outputs.items()}
    for name, grid in grids.items():
        _layouts.setdefault(model, {})[name, tuple(images.shape[1:])] = grid
    return grids


_layouts: WeakKeyDictionary[nn.Module, dict[tuple[str, tuple[int, ...]], Grid]] = WeakKeyDictionary()
"""By network, as a layer that two networks share may lie differently in each."""


def _remembered(model: nn.Module, layer: str, images: Tensor) -> Grid | None:
    return _layouts.get(model, {}).get((layer, tuple(images.shape[1:])))


def is_known(model: nn.Module, layers: Iterable[str], images: Tensor) -> bool:
    """Whether the layouts of these layers, for images (N, C, H, W) of this size, were found before."""
    return all(_remembered(model, name, images) is not None for name in layers)


def module_at(model: nn.Module, name: str) -> nn.Module | None:
    """Return the module of a dotted name, scripted ones too; None where there is none.

    Example:
        >>> module_at(nn.Sequential(nn.ReLU()), "0"), module_at(nn.ReLU(), "inplace")
        (ReLU(), None)
    """
    found: Any = model
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, nn.Module) else None


def experiment(model: nn.Module, layers: Iterable[str], images: Tensor) -> dict[str, Grid | AttributionError]:
    """Return how each layer's output is read, or why it can't be, for images like these (N, C, H, W).

    A forward pass of the network with textures that differ in light, in the mode that it is in, and one with
    textures of opposite colours for the layers that no reading fits: a deep network may forget the light. Of
    `images` only the shape, device and dtype are used.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Flatten(2))
        >>> experiment(net, ["1"], torch.rand(1, 3, 16, 24))
        {'1': Grid(shape=(8, 4, 6), axes=(1, 2), start=0, turned=False)}
    """
    found: dict[str, Grid | AttributionError] = {}
    for textures in (_in_light(images), _in_colour(images)):
        undecided = [name for name in layers if not isinstance(found.get(name), Grid)]
        if undecided:
            found |= _tried(model, undecided, _pictures(images, *textures))
    return found


def _tried(model: nn.Module, layers: Iterable[str], textures: Tensor) -> dict[str, Grid | AttributionError]:
    found: dict[str, Grid | AttributionError] = {}
    modules, size = dict(model.named_modules(remove_duplicate=False)), textures.shape[2:]
    thread = get_ident()

    def record(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if get_ident() != thread:
            return
        try:
            found[name] = _decided(name, _detached(output), len(textures), (size[0], size[1]))
        except AttributionError as error:
            found[name] = error

    handles = [modules[name].register_forward_hook(partial(record, name)) for name in layers]
    try:
        with torch.enable_grad():  # a forward pass may register hooks on gradients
            model(textures.requires_grad_().clone())
    finally:
        for handle in handles:
            handle.remove()
    return found


def _detached(output: object) -> object:
    return output.detach() if isinstance(output, Tensor) else output


def _in_light(images: Tensor) -> tuple[Tensor, Tensor]:
    """Noise between 0.5 and 1, and between 0 and 0.5."""
    one, other = _noise(images)
    return 0.5 + 0.5 * one, 0.5 * other


def _in_colour(images: Tensor) -> tuple[Tensor, Tensor]:
    """Noise of a sign that alternates over channels, and of the opposite signs, strong."""
    channels = images.shape[1]
    signs = torch.tensor([3.0, -3.0]).repeat(channels)[:channels, None, None]
    one, other = _noise(images)
    return signs * (0.5 + 0.5 * one), -signs * (0.5 + 0.5 * other)


def _noise(images: Tensor) -> Tensor:
    return torch.rand(2, 1, *images.shape[1:], generator=torch.Generator().manual_seed(0))


def _pictures(images: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Two textures, and for each pattern the first where it is 1, the second elsewhere.

    There are more or fewer than `images`, so that no other side of an output passes for that of the images.
    """
    mixed = torch.where(_patterns(images.shape[2], images.shape[3])[:, None] > 0, one, other)
    spare = [one] if len(mixed) + 2 == len(images) else []
    return torch.cat([one, other, mixed, *spare]).to(images.device, images.dtype)


def _patterns(height: int, width: int) -> Tensor:
    """Bands of 1 and -1 (4, H, W): halves and quarters across, then halves and quarters down."""
    across, down = (
        torch.stack([(places * bands).floor() % 2 * 2 - 1 for bands in BANDS])
        for places in ((torch.arange(side) + 0.5) / side for side in (width, height))
    )
    return torch.cat([across[:, None].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)])


def _decided(name: str, output: object, count: int, size: Side) -> Grid:
    check_shape(name, output, count)
    assert isinstance(output, Tensor)
    if output.ndim == 4 and output.shape[2:] == (1, 1):
        return as_images(output)  # a single cell, which lies where it lies
    ways = readings(tuple(output.shape), size)
    scores = torch.stack([_scores(grid.read(output), size) for grid in ways]) if ways else torch.zeros(0, 4)
    halves, totals = scores[:, ::2].amin(dim=1), scores.mean(dim=1)
    order = torch.where(halves >= LEAST_SCORE, totals, -1).argsort(descending=True, stable=True)
    best = int(order[0]) if len(order) else None
    if best is None or halves[best] < LEAST_SCORE:
        told = f"the best reading scores {float(halves.max()):.2f}" if len(order) else "no grid has its sides"
        reason = f"its positions don't follow the picture's ({told})"
    elif (rivals := totals[order[1:]]).numel() and totals[best] - rivals.max() < LEAST_MARGIN:
        reason = f"two readings fit alike ({float(totals[best]):.2f} and {float(rivals.max()):.2f})"
    elif _is_moved(ways[best].read(output)):
        reason = "its positions follow those of a picture that is moved to one side (padded there?)"
    else:
        return ways[best]
    raise AttributionError(
        f"layer {name!r} gives {tuple(output.shape)}, whose layout as a feature map is not clear "
        f"(N, K, h, w): {reason}; choose the block around it"
    )


def _scores(maps: Tensor, size: Side) -> Tensor:
    """Return the correlation of answer and cover by pattern, (4,): 0 where either is the same everywhere."""
    rows, columns = maps.shape[2:]
    answer = _answer(maps)
    scores = _correlation(answer, F.adaptive_avg_pool2d(_patterns(*size), (rows, columns)).to(answer))
    across, down = scores[: len(BANDS)], scores[len(BANDS) :]
    # Along a side of one cell there is nothing to tell: the other side decides.
    return torch.cat([down if columns == 1 else across, across if rows == 1 else down])


def _answer(maps: Tensor) -> Tensor:
    """How much more the positions of each pattern's maps are like the first texture's, (4, h, w)."""
    one, other, mixed = maps[0:1], maps[1:2], maps[2 : 2 + 2 * len(BANDS)]
    to_one, to_other = ((mixed - pure).abs().sum(dim=1, dtype=torch.float32) for pure in (one, other))
    return (to_other - to_one) / (to_one + to_other).clamp(min=1e-30)


def _correlation(answer: Tensor, cover: Tensor) -> Tensor:
    """Of each of the maps (..., h, w)."""
    answer, cover = ((v - v.mean(dim=(-2, -1), keepdim=True)).flatten(-2) for v in (answer, cover))
    norms = answer.norm(dim=-1) * cover.norm(dim=-1)
    return torch.where(norms > 1e-6, (answer * cover).sum(dim=-1) / norms, 0).nan_to_num(0).cpu()


def _is_moved(maps: Tensor) -> bool:
    """Whether maps answer better to a picture that is moved to one side, of rows or of columns.

    So they do where a network pads a picture at one side alone, by its edge for instance.
    """
    answer = _answer(maps)
    for turned, each in ((False, answer[: len(BANDS)]), (True, answer[len(BANDS) :])):
        places = _places(each.shape[-2 if turned else -1]).to(answer)
        covers = places[:, :, :, None] if turned else places[:, :, None, :]
        totals = _correlation(each.expand(len(covers), -1, -1, -1), covers.expand(-1, *each.shape)).mean(1)
        usual, one_end, other_end = totals[0], *totals[1:].reshape(2, -1).amax(dim=1)
        better, worse = max(one_end, other_end), min(one_end, other_end)  # alike where the borders differ
        if better - max(usual, worse) >= LEAST_MARGIN:
            return True
    return False


def _places(cells: int) -> Tensor:
    """The bands along a side of so many cells, (places, 2, cells): over all of it, then moved to one end.

    Beyond the picture's end they go on as they are there.
    """
    within = (torch.arange(8 * cells) + 0.5) / (8 * cells)
    ends = [(0.0, 1.0), *((0.0, 1 - gap) for gap in GAPS), *((gap, 1.0) for gap in GAPS)]
    places = [((within - start) / (end - start)).clamp(0, 0.999) for start, end in ends]
    bands = torch.stack([torch.stack([(p * count).floor() % 2 * 2 - 1 for count in BANDS]) for p in places])
    return bands.reshape(*bands.shape[:2], cells, 8).mean(dim=-1)
