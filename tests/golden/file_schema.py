"""What is constant in a file that xface writes: its columns, or its keys and types."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import yaml
from safetensors import safe_open


def schema(file: Path):
    """Columns, or keys and types, of a file; "" of pictures and pages."""
    if file.suffix == ".parquet":
        columns = pq.read_schema(file)
        return {
            name: str(columns.field(name).type).replace("large_string", "string") for name in columns.names
        }
    if file.suffix == ".csv":
        return next(csv.reader(file.open(newline="")))
    if file.suffix in (".json", ".yaml"):
        return tree(
            yaml.safe_load(file.read_text()) if file.suffix == ".yaml" else json.loads(file.read_text())
        )
    if file.suffix == ".npz":
        return {name: f"{array.dtype}{list(array.shape)}" for name, array in np.load(file).items()}
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as content:
            return {key: tree(content.get_tensor(key)) for key in content.keys()}  # noqa: SIM118
    return checkpoint(file) if file.suffix == ".ckpt" else ""


def checkpoint(file: Path) -> dict:
    """Its keys, and what is xface's own below them; what is Lightning's and PyTorch's is theirs."""
    found = torch.load(file, weights_only=True)
    for theirs in ("loops", "optimizer_states", "lr_schedulers"):
        found[theirs] = None
    found["callbacks"] = {name: value for name, value in found["callbacks"].items() if name.isalpha()}
    return tree(found)


def tree(value):
    if isinstance(value, dict):
        return {str(key): tree(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [merged([tree(each) for each in value])] if value else []
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{list(value.shape)}"
    return "null" if value is None else type(value).__name__


def merged(trees: list):
    """One tree for the elements of a list: all keys, and every type that occurs."""
    if all(isinstance(each, dict) for each in trees):
        keys = dict.fromkeys(key for each in trees for key in each)
        return {key: merged([each[key] for each in trees if key in each]) for key in keys}
    if all(isinstance(each, list) for each in trees):
        inner = [each for part in trees for each in part]
        return [merged(inner)] if inner else []
    texts = [each if isinstance(each, str) else json.dumps(each) for each in trees]
    return "|".join(sorted({kind for text in texts for kind in text.split("|")}))
