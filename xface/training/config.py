"""What one training run is made of: a checked schema, so that a wrong key costs seconds and not a night."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from xface.data.labels import CLASSES, Vocabulary
from xface.detectors.crops import MAX_MARGIN
from xface.errors import XFaceError
from xface.networks.blueprints import checked_options
from xface.networks.zoo import architecture
from xface.preprocessing import Preprocessing
from xface.validation import validated

if TYPE_CHECKING:
    from xface.data.self_blending import SelfBlending

T = TypeVar("T")

FOLLOWED = {
    "ResNet": "resnet18",
    "VGG": "vgg11_bn",
    "DenseNet": "densenet121",
    "EfficientNet": "efficientnet-b0",
    "SqueezeNet": "squeezenet1_0",
}
"""What Minsuk Sung's Fake Face Detection calls its networks.

Under these names a run is set up as there: its preprocessing (preset `opencv_bgr`) and its StepLR(5, 0.1).
"""

MAX_WORKERS = 256
"""More processes than this are a slip of the finger, which would cost all memory."""

Metric: TypeAlias = Literal[
    "train_loss",
    "train_accuracy",
    "train_precision",
    "train_recall",
    "train_auc",
    "validation_loss",
    "validation_accuracy",
    "validation_precision",
    "validation_recall",
    "validation_auc",
]
METRICS: tuple[str, ...] = get_args(Metric)


def mode(metric: str) -> Literal["min", "max"]:
    """Which way a metric gets better.

    Example:
        >>> mode("validation_loss"), mode("validation_auc")
        ('min', 'max')
    """
    return "min" if metric.endswith("_loss") else "max"


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _or_none(value: Any) -> Any:
    return None if value == "" else value


def _both_sides(value: Any) -> Any:
    return {"height": value, "width": value} if isinstance(value, int | str) else value


def _named_by_texts(value: Any) -> Any:
    """YAML reads the labels 0 and 1 as numbers."""
    if isinstance(value, Mapping):
        return {str(name) if type(name) is int else name: target for name, target in value.items()}
    return value


def _kinds(value: Any) -> Any:
    if isinstance(value, str | list | tuple):
        return {"kinds": [value] if isinstance(value, str) else value} if value else None
    return value


def _side(value: Any) -> Any:
    return {"side": value} if isinstance(value, int | str) and not isinstance(value, bool) else value


def _named(value: Any) -> Any:
    """Names with their settings, from a list of names or a mapping."""
    if isinstance(value, list | tuple):
        value = {name: {} for name in value} if all(isinstance(name, str) for name in value) else value
    return {name: s or {} for name, s in value.items()} if isinstance(value, Mapping) else value


def _preprocessing(value: Any) -> Preprocessing | None:
    """A preset by its name, or settings, as on a card."""
    if value is None or isinstance(value, Preprocessing):
        return value
    return _refused_as_value(lambda: Preprocessing.from_json(value))


Number = Annotated[float, BeforeValidator(_no_truth_value), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
BelowOne = Annotated[Number, Field(ge=0, lt=1)]
Decay = Annotated[Number, Field(gt=0, le=1)]
Count = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=1)]
WholeNumber = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=0)]
File = Annotated[str | None, BeforeValidator(_or_none)]
Settings: TypeAlias = dict[str, Any]


class Part(BaseModel):
    """A part of a config: unknown keys are errors, nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Split(Part):
    """How samples are divided, see `xface.data.split`.

    `by`: `sample` (each for itself), `group` (what shares a value in the column `group` stays together),
    `run` (so do `group_size` consecutive files) or `manifest` (as the column `split` says). `proportions` are
    weights of train, val and, if wanted, test. `seed` is the division's own: by default the same for all
    runs, so that they can be compared.
    """

    by: Literal["sample", "group", "run", "manifest"] = "sample"
    proportions: dict[Literal["train", "val", "test"], Positive] | None = None
    group_size: Count | None = None
    seed: WholeNumber = 0

    @model_validator(mode="after")
    def _has_sense(self) -> Split:
        if self.by == "manifest" and self.proportions is not None:
            raise ValueError("proportions have no sense with `by: manifest`: its splits are as they are")
        if self.proportions is not None and not {"train", "val"} <= self.proportions.keys():
            raise ValueError("proportions need train and val")
        if (self.group_size is not None) != (self.by == "run"):
            raise ValueError("group_size belongs to `by: run`, and only to it")
        return self


