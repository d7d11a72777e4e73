"""Keras' files: published weights and scores, every layout against NumPy, hostile and damaged ones."""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xface.detectors.checkpoints.keras import MAX_BYTES, MAX_ENTRIES, read_keras
from xface.errors import CheckpointError
from xface.images.pictures import read_picture
from xface.networks.meso import Meso4, MesoInception4
from xface.preprocessing import PRESETS

Array = NDArray[np.float32]
Layer = dict[str, Array]
Network = dict[str, list[Layer]]  # by kind, in the order in which Keras makes the layers

KERNELS = {
    "meso4": [(3, 3, 8), (5, 8, 8), (5, 8, 16), (5, 16, 16)],
    "inception": [
        (1, 3, 1), (1, 3, 4), (3, 4, 4), (1, 3, 4), (3, 4, 4), (1, 3, 2), (3, 2, 2),
        (1, 11, 2), (1, 11, 4), (3, 4, 4), (1, 11, 4), (3, 4, 4), (1, 11, 2), (3, 2, 2),
        (5, 12, 16), (5, 16, 16),
    ],
}  # fmt: skip
NORMS = {"meso4": (8, 8, 16, 16), "inception": (11, 12, 16, 16)}
MODELS: dict[str, Any] = {"meso4": Meso4, "inception": MesoInception4}
VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel", "bias"),
}


def drawn(name: str, units: int = 1, seed: int = 0) -> Network:
    """Random weights as Keras lays them out."""
    rng = np.random.default_rng(seed)

    def kernel(*shape: int) -> Layer:
        spread = np.sqrt(2 / np.prod(shape[:-1]))
        weights, bias = rng.normal(0, spread, shape), rng.normal(0, 0.2, shape[-1])
        return {"kernel": weights.astype(np.float32), "bias": bias.astype(np.float32)}

    def norm(width: int) -> Layer:
        ranges = {"gamma": (0.7, 1.3), "beta": (-1, 1), "moving_mean": (-1, 1), "moving_variance": (0.5, 2)}
        return {key: rng.uniform(*ends, width).astype(np.float32) for key, ends in ranges.items()}

    return {
        "conv2d": [kernel(side, side, before, after) for side, before, after in KERNELS[name]],
        "batch_normalization": [norm(width) for width in NORMS[name]],
        "dense": [kernel(1024, 16), kernel(16, units)],
    }


def convolved(x: Array, layer: Layer, dilation: int = 1) -> Array:
    """(H, W, C) maps, zeros around them, one product for each place of the kernel; rectified."""
    kernel = layer["kernel"].astype(np.float64)
    reach = dilation * (len(kernel) // 2)
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)))
    out = np.zeros((*x.shape[:2], kernel.shape[-1])) + layer["bias"]
    for i, j in np.ndindex(kernel.shape[:2]):
        top, left = i * dilation, j * dilation
        out += padded[top : top + x.shape[0], left : left + x.shape[1]] @ kernel[i, j]
    return np.maximum(out, 0)


