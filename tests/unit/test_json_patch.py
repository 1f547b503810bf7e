from __future__ import annotations

import copy
import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.json_patch import diff

KEYS = st.sampled_from(["a", "b", "name", "mountPath", "a/b", "~", "~1", "m~n/o", "", "é"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, 1.0, 2.5])
    | st.sampled_from(["", "a", "x", "1"])
)
NAMED = st.lists(st.fixed_dictionaries({"name": st.sampled_from("abcdef")}, optional={"value": SCALARS}), max_size=6)
DOCUMENTS = st.recursive(
    SCALARS | NAMED,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


def typed(value: Any) -> str:
    """JSON text: tells 1 from true and from 1.0, which Python takes for equal."""
    return json.dumps(value, sort_keys=True)


def applied(before: Any, after: Any) -> Any:
    return jsonpatch.apply_patch(copy.deepcopy(before), diff(before, after))


@given(st.dictionaries(KEYS, DOCUMENTS, max_size=4), st.dictionaries(KEYS, DOCUMENTS, max_size=4))
def test_the_patch_gives_exactly_the_target(before: Any, after: Any) -> None:
    kept = typed(before), typed(after)
    assert typed(applied(before, after)) == typed(after)
    assert (typed(before), typed(after)) == kept
    assert not diff(after, copy.deepcopy(after))


@given(NAMED, NAMED)
def test_lists_of_named_entries_give_exactly_the_target(before: Any, after: Any) -> None:
    assert typed(applied({"env": before}, {"env": after})) == typed({"env": after})


@pytest.mark.parametrize(
    ("before", "after", "operations"),
    [
        ({}, {"a": {"b": [1]}}, [{"op": "add", "path": "/a", "value": {"b": [1]}}]),
        ({"a": None}, {"a": {}}, [{"op": "replace", "path": "/a", "value": {}}]),
        ({"a": 1}, {}, [{"op": "remove", "path": "/a"}]),
        ({"a": 1}, {"a": True}, [{"op": "replace", "path": "/a", "value": True}]),
        ({"a": [1]}, {"a": [1.0]}, [{"op": "replace", "path": "/a/0", "value": 1.0}]),
        ({"x/y": {"~": 1}}, {"x/y": {"~": 2}}, [{"op": "replace", "path": "/x~1y/~0", "value": 2}]),
        ({"a~1": 1}, {}, [{"op": "remove", "path": "/a~01"}]),
        (
            {"l": [{"name": "b"}]},
            {"l": [{"name": "a"}, {"name": "b"}, {"name": "c"}]},
            [
                {"op": "add", "path": "/l/0", "value": {"name": "a"}},
                {"op": "add", "path": "/l/2", "value": {"name": "c"}},
            ],
        ),
        ({"l": [1, 2, 3]}, {"l": [1, 3]}, [{"op": "remove", "path": "/l/1"}]),
        ({"l": [{"a": 1}]}, {"l": [{"a": 1}, {"b": 2}]}, [{"op": "add", "path": "/l/1", "value": {"b": 2}}]),
        ({"a": [1]}, {"a": {"0": 1}}, [{"op": "replace", "path": "/a", "value": {"0": 1}}]),
    ],
)
def test_operations_are_few_and_name_no_missing_parent(before: Any, after: Any, operations: list[Any]) -> None:
    assert typed(diff(before, after)) == typed(operations)
    assert typed(applied(before, after)) == typed(after)


def test_mounts_of_one_volume_are_told_apart_by_their_path() -> None:
    before = {"m": [{"name": "v", "mountPath": "/a"}]}
    after = {"m": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]}
    assert diff(before, after) == [{"op": "add", "path": "/m/1", "value": {"name": "v", "mountPath": "/b"}}]
