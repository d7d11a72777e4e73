"""The commands about networks and weights files, as a user meets them."""

import json
import os
import shlex
from pathlib import Path

import pytest
import torch
from command_line import FAKE, REAL, columns, fresh, quick, run
from networks import KINDS
from test_conversion import digest, saved, seeded
from torch import nn

import xface
from xface.detectors import Card, load
from xface.detectors.card import read_card, write_card
from xface.detectors.checkpoints.checkpoint import read_checkpoint
from xface.networks import ARCHITECTURES, architecture
from xface.networks.blueprints import on_meta
from xface.preprocessing import PRESETS


def numbers(model: nn.Module) -> int:
    return sum(tensor.numel() for tensor in {id(p): p for p in model.parameters()}.values())


OUTLINED = {"resnet18", "squeezenet1_0", "meso4", "cozzolino", "rahmouni", "efficientnet-b0"}
"""Those that are quickly built."""


class TestModels:
    def test_every_network_has_its_line(self):
        done = run("models")
        lines = done.out.splitlines()
        heads = {line.split()[0]: line.split()[1:] for line in lines if line[:1].strip()}
        assert list(heads)[: len(ARCHITECTURES)] == list(ARCHITECTURES)
        assert heads["resnet18"] == ["11,177,538", "224x224", "weights:", "resnet18"]
        assert heads["inception_v3"][1] == "299x299"
        assert heads["meso4"][2:] == ["weights:", "meso4"]
        assert [name for name, rest in heads.items() if "weights:" in rest] == ["resnet18", "meso4"]
        assert "    layer relu2; stages relu1 relu2 statistics" in lines
        assert columns(done.out) <= 80
        assert "timm/NAME stands for any of timm's networks that classify images, " in " ".join(lines)
        assert (done.status, done.err) == (0, "")

    def test_parameters_are_those_of_networks_that_are_really_built(self):
        counts = {entry["arch"]: entry["parameters"] for entry in run("models", "--json").lines}
        for name in ("resnet18", "densenet121", "squeezenet1_0", "meso4", "mesoinception4", "cozzolino"):
            assert counts[name] == numbers(ARCHITECTURES[name].build(2))
        assert counts["vgg16"] == 138_357_544 - 998 * 4097  # published with 1000 classes

    @pytest.mark.parametrize(
        "name",
        [
            name if name in OUTLINED else pytest.param(name, marks=pytest.mark.slow)
            for name in [*KINDS, "timm/vit_tiny_patch16_224", "timm/nfnet_f0"]
        ],
    )
    def test_outlines_are_the_networks_but_for_the_numbers(self, name):
        """They leave out the drawing of weights, which must not change a name, a shape or a type."""
        arch = architecture(name)
        with torch.device("meta"):
            built = arch.build(2)
        found = on_meta(arch)
        assert found.state_dict().keys() == built.state_dict().keys()
        for key, tensor in built.state_dict().items():
            other = found.state_dict()[key]
            assert (other.shape, other.dtype, other.device) == (tensor.shape, tensor.dtype, tensor.device)


def listed(text: str) -> dict[str, list[str]]:
    """Each layer's mark, output, stride and cells."""
    rows = [(line[:3].strip(), line[3:].split()) for line in text.splitlines()[2:]]
    return {words[0]: [mark, *words[2:]] for mark, words in rows}


