"""The annotation that ties the two records of a pod together goes in with every change, and only then."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest

from admission.review_mark import REVIEW_KEY, marked

LABEL = {"op": "add", "path": "/metadata/labels/team", "value": "a"}


@pytest.mark.parametrize(
    ("metadata", "patch"),
    [
        ({"labels": {}}, [LABEL]),
        ({"labels": {}, "annotations": None}, [LABEL]),
        ({"labels": {}, "annotations": {}}, [LABEL]),
        ({"labels": {}, "annotations": {"a": "b"}}, [LABEL]),
        ({"labels": {}, "annotations": {REVIEW_KEY: "older"}}, [LABEL]),
        ({"labels": {}}, [LABEL, {"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}]),
        ({"labels": {}, "annotations": {"x": "y"}}, [{"op": "add", "path": "/metadata/annotations/a", "value": "b"}]),
    ],
)
def test_a_pod_that_is_changed_names_the_review_and_keeps_everything_else(
    metadata: dict[str, Any], patch: list[dict[str, Any]]
) -> None:
    before = {"metadata": metadata}
    expected = jsonpatch.apply_patch(before, patch)

    found = jsonpatch.apply_patch(before, list(marked(patch, before, "u-1")))

    annotations = expected["metadata"].get("annotations") or {}
    assert found["metadata"].pop("annotations") == {**annotations, REVIEW_KEY: "u-1"}
    expected["metadata"].pop("annotations", None)
    assert found == expected


def test_a_pod_that_is_not_changed_stays_as_it_is() -> None:
    assert marked((), {"metadata": {}}, "u-1") == ()


def test_the_patch_that_is_given_is_left_alone() -> None:
    patch = [{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}]
    marked(patch, {"metadata": {}}, "u-1")
    assert patch == [{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}]
