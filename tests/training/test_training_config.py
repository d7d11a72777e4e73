"""Training configs: what is read, what is refused, and in which words."""

import pytest

from xface.errors import UsageError
from xface.preprocessing import PRESETS
from xface.training.config import Config
from xface.training.config_files import as_config, read_config
from xface.training.defaults import completed, preparation
from xface.training.grid_search import cell_name, cells
from xface.training.run import CONFIG, _write_config
from xface.training.yaml_files import Document, parse

FOLLOWED_YAML = """\
network: "ResNet"
seed: 42
device: 'cuda'
data:
  train: "data/train.csv"
  test: "data/test.csv"
  random_split: True # if True, random split from train files
  test_proportions: 0.2 # only if random_split is True
  crop: True
  num_classes: 2
input_size:
  height: 224
  width: 224
model:
  pretrained: False
  in_channels: 3
  init_weights: True
optimizer:
  type: 'Adam' # Adam, Adadelta
  lr: 1e-4 # 1e-4
  weight_decay: 1e-2
checkpoint: ""
test_checkpoint: "./log/ResNet_P/checkpoints/0009.pth"
experiment:
  vis_input: "samples/fake_occlusion_0.jpg"
  vis_output: "./results"
prefix: "./log/ResNet"
batch_size: 32
num_workers: 8
num_epochs: 20
print_epochs: 1
dropout_rate: 0.1
EARLY_STOPPING_EPOCH: 5
"""

PLAIN = """\
network: resnet18
data:
  train: faces.csv
prefix: run
"""