class TestLayers:
    @pytest.mark.parametrize("name", ["inception_v3", "rahmouni", "timm/test_efficientnet"])
    def test_shapes_are_those_of_a_forward_pass_with_numbers(self, name):
        arch = architecture(name)
        model, seen, side = arch.build(2).eval(), {}, arch.preprocessing.size[0]

        def keep(layer):
            return lambda module, inputs, output: seen.setdefault(layer, []).append(tuple(output.shape[1:]))

        for layer in arch.stages:
            model.get_submodule(layer).register_forward_hook(keep(layer))
        with torch.inference_mode():
            model(torch.zeros(2, 3, side, side))
        done = run("layers", "--arch", name)
        found = listed(done.out)
        assert done.out.splitlines()[0] == f"{name}, input {side}x{side}"
        for layer in arch.stages:
            mark, shape, stride, cells = found[layer]
            [(channels, height, width)] = seen[layer]
            assert mark == ("**" if layer == arch.layer else "*")
            assert shape == f"{channels}x{height}x{width}"
            assert float(stride) == pytest.approx(side / height, abs=0.0051)
            assert int(cells) == height * width
        assert [layer for layer, row in found.items() if row[0]] == list(arch.stages)

    def test_a_card_without_a_size_takes_the_architectures(self, tmp_path):
        write_card(Card("resnet18", ("fake", "real"), PRESETS["none"]), tmp_path / "a.json")
        saved(tmp_path / "a.pth")
        for words in (["--weights", tmp_path / "a.pth"], ["--arch", "resnet18"]):
            assert listed(run("layers", *words).out)["layer4"] == ["**", "512x7x7", "32", "49"]
        assert "[1, 512, 7, 7]" in run("summary", "--weights", tmp_path / "a.pth").out

    @pytest.mark.slow
    @pytest.mark.parametrize("command", ["layers", "summary"])
    def test_370_million_parameters_take_no_memory(self, command, tmp_path):
        """As much as the smallest network of the same code takes: their numbers alone would be 1.4 GiB."""
        code = (
            "import atexit, resource, sys\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
            "atexit.register(lambda: print('peak', peak(), file=sys.stderr))"
        )
        peaks = []
        for options in (["cbam_resnet"], ["resnet18"]):
            done = fresh(command, "--arch", *options, cwd=tmp_path, code=code)
            assert done.returncode == 0
            peaks.append(int(done.stderr.split()[-1]))
        assert peaks[0] < peaks[1] + 200

    def test_summary_of_a_network_without_storage_counts_it_all(self):
        assert "Total params: 369,895,135\n" in run("summary", "--arch", "cbam_resnet", "--depth", 1).out


@pytest.fixture(scope="module")
def ema(tmp_path_factory) -> Path:
    """A file with two sets of weights, which call the same face differently."""
    folder = tmp_path_factory.mktemp("ema")
    state = seeded("meso4").state_dict()
    for sign, key in ((9.0, "a"), (-9.0, "b")):
        bias = torch.tensor([sign, -sign])
        torch.save({**state, "dense.head.bias": bias}, folder / f"{key}.pth")
    both = [torch.load(folder / f"{key}.pth", weights_only=True) for key in "ab"]
    torch.save({"model": both[0], "model_ema": both[1], "criterion.w": torch.ones(1)}, folder / "ema.pth")
    return folder / "ema.pth"


class TestStateKeyAndPositive:
    def test_the_key_picks_the_weights(self, ema):
        plain, chosen = (
            run("predict", "--json", "--weights", ema, *options, FAKE).lines[0]["prediction"]
            for options in ([], ["--state-key", "model_ema"])
        )
        assert (plain["label"], chosen["label"]) == ("fake", "real")
        assert (
            chosen
            == run("predict", "--json", "--weights", ema.with_name("b.pth"), FAKE).lines[0]["prediction"]
        )

    def test_a_key_without_weights(self, ema):
        done = run("predict", "--weights", ema, "--state-key", "ema", FAKE)
        assert done.status == 1
        assert "no named weights under 'ema', but under 'model', 'model_ema'" in done.err

    def test_explain_takes_them_too(self, ema, tmp_path):
        options = ["--weights", ema, "--state-key", "model_ema", "--positive", "Real"]
        [line] = quick(tmp_path, "--json", *options, FAKE).lines
        assert line["prediction"]["label"] == "real"
        assert line["detector"]["card"]["positive"] == "real"
        assert "positive class real given" in line["detector"]["card"]["source"]

    @pytest.mark.parametrize(("command", "as_json"), [("predict", True), ("explain", False)])
    def test_notes_are_said_once_on_stderr(self, ema, tmp_path, command, as_json):
        note = "the file also holds weights under 'model_ema'; --state-key takes them"
        out = ["--out", tmp_path, "--method", "vanilla"] if command == "explain" else []
        done = run(command, *out, *(["--json"] if as_json else []), "--weights", ema, FAKE, REAL)
        assert done.err.count(f"xface: note: {note}\n") == 1
        assert note not in done.out or as_json
        if as_json:
            assert [line["detector"]["notes"] for line in done.lines] == [[note]] * 2

    @pytest.mark.parametrize("command", ["card", "layers", "summary"])
    def test_other_commands_take_the_key_too(self, command, tmp_path):
        """Two networks in one file: each is described by its own layers."""
        states = {"model": seeded("meso4").state_dict(), "model_ema": seeded("resnet18").state_dict()}
        torch.save(states, tmp_path / "two.pth")
        weights = ["two.pth"] if command == "card" else ["--weights", "two.pth"]
        weights[-1] = tmp_path / weights[-1]
        other = {"card": "architecture  resnet18", "layers": "layer4.1.conv2", "summary": "(layer4)"}[command]
        assert other not in run(command, *weights).out
        done = run(command, *weights, "--state-key", "model_ema")
        assert done.status == 0
        assert other in done.out

    def test_a_card_is_written_for_the_weights_under_the_key(self, tmp_path):
        states = {"model": seeded("meso4").state_dict(), "model_ema": seeded("resnet18").state_dict()}
        torch.save(states, tmp_path / "two.pth")
        assert run("card", tmp_path / "two.pth", "--state-key", "model_ema", "--notes", "x").status == 0
        assert read_card(tmp_path / "two.json").arch == "resnet18"


