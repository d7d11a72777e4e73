"""What reaches the network is what evaluation sees, and is decided by seed, epoch and index alone."""

import pickle
from collections import Counter
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from xface.data import DataError, FaceDataset, Samples
from xface.data.augmentation import AUGMENTATIONS, RandomCrop, augmentations
from xface.data.dataset import loader
from xface.data.samplers import (
    SAMPLERS,
    BalancedSampler,
    PairSampler,
    ShuffledSampler,
    class_weights,
    matched,
)
from xface.data.self_blending import SelfBlending
from xface.data.views import ReadViews, stored_views
from xface.detectors.crops import BoxCrop, OutlineCrop
from xface.errors import OutputError, UsageError
from xface.images.pictures import read_picture
from xface.preprocessing import PRESETS, Preprocessing

PLAIN = Preprocessing((32, 32))
ALL = augmentations(list(AUGMENTATIONS))


class KnownLandmarks:
    """An ellipse of points in the middle of every picture that isn't dark."""

    def landmarks(self, pixels):
        if pixels.mean() < 64:
            return None
        angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.linspace(0.15, 0.35, 68)[:, None]
        return (ring + 0.5) * pixels.shape[1::-1]


@pytest.fixture
def samples(tmp_path):
    """Twelve pictures of 48x40: six real, each with its fake; those of pair 0 are dark."""
    chance, rows = np.random.default_rng(0), []
    for n in range(6):
        for label, other in (("real", "fake"), ("fake", "real")):
            path = tmp_path / f"{label}{n}.png"
            low, high = (0, 40) if n == 0 else (80, 256)
            Image.fromarray(chance.integers(low, high, (48, 40, 3), dtype=np.uint8)).save(path)
            pair = str(tmp_path / f"{other}{n}.png")
            rows.append({"path": str(path), "label": label, "pair": pair, "group": f"g{n}"})
    return Samples(pd.DataFrame(rows))


def damaged(samples, row):
    with open(samples.paths[row], "wb") as file:
        file.write(b"no picture")


def stream(dataset, workers, epochs=2, batch=4):
    """All tensors, labels and indices of some epochs, in their order."""
    sampler = ShuffledSampler(dataset.samples, seed=1)
    batches, found = loader(dataset, batch, sampler, workers), []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found += list(batches)
    return found


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("name", ["imagenet", "seed", "meso", "inception"])
@pytest.mark.parametrize("cached", [False, True])
def test_without_chance_a_tensor_is_what_evaluation_prepares(samples, tmp_path, name, cached):
    cache = tmp_path / "cache" if cached else None
    dataset = FaceDataset(samples, PRESETS[name], cache=cache)
    for row in (0, 5):
        tensor, label, index = dataset[row]
        assert torch.equal(tensor, PRESETS[name].prepare(read_picture(samples.paths[row])).tensor)
        assert (label, index) == (row % 2 == 0, row)


def test_classes_give_the_label(samples):
    assert [FaceDataset(samples, PLAIN, ("real", "fake"))[row][1] for row in range(4)] == [0, 1, 0, 1]
    with pytest.raises(DataError, match="none of the classes"):
        FaceDataset(samples, PLAIN, ("real", "swap"))
    with pytest.raises(DataError, match="there are no samples"):
        FaceDataset(samples.select([]), PLAIN)


def chancy(samples, **settings):
    return FaceDataset(
        samples, PLAIN, augment=ALL, blending=SelfBlending(0.5), landmarks=KnownLandmarks(), **settings
    )


def test_the_stream_is_the_same_for_any_number_of_workers_and_with_a_cache(samples, tmp_path):
    expected = stream(chancy(samples, seed=7), workers=0)
    assert same(expected, stream(chancy(samples, seed=7), workers=2))
    assert same(expected, stream(chancy(samples, seed=7, cache=tmp_path / "cache", workers=1), workers=1))
    assert same(expected, stream(chancy(samples, seed=7), workers=0))
    assert not same(expected, stream(chancy(samples, seed=8), workers=0))