def refused(text: str, *changes: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        as_config(parse(text, "a.yaml").changed(changes))
    return str(caught.value).split("\n")


def test_the_followed_systems_yaml_means_what_it_meant_there():
    config = as_config(parse(FOLLOWED_YAML, "ResNet.yaml"))
    assert config.network == "resnet18"
    assert preparation(config) == PRESETS["seed"]  # BGR, /255, stretched to 224x224
    assert (config.optimizer.type, config.optimizer.lr, config.optimizer.weight_decay) == ("Adam", 1e-4, 1e-2)
    # its train.py has StepLR(step_size=5, gamma=0.1), and stops early by the validation loss
    assert (config.schedule.type, config.schedule.step_size, config.schedule.gamma) == ("StepLR", 5, 0.1)
    assert (config.early_stopping.monitor, config.early_stopping.patience) == ("validation_loss", 5)
    assert config.checkpoint is None
    assert config.data.crop is True
    assert (config.dropout_rate, config.num_workers, config.seed) == (0.1, 8, 42)


def test_a_written_config_is_read_as_the_same(tmp_path):
    config = as_config(parse(FOLLOWED_YAML, "a.yaml").changed(["print_epochs=null"]))
    _write_config(config, tmp_path / CONFIG)
    again = read_config(tmp_path / CONFIG)
    assert again.model_copy(update={"data": config.data}) == config
    assert again.data.train.endswith("/data/train.csv")
    assert again.data.train.startswith("/")
    assert completed(again) == again


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("batchsize: 3", "@5: unknown key 'batchsize'; did you mean 'batch_size'?"),
        ("xyzzy: 3", "@5: unknown key 'xyzzy'; allowed are network, options, seed, "),
        ("seed: -1", "@5: seed must be 0 or more, not -1"),
        ("num_epochs: many", "@5: num_epochs must be a whole number, not 'many'"),
        ("num_epochs: 0", "@5: num_epochs must be 1 or more, not 0"),
        ("batch_size: true", "@5: batch_size: must be a number"),
        ("optimizer: {lr: fast}", "@5: optimizer.lr must be a number, not 'fast'"),
        ("optimizer: {lr: .nan}", "@5: optimizer.lr: .nan is not a finite number"),
        ("optimizer: {lr: 0}", "@5: optimizer.lr must be over 0, not 0"),
        (
            "optimizer: {type: adam}",
            "@5: optimizer.type cannot be 'adam'; did you mean 'Adam'? (allowed: Adam, AdamW, Adadelta, SGD)",
        ),
        (
            "optimizer:\n  type: Adam\n  momentum: 0.9",
            "@7: unknown key 'optimizer.momentum'; allowed are type, lr, weight_decay, head_lr_multiplier",
        ),
        (
            "schedule: {type: StepLr}",
            "@5: schedule.type cannot be 'StepLr'; did you mean 'StepLR'? (allowed: StepLR, "
            "ExponentialLR, CosineAnnealing, OneCycleLR, ReduceLROnPlateau)",
        ),
        ("schedule:\n  type: StepLR", "@5: schedule.step_size is missing"),
        (
            "schedule:\n  type: StepLR\n  step_size: 3\n  gama: 2",
            "@8: unknown key 'schedule.gama'; did you mean 'gamma'?",
        ),
        (
            "early_stopping: {monitor: val_loss}",
            "@5: early_stopping.monitor cannot be 'val_loss'; did you mean 'validation_loss'",
        ),
        ("input_size: {height: 2.5, width: 3}", "@5: input_size.height must be a whole number, not 2.5"),
        ("model: {in_channels: 1}", "@5: model.in_channels cannot be 1; allowed are 3"),
        ("precision: 31", "@5: precision cannot be '31'; allowed are 32, bf16-mixed, 16-mixed"),
        ("preprocessing: imagnet", "@5: preprocessing: unknown preprocessing preset 'imagnet'; did you mean"),
        ("augmentations: [flipp]", "@5: augmentations: unknown augmentation 'flipp'; did you mean 'flip'?"),
        (
            "augmentations:\n  rotation: {degree: 3}",
            "@5: augmentations: unknown rotation setting 'degree'; did you mean 'degrees'?",
        ),
        ("self_blend: 2", "@5: self_blend must be 1 or less, not 2"),
        (
            "self_blend: {probabilty: 0.5}",
            "@5: self_blend: unknown self-blending setting 'probabilty'; did you mean 'probability'?",
        ),
        ("self_blend: {tint: abc}", "@5: self_blend: self-blending tint must be a number, not 'abc'"),
        ("self_blend: {scale: -4}", "@5: self_blend: scale -4 is not within 0 to 0.5"),
        ("self_blend: {erosion: 3}", "@5: self_blend: self-blending erosion must be a list, not 3"),
        ("self_blend: {ratios: [a]}", "@5: self_blend: self-blending ratios.0 must be a number, not 'a'"),
        ("options: {depht: 8}", "@5: options: unknown option of resnet18 'depht'"),
        ("num_workers: 99999", "@5: num_workers must be 256 or less, not 99999"),
        ("mixing: cutmx", "@5: mixing cannot be 'cutmx'; did you mean 'cutmix'? (allowed: cutmix, mixup)"),
        ("mixing: {kinds: []}", "@5: mixing.kinds: name cutmix, mixup or both"),
        ("mixing: {kind: cutmix}", "@5: unknown key 'mixing.kind'; did you mean 'kinds'?"),
        (
            "schedule: {type: CosineAnnealing, min_lr: 1}",
            "a.yaml: schedule.min_lr 1 is over optimizer.lr 0.0001",
        ),
        ("sampling: pairs\nbalance: [source]", "a.yaml: balance belongs to `sampling: balanced`"),
        ('prefix2: "\x01"', "@5: this is not valid YAML: unacceptable character #x0001: special"),
        (
            "loss: {class_weights: {fake: 1, rael: 2}}",
            "a.yaml: loss.class_weights must name each of fake, real",
        ),
        (
            "model: {pretrained: true}\ncheckpoint: a.pth",
            "a.yaml: model.pretrained and checkpoint both say where",
        ),
        (
            "early_stopping: {patience: 3}\nEARLY_STOPPING_EPOCH: 2",
            "a.yaml: EARLY_STOPPING_EPOCH and early_stopping",
        ),
        (
            "optimizer: {type: Adadelta}\nschedule: {type: OneCycleLR}",
            "a.yaml: OneCycleLR moves the momentum, which Adadelta hasn't; take another schedule",
        ),
        ("seed: 1\nseed: 2", "@6: the key 'seed' occurs twice"),
        ("options: [1", "@6: this is not valid YAML: expected ',' or ']', but got '<stream end>'"),
        (
            "seed: !!python/object/apply:os.getpid []",
            "@5: seed: the tag 'tag:yaml.org,2002:python/object/apply:os.getpid'",
        ),
        ("seed: __import__('os').getpid()", '@5: seed must be a whole number, not "__import__'),
    ],
)
def test_what_is_wrong_is_said_with_its_line(line, said):
    [found] = refused(PLAIN + line + "\n")
    assert found.startswith(said.replace("@", "a.yaml, line "))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{train: a, tset: b}", "@2: unknown key 'data.tset'; did you mean 'test'?"),
        ("{}", "@2: data.train is missing"),
        ("faces.csv", "@2: data must have keys of its own, not 'faces.csv'"),
        ("{train: a, crop: maybe}", "@2: data.crop cannot be 'maybe'; allowed are True, False, outline, box"),
        ("{train: a, margin: 0.3}", "@2: data: margin belongs to `crop: box`, and only to it"),
        ("{train: a, crop: outline, margin: 0.3}", "@2: data: margin belongs to `crop: box`"),
        ("{train: a, crop: box, margin: 11}", "@2: data.margin must be 10 or less, not 11"),
        ("{train: a, random_split: false}", "@2: data: without random_split, `test` must name"),
        (
            "{train: a, test: b, random_split: false, split: {by: group}}",
            "@2: data: `random_split: false` makes `test` the validation set, `split` divides",
        ),
        ("{train: a, num_classes: 3}", "@2: data: num_classes is 3, but classes are fake, real"),
        ("{train: a, test_proportions: 1.5}", "@2: data.test_proportions must be under 1, not 1.5"),
        ("{train: a, split: {by: grup}}", "@2: data.split.by cannot be 'grup'; did you mean 'group'"),
        ("{train: a, split: {by: run}}", "@2: data.split: group_size belongs to `by: run`"),
        ("{train: a, split: {proportions: {train: 8}}}", "@2: data.split: proportions need train and val"),
    ],
)
def test_what_is_wrong_with_the_data_is_said(data, said):
    [found] = refused(f"network: resnet18\ndata: {data}\nprefix: run\n")
    assert found.startswith(said.replace("@", "a.yaml, line "))


