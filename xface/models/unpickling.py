"""Unpickling: what a pickle would do, followed step by step without doing it, before torch may read it.

torch's loader for weights alone runs no code of a file, but a small file can keep it busy for hours: keys of
nested tuples, numbers that collide, functions that allocate what they are told to. Here each instruction is
followed with nothing made but plain values, its cost is counted, and the names that it asks for are noted.
"""

from __future__ import annotations

import pickletools
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Mapping
from math import prod
from mmap import mmap
from typing import Any, Protocol, TypeAlias, cast

from xface.models.contents import MAX_NAME
from xface.models.stand_ins import is_harmless

MAX_WORK = 2_000_000
"""Instructions, and members of what is passed around; densenet121 has 25,000."""
MAX_CALLS = 60_000
"""Calls, names and storages; torch takes 50 microseconds for each. A tensor has three."""
MAX_ODD_KEYS = 5_000
"""Keys that are neither text nor small integers: whoever writes a file can make their hashes collide."""
MAX_KEY_DEPTH = 3
OBJECT = 10
"""Work for an object, and again for each place that it takes in a dict or list: all are looked at later."""
BYTES_PER_WORK = 100
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
    `harmless` those for which there are stand-ins.

    Example:
        >>> import pickle
        >>> read = Pickle(pickle.dumps({"a": print}, protocol=2))
        >>> read.follow(), sorted(read.asked)
        (<...Made object at ...>, ['builtins.print'])
    """

    def __init__(self, data: Data, at: int = 0) -> None:
        self.data, self.at = data, at
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.asked: dict[str, None] = {}
        self.harmless: set[str] = set()
        self.work = self.calls = self.odd_keys = 0

    def follow(self) -> object:
        """Go to the end, and return what the pickle holds.

        Raises:
            UnboundedError: it would cost too much.
            Exception: it is damaged (any kind), or has an instruction that torch does not take (KeyError).
        """
        while (operation := self.data[self.at]) != STOP:
            self.at += 1
            self.charge(1)
            STEPS[operation](self)
        self.at += 1
        return self.stack.pop()

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
            raise UnboundedError("more than two million entries")

    def place(self, values: list[Any]) -> None:
        """Count what it costs to look at each value later, at the same one again too."""
        self.charge(OBJECT * sum(isinstance(value, Made) for value in values))

    def look(self, value: object, depth: int = 2) -> int:
        """Count what it costs to look at each member of a value, and return it."""
        if isinstance(value, (list, tuple)):
            self.charge(len(value))
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

    def ask(self, name: str) -> None:
        """Note a name that is no part of plain weights."""
        if is_harmless(name):
            self.harmless.add(name)
        else:
            self.asked[name] = None

    def call(self, function: object, arguments: object, new: bool = False) -> Made:
        """What a call would make, after a look at what it would cost."""
        self.calls += 1
        if type(function) is not Named or type(arguments) is not tuple:
            raise TypeError("it calls what is no function")
        name, size = function.name, self.look(arguments)
        if not is_harmless(name) and (new or name not in CALLS):
            self.asked[name] = None
        made = CALLS.get(name, _make)(self, name, arguments)
        made.size = size
        return made

    def key(self, key: object, depth: int = 0) -> None:
        """Refuse a key whose hash would take long, or recurse deeply."""
        if type(key) is str or (type(key) is int and -SMALL < key < SMALL):
            return
        self.odd_keys += 1
        if depth > MAX_KEY_DEPTH or self.odd_keys > MAX_ODD_KEYS:
            raise UnboundedError("too many keys of dicts that are no text, or too deep ones")
        if type(key) is tuple:
            self.charge(len(key))
            for part in key:
                self.key(part, depth + 1)


# What may be called: (pickle, name, arguments) -> what it makes


class _Call(Protocol):
    def __call__(self, read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made: ...


def _make(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made:
    return Made(name)


def _gather(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made:
    """Containers that hash their members."""
    for members in arguments:
        for member in members if isinstance(members, (list, tuple)) else ():
            is_pair = name.endswith("OrderedDict") and isinstance(member, (list, tuple))
            read.key(member[0] if is_pair else member)
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


def _elements(size: object) -> int:
    return prod(abs(side) for side in cast("tuple[int, ...]", size)) if type(size) is tuple else 0


def _examine(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made:
    """Tensors made of others, at whose numbers torch looks."""
    parts = [part for value in arguments for part in (value if isinstance(value, tuple) else (value,))]
    read.charge(sum(part.elements for part in parts if isinstance(part, Made)) // BYTES_PER_WORK)
    return Made(name)


def _subclass(read: Pickle, name: str, arguments: tuple[Any, ...]) -> Made:
    """A tensor with attributes: it names the function that makes it."""
    function, _, its_arguments, _ = arguments
    return read.call(function, its_arguments)


_TENSOR_CALLS: Mapping[str, _Call] = {
    **dict.fromkeys(("tensor", "tensor_v2", "tensor_v3"), _rebuild),
    **dict.fromkeys(("parameter", "parameter_with_state", "meta_tensor_no_storage"), _make),
    **dict.fromkeys(("qtensor", "sparse_tensor", "nested_tensor"), _examine),
}
CALLS: Mapping[str, _Call] = {
    **{f"torch._utils._rebuild_{name}": call for name, call in _TENSOR_CALLS.items()},
    "torch._tensor._rebuild_from_type_v2": _subclass,
    **dict.fromkeys(("collections.OrderedDict", "collections.Counter", "builtins.set"), _gather),
    "_codecs.encode": _encode,
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
    read.calls += 1
    module, name = read.line(), read.line()
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    read.stack.append(Named(f"{module}.{name}"))
    if f"{module}.{name}" not in CALLS and not _is_torch_value(module):
        read.ask(f"{module}.{name}")
    _check_calls(read)


def _is_torch_value(module: str) -> bool:
    """Where torch's types of numbers, storages and tensors live; itself refuses what is none."""
    return module in ("torch", "torch.storage", "torch.nn.parameter", "torch.cuda", "torch.sparse")


