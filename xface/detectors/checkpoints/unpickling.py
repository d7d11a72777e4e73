"""Unpickling: what a pickle would do, followed step by step without doing it, before torch may read it.

torch's loader for weights alone runs no code of a file, but a small file can keep it busy for hours: keys of
nested tuples, numbers that collide, functions that allocate what they are told to. Here each instruction is
followed with nothing made but plain values, its cost is counted, and the names that it asks for are noted.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from math import prod
from mmap import mmap
from pathlib import PurePosixPath, PureWindowsPath
from sys import getsizeof
from typing import Any, Protocol, TypeAlias, cast

from xface.detectors.checkpoints.pickled_names import name_of
from xface.detectors.checkpoints.stand_ins import is_harmless, standing_for
from xface.detectors.checkpoints.state_dicts import MAX_NAME

MAX_WORK = 3_500_000
"""Microseconds that it takes to follow a pickle, to let torch read it, and to look at what it holds, about.

A tensor takes 250, all of densenet121's state dict 0.2 s.
"""
CALL = 30
"""For a call, a name or a storage; a tensor has three."""
LOOKED_UP = 100
"""More for what has a stand-in: torch goes through the list of all of them each time."""
MAX_STAND_INS = 200
MAX_ODD_KEYS = 5_000
"""Keys that are neither text nor small integers: whoever writes a file can make their hashes collide."""
MAX_KEY_DEPTH = 3
OBJECT, CONTAINER, ENTRY = 10, 2, 4
"""For each place in a list or dict that an object takes, a list or tuple, and for each entry of a dict."""
BYTES_PER_WORK = 25  # of text, of which there may be four copies in memory at a time
LETTERS_PER_WORK = 10  # of paths, which are split
MAX_PICKLE = BYTES_PER_WORK * MAX_WORK
"""Bytes."""
SMALL = 1 << 31

CODES = {info.name: ord(info.code) for info in pickletools.opcodes}
STOP = CODES["STOP"]

Data: TypeAlias = bytes | mmap


class UnboundedError(ValueError):
    """A pickle that would take too long or too much memory."""


class Named:
    """A function or class that the pickle asks for."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Made(Named):
    """What such a function would make; `size` counts members, `elements` a tensor's numbers."""

    __slots__ = ("elements", "size")

    def __init__(self, name: str, elements: int = 0) -> None:
        super().__init__(name)
        self.size, self.elements = 0, elements


