"""Checkpoints that are complete or absent, and the weights that a finished run leaves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xface.detectors.card import Card, card_path, read_card, write_card
from xface.detectors.checkpoints.checkpoint import read_checkpoint
from xface.errors import CheckpointError, OutputError
from xface.files.hashes import sha256_of
from xface.files.writing import written_aside
from xface.training.config import Config

SEAL = "xface_seal"


class AsideIO(TorchCheckpointIO):
    """Write a checkpoint beside its place and rename it; read one without running code of its.

    It holds a hash of all else in it, so that one that was changed after it was written isn't resumed from;
    `check` may refuse one, before anything of it is used.

    Lightning's own writes to the system's temporary folder, from where a file may have to be copied: a kill
    in the middle of that leaves half a file.
    """

    def __init__(self, check: Callable[[Mapping[str, Any]], None] = lambda checkpoint: None) -> None:
        super().__init__()
        self.check = check

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; raises OutputError."""
        target = Path(path)
        with written_aside(target) as part:
            try:
                torch.save({**checkpoint, SEAL: seal(checkpoint)}, part)
            except RuntimeError as error:  # torch's writer on a full disk
                raise OutputError(f"{target}: cannot be written ({error}); make room") from error

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: Any = None
    ) -> dict[str, Any]:
        """Read a checkpoint; raises CheckpointError."""
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen kinds for damaged files
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{str(path)!r} is damaged ({reason}); remove it to start the run again"
            ) from error
        if not isinstance(content, dict) or content.pop(SEAL, None) != seal(content):
            raise CheckpointError(
                f"{str(path)!r} is damaged or was changed by hand; remove it to start the run again"
            )
        if "state_dict" in content:  # else the bare weights, by which Lightning's processes hand them over
            self.check(content)
        return content


def seal(value: Any) -> str:
    """A hash of plain values and tensors, the same before they are written and after they are read.

    Example:
        >>> seal({"a": torch.ones(2)}) == seal({"a": torch.ones(2)}) != seal({"a": torch.zeros(2)})
        True
    """
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[Any]:
    """All that is in a value, as bytes, with what kind of thing each is before it."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        yield f"{plain.dtype} {tuple(plain.shape)}".encode()
        yield plain.reshape(-1).view(torch.uint8).numpy().data
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}".encode()
        for key, inner in value.items():
            yield repr(key).encode()
            yield from _parts(inner)
    elif isinstance(value, list | tuple):
        yield f"list {len(value)}".encode()
        for inner in value:
            yield from _parts(inner)
    else:
        yield repr(value).encode()


def write_detector(model: nn.Module, card: Card, weights: Path, half: bool) -> Card:
    """Write a network's weights as safetensors, and its card beside them; returns the card with their hash.

    Raises:
        OutputError: they cannot be written.
    """
    state = {name: _plain(tensor, half) for name, tensor in model.state_dict().items()}
    with written_aside(weights) as part:
        try:
            save_file(state, part, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OutputError(f"{weights}: cannot be written ({error}); make room") from error
        part.chmod(0o666 & ~_umask())  # safetensors makes a file that nobody else may read
        hashed = replace(card, sha256=read_checkpoint(part).sha256, source=card_path(weights).name)
        rewrite_card(hashed, weights)
    return hashed


def rewrite_card(card: Card, weights: Path) -> None:
    """Write the card of a weights file, whole or not at all; raises OutputError."""
    with written_aside(card_path(weights)) as part:
        write_card(card, part)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def kept_card(weights: Path, config: Config) -> Card:
    """The card of a run's weights.

    Raises:
        CheckpointError: it cannot be read, or isn't that of a run with this config, or the weights aren't
            those that it was written for, such as a file cut short.
    """
    card, found = read_card(card_path(weights)), sha256_of(weights)
    if card.sha256 is None or card.sha256 != found:
        state = "are not as the run wrote them" if found else "are gone"
        raise CheckpointError(f"the weights {str(weights)!r} {state}, by their card's sha256; put them back")
    if card.arch != config.network or "epoch" not in card.scores:
        raise CheckpointError(f"the card of {str(weights)!r} isn't this run's; put back what was there")
    return card


def read_state(weights: Path) -> Mapping[str, Tensor]:
    """The tensors of a weights file by their names, in single precision; CheckpointError if it is damaged."""
    try:
        state = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"the weights {str(weights)!r} cannot be read ({error}); put them back"
        ) from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _plain(tensor: Tensor, half: bool) -> Tensor:
    """A copy, as safetensors refuses two names that share one weight."""
    plain = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return plain.half() if half and plain.is_floating_point() else plain