def _persistent(read: Pickle) -> None:
    read.calls += 1
    before = read.odd_keys
    read.key(read.stack.pop())  # torch looks its parts up
    read.odd_keys = before
    read.stack.append(Made("a storage"))


def _reduce(read: Pickle) -> None:
    arguments, function = read.stack.pop(), read.stack.pop()
    read.stack.append(read.call(function, arguments))
    _check_calls(read)


def _new(read: Pickle) -> None:
    arguments, kind = read.stack.pop(), read.stack.pop()
    read.stack.append(read.call(kind, arguments, new=True))
    _check_calls(read)


def _build(read: Pickle) -> None:
    """An object's state: of tensors, only files from before torch 0.4 set it so."""
    state, built = read.stack.pop(), read.stack[-1]
    read.calls += 1
    read.look(state)
    if not isinstance(built, Made):
        raise TypeError("it sets the state of what has none")
    if built.name != "collections.OrderedDict" and not is_harmless(built.name):
        read.asked[built.name] = None


def _check_calls(read: Pickle) -> None:
    if read.calls > MAX_CALLS:
        raise UnboundedError(f"more than {MAX_CALLS // 3:,} tensors or other objects")


def _append(read: Pickle, items: list[Any]) -> None:
    target = read.stack[-1]
    read.place(items)
    if type(target) is list:
        target += items
    elif isinstance(target, Made):
        target.size += len(items)


def _set(read: Pickle, items: list[Any]) -> None:
    for key in items[::2]:
        read.key(key)
    read.place(items[1::2])
    if isinstance(read.stack[-1], Made):
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


def _empty(read: Pickle, name: str) -> Made:
    read.charge(OBJECT)
    return Made(name)


def _number(code: str) -> _Step:
    size = struct.calcsize(code)
    return _pushes(lambda read: struct.unpack(code, read.take(size))[0])


def _remember(size: int) -> _Step:
    def step(read: Pickle) -> None:
        read.memo[int.from_bytes(read.take(size), "little")] = read.stack[-1]

    return step


def _text(read: Pickle) -> str:
    return str(read.take(int.from_bytes(read.take(4), "little")), "utf-8", "surrogatepass")


STEPS: Mapping[int, _Step] = {
    CODES[code]: step
    for code, step in {
        "PROTO": lambda read: read.skip(1),
        "NONE": _pushes(lambda read: None),
        "NEWTRUE": _pushes(lambda read: True),
        "NEWFALSE": _pushes(lambda read: False),
        "EMPTY_TUPLE": _pushes(lambda read: ()),
        "EMPTY_LIST": _pushes(lambda read: []),
        "EMPTY_DICT": _pushes(lambda read: _empty(read, "dict")),
        "EMPTY_SET": _pushes(lambda read: _empty(read, "builtins.set")),
        "BININT": _number("<i"),
        "BININT1": _number("<B"),
        "BININT2": _number("<H"),
        "BINFLOAT": _number(">d"),
        "BINUNICODE": _pushes(_text),
        "SHORT_BINSTRING": _pushes(lambda read: read.take(read.take(1)[0])),
        "LONG1": _pushes(lambda read: int.from_bytes(read.take(read.take(1)[0]), "little", signed=True)),
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


def _tuple(read: Pickle, items: list[Any]) -> None:
    read.stack.append(tuple(items))