class Pickle:
    """One pickle in `data`, from the byte `at` on, as torch's loader for weights reads it.

    `asked` has the names of functions and classes that are neither torch's for weights nor harmless,
    `harmless` those for which there are stand-ins, `named` has all.

    Example:
        >>> import pickle
        >>> read = Pickle(pickle.dumps({"a": open}, protocol=2))
        >>> read.follow(), sorted(read.asked)
        (<...Made object at ...>, ['io.open'])
    """

    def __init__(self, data: Data, at: int = 0) -> None:
        self.data, self.at = data, at
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.asked: dict[str, None] = {}
        self.harmless: set[str] = set()
        self.named: set[str] = set()
        self.work = self.odd_keys = 0

    def follow(self) -> object:
        """Go to the end, and return what the pickle holds.

        Raises:
            UnboundedError: it would cost too much.
            Exception: it is damaged (any kind), or has an instruction that torch does not take (KeyError).
        """
        while (operation := self.data[self.at]) != STOP:
            self.at += 1
            self.charge(COSTS.get(operation, COST))
            STEPS[operation](self)
        self.at += 1
        return self.stack.pop()

    def forget(self) -> None:
        """Keep the names that it asks for, and nothing of what it holds."""
        self.data = b""
        del self.stack[:], self.marked[:]
        self.memo.clear()

    def take(self, count: int) -> bytes:
        """The next bytes."""
        part = self.data[self.at : self.at + count]
        if len(part) < count:
            raise EOFError("it ends too early")
        self.at += count
        return part

    def skip(self, count: int) -> None:
        """Go beyond bytes that do not matter."""
        self.at += count

    def charge(self, work: int) -> None:
        """Count work, and stop where it is too much."""
        self.work += work
        if self.work > MAX_WORK:
            raise UnboundedError("too many entries, or too long ones")

    def place(self, values: list[Any]) -> None:
        """Count what it costs to look at each value later, at the same one again too."""
        objects = sum(isinstance(value, Made) for value in values)
        containers = sum(isinstance(value, (list, tuple)) for value in values)
        self.charge(OBJECT * objects + CONTAINER * containers)

    def look(self, value: object, depth: int = 2) -> int:
        """Count what it costs to look at each member of a value, and return it."""
        if isinstance(value, (list, tuple)):
            self.charge(COST * len(value))
            return len(value) + (sum(self.look(part, depth - 1) for part in value) if depth else 0)
        if isinstance(value, (str, bytes)):
            size = len(value) // BYTES_PER_WORK
        else:
            size = value.size if isinstance(value, Made) else 0
        self.charge(size)
        return size

    def line(self) -> str:
        """The next line, without its end."""
        end = self.data.find(b"\n", self.at, self.at + MAX_NAME)
        if end < 0:
            raise UnboundedError(f"a name of more than {MAX_NAME} letters")
        return self.take(end + 1 - self.at)[:-1].decode()

    def ask(self, name: str, written: str) -> None:
        """Note a name that is no part of plain weights; torch may ask for it as it is written."""
        if is_harmless(name):
            self.charge(LOOKED_UP)
            self.harmless |= {name, written}
            if len(self.harmless) > MAX_STAND_INS:
                raise UnboundedError(f"objects of more than {MAX_STAND_INS} classes")
        else:
            self.asked[name] = None

    def call(self, function: object, arguments: object, new: bool = False) -> Named:
        """What a call would make, after a look at what it would cost."""
        if type(function) is not Named or type(arguments) is not tuple:
            raise TypeError("it calls what is not a function")
        name, size = function.name, self.look(arguments)
        self.charge(CALL + LOOKED_UP * is_harmless(name))
        if not is_harmless(name) and (new or name not in CALLS):
            self.asked[name] = None
        made = CALLS.get(name, _make)(self, name, arguments)
        if isinstance(made, Made):
            made.size = size
        return made

    def key(self, key: object, depth: int = 0) -> None:
        """Refuse a key whose hash would take long, or recurse deeply."""
        if type(key) is str or (type(key) is int and -SMALL < key < SMALL):
            return
        self.odd_keys += 1
        if depth > MAX_KEY_DEPTH or self.odd_keys > MAX_ODD_KEYS:
            raise UnboundedError("too many keys of dicts that are not text, or too deep ones")
        if type(key) is tuple:
            self.charge(COST * len(key))
            for part in key:
                self.key(part, depth + 1)


# What may be called: (pickle, name, arguments) -> what it makes


class _Call(Protocol):
    def __call__(self, read: Pickle, name: str, arguments: tuple[Any, ...]) -> Named: ...


