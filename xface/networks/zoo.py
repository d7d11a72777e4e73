"""The networks that xface can build, one entry each; to add one, add it here."""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from xface.errors import UnknownNameError
from xface.networks.architectures import TIMM, Architecture, Build, Shapes
from xface.preprocessing import PRESETS, Preprocessing
from xface.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn


ARCHITECTURES: Registry[Architecture] = Registry("architecture")


def is_architecture(name: str) -> bool:
    """Whether there is an architecture of this name; none is built.

    Example:
        >>> is_architecture("resnet18"), is_architecture("timm/resnet26"), is_architecture("timm/none")
        (True, True, False)
    """
    if not name.startswith(TIMM):
        return name in ARCHITECTURES
    import timm

    return bool(timm.is_model(name.removeprefix(TIMM).partition(".")[0]))


def architecture(name: str) -> Architecture:
    """The architecture of this name: a registered one, or `timm/<name>` for any network of timm.

    Raises:
        UnknownNameError: there is none.

    Example:
        >>> architecture("resnet50").head
        'fc'
    """
    if name.startswith(TIMM):
        from xface.networks.timm_networks import timm_architecture

        return timm_architecture(name)
    if name not in ARCHITECTURES:
        remedy = "See `xface models`; `timm/NAME` stands for any network of timm."
        raise UnknownNameError("architecture", name, ARCHITECTURES, remedy)
    return ARCHITECTURES[name]


def _by_name(entry: Architecture) -> tuple[Callable[[str], Architecture], tuple[str]]:
    return architecture, (entry.name,)


copyreg.pickle(
    Architecture, _by_name
)  # what builds a network is a function within another: no pickle holds it


def _add(name: str, build: Build, stages: str, head: str, layer: str | None = None, **others: Any) -> None:
    """Register a network; its recommended layer is its last stage where no other is given."""
    *_, last = names = tuple(stages.split())
    ARCHITECTURES.add(name, Architecture(name, build, layer or last, names, head, **others))


def _torchvision(name: str, **settings: Any) -> Build:
    def build(num_classes: int, **options: Any) -> nn.Module:
        from torchvision.models import get_model

        model: nn.Module = get_model(name, weights=None, num_classes=num_classes, **settings, **options)
        return model

    return build


def _timm(name: str) -> Build:
    def build(num_classes: int) -> nn.Module:
        import timm

        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
        return model

    return build


def _own(module: str, kind: str, **settings: Any) -> Build:
    """A class of xface's own, imported when it is built."""

    def build(num_classes: int, **options: Any) -> nn.Module:
        network: Build = getattr(import_module(f"xface.networks.{module}"), kind)
        return network(num_classes=num_classes, **settings, **options)

    return build


def _freq_losses(model: nn.Module, images: Tensor, labels: Tensor, real: int) -> tuple[Tensor, Tensor]:
    from xface.networks.freq_losses import added_losses

    return added_losses(model, images, labels, real)


def _at(preset: str, side: int, shorter_side: int | None = None) -> Preprocessing:
    return replace(PRESETS[preset], size=(side, side), shorter_side=shorter_side)


# Cadene's pretrainedmodels, from which much code for face forgery comes, calls the head so.
LAST_LINEAR = r"^last_linear\."

for _name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
    _add(
        _name,
        _torchvision(_name),
        "layer1 layer2 layer3 layer4",
        "fc",
        renames=((LAST_LINEAR, "fc."),),
    )


def _last_relus(convolutions: tuple[int, ...], modules: int) -> str:
    """VGG's stages: the ReLU before each max pooling, where each convolution comes as so many modules."""
    ends = [modules * sum(convolutions[: block + 1]) + block - 1 for block in range(len(convolutions))]
    return " ".join(f"features.{end}" for end in ends)


for _name, _convolutions in {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}.items():
    _add(_name, _torchvision(_name), _last_relus(_convolutions, modules=2), "classifier.6")
    _add(f"{_name}_bn", _torchvision(f"{_name}_bn"), _last_relus(_convolutions, modules=3), "classifier.6")


def _dense_widths(shapes: Shapes) -> dict[str, Any]:
    names = ("classifier.0.weight", "classifier.3.weight")
    given = [shapes.get(name, ()) for name in names]
    return {"widths": tuple(shape[0] for shape in given)} if all(given) else {}


_add(
    "vgg16_c",
    _own("vgg16_c", "Vgg16C"),
    _last_relus((2, 2, 3, 3, 3), modules=2),
    "classifier.6",
    options=_dense_widths,
)

for _name in ("densenet121", "densenet161", "densenet169", "densenet201"):
    _add(
        _name,
        _torchvision(_name),
        "features.denseblock1 features.denseblock2 features.denseblock3 features.norm5",
        "classifier",
        renames=(  # files from before torchvision 0.3 have `norm.1`, now `norm1`
            (r"\.(norm|conv)\.([12])\.", r".\1\2."),
            (LAST_LINEAR, "classifier."),
        ),
    )