class Data(Part):
    """The samples.

    `train` and `test` are a CSV with `path` and `label` or `real`, or a folder with `real/` and `fake/`;
    several in a list are trained on together. With
    `random_split`, the part `test_proportions` of train is taken out for validation, and `test` is only
    scored in the end; with `random_split: false`, `test` is the validation set. `split` says it in more
    detail instead. Where none of this is said, the splits in the column `split` hold, if there are any.
    `crop`: True or `outline` (only the face outline is kept), `box` (with a `margin`), False. Prepared
    pictures are kept in the folder `cache`, if it is given, and read from there in later epochs and runs.
    `classes` are their names in the order of the network's outputs; `labels` say which of them other labels
    and folders mean (`{Deepfakes: fake}`).
    """

    train: Annotated[str | list[str], Field(min_length=1)]
    test: File = None
    random_split: bool | None = None
    test_proportions: Annotated[Number, Field(gt=0, lt=1)] = 0.2
    split: Split | None = None
    crop: Literal[True, False, "outline", "box"] = False
    margin: Annotated[NotNegative, Field(le=MAX_MARGIN)] | None = None
    cache: File = None
    num_classes: Annotated[Count, Field(ge=2)] = 2
    classes: tuple[str, ...] = CLASSES
    labels: Annotated[dict[str, str], BeforeValidator(_named_by_texts)] = {}

    @property
    def vocabulary(self) -> Vocabulary:
        """The labels that the data may have."""
        return Vocabulary(self.classes, self.labels)

    @property
    def sources(self) -> list[str]:
        """What `train` names, one or several."""
        return [self.train] if isinstance(self.train, str) else self.train

    @model_validator(mode="after")
    def _has_sense(self) -> Data:
        if len(self.classes) != self.num_classes:
            raise ValueError(f"num_classes is {self.num_classes}, but classes are {', '.join(self.classes)}")
        _refused_as_value(lambda: self.vocabulary)
        if self.margin is not None and self.crop != "box":
            raise ValueError("margin belongs to `crop: box`, and only to it")
        if self.random_split is False and self.split is not None:
            raise ValueError(
                "`random_split: false` makes `test` the validation set, `split` divides `train`; keep one"
            )
        if self.random_split is False and self.test is None:
            raise ValueError("without random_split, `test` must name the data to validate on")
        return self


class Crops(Part):
    """Squares of `side` pixels cut at random from the training pictures, see `xface.data.augmentation`."""

    side: Count
    scale: tuple[Positive, Positive] = (1.0, 1.0)