def test_a_sample_depends_on_its_epoch_and_not_on_what_came_before(samples):
    dataset = chancy(samples)
    first = dataset[3, 5][0]
    torch.manual_seed(99)
    np.random.seed(99)
    dataset[0, 1]
    assert torch.equal(dataset[3, 5][0], first)
    assert not torch.equal(dataset[4, 5][0], first)
    assert torch.equal(dataset[5][0], dataset[0, 5][0])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_unreadable_are_replaced_by_the_next_of_their_class_and_reported_once(samples, workers):
    damaged(samples, 4)  # real
    damaged(samples, 6)  # real, the next
    damaged(samples, 11)  # fake, and the last: the first fake takes its place
    dataset = FaceDataset(samples, PLAIN)
    batches = stream(dataset, workers, epochs=2)
    assert [len(x) for x, *_ in batches] == [4] * 6
    counts = Counter(int(i) for *_, indices in batches for i in indices)
    assert counts == {**dict.fromkeys([0, 2, 3, 5, 7, 9, 10], 2), 8: 6, 1: 4}
    assert all((indices % 2 == 0).eq(labels).all() for _, labels, indices in batches)
    bad = dataset.unreadable()
    assert sorted(bad) == sorted(samples.paths[row] for row in (4, 6, 11))
    assert all("it is not an image" in reason for reason in bad.values())


def test_inspection_finds_all_that_is_unreadable_or_faceless(samples, tmp_path):
    damaged(samples, 4)
    for cache in (None, tmp_path / "cache"):
        dataset = FaceDataset(samples, PLAIN, crop=BoxCrop(), landmarks=KnownLandmarks(), cache=cache)
        dataset.inspect(workers=1)
        assert list(dataset.unreadable()) == [samples.paths[4]]
        assert dataset.faceless() == 2
    without = FaceDataset(samples, PLAIN)
    without.inspect()
    assert without.faceless() == 0


def test_a_class_without_a_readable_picture_is_an_error(samples):
    for row in range(0, 12, 2):
        damaged(samples, row)
    with pytest.raises(DataError, match="no picture of the class real can be read"):
        FaceDataset(samples, PLAIN)[0]


@pytest.mark.parametrize("crop", [OutlineCrop(), BoxCrop(0.0)])
def test_the_crop_comes_before_the_preprocessing_and_the_landmarks_follow(samples, crop):
    dataset = FaceDataset(samples, PLAIN, crop=crop, landmarks=KnownLandmarks())
    pixels = read_picture(samples.paths[2]).pixels
    points = KnownLandmarks().landmarks(pixels)
    cropped, corner = crop(pixels, points)
    assert torch.equal(dataset[2][0], PLAIN.prepare(read_picture(cropped)).tensor)
    assert not torch.equal(dataset[2][0], PLAIN.prepare(read_picture(pixels)).tensor)
    expected = (points - corner + 0.5) * (32 / np.array(cropped.shape[1::-1])) - 0.5
    assert np.allclose(dataset.views.view(2).landmarks, expected)
    assert torch.equal(dataset[0][0], PLAIN.prepare(read_picture(samples.paths[0])).tensor)  # dark: no face


def blends(samples, of, probability, epochs=40):
    dataset = FaceDataset(
        samples, PLAIN, blending=SelfBlending(probability, of), landmarks=KnownLandmarks(), seed=1
    )
    return [dataset.sample(epoch, row) for epoch in range(epochs) for row in range(len(samples))]


def test_self_blending_makes_fakes_of_real_faces_as_often_as_asked(samples):
    made = blends(samples, "real", 0.25)
    blended = [one for one in made if one.mask is not None]
    assert all(one.label == 0 and one.index % 2 == 0 and one.index > 0 for one in blended)  # 0 is dark
    assert 30 < len(blended) < 70  # of 200 real faces with landmarks: 50 expected, 6 the deviation
    assert all(one.label == one.index % 2 ^ 1 for one in made if one.mask is None)
    for one in blended:
        view = PLAIN.prepare(read_picture(samples.paths[one.index])).view
        assert one.mask.shape == (32, 32)
        assert (one.view != view).any()


