"""Pickles that are refused: the names that one asks for, and what that says of where it comes from."""

from __future__ import annotations

import pickletools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import islice

MAX_BYTES = 64 << 20
MAX_INSTRUCTIONS = 500_000
LISTED = 20

CAUSES: Sequence[tuple[str, str]] = (
    (
        r"(os|posix|nt|subprocess|sys|socket|shutil|runpy|pty|ctypes|webbrowser|importlib)\.|"
        r"builtins\.(eval|exec|compile|open|__import__)$",
        "it would run commands when it is loaded ({}), which no weights do: do not trust it",
    ),
    (r"(sklearn|xgboost|lightgbm|catboost)\.", "it is a model of {}, not a network's weights"),
    (r"(keras|tensorflow|jax|flax|mxnet|paddle)\.", "it is of another framework ({}), not PyTorch's"),
    (
        r"torch\.nn\.modules\.(?!loss)|torch\.fx\.|torch\.jit\.|(torchvision\.models|timm\.models)\.",
        "it holds a whole network with its classes ({}), not its weights alone",
    ),
    (r"(joblib|dill|cloudpickle)\.", "it was written by {}, not by torch.save"),
    (r"(__main__|__mp_main__)\.", "objects of the script that wrote it ({}) lie beside the weights"),
    (r"", "objects of other libraries ({}) lie in it"),
)
"""(beginning of a name, what a file that asks for it is likely to be)."""


def likely_cause(names: Iterable[str]) -> str:
    """What a file probably is, by the functions and classes that it asks for.

    Example:
        >>> likely_cause(["collections.OrderedDict", "joblib.numpy_pickle.NumpyArrayWrapper"])
        'it was written by joblib.numpy_pickle.NumpyArrayWrapper, not by torch.save'
    """
    for pattern, cause in CAUSES:
        if found := next((name for name in names if re.match(pattern, name)), None):
            return cause.format(found[:100])
    return "it is not a plain dict of weights"


def listed(names: Iterable[str]) -> str:
    """The names in order, not all of very many."""
    ordered = sorted(names)
    more = f" and {len(ordered) - LISTED} more" if len(ordered) > LISTED else ""
    return ", ".join(ordered[:LISTED]) + more


def name_of(module: str, name: str) -> str:
    """The full name of what a pickle asks for; Python 2's modules and functions by their names today.

    Example:
        >>> name_of("__builtin__", "xrange")
        'builtins.range'
    """
    return ".".join(NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name)))


def pickled_names(content: bytes) -> list[str] | None:
    """The functions and classes that a pickle (any protocol) asks for; None if it is no pickle.

    What `torch.save` writes without a zip begins with a pickle of one number, which asks for none. Of a very
    long pickle only the beginning is looked at.

    Example:
        >>> import pickle
        >>> pickled_names(pickle.dumps({"print": print}))
        ['builtins.print']
    """
    names: set[str] = set()
    memo: dict[int, object] = {}
    last: tuple[object, object] = (None, None)  # the two that were pushed last
    try:
        for instruction, value, _ in islice(pickletools.genops(BytesIO(content)), MAX_INSTRUCTIONS):
            name = instruction.name
            if name in ("GLOBAL", "INST"):
                names.add(name_of(*str(value).split(" ", 1)))
            elif name == "STACK_GLOBAL":
                names.add(f"{last[0]}.{last[1]}")
            if name == "MEMOIZE" or name.endswith("PUT"):
                memo[len(memo) if value is None else int(value)] = last[1]
            elif name.endswith("GET"):
                last = last[1], memo.get(int(value or 0))
            elif instruction.stack_after:
                last = last[1], value
    except Exception:  # on what is no pickle, a dozen kinds
        return sorted(names) if len(content) >= MAX_BYTES else None
    return sorted(names)