def test_all_that_is_wrong_is_said_at_once_and_changes_are_named():
    found = refused(
        "network: resnet81\ndata: {train: a}\nseed: x\n", "num_epochs=many", "optimizer.momentum=3"
    )
    assert [line.split(": ")[0] for line in found] == [
        "a.yaml, line 1", "a.yaml, line 3", "--set optimizer.momentum=3", "--set num_epochs=many", "a.yaml",
    ]  # fmt: skip
    assert "did you mean 'resnet18'" in found[0]
    assert found[-1] == "a.yaml: prefix is missing"


@pytest.mark.parametrize("text", ["- 1", "", "just words"])
def test_a_file_that_is_no_mapping_is_refused(text):
    with pytest.raises(UsageError, match=r"a\.yaml must hold keys and values"):
        parse(text, "a.yaml")


@pytest.mark.parametrize("assignment", ["optimizer.lr", "=3", "a..b=3", "a=[1"])
def test_changes_of_another_form_are_refused(assignment):
    with pytest.raises(UsageError, match="--set"):
        Document("a.yaml", {}).changed([assignment])


def test_changes_replace_values_and_parts_and_make_new_ones():
    document = parse(FOLLOWED_YAML, "a.yaml")
    changed = document.changed(
        ["input_size=64", "optimizer.lr=1e-3", "schedule.type=ExponentialLR", "schedule.gamma=.5"]
    )
    config = as_config(changed)
    assert preparation(config).size == (64, 64)
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (1e-3, 1e-2)
    assert (config.schedule.type, config.schedule.gamma) == ("ExponentialLR", 0.5)
    assert document.values["optimizer"]["lr"] == 1e-4


def test_a_centre_crop_keeps_its_ratio():
    config = Config(
        network="resnet18", data={"train": "a"}, prefix="run", input_size={"height": 112, "width": 84}
    )
    assert (preparation(config).size, preparation(config).shorter_side) == ((112, 84), 128)


def test_a_grid_is_the_cross_product():
    text = (
        PLAIN
        + "grid:\n  data.split.by: [sample, group]\n  network: [resnet18, vgg11]\n  optimizer.lr: [1e-3]\n"
    )
    found = cells(parse(text, "a.yaml"))
    assert [(cell.config.data.split.by, cell.config.network) for cell in found] == [
        ("sample", "resnet18"), ("sample", "vgg11"), ("group", "resnet18"), ("group", "vgg11"),
    ]  # fmt: skip
    assert {cell.config.optimizer.lr for cell in found} == {1e-3}
    assert len({cell.folder for cell in found}) == 4
    assert all(cell.config.grid is None for cell in found)


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ("", "has no grid"),
        ("grid: {seed: []}", "line 5: grid.seed lists no value"),
        ("grid: {seed: [0, -1]}", "--set seed=-1: seed must be 0 or more"),
        ("grid: {sede: [0]}", "--set sede=0: unknown key 'sede'; did you mean 'seed'"),
        ("grid: {seed: 3}", "line 5: grid.seed must be a list, not 3"),
    ],
)
def test_wrong_grids_are_refused(grid, said):
    with pytest.raises(UsageError) as caught:
        cells(parse(PLAIN + grid, "a.yaml"))
    assert said in str(caught.value)


def test_cells_have_safe_and_different_names():
    assert cell_name({"data.crop": False, "seed": 1}) == "crop=False,seed=1"
    odd = [cell_name({"data.train": path}) for path in ("../a/b.csv", "../a_b.csv", "x" * 300, "x" * 301)]
    assert len(set(odd)) == 4
    assert all(len(name) < 100 and "/" not in name and not name.startswith(".") for name in odd)


def test_reading_a_config_needs_no_lightning():
    import subprocess
    import sys

    code = "import sys; from xface.training import read_config; print('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
