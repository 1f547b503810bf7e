"""Templates as their controllers keep them."""

from __future__ import annotations

from typing import Any

import pytest

from admission.template_history import kept_template, template_fingerprint
from webhook.cluster_state import ClusterState

_TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
_OWNER = {"uid": "u-1", "kind": "Deployment", "controller": True}


def _kept(kind: str, template: dict[str, Any] = _TEMPLATE, name: str = "a-1") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "models", "ownerReferences": [_OWNER]}
    if kind == "ControllerRevision":
        return {"kind": kind, "metadata": metadata, "data": {"spec": {"template": {"$patch": "replace", **template}}}}
    labels = {**template["metadata"]["labels"], "pod-template-hash": "5d8f"}
    return {"kind": kind, "metadata": metadata, "spec": {"template": {**template, "metadata": {"labels": labels}}}}


@pytest.mark.parametrize("kind", ["ReplicaSet", "ControllerRevision"])
def test_what_a_controller_keeps_has_the_fingerprint_of_the_workloads_template(kind: str) -> None:
    state = ClusterState()

    state.put(_kept(kind))

    assert state.had_template("models", "u-1", template_fingerprint(_TEMPLATE))
    assert not state.had_template("models", "u-2", template_fingerprint(_TEMPLATE))


def test_another_image_label_or_annotation_is_another_template() -> None:
    others = [
        {**_TEMPLATE, "spec": {"containers": [{"name": "a", "image": "c"}]}},
        {**_TEMPLATE, "metadata": {"labels": {"app": "b"}}},
        {**_TEMPLATE, "metadata": {"labels": {"app": "a"}, "annotations": {"tidewaiter.dev/model": "m"}}},
    ]

    assert len({template_fingerprint(one) for one in [_TEMPLATE, *others]}) == 4


def test_a_template_is_forgotten_with_the_last_object_that_keeps_it() -> None:
    state = ClusterState()
    state.put(_kept("ReplicaSet", name="a-1"))
    state.put(_kept("ReplicaSet", name="a-2"))
    fingerprint = template_fingerprint(_TEMPLATE)

    state.remove("ReplicaSet", "models", "a-1")
    assert state.had_template("models", "u-1", fingerprint)
    state.keep_only("ReplicaSet", set())

    assert not state.had_template("models", "u-1", fingerprint)


@pytest.mark.parametrize(
    "obj",
    [
        {"kind": "ReplicaSet", "metadata": {"name": "a"}, "spec": {"template": _TEMPLATE}},
        {"kind": "ControllerRevision", "metadata": {"name": "a", "ownerReferences": [_OWNER]}, "data": None},
        {"kind": "ControllerRevision", "metadata": {"name": "a", "ownerReferences": [_OWNER]}, "data": {"raw": "x"}},
    ],
)
def test_what_nobody_owns_or_is_no_template_is_not_kept(obj: dict[str, Any]) -> None:
    assert kept_template(obj) is None


def test_what_stands_in_another_namespace_is_no_evidence() -> None:
    state = ClusterState()

    state.put(_kept("ReplicaSet"))

    assert not state.had_template("sandbox", "u-1", template_fingerprint(_TEMPLATE))