def test_self_blending_in_place_of_fakes_keeps_the_classes_counts(samples):
    made = blends(samples, "pair", 1.0, epochs=8)
    assert all(one.label == one.index % 2 ^ 1 for one in made)
    blended = [one for one in made if one.mask is not None]
    assert {one.index for one in blended} == {3, 5, 7, 9, 11}
    still = 0
    for one in blended:  # either source or target is the real face itself, the latter outside the mask
        real = PLAIN.prepare(read_picture(samples.paths[one.index - 1])).view
        still += bool((one.view[one.mask == 0] == real[one.mask == 0]).all())
    assert 10 < still < 30


def test_the_mask_moves_with_the_picture(samples):
    settings = {"blending": SelfBlending(1.0), "landmarks": KnownLandmarks()}
    plain = FaceDataset(samples, PLAIN, **settings).sample(0, 2)
    mirrored = FaceDataset(
        samples, PLAIN, augment=augmentations({"flip": {"probability": 1}}), **settings
    ).sample(0, 2)
    assert (mirrored.view == plain.view[:, ::-1]).all()
    assert (mirrored.mask == plain.mask[:, ::-1]).all()


def test_stored_views_are_made_once_and_again_when_something_changes(samples, tmp_path):
    folder = tmp_path / "cache"

    def stored(**settings):
        return stored_views(ReadViews(samples.paths, **{"preprocessing": PLAIN, **settings}), folder).folder

    first = stored()
    assert stored() == first
    assert (
        stored(preprocessing=Preprocessing((32, 32), mean=(0.5,) * 3, colours="BGR")) == first
    )  # comes after
    others = [stored(preprocessing=Preprocessing((32, 24))), stored(crop=BoxCrop(), store=KnownLandmarks())]
    Image.fromarray(np.full((30, 30, 3), 9, np.uint8)).save(samples.paths[0])
    others.append(stored())
    assert len({first, *others}) == 4
    assert {path.name for path in folder.iterdir()} == {path.name for path in (first, *others)}  # no remains


def test_a_cache_that_was_broken_off_is_not_taken(samples, tmp_path, monkeypatch):
    read, real = ReadViews(samples.paths, PLAIN), np.save

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        stored_views(read, tmp_path / "cache")
    monkeypatch.setattr(np, "save", real)
    assert not list((tmp_path / "cache").iterdir())
    assert (stored_views(read, tmp_path / "cache").view(3).pixels == read.view(3).pixels).all()


def test_caches_that_cannot_be(samples, tmp_path):
    with pytest.raises(UsageError, match="give a size, or no cache"):
        FaceDataset(samples, PRESETS["none"], cache=tmp_path / "cache")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="give another path"):
        FaceDataset(samples, PLAIN, cache=tmp_path / "file")


def test_a_dataset_with_a_cache_is_sent_to_a_worker_without_its_pixels(samples, tmp_path):
    dataset = FaceDataset(samples, PLAIN, cache=tmp_path / "cache")
    expected = dataset[3][0]
    views = pickle.dumps(dataset.views)
    assert len(views) < 12 * 68 * 2 * 4 + 4000  # the landmarks, and little more
    assert (pickle.loads(views).view(3).pixels == dataset.views.view(3).pixels).all()
    assert torch.equal(dataset[3][0], expected)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_are_decided_by_seed_and_epoch_and_go_on_where_they_stopped(samples, name):
    sampler = SAMPLERS[name](samples, seed=4)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert len(epochs[-1]) == len(sampler) == 12
        assert {key[0] for key in epochs[-1]} == {epoch}
    orders = [[index for _, index in keys] for keys in epochs]
    assert orders[0] != orders[1] != orders[2]
    again = SAMPLERS[name](samples, seed=4)
    again.set_epoch(2)
    assert list(again) == epochs[2]
    other = SAMPLERS[name](samples, seed=5)
    assert [index for _, index in other] != orders[0]