class Mixing(Part):
    """Pictures of a batch mixed with one another, see `xface.training.optimisation`.

    Each batch is mixed with the given `probability`, by one of `kinds`.
    """

    kinds: tuple[Literal["cutmix", "mixup"], ...] = ("cutmix", "mixup")
    probability: Share = 1.0
    alpha: Positive = 1.0

    @field_validator("kinds")
    @classmethod
    def _are_some(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        if not kinds:
            raise ValueError("name cutmix, mixup or both")
        return kinds


class InputSize(Part):
    """The side lengths of the network's input in pixels; one number stands for both."""

    height: Count
    width: Count


class Model(Part):
    """Where the weights start: published ones, the network's own initial ones, or PyTorch's.

    With `whitened` the first convolution's are eigenvectors of the training pictures' patches, see
    `xface.training.whitening`.
    """

    pretrained: bool = False
    whitened: bool = False
    in_channels: Literal[3] = 3
    init_weights: bool = True


class Optimizer(Part):
    """The optimiser; the head and auxiliary heads learn `head_lr_multiplier` times as fast as the rest.

    `weight_decay` is L2 (decoupled for AdamW), SGD has momentum 0.9.
    """

    type: Literal["Adam", "AdamW", "Adadelta", "SGD"] = "Adam"
    lr: Positive = 1e-4
    weight_decay: NotNegative = 0.0
    head_lr_multiplier: Positive = 1.0


class StepLR(Part):
    """Times `gamma` after each `step_size` epochs, or training steps."""

    type: Literal["StepLR"]
    step_size: Count
    gamma: Decay = 0.1
    every: Literal["epoch", "step"] = "epoch"


class ExponentialLR(Part):
    """Times `gamma` after each epoch, or training step."""

    type: Literal["ExponentialLR"]
    gamma: Decay
    every: Literal["epoch", "step"] = "epoch"


class CosineAnnealing(Part):
    """Half a cosine from the learning rate down to `min_lr` over the whole run (Loshchilov, Hutter 2017)."""

    type: Literal["CosineAnnealing"]
    min_lr: NotNegative = 0.0
    every: Literal["epoch", "step"] = "epoch"


class OneCycleLR(Part):
    """Up for the part `warmup` of all steps, then down by a cosine (Smith and Topin 2018)."""

    type: Literal["OneCycleLR"]
    warmup: Annotated[Number, Field(gt=0, lt=1)] = 0.05


class ReduceLROnPlateau(Part):
    """Times `factor` once `monitor` hasn't got better for more than `patience` epochs."""

    type: Literal["ReduceLROnPlateau"]
    monitor: Metric = "validation_loss"
    factor: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    patience: WholeNumber = 2
    min_lr: NotNegative = 0.0


Schedule = Annotated[
    StepLR | ExponentialLR | CosineAnnealing | OneCycleLR | ReduceLROnPlateau, Field(discriminator="type")
]


class Loss(Part):
    """Cross entropy.

    `class_weights`: none, `balanced` (inverse to the classes' numbers) or a weight for each class by name.
    `auxiliary` weighs the loss of an auxiliary head, where there is one (0.3 in Szegedy et al. 2015 for
    GoogLeNet; 0.4 is usual for Inception-v3).
    """

    label_smoothing: BelowOne = 0.0
    class_weights: Literal["balanced"] | dict[str, Positive] | None = None
    auxiliary: NotNegative = 0.4


class Stopping(Part):
    """Stop when `monitor` hasn't got better by more than `min_delta` for `patience` epochs."""

    monitor: Metric = "validation_loss"
    patience: Count = 5
    min_delta: NotNegative = 0.0


class Config(Part):
    """One training run; the keys in YAML are these.

    `network` is an architecture (`xface models`) or `timm/NAME`, with `options` of its own (cbam_resnet's
    `attention: false`). `preprocessing` is a preset or settings, as on a card; `input_size` changes its size.
    `sampling`: `shuffled`, `balanced` (as many of each class, or of each combination of values in the columns
    `balance`), `pairs` (a real face and the fake made from it in one batch, cropped and augmented alike). An
    epoch is `passes` passes through the data. With
    `random_crop` the network is trained on squares of pictures, and judges whole ones. `augmentations` are a
    list of names, or names with settings, see `xface.data.augmentation`; `self_blend` is the part of the real
    faces that become self-blended fakes, or settings of `xface.data.self_blending.SelfBlending`. With
    `mixing` pictures of a batch are mixed with one another. `checkpoint` is a
    weights file to start from, `prefix` the run's folder. `best` says by which metric the kept weights are
    chosen. `limit` ends every epoch after so many batches, to try a config. `grid` lists values by dotted
    keys, for `xface train --grid`.

    Example:
        >>> config = Config(network="resnet18", data={"train": "faces.csv"}, prefix="runs/1")
        >>> config.optimizer.type, config.data.classes, config.best
        ('Adam', ('fake', 'real'), 'validation_auc')
    """

    network: str
    options: Settings = {}
    seed: WholeNumber = 0
    device: str = "auto"
    devices: Count = 1
    precision: Annotated[Literal["32", "bf16-mixed", "16-mixed"], BeforeValidator(str)] = "32"
    channels_last: bool = False
    data: Data
    preprocessing: Annotated[Preprocessing | None, BeforeValidator(_preprocessing)] = None
    input_size: Annotated[InputSize | None, BeforeValidator(_both_sides)] = None
    random_crop: Annotated[Crops | None, BeforeValidator(_side)] = None
    augmentations: Annotated[dict[str, Settings], BeforeValidator(_named)] = {}
    self_blend: Share | Settings = 0.0
    mixing: Annotated[Mixing | None, BeforeValidator(_kinds)] = None
    sampling: Literal["shuffled", "balanced", "pairs"] = "shuffled"
    balance: Annotated[tuple[str, ...], Field(min_length=1)] = ("label",)
    passes: Count = 1
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule | None = None
    loss: Loss = Loss()
    dropout_rate: BelowOne | None = None
    batch_size: Count = 32
    accumulate: Count = 1
    num_workers: Annotated[WholeNumber, Field(le=MAX_WORKERS)] = 0
    num_epochs: Count = 20
    print_epochs: Count | None = 1
    early_stopping: Stopping | None = None
    EARLY_STOPPING_EPOCH: Count | None = None
    best: Metric = "validation_auc"
    checkpoint: File = None
    prefix: str
    limit: Count | None = None
    half_precision: bool = False
    grid: dict[str, list[Any]] | None = None
    test_checkpoint: Any = Field(None, description="Fake Face Detection's demo reads it; without effect here")
    experiment: Any = Field(None, description="Fake Face Detection's demo reads it; without effect here")

    @field_validator("network")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in FOLLOWED:
            _refused_as_value(lambda: architecture(name))
        return name

    @field_validator("augmentations")
    @classmethod
    def _can_augment(cls, settings: dict[str, Settings]) -> dict[str, Settings]:
        from xface.data.augmentation import augmentations

        _refused_as_value(lambda: augmentations(settings))
        return settings

    @field_validator("options")
    @classmethod
    def _can_build(cls, options: Settings, given: ValidationInfo) -> Settings:
        if options and (network := given.data.get("network")):
            arch = architecture(FOLLOWED.get(network, network))
            _refused_as_value(lambda: checked_options(arch, options))
        return options

    @field_validator("self_blend")
    @classmethod
    def _can_blend(cls, setting: float | Settings) -> float | Settings:
        _refused_as_value(lambda: _blending(setting))
        return setting

    def blending(self) -> SelfBlending | None:
        """How real faces become self-blended fakes; None if they don't."""
        return _blending(self.self_blend) if self.self_blend else None

    @model_validator(mode="after")
    def _has_sense(self) -> Config:
        if self.EARLY_STOPPING_EPOCH is not None and self.early_stopping is not None:
            raise ValueError("EARLY_STOPPING_EPOCH and early_stopping both say when to stop; keep one")
        weights = self.loss.class_weights
        if isinstance(weights, Mapping) and set(weights) != set(self.data.classes):
            raise ValueError(f"loss.class_weights must name each of {', '.join(self.data.classes)}")
        if (least := getattr(self.schedule, "min_lr", 0)) > self.optimizer.lr:
            raise ValueError(f"schedule.min_lr {least:g} is over optimizer.lr {self.optimizer.lr:g}")
        if self.balance != ("label",) and self.sampling != "balanced":
            raise ValueError("balance belongs to `sampling: balanced`, and only to it")
        if self.mixing and architecture(FOLLOWED.get(self.network, self.network)).losses:
            raise ValueError(
                f"{self.network} tells real pictures from others in its losses; leave out mixing"
            )
        if self.model.pretrained and self.checkpoint:
            raise ValueError("model.pretrained and checkpoint both say where to start; keep one")
        if self.model.whitened and (self.model.pretrained or self.checkpoint):
            raise ValueError("model.whitened would overwrite weights that are given; leave it out")
        if isinstance(self.schedule, OneCycleLR) and self.optimizer.type == "Adadelta":
            raise ValueError(
                "OneCycleLR moves the momentum, which Adadelta hasn't; take another schedule, or Adam or SGD"
            )
        return self


def _blending(setting: float | Settings) -> SelfBlending:
    from xface.data.self_blending import SelfBlending

    named = setting if isinstance(setting, Mapping) else {"probability": setting}
    return validated(SelfBlending, "self-blending", named)


def _refused_as_value(call: Callable[[], T]) -> T:
    """Pydantic collects ValueErrors, with the places they belong to; others would end the check."""
    try:
        return call()
    except XFaceError as error:
        raise ValueError(str(error)) from error
