"""Checkpoints as other people's scripts write them: timm, Lightning, torchvision, Cadene, DeepfakeBench."""

import re
import sys
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest
import torch
from speed import first_quick
from torch import Tensor, nn

from xface.detectors import load, read_checkpoint
from xface.detectors.recognition import restore
from xface.errors import CheckpointError
from xface.networks import ARCHITECTURES, architecture


def seeded(name: str, num_classes: int = 2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return architecture(name).build(num_classes).eval()


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return dict(seeded("meso4").state_dict())


def assert_restores(path: Path, state: dict[str, Tensor]) -> None:
    found = restore(read_checkpoint(path))
    assert found.arch.name == "meso4"
    assert found.model.state_dict().keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found.model.state_dict()[name], tensor), name


ENTRIES = [
    "n_averaged",
    "criterion.centres",
    "loss_fn.pos_weight",
    "bce_loss.weight",
    "val_auroc.confmat",
    "accuracy.tp",
]


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_a_trainers_own_entries_are_left_out_and_said(
    name: str, prefix: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    prefixed = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    torch.save({"state_dict": {**prefixed, name: torch.ones(3)}}, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)
    detector = load(tmp_path / "a.pth")
    assert detector.notes == (f"left out of the file, as no part of the network: {name}",)
    assert detector.to_json()["notes"] == list(detector.notes)


def averaged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor * 0.5 if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def test_averaged_weights_are_taken_by_their_key(state: dict[str, Tensor], tmp_path: Path) -> None:
    """As torchvision's training saves them: AveragedModel's prefix and counter."""
    ema = {f"module.{key}": tensor for key, tensor in averaged(state).items()}
    ema["n_averaged"] = torch.tensor(7)
    torch.save({"model": state, "model_ema": ema, "epoch": 3}, tmp_path / "a.pth")
    plain, chosen = (restore(read_checkpoint(tmp_path / "a.pth", key)) for key in (None, "model_ema"))
    for name, tensor in state.items():
        assert torch.equal(plain.model.state_dict()[name], tensor)
        assert torch.equal(chosen.model.state_dict()[name], averaged(state)[name])
    assert chosen.unused == ("n_averaged",)
    [note] = load(tmp_path / "a.pth").notes
    assert note == "the file also holds weights under 'model_ema'; --state-key takes them"
    assert "'model'" in load(tmp_path / "a.pth", state_key="model_ema").notes[1]


def test_the_only_weights_are_taken_without_a_key(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model_ema": state}, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)


def test_a_state_key_that_holds_no_weights_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"net": state, "averaged": dict(state), "epoch": 3}, tmp_path / "a.pth")
    for key in ("ema", "epoch"):
        with pytest.raises(CheckpointError, match=f"under '{key}', but under 'net', 'averaged'$"):
            read_checkpoint(tmp_path / "a.pth", key)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="but under no key"):
        read_checkpoint(tmp_path / "a.pth", "ema")


def side_by_side(
    first: dict[str, Tensor], second: dict[str, Tensor], names: tuple[str, str]
) -> dict[str, Tensor]:
    parts = zip(names, (first, second), strict=True)
    return {f"{name}.{key}": tensor for name, part in parts for key, tensor in part.items()}