@pytest.mark.parametrize("name", ["shuffled", "pairs"])
def test_every_sample_comes_once_an_epoch(samples, name):
    assert sorted(SAMPLERS[name](samples).order(3).tolist()) == list(range(12))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("replicas", [2, 5])
def test_processes_share_an_epoch(samples, name, replicas):
    whole = SAMPLERS[name](samples, seed=1)
    parts = [SAMPLERS[name](samples, 1, replicas, rank) for rank in range(replicas)]
    shares = [[index for _, index in part] for part in parts]
    assert len({len(share) for share in shares}) == 1
    assert all(len(part) == len(share) for part, share in zip(parts, shares, strict=True))
    drawn, expected = Counter(chain.from_iterable(shares)), Counter(whole.order(0).tolist())
    assert expected <= drawn
    assert drawn.total() - expected.total() < replicas * whole.block
    if name == "pairs":
        assert all(share[i] // 2 == share[i + 1] // 2 for share in shares for i in range(0, len(share), 2))


def many(labels, pairs=None):
    paths = [f"/{n}" for n in range(len(labels))]
    pair = ["" if p is None else f"/{p}" for p in pairs or [None] * len(labels)]
    return Samples(pd.DataFrame({"path": paths, "label": labels, "pair": pair}))


def test_samples_without_a_counterpart_are_put_together_real_with_fake():
    # 0-1 a pair, 2 names one that isn't there; two fakes of one real face, 8
    labels = ["real", "fake", "real", "real", "fake", "real", "real", "fake", "real", "fake", "fake"]
    faces = many(labels, [1, 0, 99, None, None, None, None, None, 9, 8, 8])
    assert matched(faces).tolist() == [[0, 1], [8, 9], [8, 10]]
    sampler = PairSampler(faces)
    assert len(sampler) == 12
    for epoch in range(5):
        order = sampler.order(epoch)
        assert Counter(order.tolist()) == {**dict.fromkeys(range(11), 1), 8: 2}
        kinds = Counter(tuple(sorted(labels[i] for i in pair)) for pair in order.reshape(-1, 2))
        assert kinds == {("fake", "real"): 5, ("real", "real"): 1}


def test_balanced_sampling_draws_each_class_alike_and_all_of_the_larger_in_time():
    faces = many(["real"] * 90 + ["fake"] * 10)
    sampler, seen = BalancedSampler(faces, seed=0), set()
    for epoch in range(12):
        order = sampler.order(epoch)
        real, fake = Counter(order[order < 90].tolist()), Counter(order[order >= 90].tolist())
        assert (real.total(), fake.total()) == (50, 50)
        assert max(real.values()) == 1
        assert set(fake.values()) == {5}
        seen |= set(real)
    assert len(seen) == 90
    odd = BalancedSampler(many(["real"] * 8 + ["fake"] * 3)).order(0)
    assert abs((odd < 8).sum() - (odd >= 8).sum()) == 1


def test_balance_over_several_columns():
    table = many(["real"] * 40 + ["fake"] * 20).table.assign(
        source=["a"] * 30 + ["b"] * 10 + ["a"] * 5 + ["b"] * 15
    )
    order = BalancedSampler(Samples(table), by=("source", "label")).order(0)
    kinds = Counter(zip(table["source"][order], table["label"][order], strict=True))
    assert set(kinds.values()) == {15}


def test_what_comes_again_in_a_pass_has_a_key_of_its_own():
    sampler = BalancedSampler(many(["real"] * 40 + ["fake"] * 5), seed=1)
    keys = list(sampler)
    assert len(set(keys)) == len(keys) == 45
    assert [index for _, index in keys] == sampler.order(0).tolist()
    assert {epoch for epoch, index in keys if index < 40} == {0}
    halves = [list(BalancedSampler(sampler.samples, seed=1, replicas=2, rank=rank)) for rank in (0, 1)]
    assert [key for pair in zip(*halves, strict=True) for key in pair][:45] == keys


def test_class_weights_are_scikit_learns_balanced_ones():
    from sklearn.utils.class_weight import compute_class_weight

    labels = ["real"] * 7 + ["fake"] * 3
    expected = compute_class_weight("balanced", classes=np.array(["fake", "real"]), y=np.array(labels))
    assert class_weights(many(labels)) == pytest.approx(expected)
    assert class_weights(many(["real"] * 4), ("fake", "real", "swap")).tolist() == [
        0,
        pytest.approx(1 / 3),
        0,
    ]


def test_pairs_are_cropped_and_augmented_alike(samples):
    """A counterpart's copy stays one, whatever is drawn; unpaired, each is changed in its own way."""
    for real, fake in matched(samples):
        Image.open(samples.paths[real]).save(samples.paths[fake])
    changes = {"random_crop": RandomCrop(16), "augment": ALL}
    alike, apart = (FaceDataset(samples, PLAIN, **changes, paired=paired) for paired in (True, False))
    for pair in matched(samples).tolist():
        one, two = (alike[3, row][0] for row in pair)
        assert torch.equal(one, two)
        assert not torch.equal(*(apart[3, row][0] for row in pair))
    assert not torch.equal(alike[3, 2][0], alike[4, 2][0])


def test_several_fakes_of_one_real_face_are_cropped_as_it_is(samples):
    """The real face stands between its fakes."""
    order = [1, 0, 3]
    table = samples.select(order).table.assign(label=["fake", "real", "fake"])
    table["pair"] = [table.path[1], "", table.path[1]]
    for path in table.path[[0, 2]]:
        Image.open(table.path[1]).save(path)
    faces = FaceDataset(Samples(table), PLAIN, random_crop=RandomCrop(16), augment=ALL, paired=True)
    assert torch.equal(faces[3, 0][0], faces[3, 1][0])
    assert torch.equal(faces[3, 2][0], faces[3, 1][0])


def test_a_random_crop_is_a_window_of_the_view(samples):
    whole, cropped = FaceDataset(samples, PLAIN), FaceDataset(samples, PLAIN, random_crop=RandomCrop(20))
    places = set()
    for epoch in range(40):
        view, window = whole.sample(epoch, 3).view, cropped.sample(epoch, 3).view
        assert window.shape == (20, 20, 3)
        found = [
            (top, left)
            for top in range(13)
            for left in range(13)
            if (view[top : top + 20, left : left + 20] == window).all()
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 25
    assert {min(place) for place in zip(*places, strict=True)} <= {0, 1}
    assert {max(place) for place in zip(*places, strict=True)} <= {11, 12}


def test_a_random_crop_scales_by_its_factor_and_takes_the_mask_along():
    ramp = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[None], 100, axis=0)
    crop = RandomCrop(40, (2.0, 2.0))
    pixels, mask = crop(np.stack([ramp] * 3, axis=2), np.random.default_rng(0), ramp.astype(np.float32))
    assert pixels.shape == (40, 40, 3)
    assert np.diff(mask[5, 2:-2]) == pytest.approx(1.0)  # twice as large: half as steep
    assert np.abs(pixels[..., 0] - mask).max() <= 1
    small, _ = RandomCrop(40)(np.zeros((10, 30, 3), np.uint8), np.random.default_rng(0))
    assert small.shape == (40, 40, 3)
    with pytest.raises(UsageError, match="least and the greatest"):
        RandomCrop(40, (2.0, 1.0))


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_of_several_passes_is_so_many_epochs(name, samples):
    one, three = SAMPLERS[name](samples, 5), SAMPLERS[name](samples, 5)
    three.passes = 3
    three.set_epoch(2)
    keys = []
    for epoch in (6, 7, 8):
        one.set_epoch(epoch)
        keys += list(one)
    assert len(three) == len(keys)
    assert list(three) == keys
