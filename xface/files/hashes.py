"""What files are known by: the SHA-256 of what they hold, not their names or times."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import RawIOBase

BLOCK = 2**20
MOST = 2**31
"""Of a larger file, a slip or a hole without end, the hash is that of its beginning."""
READERS = 4  # threads: reading and hashing let go of the interpreter


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file in hexadecimal digits, "" for what cannot be read, or is no file.

    Example:
        >>> sha256_of("nowhere.jpg")
        ''
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return ""
        with open(path, "rb", buffering=0) as file:
            return sha256_of_open(file)
    except (OSError, ValueError):
        return ""


def sha256_of_open(file: RawIOBase) -> str:
    """The SHA-256 of a file from where it stands."""
    digest, left = hashlib.sha256(), MOST
    while left > 0 and (block := file.read(BLOCK)):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest()


def hashes(paths: Sequence[str]) -> Iterator[str]:
    """The hash of each file, in their order."""
    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(sha256_of, paths)


def changed(paths: Sequence[str], expected: Sequence[str]) -> list[str]:
    """The files that don't hold what they held when they had these hashes."""
    return [path for path, now, before in zip(paths, hashes(paths), expected, strict=True) if now != before]


def named(names: Sequence[str], count: int = 3) -> str:
    """The first few of some names from outside, safe to print.

    Example:
        >>> named(["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
        "'a.jpg', 'b.jpg', 'c.jpg', ..."
    """
    more = ", ..." if len(names) > count else ""
    return f"{', '.join(map(repr, names[:count]))}{more}"
