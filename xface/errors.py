"""Every error that xface raises on purpose.

    XFaceError
    ├── UsageError             the call is wrong: fix the command
    │   ├── UnknownNameError   no such method, layer, architecture, bundled detector
    │   ├── TargetError        no such class, or not one target per image
    │   └── DeviceError        CUDA asked for and absent
    ├── ImageError             one image cannot be read
    ├── DataError              labelled data cannot be read, or not be divided as asked
    ├── LandmarkError          landmarks or their model cannot be read
    ├── CheckpointError        a checkpoint or its card cannot be restored
    ├── AttributionError       the method is undefined for this network
    └── OutputError            results cannot be written

Each message says what is wrong, with which file, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class XFaceError(Exception):
    """Anything that xface refuses or fails to do, with a message for the user."""


class UsageError(XFaceError):
    """The call itself is wrong."""


class UnknownNameError(UsageError):
    """A name that is in no registry; the message holds near matches.

    Example:
        >>> UnknownNameError("layer", "layer5", ["layer3", "layer4"]).args[0]
        "unknown layer 'layer5'; did you mean 'layer4', 'layer3'?"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], remedy: str = "") -> None:
        known = list(known)
        near = get_close_matches(name, known, n=4, cutoff=0.5)
        listed = ", ".join(repr(k) for k in near or known[:12])
        more = ", ..." if len(known) > 12 else ""
        hint = f"did you mean {listed}?" if near else f"known are {listed}{more}"
        end = "." if remedy and not near else ""
        super().__init__(f"unknown {kind} {name!r}; {hint}{end}{' ' + remedy if remedy else ''}")
        self._made_of = kind, name, known, remedy

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str], str]]:
        """Pickle it by what it was made of, so that a worker process can raise it to its caller."""
        return type(self), self._made_of


class InterruptedRunError(XFaceError):
    """A long run was stopped by its user, and can be resumed."""


class TargetError(UsageError):
    """A target that the network has no score for."""


class DeviceError(UsageError):
    """A device that this machine lacks."""


class ImageError(XFaceError):
    """An image that cannot be read."""


class DataError(XFaceError):
    """Labelled data that cannot be read, or not be divided as asked."""


class LandmarkError(XFaceError):
    """Landmarks that cannot be found or read."""


class CheckpointError(XFaceError):
    """A checkpoint or card that cannot be restored."""


class AttributionError(XFaceError):
    """A method that is undefined for this network or layer."""


class OutputError(XFaceError):
    """Results that cannot be written."""


LONGEST_REASON = 3000


def refusal(path: Path, reason: str) -> CheckpointError:
    """The error that says why a weights file cannot be restored, however odd the names in it are."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in reason[:LONGEST_REASON])
    return CheckpointError(f"cannot restore {str(path)!r}: {printable}")
