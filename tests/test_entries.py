"""Entries of a registry: in front of others, for the length of a block, and refused ones."""

import pytest

from xface.errors import UnknownNameError
from xface.registry import Registry

ENTRIES = {"a": 1, "b": 2, "c": 3}


@pytest.fixture
def letters():
    registry = Registry[int]("letter")
    for name, entry in ENTRIES.items():
        registry.add(name, entry)
    return registry


@pytest.mark.parametrize(("before", "order"), [(None, "abcx"), ("a", "xabc"), ("b", "axbc"), ("c", "abxc")])
def test_an_entry_for_a_while_has_its_place_and_leaves_no_trace(letters, before, order):
    with letters.having("x", 9, before) as entry:
        assert ("".join(letters), letters["x"], entry) == (order, 9, 9)
    assert list(letters.items()) == list(ENTRIES.items())
    assert letters.add("x", 9, before) == 9
    assert "".join(letters) == order


def test_an_error_within_the_block_leaves_no_trace_either(letters):
    with pytest.raises(KeyError), letters.having("x", 9):
        {}["a"]
    assert list(letters.items()) == list(ENTRIES.items())


@pytest.mark.parametrize(
    ("name", "before", "error"),
    [("x", "y", UnknownNameError), ("b", "a", ValueError), ("b", None, ValueError)],
)
def test_a_refused_entry_changes_nothing(letters, name, before, error):
    with pytest.raises(error), letters.having(name, 9, before):
        pass
    assert list(letters.items()) == list(ENTRIES.items())
