"""Each kind's example: which pods come of it, and where its author wrote what is in them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from admission.workload_kinds.kinds import WORKLOAD_KINDS, workload_kind
from admission.workload_kinds.workload_pod import WorkloadKind, WorkloadPod
from tests.unit.workload_kinds.author_paths import (
    AbsentError,
    at,
    examples,
    facts,
    is_brought,
    said_by_containers,
    said_by_metadata,
)

EXAMPLES = examples()
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=[one["name"] for one in EXAMPLES])


def _kind(obj: dict[str, Any]) -> WorkloadKind:
    group = obj["apiVersion"].rpartition("/")[0]
    found = workload_kind(group, obj["kind"])
    assert found is not None, f"{obj['kind']} is no known kind"
    return found


def _pods(example: dict[str, Any]) -> list[WorkloadPod]:
    return list(_kind(example["object"]).pods(example["object"], "models", facts(example)))


@each_example
def test_the_pods_are_those_that_the_controller_would_create(example: dict[str, Any]) -> None:
    found = _pods(example)
    assert [(one.role, one.owner_kind, one.workload, one.loads_model) for one in found] == [
        (one.get("role", ""), one["owner"], one.get("workload"), one.get("loads", True)) for one in example["pods"]
    ]
    for pod, expected in zip(found, example["pods"], strict=True):
        for path, value in (expected.get("has") or {}).items():
            assert at(pod.pod, path) == value, path
        for path in expected.get("lacks") or ():
            with pytest.raises(AbsentError):
                at(pod.pod, path)
        for path, where in (expected.get("authored") or {}).items():
            assert pod.authored(path) == where, path


@each_example
def test_what_a_pod_says_is_found_where_its_author_wrote_it(example: dict[str, Any]) -> None:
    for pod in _pods(example):
        for path, value in (*said_by_containers(pod.pod), *said_by_metadata(pod.pod)):
            where = pod.authored(path)
            found = at(example["object"], where)
            if not is_brought(pod, path):
                assert found == value, f"{path} at {where}"


@each_example
def test_neither_the_object_nor_the_runtimes_are_edited(example: dict[str, Any]) -> None:
    before = copy.deepcopy(example)
    _pods(example)
    assert example == before


def test_every_kind_has_an_example() -> None:
    templates_alone = {
        ("apps", "StatefulSet"),
        ("apps", "DaemonSet"),
        ("apps", "ReplicaSet"),
        ("", "ReplicationController"),
        ("kubeflow.org", "TFJob"),
        ("kubeflow.org", "XGBoostJob"),
        ("kubeflow.org", "JAXJob"),
        ("kubeflow.org", "PaddleJob"),
        ("serving.knative.dev", "Configuration"),
        ("serving.kubeflow.org", "InferenceService"),
    }
    shown = {(one["object"]["apiVersion"].rpartition("/")[0], one["object"]["kind"]) for one in EXAMPLES}
    assert shown | templates_alone == {(one.group, one.kind) for one in WORKLOAD_KINDS}
    assert len({(one.group, one.kind) for one in WORKLOAD_KINDS}) == len(WORKLOAD_KINDS)


def test_an_unknown_kind_is_none() -> None:
    assert workload_kind("", "Pod") is None
    assert workload_kind("extensions", "Deployment") is None