NO_FORGERY = "no class of {} is called fake; --positive NAME says which one is the forgery"


class TestForgery:
    @pytest.fixture(scope="class")
    def three(self, tmp_path_factory) -> Path:
        """A detector of three classes, none of which is called fake."""
        path = tmp_path_factory.mktemp("three") / "a.pth"
        classes = ["original", "Deepfakes", "Face2Face"]
        torch.save({"state_dict": seeded("meso4", 3).state_dict(), "classes": classes}, path)
        return path

    @pytest.mark.parametrize(
        ("command", "name"), [("predict", "original"), ("predict", "deepfakes"), ("explain", "Face2Face")]
    )
    def test_its_probability_is_said_whichever_class_is_called(self, three, name, command, tmp_path):
        options = ["--weights", three, "--positive", name]
        out = ["--out", tmp_path, "--method", "vanilla"] if command == "explain" else []
        done = run(command, *out, *options, FAKE)
        [likely] = load(three, device="cpu").predict(FAKE)
        spelled = {key.casefold(): key for key in likely.probabilities}[name.casefold()]
        p, forged = likely.probability, likely.probabilities[spelled]
        expected = f"{FAKE}: {likely.label}, probability {p:.3f}; forged ({spelled}) {forged:.3f}"
        assert done.out.splitlines()[0] == expected
        assert "forgery" not in done.err
        [line] = run(command, *out, "--json", *options, FAKE).lines
        assert line["prediction"]["positive"] == spelled
        assert line["prediction"]["positive_probability"] == pytest.approx(forged, abs=1e-6)

    def test_of_two_classes_too_unless_it_is_called_fake(self, tmp_path):
        path = saved(tmp_path / "a.pth", "meso4")
        assert "forged" not in run("predict", "--weights", path, FAKE).out
        assert "; forged (real) 0." in run("predict", "--weights", path, "--positive", "real", FAKE).out

    @pytest.mark.parametrize("command", ["predict", "explain", "convert", "card", "card --notes x"])
    def test_that_no_class_is_the_forgery_is_noted_once(self, three, command, tmp_path):
        copy = tmp_path / "a.pth"
        copy.write_bytes(three.read_bytes())
        words, *options = command.split()
        ends = {
            "predict": ["--weights", copy, FAKE, REAL],
            "explain": ["--weights", copy, "--out", tmp_path, "--method", "vanilla", FAKE, REAL],
            "convert": [copy, tmp_path / "b.safetensors"],
            "card": [copy],
        }[words]
        done = run(words, *options, *ends)
        assert done.status == 0
        note = NO_FORGERY.format("original, Deepfakes, Face2Face")
        assert done.err.count(f"xface: note: {note}\n") == done.err.count("forgery") == 1


class TestThreshold:
    @pytest.fixture
    def mine(self, tmp_path) -> Path:
        """A copy of the bundled detector."""
        assert run("convert", "meso4", tmp_path / "mine.safetensors").status == 0
        return tmp_path / "mine.safetensors"

    @pytest.mark.parametrize("image", [FAKE, REAL])
    def test_it_turns_the_verdict_both_ways(self, mine, image):
        [likely] = xface.load(mine).predict(image)
        fake = likely.probabilities["fake"]
        assert 0.02 < fake < 0.98
        for threshold, label in ((fake - 0.01, "fake"), (fake + 0.01, "real")):
            assert run("card", mine, "--threshold", threshold).status == 0
            done = run("predict", "--weights", mine, image)
            said = f"{image}: {label}, probability {likely.probabilities[label]:.3f}\n"
            assert done.out == said
            [line] = run("predict", "--json", "--weights", mine, image).lines
            assert line["prediction"]["label"] == label
            assert line["prediction"]["probabilities"] == likely.probabilities
            assert line["detector"]["card"]["threshold"] == threshold
        assert run("card", mine, "--threshold", "none").status == 0
        assert run("predict", "--weights", mine, image).out.split(": ")[1].startswith(likely.label)

    def test_it_belongs_to_the_positive_class(self, mine):
        """Of one logit, p(real) = 1 - p(fake): a threshold of p(real) turns the verdict elsewhere."""
        real = xface.load(mine).predict(FAKE)[0].probabilities["real"]
        for threshold, label in ((real - 0.01, "real"), (real + 0.01, "fake")):
            run("card", mine, "--positive", "real", "--threshold", threshold)
            said = (
                f"{label}, probability {real if label == 'real' else 1 - real:.3f}; forged (real) {real:.3f}"
            )
            assert run("predict", "--weights", mine, FAKE).out == f"{FAKE}: {said}\n"

    def test_it_is_not_taken_for_another_class(self, mine):
        run("card", mine, "--threshold", "0.7")
        done = run("predict", "--weights", mine, "--positive", "real", FAKE)
        assert (done.status, done.out) == (2, "")
        assert "the threshold 0.7 on the card was set for 'fake', not for 'real'" in done.err
        assert run("predict", "--weights", mine, "--positive", "FAKE", FAKE).status == 0


