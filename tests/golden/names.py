"""The public Python names: what packages offer, what the documentation names, and what functions return."""

import inspect
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path

import xface
from xface.analysis import plan_analysis, read_data
from xface.data import leakage, read_samples, split
from xface.evaluation import Threshold, evaluate, score
from xface.feature_maps.layers import feature_maps
from xface.images.pictures import read_picture

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PACKAGES = ("xface", "xface.analysis", "xface.attribution", "xface.data", "xface.errors", "xface.faces",
            "xface.detectors", "xface.evaluation", "xface.networks", "xface.report", "xface.statistics",
            "xface.training")  # fmt: skip
MANIFEST = ROOT / "tests" / "golden" / "faces" / "manifest.csv"
SPECIAL = ("__call__", "__contains__", "__getitem__", "__iter__", "__len__", "_repr_html_")


def public_names() -> str:
    """A line for each name, its signature, fields and methods; where it is defined is not said."""
    public = {name: offered(import_module(name)) for name in PACKAGES}
    for module, name in documented():
        public.setdefault(module, {}).setdefault(name, getattr(import_module(module), name))
    named = {id(value) for names in public.values() for value in names.values()}
    in_hand = {
        type(each).__name__: type(each) for each in records(handed_out()) if id(type(each)) not in named
    }
    text = [section(module, names) for module, names in sorted(public.items())]
    return "\n".join([*text, section("classes of what these return", in_hand)])


def offered(module: object) -> dict[str, object]:
    """A package's `__all__`, or the classes of a module that has none."""
    here = [
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    ]
    return {name: getattr(module, name) for name in getattr(module, "__all__", here)}


def documented() -> Iterable[tuple[str, str]]:
    """(module, name) for each import and each dotted name of the documentation."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for module, names in re.findall(r">>> from (xface[\w.]*) import (.+)", text):
        yield from ((module, name.strip()) for name in names.split(","))
    for dotted in set(re.findall(r"\bxface(?:\.\w+)+", text)) - set(PACKAGES):
        with suppress(ImportError):
            import_module(dotted)
        module, _, name = dotted.rpartition(".")
        if hasattr(import_module(module), name):
            yield module, name


def handed_out() -> list[object]:
    """One of each thing that public functions return."""
    picture = read_picture(ROOT / "samples" / "fake.jpg")
    detector = xface.load(device="cpu")
    found = xface.explain(detector, picture, ["gradcam"])
    samples = read_samples(MANIFEST)
    scored = score(detector, samples.table)
    layers = feature_maps(detector.model, (256, 256))
    return [picture, detector, detector.prepare(picture), found, layers, samples, leakage(split(samples)),
            evaluate(scored, "faces", Threshold(0.5, "given")),
            plan_analysis(detector, read_data(str(MANIFEST)))]  # fmt: skip


def records(value: object) -> Iterable[object]:
    """All of xface's own records in a value, one of each kind in a list."""
    if isinstance(value, list | tuple):
        for each in {type(each): each for each in value}.values():
            yield from records(each)
    elif is_dataclass(value) and type(value).__module__.startswith("xface"):
        yield value
        for field in fields(value):
            yield from records(getattr(value, field.name))


def section(title: str, names: Mapping[str, object]) -> str:
    lines = [line for name in sorted(names) for line in described(name, names[name])]
    return "\n".join([title, *(f"    {line}" for line in lines), ""])


def described(name: str, value: object) -> Iterable[str]:
    """A name's line, and a class's members below it."""
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__) if issubclass(value, Exception) else ""
        yield f"class {name}({bases or constructor(value)})"
        yield from (f"    {line}" for line in members(value))
    elif callable(value):
        yield f"{name}{signature(value)}"
    elif isinstance(value, Mapping | tuple):
        yield f"{name}: {', '.join(str(getattr(each, 'name', each)) for each in value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def constructor(kind: type) -> str:
    """What it takes; of a pydantic model the fields with their defaults, which are a config's keys."""
    if not hasattr(kind, "model_fields"):
        return signature(kind)[1:].rpartition(")")[0]
    return ", ".join(
        name if field.is_required() else f"{name}={plain(field.get_default(call_default_factory=True))}"
        for name, field in kind.model_fields.items()
    )


def plain(value: object) -> object:
    return value.model_dump() if hasattr(value, "model_dump") else repr(value)


def members(kind: type) -> Iterable[str]:
    """Methods and properties, of base classes too; fields are in the constructor."""
    own = [each for each in kind.__mro__ if each.__module__.startswith("xface")]
    found = {name: value for each in reversed(own) for name, value in vars(each).items()}
    for name, value in sorted(found.items()):
        if name.startswith("_") and name not in SPECIAL:
            continue
        if isinstance(value, property):
            yield f"{name}{signature(value.fget).removeprefix('(self)')}"
        elif isinstance(value, classmethod | staticmethod):
            yield f"{type(value).__name__} {name}{signature(value.__func__)}"
        elif inspect.isfunction(value):
            yield f"{name}{signature(value)}"


def signature(function: object) -> str:
    """Parameters as written; a default that is a function or an object is shown as dots."""
    try:
        found = inspect.signature(function)
    except ValueError:
        return "()"
    shown, kinds = [], [each.kind for each in found.parameters.values()]
    for index, each in enumerate(found.parameters.values()):
        if each.kind is each.KEYWORD_ONLY and not {each.KEYWORD_ONLY, each.VAR_POSITIONAL} & set(
            kinds[:index]
        ):
            shown.append("*")
        shown.append(parameter(each))
    returned = (
        "" if found.return_annotation in (found.empty, None, "None") else f" -> {found.return_annotation}"
    )
    return f"({', '.join(shown)}){returned}"


def parameter(each: inspect.Parameter) -> str:
    stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
    text = stars + each.name + ("" if each.annotation is each.empty else f": {each.annotation}")
    if each.default is each.empty:
        return text
    simple = isinstance(each.default, str | int | float | tuple | frozenset | None)
    return f"{text} = {each.default!r}" if simple else f"{text} = ..."
