"""An index of timm's networks by the names and shapes of their weights.

python -m xface.networks.timm_index    # writes timm_index.json again, for the timm that is installed
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

from xface.networks.architectures import TIMM, Shapes

INDEX = Path(__file__).with_name("timm_index.json")


def timm_names(shapes: Shapes) -> list[str]:
    """The networks whose state dict may have these names and shapes, whatever its number of classes.

    They are looked up in an index, as building all of timm's networks takes minutes; a network that is newer
    than the index isn't found.

    Example:
        >>> from xface.networks import architecture
        >>> network = architecture("timm/resnet26d").build(5)
        >>> timm_names({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
        ['timm/resnet26d']
    """
    found: list[str] = _index().get(fingerprint(shapes), [])
    return [f"{TIMM}{name}" for name in found]


def fingerprint(shapes: Shapes) -> str:
    """A short hash of names and shapes without each first side, which is the classes' number in a head."""
    entries = (f"{name}{shape[1:]}" for name, shape in shapes.items() if "num_batches_tracked" not in name)
    return sha256("\n".join(sorted(entries)).encode(errors="replace")).hexdigest()[:12]


@cache
def _index() -> Mapping[str, list[str]]:
    content: Mapping[str, list[str]] = json.loads(INDEX.read_text(encoding="utf-8"))
    return content


def _write_index() -> None:
    """Build each network of the installed timm without storage, and write the index again."""
    import timm
    import torch

    names: dict[str, list[str]] = {}
    for name in timm.list_models():
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            network = timm.create_model(name, pretrained=False, num_classes=2)
        if getattr(network, "pretrained_cfg", {}).get("classifier"):
            shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
            names.setdefault(fingerprint(shapes), []).append(name)
    INDEX.write_text(json.dumps(names, indent=0, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write_index()