class TestCard:
    def test_without_a_card_what_is_assumed_is_said(self, tmp_path):
        path = saved(tmp_path / "my face.pth")
        done = run("card", path)
        assert done.status == 0
        assert done.out.startswith(f"there is no card beside {path}; assumed:\n  architecture  resnet18\n")
        assert "(preset imagenet)" in done.out
        assert f"xface card '{path}' --classes A,B --preset NAME" in done.out
        [line] = run("card", "--json", path).lines
        assert line["source"].startswith("assumed: imagenet preset; classes fake, real assumed")
        assert os.listdir(tmp_path) == ["my face.pth"]

    def test_one_is_written_and_then_changed(self, tmp_path):
        path = saved(tmp_path / "a.pth")
        written = run("card", path, "--classes", "Real, Fake", "--preset", "seed", "--notes", "mine")
        assert written.out.startswith(f"card {tmp_path / 'a.json'}, created:\n")
        content = json.loads((tmp_path / "a.json").read_text())
        assert content["classes"] == ["Real", "Fake"]
        assert content["preprocessing"]["colours"] == "BGR"
        assert content["sha256"] == digest(path)
        changed = run("card", path, "--classes", "Fake,Real", "--threshold", "0.7")
        assert changed.out.splitlines() == [
            f"card {tmp_path / 'a.json'}: changed",
            "  classes: Real, Fake -> Fake, Real",
            "  threshold: none -> 0.7",
        ]
        again = run("card", path, "--threshold", "0.70")
        assert again.out == f"card {tmp_path / 'a.json'}: nothing to change\n"
        assert "Fake, Real" in run("card", path).out

    def test_classes_without_a_forgery_are_noted(self, tmp_path):
        path = saved(tmp_path / "a.pth", "meso4")
        done = run("card", path, "--classes", "doctored,genuine")
        assert f"xface: note: {NO_FORGERY.format('doctored, genuine')}\n" in done.err
        done = run("card", path, "--positive", "doctored")
        assert done.out.splitlines()[1:] == ["  positive: none -> doctored"]
        assert done.err == ""

    def test_a_card_that_does_not_fit_is_shown_and_called_so(self, tmp_path):
        path = saved(tmp_path / "a.pth")
        write_card(Card("resnet18", ("a", "b", "c"), PRESETS["seed"]), tmp_path / "a.json")
        done = run("card", path)
        assert done.status == 1
        assert "a, b, c" in done.out
        assert "its head has 2 classes, but its card (a.json) names 3" in done.err

    def test_a_network_of_timm_gets_one_by_its_name(self, tmp_path):
        path = saved(tmp_path / "a.pth", "timm/resnet26")
        assert run("card", path, "--arch", "timm/resnet26", "--classes", "real,fake").status == 0
        assert load(path, device="cpu").arch.name == "timm/resnet26"

    @pytest.mark.parametrize(
        ("words", "status", "said"),
        [
            ([], 2, "FILE|NAME"),
            (["absent.pth"], 1, "no such file"),
            (["none"], 2, "has no file"),
            (["meso4", "--threshold", "0.7"], 2, "xface convert meso4 mine.safetensors"),
            (["a.pth", "--threshold", "high"], 2, "neither a number nor none"),
            (["a.pth", "--classes", "fake"], 2, "two different names"),
            (["a.pth", "--classes", "a,b,c"], 1, "has 2 classes"),
            (["a.pth", "--preset", "imagnet"], 2, "did you mean 'imagenet'"),
            (["a.pth", "--positive", "forged"], 2, "none of fake, real"),
        ],
    )
    def test_wrong_calls(self, tmp_path, monkeypatch, words, status, said):
        monkeypatch.chdir(tmp_path)
        saved(tmp_path / "a.pth", "meso4")
        done = run("card", *words)
        assert (done.status, done.out) == (status, "")
        assert said in done.err
        assert os.listdir(tmp_path) == ["a.pth"]


