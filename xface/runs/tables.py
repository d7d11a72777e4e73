"""The tables of a run's folder: what columns they have, and of which types."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

TABLES = ("regions", "thumbnails", "images")
EFFECTS = "effects"
"""A table that a run may have besides."""

WORDS = ("image", "label", "group", "called", "outcome", "status", "reason")
"""The columns of words that every table of images has."""

REGIONS_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        *[(name, pa.string()) for name in ("image", "method", "layer", "status", "region")],
        *[(name, pa.float64()) for name in ("share", "lift", "area", "face_share", "face_lift")],
        ("coarse", pa.bool_()),
    ]
)
EFFECTS_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        *[(name, pa.string()) for name in ("image", "region", "status")],
        *[(name, pa.float64()) for name in ("effect", "effect_positive", "effect_probability", "spread")],
        *[(name, pa.float64()) for name in ("control", "area", "control_area")],
        *[(name, pa.bool_()) for name in ("flips", "control_flips")],
    ]
)
THUMBNAILS_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("face", pa.binary()),
        ("landmarks", pa.list_(pa.float32())),
        ("maps", pa.list_(pa.binary())),
        ("shapes", pa.list_(pa.list_(pa.int32()))),
        ("peaks", pa.list_(pa.float32())),
    ]
)


def images_schema(others: Sequence[str], attributes: Sequence[str]) -> pa.Schema:
    """The schema of a table of images, with the data's `others` columns and the face's `attributes`."""
    return pa.schema(
        [
            ("row", pa.int64()),
            *[(name, pa.string()) for name in ("image", "label", "group", *others, "sha256")],
            ("width", pa.int64()),
            ("height", pa.int64()),
            ("score", pa.float64()),
            *[(name, pa.string()) for name in ("called", "outcome", "status", "reason")],
            *[(name, pa.float64()) for name in attributes],
        ]
    )


def effects_schema(fills: Sequence[str]) -> pa.Schema:
    """The schema of a table of effects, with a column for the effect by each fill."""
    return pa.schema([*EFFECTS_SCHEMA, *[(f"effect_{fill}", pa.float64()) for fill in fills]])


OWN_COLUMNS = frozenset(images_schema([], []).names)
"""Those that every table of images has."""


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the schema's columns in its types, the others as they are; or ValueError.

    Other programs write words as categories or numbers as whole ones; a word isn't taken for a number.

    Example:
        >>> words = pa.table({"image": pa.array(["a", "a"]).dictionary_encode(), "more": [1, 2]})
        >>> conformed(words, pa.schema([("image", pa.string())])).schema.types
        [DataType(string), DataType(int64)]
    """
    for field in schema:
        if field.name not in table.schema.names:
            raise ValueError(f"it lacks the column {field.name!r}")
        place = table.schema.get_field_index(field.name)
        if place < 0:
            raise ValueError(f"it has the column {field.name!r} twice")
        found = table.schema.field(place).type
        if found == field.type:
            continue
        if _kind(found) != _kind(field.type) and not pa.types.is_null(found):
            raise ValueError(f"its column {field.name!r} holds {found}, not {field.type}")
        table = table.set_column(place, field, table.column(place).cast(field.type))
    return table


def _kind(found: pa.DataType) -> str:
    kinds = {
        "words": (pa.types.is_string, pa.types.is_large_string),
        "bytes": (pa.types.is_binary, pa.types.is_large_binary),
        "number": (pa.types.is_integer, pa.types.is_floating),
        "lists": (pa.types.is_list, pa.types.is_large_list),
    }
    if pa.types.is_dictionary(found):
        return _kind(found.value_type)
    name = next((name for name, tests in kinds.items() if any(test(found) for test in tests)), str(found))
    return f"lists of {_kind(found.value_type)}" if name == "lists" else name