def scores(name: str, network: Network, image: Array) -> Array:
    """The output before the sigmoid for one (256, 256, 3) image, channels last as in Keras."""
    convolutions, x = iter(network["conv2d"]), image.astype(np.float64)
    for block, norm in enumerate(network["batch_normalization"]):
        if name == "inception" and block < 2:
            branches = [convolved(x, next(convolutions))]
            for dilation in (1, 2, 3):
                reduced = convolved(x, next(convolutions))
                branches.append(convolved(reduced, next(convolutions), dilation))
            x = np.concatenate(branches, axis=-1)
        else:
            x = convolved(x, next(convolutions))
        gamma, beta, mean, variance = (values.astype(np.float64) for values in norm.values())
        x = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        pool = 4 if block == 3 else 2
        x = x.reshape(x.shape[0] // pool, pool, x.shape[1] // pool, pool, -1).max(axis=(1, 3))
    hidden, head = network["dense"]
    y = x.reshape(-1) @ hidden["kernel"] + hidden["bias"]
    y = np.where(y > 0, y, 0.1 * y)
    return y @ head["kernel"] + head["bias"]


def numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def write_keras2(path: Path, network: Network, first: int = 1, inside: str = "") -> Path:
    """`save_weights` of Keras 2, whose names begin at any number; `inside` a group as `model.save` does."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.1.5"
        file.create_group(f"{inside}/dropout_1")
        for kind, layers in network.items():
            for number, layer in enumerate(layers, start=first):
                name = numbered(kind, number)
                for variable, values in layer.items():
                    file[f"{inside}/{name}/{name}/{variable}:0"] = values
    return path


def write_model(path: Path, network: Network) -> Path:
    """`model.save`: with a configuration, the optimizer's state and layers that are a model of their own."""
    write_keras2(path, network, first=0, inside="model_weights/model_1")
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = '{"class_name": "Lambda", "config": {"function": "no code at all"}}'
        file["optimizer_weights/Adam/conv2d/kernel/m:0"] = np.zeros((9, 9), np.float32)
        file["optimizer_weights/Adam/iter:0"] = np.int64(7)
    return path


def write_keras3(path: Path, network: Network) -> Path:
    """`.weights.h5` of Keras 3, which numbers layers by depth: as keras 3.15.1 does with these networks."""
    deepest_first = [*"bdfaceg", *"ikmhjln", *"op"] if len(network["conv2d"]) == 16 else [*"abcd"]
    by_depth = [network["conv2d"][ord(letter) - ord("a")] for letter in deepest_first]
    with h5py.File(path, "w") as file:
        file.create_group("vars")
        file["optimizer/vars/0"] = np.int64(7)
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
        for kind, layers in {**network, "conv2d": by_depth}.items():
            for number, layer in enumerate(layers):
                for index, variable in enumerate(VARIABLES[kind]):
                    file[f"layers/{numbered(kind, number)}/vars/{index}"] = layer[variable]
    return path


LAYOUTS: dict[str, Callable[[Path, Network], Path]] = {
    "weights": write_keras2,
    "weights from 0": lambda path, network: write_keras2(path, network, first=0),
    "weights from 8": lambda path, network: write_keras2(path, network, first=8),  # 10 sorts before 9
    "model": write_model,
    "keras 3": write_keras3,
}


@pytest.mark.parametrize(
    ("layout", "name", "units"),
    [*((layout, name, 1) for layout in LAYOUTS for name in MODELS), ("weights", "meso4", 2)],
)
def test_each_layout_gives_the_scores_of_channels_last(
    layout: str, name: str, units: int, tmp_path: Path
) -> None:
    network = drawn(name, units)
    model = MODELS[name](units)
    model.load_state_dict(read_keras(LAYOUTS[layout](tmp_path / "a.h5", network)))
    images = np.random.default_rng(1).random((1, 256, 256, 3)).astype(np.float32)
    with torch.no_grad():
        found = model.double().eval()(torch.from_numpy(images).permute(0, 3, 1, 2).double())
    expected = [scores(name, network, image) for image in images]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_precisions_and_byte_orders_stay_exact(tmp_path: Path) -> None:
    network = drawn("meso4")
    plain = read_keras(write_keras2(tmp_path / "a.h5", network))
    for dtype in (">f4", "<f8", ">f8"):
        other = {
            kind: [{k: v.astype(dtype) for k, v in layer.items()} for layer in layers]
            for kind, layers in network.items()
        }
        found = read_keras(write_keras2(tmp_path / "b.h5", other))
        assert all(torch.equal(found[name].float(), tensor) for name, tensor in plain.items())


@pytest.mark.parametrize(
    ("file", "network", "published"),
    [
        ("Meso4_DF.h5", Meso4, {"df00204": 0.052, "df01254": 0.020, "real00240": 0.990, "real00772": 0.997}),
        ("MesoInception_DF.h5", MesoInception4, None),
    ],
)
def test_the_authors_weights_on_the_authors_faces(
    file: str, network: Any, published: dict[str, float] | None, shared_data: Path
) -> None:
    """Published as the probability of a real face, for RGB resized bilinearly to 256 x 256, over 255."""
    folder = shared_data / "mesonet"
    model = network(1).eval()
    model.load_state_dict(read_keras(folder / file))
    faces = {path.stem: path for path in sorted(folder.glob("test_images/*/*.jpg"))}
    with torch.no_grad():
        found = {
            name: float(torch.sigmoid(model(PRESETS["meso"].prepare(read_picture(path)).tensor[None])))
            for name, path in faces.items()
        }
    if published:
        assert found == pytest.approx(published, abs=0.005)
    assert len(found) == 4
    assert all((p > 0.9) == name.startswith("real") and (p > 0.9 or p < 0.1) for name, p in found.items())


KERNEL = "conv2d_1/conv2d_1/kernel:0"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_keras2(tmp_path / "a.h5", drawn("meso4"))


def reason(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_keras(path)
    assert path.name in str(caught.value)
    return str(caught.value)


def replace(path: Path, name: str, value: Any) -> Path:
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value
    return path


def whole_copy(weights: Path) -> Path:
    """A file beside it with all the weights: whoever follows a link there succeeds."""
    return write_keras2(weights.with_name("elsewhere.h5"), drawn("meso4"))


@pytest.mark.parametrize("name", [KERNEL, "conv2d_1", "flatten_1"])
def test_links_to_other_files_are_never_followed(name: str, weights: Path) -> None:
    link = h5py.ExternalLink(str(whole_copy(weights)), name)
    assert f"{name} is a link to elsewhere" in reason(replace(weights, name, link))


def test_soft_links_are_never_followed(weights: Path) -> None:
    with h5py.File(weights, "a") as file:
        file.move(KERNEL, "optimizer/kernel")
        file[KERNEL] = h5py.SoftLink("/optimizer/kernel")
    assert f"{KERNEL} is a link to elsewhere" in reason(weights)
    assert "flatten_1 is a link" in reason(replace(weights, "flatten_1", h5py.SoftLink("/flatten_1")))


def test_a_name_with_a_slash_leads_nowhere(weights: Path) -> None:
    """Looked up as a path, it would lead through a link that is skipped under its own name."""
    replace(weights, "conv2d_1", None)
    replace(weights, "optimizer", h5py.ExternalLink(str(whole_copy(weights)), "/"))
    with h5py.File(weights, "a") as file:
        file.create_group("model_1/-optimizer-conv2d_1")
    content = weights.read_bytes()
    assert content.count(b"-optimizer-conv2d_1\0") == 1
    weights.write_bytes(content.replace(b"-optimizer-conv2d_1\0", b"/optimizer/conv2d_1\0"))
    assert "model_1//optimizer/conv2d_1 is a link to elsewhere" in reason(weights)


@pytest.mark.parametrize("loops", [1, 3])
def test_groups_within_themselves(loops: int, weights: Path) -> None:
    with h5py.File(weights, "a") as file:
        group = file.create_group("flatten_1")
        for loop in range(loops):
            group[str(loop)] = group
    assert "too many groups, or too deep ones" in reason(weights)


def test_one_group_under_very_many_names(weights: Path) -> None:
    with h5py.File(weights, "a") as file:
        group = file.create_group("flatten_1")
        for number in range(MAX_ENTRIES):
            file[f"flatten_{number + 2}"] = group
    assert "too many groups, or too deep ones" in reason(weights)


def test_virtual_datasets_are_never_assembled(weights: Path) -> None:
    source = h5py.VirtualSource(str(whole_copy(weights)), KERNEL, (3, 3, 3, 8))
    layout = h5py.VirtualLayout((3, 3, 3, 8), np.float32)
    layout[...] = source
    replace(weights, KERNEL, None)
    with h5py.File(weights, "a") as file:
        file.create_virtual_dataset(KERNEL, layout)
    assert f"{KERNEL} is virtual" in reason(weights)


def test_arrays_in_other_files_are_never_read(weights: Path) -> None:
    raw = weights.with_name("raw")
    raw.write_bytes(np.ones(216, np.float32).tobytes())
    replace(weights, KERNEL, None)
    with h5py.File(weights, "a") as file:
        file.create_dataset(KERNEL, (3, 3, 3, 8), np.float32, external=[(str(raw), 0, 864)])
    assert f"{KERNEL} lies in another file" in reason(weights)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"shape": (1 << 40, 16), "chunks": (1024, 16)}, "in chunks"),
        ({"shape": (3, 3, 3, 8), "maxshape": (None,) * 4, "chunks": (512, 512, 64, 32)}, "in chunks"),
        ({"data": np.zeros((3, 3, 3, 8), np.float32), "compression": "gzip"}, "compressed"),
        ({"shape": (1 << 40, 16)}, "is not wholly in the file"),
        ({"shape": (3, 3, 3, 8)}, "is not wholly in the file"),  # declared, never written
        ({"data": h5py.Empty(np.float32)}, "is not wholly in the file"),
        ({"data": np.float32(3)}, "is a single number instead of 3x3x3x8"),
        ({"shape": (3, 3, 3, 8), "dtype": np.int64}, "holds int64"),
        ({"data": "words"}, "holds object"),
    ],
)
def test_arrays_that_no_keras_writes(options: dict[str, Any], told: str, weights: Path) -> None:
    replace(weights, KERNEL, None)
    with h5py.File(weights, "a") as file:
        file.create_dataset(KERNEL, **{"dtype": np.float32, **options} if "shape" in options else options)
    assert told in (message := reason(weights))
    assert "conv2d_1/kernel" in message.replace("conv2d_1/conv2d_1", "conv2d_1")