class TestConvert:
    def test_what_is_written_and_assumed_is_said(self, tmp_path):
        path, out = saved(tmp_path / "a.pth"), tmp_path / "b.safetensors"
        done = run("convert", path, out)
        alike = "read as resnet18, but may be timm/resnetblur18: choose one with --arch"
        assert (done.status, done.err) == (0, f"xface: note: {alike}\n")
        lines = done.out.splitlines()
        assert lines[:2] == [f"{out}: resnet18, 11,177,538 parameters", f"card {tmp_path / 'b.json'}:"]
        assert lines[-2] == "assumed, as nothing says it: preprocessing imagenet; classes fake, real"
        assert lines[-1].startswith(f"to correct it: xface card {out} ")
        assert digest(out) in done.out
        before, after = (run("predict", "--json", "--weights", file, FAKE).lines[0] for file in (path, out))
        assert before["prediction"] == after["prediction"]
        assert after["detector"]["card"]["source"] == "b.json"
        assert read_card(tmp_path / "b.json", digest(out)).arch == "resnet18"

    def test_given_options_reach_the_card(self, ema, tmp_path):
        out = tmp_path / "b.safetensors"
        options = ["--classes", "genuine,forged", "--positive", "forged", "--preset", "seed"]
        ends = [ema, out, "--state-key", "model_ema"]
        done = run("convert", *options, *ends)
        assert done.status == 1  # Meso-4 has a dense layer for 256 pixels
        assert "asks for inputs of 224x224" in done.err
        done = run("convert", *options[:4], *ends)
        assert done.status == 0
        assert "xface: note: the file also holds weights under 'model'" in done.err
        card = read_card(tmp_path / "b.json")
        assert (card.classes, card.positive) == (("genuine", "forged"), "forged")
        head = read_checkpoint(out).state["dense.head.bias"]
        assert head.tolist() == [-9.0, 9.0]

    def test_classes_against_the_files_own_are_taken_and_noted(self, tmp_path):
        state, note = seeded("meso4").state_dict(), "but the file itself says real, fake."
        torch.save({"model": state, "class_to_idx": {"real": 0, "fake": 1}}, tmp_path / "a.pth")
        for words in (
            ["convert", tmp_path / "a.pth", tmp_path / "b.safetensors"],
            ["card", tmp_path / "a.pth"],
        ):
            done = run(*words, "--classes", "fake,real")
            assert done.status == 0
            assert f"xface: note: Classes given as fake, real, {note}\n" in done.err
            assert note in " ".join(done.out.split())

    def test_the_helps_examples_work_and_leave_what_they_read_usable(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        state = seeded("resnet18").state_dict()
        torch.save({"model": state, "model_ema": state}, "run.pth")
        torch.save({"model": state, "classes": ["Fake", "Real"]}, "best.pth")
        torch.save(state, "mine.pth")
        text = run("convert", "--help").out
        examples = [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("    xface ")]
        assert len(examples) == 3
        for words in examples:
            assert run(*words).status == 0
        for path in ("run.pth", "best.pth", "mine.pth"):
            assert run("predict", "--weights", path, FAKE).status == 0

    @pytest.mark.parametrize(
        ("words", "status", "said"),
        [
            (["a.pth"], 2, "OUT.safetensors"),
            (["a.pth", "b.pth"], 2, "must end in .safetensors"),
            (["a.pth", "taken.safetensors"], 2, "taken.json would be overwritten; give another name"),
            (["absent.pth", "b.safetensors"], 1, "no such file"),
            (["a.pth", "b.safetensors", "--state-key", "ema"], 1, "under 'ema'"),
            (["a.pth", "deep/b.safetensors"], 1, "no folder 'deep'"),
            (["taken.json", "b.safetensors"], 1, "not a checkpoint"),
        ],
    )
    def test_wrong_calls(self, tmp_path, monkeypatch, words, status, said):
        monkeypatch.chdir(tmp_path)
        saved(tmp_path / "a.pth", "meso4")
        (tmp_path / "taken.json").write_text("mine")
        done = run("convert", *words)
        assert (done.status, done.out) == (status, "")
        assert said in done.err
        assert sorted(os.listdir(tmp_path)) == ["a.pth", "taken.json"]


def test_the_helps_name_every_preset():
    for command in ("card", "convert"):
        text = " ".join(run(command, "--help").out.split())
        for name in PRESETS:
            assert name in text.partition("--preset NAME")[2].partition("--")[0]