@pytest.mark.parametrize(
    "names",
    [
        ("model", "model_ema"),
        ("student", "teacher"),
        ("g", "g_ema"),
        ("module", "module_ema"),
    ],
)
@pytest.mark.parametrize("around", ["", "module.", "state_dict"])
def test_a_prefix_of_names_is_a_state_key(
    names: tuple[str, str], around: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    """Two networks in one flat dict: each by its prefix, none in silence."""
    flat = side_by_side(state, averaged(state), names)
    prefixed = {f"module.{key}": tensor for key, tensor in flat.items()}
    torch.save(
        {"": flat, "module.": prefixed, "state_dict": {"state_dict": flat}}[around], tmp_path / "a.pth"
    )
    for name, expected in zip(names, (state, averaged(state)), strict=True):
        found = restore(read_checkpoint(tmp_path / "a.pth", name)).model.state_dict()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    try:
        said = "".join(load(tmp_path / "a.pth").notes)
    except CheckpointError as error:
        said = str(error)
    assert "--state-key takes" in said
    assert names[1] in said
    with pytest.raises(CheckpointError, match="under 'nonsense', but under"):
        read_checkpoint(tmp_path / "a.pth", "nonsense")


def test_a_prefix_with_a_wrapper_in_it_is_a_state_key(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(side_by_side(state, averaged(state), ("model", "model_ema.module")), tmp_path / "a.pth")
    for key in ("model_ema.module", "model_ema"):
        found = read_checkpoint(tmp_path / "a.pth", key).state["dense.hidden.weight"]
        assert torch.equal(found, averaged(state)["dense.hidden.weight"])


def test_the_end_of_a_path_is_a_state_key_where_one_path_ends_so(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save({"a": {"x": averaged(state), "y": state}, "b": {"y": dict(state)}}, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth", "x")
    assert torch.equal(found.state["dense.head.bias"], averaged(state)["dense.head.bias"])
    with pytest.raises(CheckpointError, match=r"under 'y', but under 'a\.x', 'a\.y', 'b\.y'"):
        read_checkpoint(tmp_path / "a.pth", "y")


@pytest.mark.parametrize("key", ["other", "net.other", "model.net.model.net", "w.", "."])
def test_a_state_key_is_sought_once_in_dicts_that_hold_each_other(key: str, tmp_path: Path) -> None:
    inner: dict[str, object] = {"w": torch.ones(2)}
    outer = {"net": inner, "v": torch.ones(2)}
    inner["model"] = outer
    torch.save(outer, tmp_path / "a.pth")
    with suppress(CheckpointError):
        read_checkpoint(tmp_path / "a.pth", key)


def test_of_two_different_networks_each_is_taken_by_its_prefix(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    other = dict(seeded("mesoinception4").state_dict())
    torch.save(side_by_side(state, other, ("detector", "critic")), tmp_path / "a.pth")
    for key, arch in (("detector", "meso4"), ("critic", "mesoinception4")):
        assert restore(read_checkpoint(tmp_path / "a.pth", key)).arch.name == arch
    with pytest.raises(CheckpointError, match=r"--state-key takes the network under 'detector' \(meso4\) or"):
        load(tmp_path / "a.pth")


def test_a_wrong_name_in_the_file_does_not_count(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"arch": "resnet50", "state_dict": state}, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)


def test_lightnings_settings_are_read_as_data(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its AttributeDict, which isn't installed here, comes back as a dict; paths as paths of no system."""
    name = "pytorch_lightning.utilities.parsing"
    kind = type("AttributeDict", (dict,), {"__module__": name})
    with monkeypatch.context() as patched:
        for module in ("pytorch_lightning", "pytorch_lightning.utilities", name):
            patched.setitem(sys.modules, module, SimpleNamespace(AttributeDict=kind))
        settings = kind(lr=1.0, root=Path("/x"))
        torch.save({"state_dict": state, "hyper_parameters": settings}, tmp_path / "a.pth")
    extras = read_checkpoint(tmp_path / "a.pth").extras
    assert type(extras["hyper_parameters"]) is dict
    assert extras["hyper_parameters"] == {"lr": 1.0, "root": PurePosixPath("/x")}


HEADS = [
    ("resnet18", "fc.", "last_linear."),
    ("resnet18", "fc.", "fc.1."),
    ("resnet18", "fc.", "last_linear.0."),
    ("xception", "fc.", "last_linear.1."),
    ("inception_resnet_v2", "classif.", "last_linear."),
    ("densenet121", "classifier.", "last_linear."),
    ("densenet121", "classifier.", "classifier.1."),
]


@pytest.mark.parametrize(("arch", "ours", "theirs"), first_quick(HEADS, 3))
def test_heads_by_other_peoples_names(arch: str, ours: str, theirs: str, tmp_path: Path) -> None:
    """Cadene's `last_linear`, and a head in an `nn.Sequential` with a dropout."""
    network = seeded(arch)
    renamed = {
        theirs + key.removeprefix(ours) if key.startswith(ours) else key: tensor
        for key, tensor in network.state_dict().items()
    }
    torch.save(renamed, tmp_path / "a.pth")
    found = restore(read_checkpoint(tmp_path / "a.pth"))
    assert found.arch.name == arch
    for key, tensor in network.state_dict().items():
        assert torch.equal(found.model.state_dict()[key], tensor)


def test_densenets_names_from_before_torchvision_0_3(tmp_path: Path) -> None:
    network = seeded("densenet121")
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): t for key, t in network.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "a.pth")
    assert restore(read_checkpoint(tmp_path / "a.pth")).arch.name == "densenet121"


def test_a_head_of_several_layers_is_not_guessed(tmp_path: Path) -> None:
    state = ARCHITECTURES["resnet18"].build(2).state_dict()
    head = {"fc.0.weight": torch.zeros(9, 512), "fc.0.bias": torch.zeros(9)}
    head |= {"fc.2.weight": torch.zeros(2, 9), "fc.2.bias": torch.zeros(2)}
    torch.save({key: t for key, t in state.items() if not key.startswith("fc.")} | head, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"unexpected: fc\.0\.weight \(9x512\)"):
        restore(read_checkpoint(tmp_path / "a.pth"))


def test_deepfakebenchs_xception(tmp_path: Path) -> None:
    """It saves a convolution that the plain network doesn't run, and names the head last_linear."""
    network = seeded("xception")
    renamed = {f"backbone.{key.replace('fc.', 'last_linear.')}": t for key, t in network.state_dict().items()}
    renamed["backbone.adjust_channel.0.weight"] = torch.zeros(512, 2048, 1, 1)
    torch.save(renamed, tmp_path / "a.pth")
    detector = load(tmp_path / "a.pth")
    assert detector.arch.name == "xception"
    assert detector.notes == ("left out of the file, as no part of the network: adjust_channel.0.weight",)


def test_inceptions_auxiliary_head_is_optional(tmp_path: Path) -> None:
    network = seeded("inception_v3", 3)
    state = network.state_dict()
    torch.save(state, tmp_path / "a.pth")
    whole = restore(read_checkpoint(tmp_path / "a.pth"))
    assert whole.model.state_dict().keys() == state.keys()
    torch.save({k: t for k, t in state.items() if not k.startswith("AuxLogits")}, tmp_path / "a.pth")
    without = restore(read_checkpoint(tmp_path / "a.pth"))
    x = torch.rand(1, 3, 299, 299)
    with torch.inference_mode():
        assert torch.equal(whole.model(x), network(x))
        assert torch.equal(without.model(x), network(x))


def test_an_auxiliary_head_of_another_number_of_classes_is_left_out(tmp_path: Path) -> None:
    """Whoever replaces `fc` alone keeps ImageNet's 1000 rows there; it takes no part in a prediction."""
    network = seeded("inception_v3")
    state = network.state_dict()
    state["AuxLogits.fc.weight"], state["AuxLogits.fc.bias"] = torch.zeros(1000, 768), torch.zeros(1000)
    torch.save(state, tmp_path / "a.pth")
    found = restore(read_checkpoint(tmp_path / "a.pth"))
    assert found.arch.name == "inception_v3"
    assert {name.split(".")[0] for name in found.unused} == {"AuxLogits"}
    x = torch.rand(1, 3, 299, 299)
    with torch.inference_mode():
        assert torch.equal(found.model(x), network(x))


def test_entries_beside_the_network_within_a_prefix(state: dict[str, Tensor], tmp_path: Path) -> None:
    prefixed = {f"module.model.{key}": tensor for key, tensor in state.items()}
    torch.save({**prefixed, "module.criterion.weight": torch.ones(2)}, tmp_path / "a.pth")
    assert_restores(tmp_path / "a.pth", state)


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod"])
def test_a_part_that_was_wrapped_alone(wrapper: str, tmp_path: Path) -> None:
    """As PyTorch's ImageNet example runs VGG's features in parallel, and not its classifier."""
    state = seeded("squeezenet1_0").state_dict()
    renamed = {key.replace("features.", f"features.{wrapper}."): tensor for key, tensor in state.items()}
    torch.save(renamed, tmp_path / "a.pth")
    assert restore(read_checkpoint(tmp_path / "a.pth")).arch.name == "squeezenet1_0"


def test_several_sets_of_weights_are_listed_with_their_keys(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(
        {"nets": {"generator": {"w": torch.ones(2, 2)}, "critic": state}, "step": 3}, tmp_path / "a.pth"
    )
    with pytest.raises(CheckpointError, match=r"\('nets.generator', 'nets.critic'\); --state-key takes one"):
        read_checkpoint(tmp_path / "a.pth")
    found = restore(read_checkpoint(tmp_path / "a.pth", "nets.critic"))
    assert found.arch.name == "meso4"
