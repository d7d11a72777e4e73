"""Checkpoints in every format, written here; damaged, hostile and wrong ones, each one clear error."""

import array
import collections
import datetime
import decimal
import fractions
import functools
import http.cookies
import io
import os
import pickle
import random
import time
import uuid
import zipfile
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mutations import Call, gadgets
from safetensors.torch import save_file
from torch import Tensor

from xface.detectors import load, read_checkpoint
from xface.detectors.checkpoints.state_dicts import PREFIXES, WRAPPERS
from xface.detectors.recognition import restore
from xface.errors import CheckpointError
from xface.networks import ARCHITECTURES

Writer = Callable[[Any, Path], None]
WRITERS: dict[str, Writer] = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return dict(ARCHITECTURES["meso4"].build(2).state_dict())


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Writer:
    return WRITERS[request.param]


def assert_restores(path: Path, state: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> None:
    found = restore(read_checkpoint(path))
    assert found.arch.name == "meso4"
    restored = found.model.state_dict()
    assert restored.keys() == state.keys()
    for name, tensor in state.items():
        expected = tensor.to(dtype).to(torch.float32) if tensor.is_floating_point() else tensor
        assert restored[name].dtype == expected.dtype
        assert torch.equal(restored[name], expected), name


def reason(path: Path) -> str:
    """The one error that restoring ends in."""
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_plain(state: dict[str, Tensor], write: Writer, tmp_path: Path) -> None:
    write(state, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)


@pytest.mark.parametrize("key", WRAPPERS)
def test_wrapped(key: str, state: dict[str, Tensor], write: Writer, tmp_path: Path) -> None:
    write({"epoch": 3, "best": torch.tensor(0.1), key: state}, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)
    extras = read_checkpoint(tmp_path / "a.pth").extras
    assert extras["epoch"] == 3
    assert key not in extras


def test_wrapped_twice(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model": {"state_dict": state, "step": 7}, "epoch": 3}, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)
    assert read_checkpoint(tmp_path / "a.pth").extras == {"epoch": 3, "step": 7}


PREFIXES_TOGETHER = ["module._orig_mod.", "model.module.net.", "_orig_mod.module.", "resnet.", "a.b.c."]


@pytest.mark.parametrize("prefix", [*PREFIXES, *PREFIXES_TOGETHER])
def test_prefixed(prefix: str, state: dict[str, Tensor], write: Writer, tmp_path: Path) -> None:
    write({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)


def test_data_parallel_and_compiled_as_torch_writes_them(tmp_path: Path) -> None:
    model = ARCHITECTURES["meso4"].build(2)
    for number, wrapped in enumerate([torch.nn.DataParallel(model), torch.compile(model)]):
        torch.save(wrapped.state_dict(), tmp_path / f"{number}.pth")
        assert_restores(tmp_path / f"{number}.pth", model.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precision(dtype: torch.dtype, state: dict[str, Tensor], tmp_path: Path) -> None:
    other = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    torch.save(other, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state, dtype)


def test_safetensors(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "a.safetensors")
    assert_restores(tmp_path / "a.safetensors", state)
    assert read_checkpoint(tmp_path / "a.safetensors").format == "safetensors"


def test_parameters_views_and_other_strides(state: dict[str, Tensor], tmp_path: Path) -> None:
    """What torch.save keeps as it is: Parameters, transposed tensors, slices of one storage."""
    odd = dict(state)
    odd["dense.head.bias"] = torch.nn.Parameter(state["dense.head.bias"])
    odd["dense.head.weight"] = state["dense.head.weight"].T.contiguous().T
    odd["block1.conv.weight"] = torch.cat([state["block1.conv.weight"]] * 2)[8:]
    torch.save(odd, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)


def test_counters_that_older_files_lack(state: dict[str, Tensor], tmp_path: Path) -> None:
    older = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(older, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)


def seed_content(state: dict[str, Tensor]) -> dict[str, Any]:
    """The layout that the followed system's checkpoint.py writes."""
    losses = [np.float64(0.7), np.float64(0.4)]
    return {
        "epoch": 2,
        "train_losses": losses,
        "train_accuracy": [np.float32(0.5), np.float64(0.8)],
        "valid_losses": losses,
        "valid_accuracy": [0.5, 0.75],
        "lr": [1e-3, 1e-3],
        "model": state,
        "configs": {"network": "ResNet"},
    }


def test_followed_system(state: dict[str, Tensor], write: Writer, tmp_path: Path) -> None:
    write(seed_content(state), tmp_path / "0002.pth")
    assert_restores(tmp_path / "0002.pth", state)
    checkpoint = read_checkpoint(tmp_path / "0002.pth")
    assert checkpoint.format == "sung"
    assert checkpoint.extras["train_losses"] == [0.7, 0.4]


def test_followed_system_with_numpy_1_names(state: dict[str, Tensor], tmp_path: Path) -> None:
    """NumPy 1 pickles its scalars as numpy.core.multiarray.scalar, NumPy 2 as numpy._core...."""
    old, new = b"cnumpy.core.multiarray\nscalar\n", b"cnumpy._core.multiarray\nscalar\n"
    legacy, modern = io.BytesIO(), io.BytesIO()
    torch.save(seed_content(state), legacy, _use_new_zipfile_serialization=False)
    torch.save(seed_content(state), modern)
    for after, before in ((old, new), (new, old)):
        (tmp_path / "legacy.pth").write_bytes(legacy.getvalue().replace(before, after))
        with zipfile.ZipFile(modern) as source, zipfile.ZipFile(tmp_path / "zip.pth", "w") as target:
            for name in source.namelist():
                target.writestr(name, source.read(name).replace(before, after))
        for name in ("legacy.pth", "zip.pth"):
            assert after in (tmp_path / name).read_bytes()
            assert_restores(tmp_path / name, state)
            assert read_checkpoint(tmp_path / name).extras["valid_losses"] == [0.7, 0.4]


@pytest.mark.parametrize(
    "history",
    [
        {"train_losses": [0.7, 0.4], "valid_losses": [0.7, 0.4]},
        {"train_losses": [np.float64(0.7)], "valid_losses": [0.7]},
        {"accuracy": [np.float64(0.7)], "f1": [np.float32(0.7)]},
        {"loss": np.float64(0.7), "best_loss": np.float64(0.4)},
    ],
)
def test_other_histories_are_not_the_followed_systems(
    history: dict[str, Any], state: dict[str, Tensor], tmp_path: Path
) -> None:
    """Its preset would swap red and blue."""
    torch.save({"model": state, "epoch": 2, **history}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").format == "torch"


@pytest.mark.parametrize("gadget", [name for name in gadgets(Path("x")) if name != "pathlib"])
@pytest.mark.parametrize("place", ["alone", "in a list", "among the weights", "beside the weights"])
def test_hostile_pickles_are_refused_with_what_they_ask_for(
    gadget: str, place: str, state: dict[str, Tensor], write: Writer, tmp_path: Path
) -> None:
    """What a careless reader does with them, test_fuzz shows."""
    bomb = gadgets(tmp_path / "executed")[gadget]
    content = {
        "alone": bomb,
        "in a list": {"model": state, "epoch": 1, "losses": [np.float64(1), bomb]},
        "among the weights": {**state, "extra": bomb},
        "beside the weights": {"state_dict": state, "hook": bomb},
    }[place]
    write(content, tmp_path / "a.pth")
    message = reason(tmp_path / "a.pth")
    assert not (tmp_path / "executed").exists()
    assert "it asks for" in message
    assert "save its model.state_dict()" in message


def test_a_call_of_a_path_becomes_a_stand_in_and_is_not_made(
    state: dict[str, Tensor], write: Writer, tmp_path: Path
) -> None:
    write({"model": state, "extra": gadgets(tmp_path / "executed")["pathlib"]}, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_bare_hostile_pickle(protocol: int, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Call(os.system, f"touch {trace}"), protocol))
    message = reason(tmp_path / "a.pkl")
    assert not trace.exists()
    assert f"it asks for {os.system.__module__}.system, and" in message
    assert "save its model.state_dict()" in message


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_of_weights_lists_all_that_it_asks_for(
    protocol: int, state: dict[str, Tensor], tmp_path: Path
) -> None:
    """Against what Python's own unpickler looks up; from protocol 4 on, names are fetched from the memo."""

    class Recorder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            asked.add(f"{module}.{name}")
            return super().find_class(module, name)

    asked: set[str] = set()
    content = {
        "model": state,
        "losses": [np.float64(1)],
        "path": Path("a"),
        "name": "system",
        "again": Path("b"),
    }
    data = pickle.dumps(content, protocol)
    Recorder(io.BytesIO(data)).load()
    (tmp_path / "a.pkl").write_bytes(data)
    message = reason(tmp_path / "a.pkl")
    assert "_rebuild_tensor_v2" in message
    assert f"it asks for {', '.join(sorted(asked))}, and" in message


def test_numpy_arrays_are_told_from_what_runs_code(tmp_path: Path) -> None:
    arrays = {"w": np.zeros((4, 4), "f4"), "many": np.zeros(9_000_000, "f8")}
    for protocol in (2, 4):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"w": arrays["w"]}, protocol))
        assert "holds NumPy arrays; save torch.from_numpy of each array" in reason(tmp_path / "a.pkl")
    torch.save(arrays, tmp_path / "a.pth")
    assert "it holds NumPy arrays that are too large or too many; save" in reason(tmp_path / "a.pth")


def test_whole_module_is_refused_with_the_remedy(write: Writer, tmp_path: Path) -> None:
    write(ARCHITECTURES["meso4"].build(2), tmp_path / "a.pth")
    message = reason(tmp_path / "a.pth")
    assert "xface.networks.meso.Meso4" in message
    assert "save its model.state_dict()" in message


def _extras() -> dict[str, Any]:
    """What scripts keep beside the weights, and which does no harm."""
    return {
        "deque": collections.deque([1, 2], 3),
        "defaultdict": collections.defaultdict(list, {"a": [1]}),
        "frozenset": frozenset(["a"]),
        "datetime": datetime.datetime(2024, 5, 1, tzinfo=datetime.timezone.utc),
        "timedelta": datetime.timedelta(1),
        "Decimal": decimal.Decimal("1.5"),
        "Fraction": fractions.Fraction(1, 3),
        "UUID": uuid.UUID(int=3),
        "range": range(3),
        "time zone": zoneinfo.ZoneInfo("Europe/Berlin"),
        "cookie": http.cookies.SimpleCookie("a=b"),
        "function": len,
        "partial": functools.partial(max, 1),
        "error": FileNotFoundError(2, "no such file"),
        "time": time.gmtime(0),
        "method": "a".join,
        "array": array.array("f", [1.0]),
        "random state": random.Random(0),
        "int array": np.arange(6).reshape(2, 3),
        "text array": np.array(["x", "yz"]),
        "matrix": np.asmatrix([[1.0]]),
        "record": np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
        "object array": np.array([{}, None], dtype=object),
        "datetime64": np.datetime64("2024-05-01"),
        "NumPy's random state": np.random.RandomState(0),
        "type": np.float32,
        "torch's version": torch.__version__,
    }


@pytest.mark.parametrize("name", _extras())
def test_harmless_extras_are_no_obstacle(
    name: str, write: Writer, state: dict[str, Tensor], tmp_path: Path
) -> None:
    write({"model": state, "extra": _extras()[name]}, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)
    assert "extra" in read_checkpoint(tmp_path / "a.pth").extras


def test_extras_that_hold_plain_values_keep_them(write: Writer, tmp_path: Path) -> None:
    write({"model": {"w": torch.ones(2, 2)}, **_extras()}, tmp_path / "a.pth")
    extras = read_checkpoint(tmp_path / "a.pth").extras
    assert extras["deque"] == [1, 2]
    assert extras["defaultdict"] == {"a": [1]}
    assert np.array_equal(extras["int array"], _extras()["int array"])
    assert extras["text array"].tolist() == ["x", "yz"]
    assert extras["torch's version"] == torch.__version__
    assert repr(extras["Decimal"]) == "<decimal.Decimal, not loaded>"


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated(kind: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    whole, path = tmp_path / "whole", tmp_path / "cut.pth"
    save_file(state, whole) if kind == "safetensors" else WRITERS[kind](state, whole)
    content = whole.read_bytes()
    lengths = [1, 9, 10, 300, *(len(content) * part // 6 for part in (2, 3)), len(content) - 4000]
    for length in [*lengths, len(content) - 1]:
        path.write_bytes(content[:length])
        assert "cut short" in reason(path) or "not a checkpoint" in reason(path), length


def test_one_changed_bit_of_a_weight_is_noticed_where_the_file_has_checksums(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    """torch reads it as it is."""
    torch.save(state, tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    content[content.index(state["dense.hidden.weight"].numpy().tobytes()) + 501] ^= 1
    (tmp_path / "a.pth").write_bytes(content)
    assert not torch.equal(
        torch.load(tmp_path / "a.pth")["dense.hidden.weight"], state["dense.hidden.weight"]
    )
    assert "it is damaged or cut short (Bad CRC-32" in reason(tmp_path / "a.pth")


def test_without_checksums_a_file_is_read(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_restores(tmp_path / "a.pth", state)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"PK\x03\x04")
    (tmp_path / "a.pth").chmod(0)
    assert "make it readable" in reason(tmp_path / "a.pth")


def endless() -> dict[str, Any]:
    content: dict[str, Any] = {"epoch": 1}
    content["model"] = content
    return content


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: {**state, name: change(state[name].clone())}


def with_value(value: float, place: int = 7) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor = tensor.double()
        tensor.view(-1)[place] = value
        return tensor

    return change


NOT_FINITE = "dense.hidden.weight holds NaN or infinite weights"
REFUSED: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "a tensor": (lambda state: torch.zeros(3), "no named weights"),
    "a list": (lambda state: [torch.zeros(3)], "no named weights"),
    "nothing": (lambda state: {}, "no named weights"),
    "an empty wrapper": (lambda state: {"epoch": 3, "model": {}}, "no named weights"),
    "a number as name": (lambda state: {1: torch.zeros(3)}, "no named weights"),
    "a dict in itself": (lambda state: endless(), "no named weights"),
    "sparse": (changed("dense.head.weight", Tensor.to_sparse), "not dense tensors: dense.head.weight"),
    "integers": (changed("dense.head.bias", Tensor.byte), "dense.head.bias holds torch.uint8"),
    **{
        str(value): (changed("dense.hidden.weight", with_value(value)), NOT_FINITE)
        for value in (float("nan"), float("inf"), -float("inf"), 1e300)
    },
    # BatchNorm would take the root of them: NaN in every output
    "negative variances": (
        changed("block2.norm.running_var", with_value(-0.01)),
        "block2.norm.running_var holds negative variances",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_contents_that_are_no_weights(
    name: str, state: dict[str, Tensor], write: Writer, tmp_path: Path
) -> None:
    content, message = REFUSED[name]
    write(content(state), tmp_path / "a.pth")
    assert message in reason(tmp_path / "a.pth")


NEWER: dict[str, Callable[[], Tensor]] = {
    "float8": lambda: torch.ones(2, 2).to(torch.float8_e4m3fn),
    "uint16": lambda: torch.ones(2, 2).to(torch.uint16),
    "uint32": lambda: torch.ones(2, 2).to(torch.uint32),
    "uint64": lambda: torch.ones(2, 2).to(torch.uint64),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NEWER)
def test_what_torchs_old_format_cannot_give_back_is_refused_by_its_name(
    name: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    """torch cannot read it either; in the new format it does no harm beside the weights."""
    content = {"model": state, "extra": NEWER[name]()}
    torch.save(content, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    message = reason(tmp_path / "a.pth")
    assert name in message
    assert message.endswith("; save it in the new one")


def test_wrong_architecture_is_listed_by_name_and_shape(tmp_path: Path) -> None:
    torch.save(ARCHITECTURES["resnet18"].build(2).state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "a.pth", arch="resnet34")
    message = str(caught.value)
    assert "does not fit resnet34" in message
    assert "its keys look like resnet18" in message
    assert "missing: layer1.2.conv1.weight (64x64x3x3)" in message
    assert (
        "and 70 more" in message
    )  # 8 blocks more, each with 2 kernels and 2 norms of 4 tensors; 10 are listed


def test_near_miss_is_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    changed = {name: tensor for name, tensor in state.items() if name != "block2.conv.bias"}
    changed["block3.conv.weight"] = torch.zeros(16, 8, 3, 3)
    changed["extra.weight"] = torch.zeros(4)
    torch.save(changed, tmp_path / "a.pth")
    message = reason(tmp_path / "a.pth")
    assert "look like meso4" in message
    assert "missing: block2.conv.bias (8)" in message
    assert "unexpected: extra.weight (4)" in message
    assert "of another shape: block3.conv.weight (16x8x3x3) instead of 16x8x5x5" in message


def test_unknown_keys_are_shown(tmp_path: Path) -> None:
    torch.save({f"stage{i}.weight": torch.zeros(2) for i in range(14)}, tmp_path / "a.pth")
    message = reason(tmp_path / "a.pth")
    assert "fit no architecture" in message
    assert "stage9.weight and 4 more" in message
    assert "stage10" not in message


@pytest.mark.parametrize("arch", [None, "meso4", "resnet18"])
def test_names_that_kept_a_prefix_on_are_named(
    arch: str | None, state: dict[str, Tensor], tmp_path: Path
) -> None:
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    for content in (
        {**prefixed, "projection.weight": torch.zeros(2, 16)},
        {**dict(list(prefixed.items())[:2]), "projection.weight": torch.zeros(2, 16)},
    ):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(CheckpointError) as caught:
            load(tmp_path / "a.pth", arch=arch)
        said = "'module.' stays on, because these names lack it: projection.weight"
        assert str(caught.value).endswith(said)


def test_without_a_known_prefix_none_is_named(tmp_path: Path) -> None:
    torch.save({"stage.weight": torch.zeros(2)}, tmp_path / "a.pth")
    assert "stays on" not in reason(tmp_path / "a.pth")


def test_hostile_names_stay_on_one_line(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**state, "a\nb\x1b[2J" + "x" * 10_000: torch.zeros(1)}, tmp_path / "a.pth")
    message = reason(tmp_path / "a.pth")
    assert message.isprintable()
    assert len(message) < 4000


def test_weights_are_the_networks_own(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Overwriting the file of a loaded network neither changes nor crashes it."""
    path = tmp_path / "a.pth"
    torch.save(state, path)
    model = restore(read_checkpoint(path)).model
    path.write_bytes(b"")
    assert torch.equal(model.state_dict()["dense.hidden.weight"], state["dense.hidden.weight"])


def test_reading_leaves_the_random_state_and_the_allow_list_alone(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save({"model": state, "accuracy": np.float64(0.5)}, tmp_path / "a.pth")
    load(tmp_path / "a.pth")  # torch itself adds to its list as it imports more of its own
    before, allowed = torch.get_rng_state(), torch.serialization.get_safe_globals()
    load(tmp_path / "a.pth")
    assert torch.equal(torch.get_rng_state(), before)
    assert set(map(str, torch.serialization.get_safe_globals())) == set(map(str, allowed))