# Sides and shorter sides of torchvision's published weights
for _name, _side, _shorter in (
    ("efficientnet_b0", 224, 256),
    ("efficientnet_b1", 240, 256),
    ("efficientnet_b2", 288, 288),
    ("efficientnet_b3", 300, 320),
    ("efficientnet_b4", 380, 384),
    ("efficientnet_b5", 456, 456),
    ("efficientnet_b6", 528, 528),
    ("efficientnet_b7", 600, 600),
):
    _add(
        _name,
        _torchvision(_name),
        "features.1 features.2 features.3 features.5 features.8",
        "classifier.1",
        preprocessing=_at("imagenet", _side, _shorter),
    )

# The package efficientnet_pytorch: its sides, and its last block at each resolution
for _name, _side, _blocks in (
    ("efficientnet-b0", 224, (0, 2, 4, 10)),
    ("efficientnet-b1", 240, (1, 4, 7, 15)),
    ("efficientnet-b2", 260, (1, 4, 7, 15)),
    ("efficientnet-b3", 300, (1, 4, 7, 17)),
    ("efficientnet-b4", 380, (1, 5, 9, 21)),
    ("efficientnet-b5", 456, (2, 7, 12, 26)),
    ("efficientnet-b6", 528, (2, 8, 14, 30)),
    ("efficientnet-b7", 600, (3, 10, 17, 37)),
):
    _add(
        _name,
        _own("efficientnet_pytorch", "EfficientNetPytorch", name=_name),
        " ".join([*(f"_blocks.{block}" for block in _blocks), "_swish"]),
        "_fc",
        preprocessing=_at("imagenet", _side, _side),
        # as polimi-ispl/icpr2020dfdc wraps it
        renames=((r"^efficientnet\.", ""), (r"^classifier\.", "_fc.")),
    )

_add(
    "squeezenet1_0",
    _torchvision("squeezenet1_0"),
    "features.1 features.5 features.10 features.12",
    "classifier.1",
)


def _has_aux(shapes: Shapes) -> dict[str, Any]:
    """A head of another number of classes than the main one's was never trained for them, and is left out."""
    main, aux = (shapes.get(f"{name}.weight", (0,))[:1] for name in ("fc", "AuxLogits.fc"))
    return {"aux_logits": main == aux}


_add(
    "inception_v3",
    _torchvision("inception_v3", init_weights=True),
    "Conv2d_2b_3x3 Conv2d_4a_3x3 Mixed_5d Mixed_6e Mixed_7c",
    "fc",
    preprocessing=PRESETS["inception"],
    aux_heads=("AuxLogits.fc",),
    options=_has_aux,
    renames=((LAST_LINEAR, "fc."),),
    unused=r"AuxLogits\.",
)
_add(
    "inception_resnet_v2",
    _timm("inception_resnet_v2"),
    "conv2d_2b conv2d_4a repeat repeat_1 conv2d_7b",
    "classif",
    preprocessing=PRESETS["inception"],
    renames=((LAST_LINEAR, "classif."),),
)
_add(
    "xception",
    _timm("legacy_xception"),
    "act2 block1 block2 block11 act4",
    "fc",
    preprocessing=PRESETS["inception"],
    renames=((LAST_LINEAR, "fc."),),
    unused=r"adjust_channel\.",  # DeepfakeBench saves it with the plain network, which doesn't run it
)
for _name, _kind in {"meso4": "Meso4", "mesoinception4": "MesoInception4"}.items():
    _add(
        _name,
        _own("meso", _kind),
        "block1.norm block2.norm block3.norm block4.norm",
        "dense.head",
        preprocessing=PRESETS["meso"],
    )


MAX_BLOCKS = 16  # in a stage; a file with thousands of such names is no network


def _depth_and_attention(shapes: Shapes) -> dict[str, Any]:
    blocks = {name.split(".")[1] for name in shapes if name.startswith("stage1.")}
    per_stage = min(len(blocks), MAX_BLOCKS)
    attention = any(".attention." in name for name in shapes)
    return {"depth": 4 * per_stage, "attention": attention} if blocks else {}


_add(
    "cbam_resnet",
    _own("cbam_resnet", "CbamResNet"),
    "stage1 stage2 stage3 stage4",
    "dense.head",
    options=_depth_and_attention,
)
_add(
    "freq_attention",
    _own("freq_attention", "FreqAttention"),
    "encoder.act2 encoder.block1 encoder.block2 encoder.block11 encoder.act4",
    "head",
    preprocessing=PRESETS["inception"],
    losses=_freq_losses,
)

# Residuals and statistics of single pixels are no matter of ImageNet's mean and deviation.
_add(
    "cozzolino",
    _own("cozzolino", "Cozzolino"),
    "residuals codes",
    "head",
    preprocessing=_at("none", 256),
)
_add(
    "rahmouni",
    _own("rahmouni", "Rahmouni"),
    "relu1 relu2 statistics",
    "head",
    layer="relu2",  # the statistics' cells are whole patches
    preprocessing=_at("none", 300),
)
