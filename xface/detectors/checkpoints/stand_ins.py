"""Stand-ins: what lies beside a file's weights, in place of the classes that would have read it.

Nothing of NumPy or of the standard library that a pickle names is called; a stand-in takes its place.
Numbers, text and containers come back as plain values, all else as an object that says what it was.
"""

from __future__ import annotations

import builtins
import pathlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xface.detectors.checkpoints.pickled_names import name_of

NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
"""Booleans, integers and floats, as NumPy names their types in a pickle."""

MODULES = (
    "array", "calendar", "collections", "datetime", "decimal", "fractions", "functools", "http", "ipaddress",
    "math", "numpy", "operator", "pathlib", "random", "statistics", "string", "time", "uuid", "zoneinfo",
)  # fmt: skip
"""Whose classes, and those of their submodules, hold data, and whose functions compute."""

MADE_BY_TORCH = (
    "builtins.set",
    "builtins.bytearray",
    "builtins.complex",
    "collections.OrderedDict",
    "collections.Counter",
)
BUILTINS = {
    *(name for name, value in vars(builtins).items() if isinstance(value, type)),
    "Ellipsis", "NotImplemented", "abs", "all", "any", "bin", "callable", "chr", "divmod", "format",
    "getattr", "hasattr", "hash", "hex", "id", "isinstance", "issubclass", "iter", "len", "max", "min",
    "next", "oct", "ord", "pow", "print", "repr", "round", "sorted", "sum",
}  # fmt: skip
"""Types, errors, and functions that neither run a text as code nor open files."""


class StandIn:
    """An object of the file that was not made; its class bears the name of the one that was asked for.

    Example:
        >>> stand_in("datetime.date")(2024, 5, 1)
        <datetime.date, not loaded>
    """

    asked_for = ""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"<{self.asked_for}, not loaded>"


class NumberType:
    """Stands for `numpy.dtype`, which would take its flags, fields and sizes from the file unchecked.

    Example:
        >>> float(number(NumberType("f8"), np.float64(0.25).tobytes()))
        0.25
    """

    def __init__(self, code: object, align: object = False, copy: object = True) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    def values(self, content: object) -> NDArray[Any] | None:
        """Bytes as numbers or text (N,); None for other types."""
        is_text = isinstance(self.code, str) and self.code[:1] == "U" and self.code[1:].isdecimal()
        if not isinstance(content, bytes) or not (self.code in NUMBERS or is_text) or not content:
            return None
        return np.frombuffer(content, f"{self.order}{self.code}")


def number(kind: object, content: object) -> Any:
    """Stands for NumPy's function that makes a scalar of bytes; what is no number or text stays unread."""
    values = kind.values(content) if isinstance(kind, NumberType) else None
    if values is None:
        return stand_in("numpy.generic")()
    [value] = values
    return str(value) if isinstance(value, np.str_) else value


class Array:
    """Stands for `numpy.ndarray`; `values` are its numbers or texts in its shape, None for other types."""

    values: NDArray[Any] | None = None

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_fortran, content = state
        flat = kind.values(content) if isinstance(kind, NumberType) else None
        if flat is not None:
            self.values = flat.reshape(shape, order="F" if is_fortran else "C")


class _Entries:
    """Stands for a dict with attributes: of all dicts, torch sets an OrderedDict's state alone."""

    def __new__(cls, *arguments: object) -> Any:
        return OrderedDict()


def _dict(*arguments: object) -> dict[Any, Any]:
    return {}


def _list(*arguments: object) -> list[Any]:
    return []


def _array(*arguments: object) -> Array:
    return Array()


def a_method(*arguments: object) -> StandIn:
    """Stands for the method of a class, by which some objects are made."""
    return StandIn()


def _method_of(*arguments: object) -> Callable[..., StandIn]:
    return a_method


_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
KNOWN: Mapping[str, Callable[..., Any]] = {
    **{f"{module}.scalar": number for module in _ARRAYS},
    **{f"{module}._reconstruct": _array for module in _ARRAYS},
    "numpy.ndarray": Array,
    "numpy.dtype": NumberType,
    "collections.defaultdict": _dict,
    "collections.deque": _list,
    "builtins.getattr": _method_of,
    **{f"http.cookies.{name}": _Entries for name in ("BaseCookie", "SimpleCookie", "Morsel")},
    # What timm and Lightning keep of a run's settings: containers and paths that do nothing.
    "argparse.Namespace": SimpleNamespace,
    "types.SimpleNamespace": SimpleNamespace,
    "pytorch_lightning.utilities.parsing.AttributeDict": dict,
    "lightning_fabric.utilities.data.AttributeDict": dict,
    **{
        f"{module}.{name}": pathlib.PureWindowsPath if "Windows" in name else pathlib.PurePosixPath
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    },
    "torch.torch_version.TorchVersion": str,
}
"""Stand-ins that keep what they stand for, as plain values."""


def standing_for(*kinds: Callable[..., Any]) -> list[str]:
    """The names in whose place one of these is made."""
    return [name for name, kind in KNOWN.items() if kind in kinds]


def is_harmless(name: str) -> bool:
    """Whether there is a stand-in for what is called so, or may be.

    Example:
        >>> is_harmless("decimal.Decimal"), is_harmless("builtins.eval")
        (True, False)
    """
    module, _, last = name.rpartition(".")
    if (
        name in KNOWN
        or name == "torch._C.Generator"
        or (module == "re" and last in ("_compile", "RegexFlag"))
    ):
        return True
    if name in MADE_BY_TORCH:
        return False
    return last in BUILTINS if module == "builtins" else module.partition(".")[0] in MODULES


@cache
def stand_in(name: str) -> Callable[..., Any]:
    """What takes the place of a harmless name in a pickle."""
    return KNOWN.get(name) or type(StandIn.__name__, (StandIn,), {"asked_for": name})


def allowed(names: Iterable[str]) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Stand-ins for these names, Python 2's too, as `torch.serialization.safe_globals` takes them.

    Arrays are always among them, as NumPy's matrices and records are made by the same function.
    """
    all_names = {*names, "numpy.ndarray"}
    return [
        (a_method, a_method.__qualname__),
        *((stand_in(name_of(*name.rsplit(".", 1))), name) for name in all_names),
    ]