def _make(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made:
    return Made(name)


def _gather(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made:
    """Containers that hash their members."""
    for members in arguments:
        for member in members if isinstance(members, (list, tuple)) else ():
            is_pair = name not in _KEYS_ALONE and isinstance(member, (list, tuple))
            read.key(member[0] if is_pair else member)
            read.charge(ENTRY)
    return Made(name)


def _spell(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made:
    """Paths and versions: of anything but text, its representation would be made, however long that is."""
    if not all(isinstance(part, str) for part in arguments):
        raise UnboundedError("a path or a version that is not text")
    read.charge(COST * len(arguments) + sum(map(len, arguments)) // LETTERS_PER_WORK)
    return Made(name)


def _encode(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made:
    """Bytes, as protocol 2 writes them: other codecs compress, expand, or take quadratic time."""
    text, codec = arguments
    if not isinstance(text, str) or codec != "latin1":
        raise UnboundedError("bytes in an odd encoding")
    return Made(name)


def _bytearray(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made:
    """Of a number it would be as long as that says."""
    if arguments and not (isinstance(arguments[0], (str, bytes)) or _is_bytes(arguments[0])):
        raise UnboundedError("bytes that are not in the file")
    return Made(name)


def _is_bytes(value: object) -> bool:
    return isinstance(value, Made) and value.name == "_codecs.encode"


def _rebuild(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made:
    """A tensor of a storage, an offset, a size, strides, ...: it may be larger than its storage."""
    return Made(name, elements=_elements(arguments[2]))


def _get(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Named:
    """A method of a class, which may be called as the class may; one of an object may not."""
    owner, attribute = arguments
    if type(owner) is not Named or type(attribute) is not str:
        return Made(name)
    if len(owner.name) + len(attribute) > MAX_NAME:
        raise UnboundedError(f"a name of more than {MAX_NAME} letters")
    return Named(f"{owner.name}.{attribute}")


def _elements(size: object) -> int:
    return prod(abs(side) for side in cast("tuple[int, ...]", size)) if type(size) is tuple else 0


def _examine(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made:
    """Tensors made of others, at whose numbers torch looks."""
    parts = [part for value in arguments for part in (value if isinstance(value, tuple) else (value,))]
    read.charge(sum(part.elements for part in parts if isinstance(part, Made)) // BYTES_PER_WORK)
    return Made(name)


def _subclass(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Named:
    """A tensor with attributes: it names the function that makes it."""
    function, _, its_arguments, _ = arguments
    return read.call(function, its_arguments)


_KEYS_ALONE = ("collections.Counter", "builtins.set")
_TENSOR_CALLS: Mapping[str, _Call] = {
    **dict.fromkeys(("tensor", "tensor_v2", "tensor_v3"), _rebuild),
    **dict.fromkeys(("parameter", "parameter_with_state", "meta_tensor_no_storage"), _make),
    **dict.fromkeys(("qtensor", "sparse_tensor", "nested_tensor"), _examine),
}
CALLS: Mapping[str, _Call] = {
    **{f"torch._utils._rebuild_{name}": call for name, call in _TENSOR_CALLS.items()},
    "torch._tensor._rebuild_from_type_v2": _subclass,
    **dict.fromkeys(("collections.OrderedDict", *_KEYS_ALONE, *standing_for(dict)), _gather),
    **dict.fromkeys(standing_for(PurePosixPath, PureWindowsPath, str), _spell),
    "_codecs.encode": _encode,
    "builtins.getattr": _get,
    "builtins.bytearray": _bytearray,
    **dict.fromkeys(
        ("builtins.complex", "torch.Size", "torch.device", "torch.serialization._get_layout"), _make
    ),
}
"""What of torch's own allow-list is called in files of weights; not its functions that allocate or copy."""


def is_known(name: str) -> bool:
    """Whether what is called so is torch's for weights, or harmless."""
    return name in CALLS or _is_torch_value(name.rpartition(".")[0]) or is_harmless(name)


# The instructions that torch takes


def _global(read: Pickle) -> None:
    read.charge(CALL)
    written = read.line(), read.line()
    full = name_of(*written)
    module = full.rpartition(".")[0]
    read.stack.append(Named(full))
    read.named.add(full)
    if is_harmless(full) or (full not in CALLS and not _is_torch_value(module)):
        read.ask(full, ".".join(written))


def _is_torch_value(module: str) -> bool:
    """Where torch's types of numbers, storages and tensors live; itself refuses what is none."""
    return module in ("torch", "torch.storage", "torch.nn.parameter", "torch.cuda", "torch.sparse")


def _persistent(read: Pickle) -> None:
    read.charge(CALL)
    before = read.odd_keys
    read.key(read.stack.pop())  # torch looks its parts up
    read.odd_keys = before
    read.stack.append(Made("a storage"))


def _reduce(read: Pickle) -> None:
    arguments, function = read.stack.pop(), read.stack.pop()
    read.stack.append(read.call(function, arguments))


def _new(read: Pickle) -> None:
    arguments, kind = read.stack.pop(), read.stack.pop()
    read.stack.append(read.call(kind, arguments, new=True))


def _build(read: Pickle) -> None:
    """An object's state: of tensors, only files from before torch 0.4 set it so."""
    state, built = read.stack.pop(), read.stack[-1]
    read.look(state)
    if not isinstance(built, Made):
        raise TypeError("it sets the state of what has none")
    read.charge(CALL + LOOKED_UP * is_harmless(built.name))
    if built.name != "collections.OrderedDict" and not is_harmless(built.name):
        read.asked[built.name] = None


def _append(read: Pickle, items: list[Any]) -> None:
    target = read.stack[-1]
    read.place(items)
    if type(target) is list:
        target += items
    elif isinstance(target, Made):
        target.size += len(items)
    else:
        raise TypeError("it appends to what is not a list")


def _set(read: Pickle, items: list[Any]) -> None:
    for key in items[::2]:
        read.key(key)
    read.place(items[1::2])
    read.charge(ENTRY * (len(items) // 2))
    if not isinstance(read.stack[-1], Made):
        raise TypeError("it sets entries of what is not a dict")
    read.stack[-1].size += len(items) // 2


def _unmarked(read: Pickle) -> list[Any]:
    items, read.stack = read.stack, read.marked.pop()
    return items


def _mark(read: Pickle) -> None:
    read.marked.append(read.stack)
    read.stack = []


def _popped(read: Pickle, count: int) -> list[Any]:
    if len(read.stack) < count:
        raise IndexError("its stack is empty")
    items = read.stack[-count:]
    del read.stack[-count:]
    return items


_Step: TypeAlias = Callable[[Pickle], None]


def _pushes(value: Callable[[Pickle], Any]) -> _Step:
    return lambda read: read.stack.append(value(read))


def _number(code: str) -> _Step:
    size = struct.calcsize(code)
    return _pushes(lambda read: struct.unpack(code, read.take(size))[0])


def _remember(size: int) -> _Step:
    def step(read: Pickle) -> None:
        read.memo[int.from_bytes(read.take(size), "little")] = read.stack[-1]

    return step


def _text(read: Pickle) -> str:
    """Text in UTF-8; what only `surrogatepass` takes begins with ED, and takes a microsecond."""
    size = int.from_bytes(read.take(4), "little")
    read.charge(size // BYTES_PER_WORK)
    content = read.take(size)
    read.charge(content.count(b"\xed"))
    text = str(content, "utf-8", "surrogatepass")
    read.charge(max(0, getsizeof(text) - size) // BYTES_PER_WORK)  # up to four bytes for each letter
    return text


def _long(read: Pickle) -> int:
    return int.from_bytes(read.take(read.take(1)[0]), "little", signed=True)


STEPS: Mapping[int, _Step] = {
    CODES[code]: step
    for code, step in {
        "PROTO": lambda read: read.skip(1),
        "NONE": _pushes(lambda read: None),
        "NEWTRUE": _pushes(lambda read: True),
        "NEWFALSE": _pushes(lambda read: False),
        "EMPTY_TUPLE": _pushes(lambda read: ()),
        "EMPTY_LIST": _pushes(lambda read: []),
        "EMPTY_DICT": _pushes(lambda read: Made("dict")),
        "EMPTY_SET": _pushes(lambda read: Made("builtins.set")),
        "BININT": _number("<i"),
        "BININT1": _number("<B"),
        "BININT2": _number("<H"),
        "BINFLOAT": _number(">d"),
        "BINUNICODE": _pushes(_text),
        "SHORT_BINSTRING": _pushes(lambda read: read.take(read.take(1)[0])),
        "LONG1": _pushes(_long),
        "BINGET": _pushes(lambda read: read.memo[read.take(1)[0]]),
        "LONG_BINGET": _pushes(lambda read: read.memo[int.from_bytes(read.take(4), "little")]),
        "BINPUT": _remember(1),
        "LONG_BINPUT": _remember(4),
        "MARK": _mark,
        "TUPLE": lambda read: _tuple(read, _unmarked(read)),
        "TUPLE1": lambda read: _tuple(read, _popped(read, 1)),
        "TUPLE2": lambda read: _tuple(read, _popped(read, 2)),
        "TUPLE3": lambda read: _tuple(read, _popped(read, 3)),
        "APPEND": lambda read: _append(read, _popped(read, 1)),
        "APPENDS": lambda read: _append(read, _unmarked(read)),
        "SETITEM": lambda read: _set(read, _popped(read, 2)),
        "SETITEMS": lambda read: _set(read, _unmarked(read)),
        "GLOBAL": _global,
        "BINPERSID": _persistent,
        "REDUCE": _reduce,
        "NEWOBJ": _new,
        "BUILD": _build,
    }.items()
}


COST = 2
COSTS: Mapping[int, int] = {
    CODES[code]: cost
    for code, cost in {
        **dict.fromkeys(("EMPTY_DICT", "EMPTY_SET"), OBJECT),
        **dict.fromkeys(("SHORT_BINSTRING", "LONG1"), 8),  # of up to 255 bytes
        **dict.fromkeys(("EMPTY_LIST", "TUPLE1", "TUPLE2", "TUPLE3", "BINUNICODE"), 5),
        **dict.fromkeys(("TUPLE", "BINPUT", "LONG_BINPUT"), 4),
        **dict.fromkeys(("MARK", "BINGET", "LONG_BINGET"), 3),
    }.items()
}
"""Microseconds for an instruction, ours and torch's together; `COST` for all others."""


def _tuple(read: Pickle, items: list[Any]) -> None:
    read.stack.append(tuple(items))