def test_a_list_without_end_is_not_followed(weights: Path) -> None:
    """HDF5 2.0 itself follows a group's free blocks in a circle until the memory is full."""
    content = bytearray(weights.read_bytes())
    for heap in (at for at in range(0, len(content), 8) if content[at : at + 4] == b"HEAP"):
        block, data = (int.from_bytes(content[heap + at : heap + at + 8], "little") for at in (16, 24))
        if block != 1:
            content[data + block : data + block + 8] = block.to_bytes(8, "little")
    weights.write_bytes(content)
    assert "never ends" in reason(weights)


def test_other_networks_and_missing_layers(weights: Path) -> None:
    without = replace(weights, "conv2d_3", None)
    assert "its layers are 3 conv2d, 4 batch_normalization, 2 dense; Meso-4 has 4" in reason(without)
    assert "gru_1/gru_1/kernel:0 is not a weight" in reason(replace(weights, "gru_1/gru_1/kernel:0", [1.0]))


def test_empty_files(tmp_path: Path) -> None:
    h5py.File(tmp_path / "a.h5", "w").close()
    assert "its layers are 0 conv2d" in reason(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(b"")
    assert "no HDF5 file" in reason(tmp_path / "b.h5")


def test_what_does_not_fit_is_named_with_its_shape(weights: Path) -> None:
    replace(weights, "dense_2/dense_2/bias:0", None)
    replace(weights, "dense_1/dense_1/kernel:0", np.zeros((256, 16), np.float32))
    message = reason(weights)
    assert "dense_1/kernel is 256x16 instead of 1024x16" in message
    assert "dense_2/bias is missing" in message
    assert "conv2d" not in message.split(";")[1]


def test_a_head_of_no_unit(weights: Path) -> None:
    replace(weights, "dense_2/dense_2/kernel:0", np.zeros((16, 0), np.float32))
    assert "dense_2/kernel is 16x0 instead of 16x1" in reason(weights)


def test_weights_that_come_twice(weights: Path) -> None:
    again = replace(weights, "model_2/conv2d_1/kernel:0", np.zeros((3, 3, 3, 8), np.float32))
    assert "conv2d_1/kernel more than once" in reason(again)


def test_files_too_large_are_not_opened(tmp_path: Path) -> None:
    with open(tmp_path / "a.h5", "wb") as file:
        file.write(b"\x89HDF\r\n\x1a\n")
        file.truncate(MAX_BYTES + 1)  # sparse
    assert "larger than 64 MiB" in reason(tmp_path / "a.h5")


def test_newer_layouts_of_hdf5_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["conv2d/kernel:0"] = [1.0]
    assert "no HDF5 file as Keras writes it" in reason(tmp_path / "a.h5")


def test_cut_short_anywhere(weights: Path) -> None:
    content = weights.read_bytes()
    for length in np.linspace(0, len(content) - 1, 40).astype(int):
        weights.write_bytes(content[:length])
        reason(weights)


def test_changed_anywhere(weights: Path) -> None:
    """Each of 200 changed files is read or refused, nothing between; the changes hit what is no weight."""
    content, generator = weights.read_bytes(), random.Random(7)
    with h5py.File(weights) as file:
        datasets = []
        file.visititems(lambda _, entry: datasets.append(entry) if isinstance(entry, h5py.Dataset) else None)
        held = [range(d.id.get_offset(), d.id.get_offset() + d.nbytes) for d in datasets]
    places = [at for at in range(0, len(content), 3) if content[at] and not any(at in part for part in held)]
    outcomes = []
    for _ in range(200):
        changed = bytearray(content)
        for at in generator.choices(places, k=generator.choice((1, 2, 20))):
            changed[at] = generator.randrange(256)
        weights.write_bytes(changed)
        with suppress(CheckpointError):
            outcomes.append(len(read_keras(weights)))
    assert set(outcomes) == {28}
    assert 20 < len(outcomes) < 180
