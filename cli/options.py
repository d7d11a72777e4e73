"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

import click

from xface.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

ARCH = click.option(
    "--arch",
    metavar="NAME",
    help="The network's architecture; recognised from the weights where there are any.",
)
WEIGHTS = click.option(
    "--weights",
    metavar="FILE|NAME|none",
    help="A checkpoint, the name of a bundled detector (default: meso4), or `none` for an untrained network.",
)
DEVICE = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Device to compute on."
)
STATE_KEY = click.option(
    "--state-key",
    metavar="KEY",
    help="Key of the weights to load, where a file holds several sets, such as model_ema.",
)
POSITIVE = click.option(
    "--positive", metavar="NAME", help="The class that is the forgery (default: the one named fake)."
)
JSON = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per image, a line each, on stdout."
)
LAYERS = click.option(
    "--layer", "layers", multiple=True, metavar="NAME", help="A layer, or `all` stages; may be repeated."
)
METHODS = click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="A method of `xface methods`; may be repeated.",
)
TARGET = click.option(
    "--target",
    default="predicted",
    show_default=True,
    metavar="predicted|fake|real|margin",
    help="The score to explain.",
)
EFFECTS = click.option(
    "--effects",
    type=click.Choice(["regions", "shapley", "none"]),
    default="regions",
    show_default=True,
    callback=lambda context, option, kind: None if kind == "none" else kind,
    help="Hide each region, and look what the score does; shapley: their Shapley values too, slow.",
)
LANDMARKS = click.option(
    "--landmarks", metavar="FILE", help="A .pts or CSV file with the 68 points, instead of dlib."
)


@dataclass(frozen=True)
class Names:
    """The names that a registry holds when they are asked for, not when this file is loaded."""

    module: str
    registry: str

    def __call__(self) -> tuple[str, ...]:
        """Their names, in the order of registration."""
        return tuple(getattr(import_module(self.module), self.registry))


class Registered(click.Choice[str]):
    """A choice of one of the names that a registry holds when the command runs."""

    def __init__(self, names: Names) -> None:
        self.names, self.case_sensitive = names, True

    @property
    def choices(self) -> Sequence[str]:  # type: ignore[override]
        """Their names."""
        return self.names()


class NamingOption(click.Option):
    """An option in whose help `{names}` stands for the names that a registry holds when it is shown."""

    def __init__(self, *words: Any, names: Names, **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.names = names

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option and its help."""
        record = super().get_help_record(ctx)
        return record and (record[0], record[1].format(names=", ".join(self.names())))


FACE_DETECTOR = click.option(
    "--face-detector",
    type=Registered(Names("xface.faces", "LANDMARKERS")),
    default="hog",
    show_default=True,
    help="dlib's detector; cnn also tries its CNN.",
)
IMAGES = click.argument("images", nargs=-1, required=True, metavar="IMAGE...")


def label_mapping(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """NAME=CLASS as a mapping; the last = divides them."""
    given: dict[str, str] = {}
    for text in texts:
        name, equals, target = text.rpartition("=")
        if not equals or not target.strip():
            raise UsageError(f"--label {text!r} must have the form NAME=CLASS, such as Deepfakes=fake")
        if given.setdefault(name, target) != target:
            raise UsageError(f"--label maps {name!r} to both {given[name]!r} and {target!r}; give one")
    return given


def detector_options(command: F) -> F:
    """Add what `xface.load` takes: --arch, --weights, --state-key, --positive, --device, --face-detector."""
    return ARCH(WEIGHTS(STATE_KEY(POSITIVE(DEVICE(FACE_DETECTOR(command))))))


def map_options(command: F) -> F:
    """Add --layer, --method, --target, --effects, and --landmarks, which says where the face is."""
    return LAYERS(METHODS(TARGET(EFFECTS(LANDMARKS(command)))))


def card_options(command: F) -> F:
    """Add what a card holds: --classes, --positive and --preset."""
    return CLASSES(POSITIVE(PRESET(command)))


LABELS = click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=CLASS",
    callback=label_mapping,
    help="What a label or folder of the data means, such as Deepfakes=fake; may be repeated.",
)


DATA = click.option(
    "--data", required=True, metavar="CSV|DIR", help="A CSV with path and label, or a folder."
)
SPLIT = click.option("--split", metavar="NAME", help="Use only the rows of this split, such as test.")
RESUME = click.option(
    "--resume", is_flag=True, help="Resume a stopped run; does nothing if the run is complete."
)


def split_names(context: click.Context, option: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    """Names between commas as a tuple."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


CLASSES = click.option(
    "--classes",
    metavar="A,B",
    callback=split_names,
    help="The names of the classes, in the order of the logits.",
)
PRESET = click.option(
    "--preset",
    cls=NamingOption,
    names=Names("xface.preprocessing", "PRESETS"),
    metavar="NAME",
    help="How pictures are prepared: {names}; none keeps their size.",
)
