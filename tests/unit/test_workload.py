from __future__ import annotations

import pytest

from admission.frameworks import FRAMEWORKS
from admission.workload import WorkloadClass, trusted_owner_kind, workload_class
from admission.workload_kinds.kinds import WORKLOAD_KINDS

ALL = tuple(WorkloadClass)
KEY = "tidewaiter.dev/workload"


@pytest.mark.parametrize(
    ("labels", "owner", "allowed", "expected"),
    [
        ({}, "", ALL, "inference"),
        ({KEY: "batch"}, "", ALL, "batch"),
        ({KEY: "batch"}, "Job", ALL, "batch"),
        ({KEY: "batch"}, "Job", ("inference", "training"), "training"),
        ({KEY: "batch"}, "", ("inference",), "inference"),
        ({KEY: "notebook"}, "", ALL, "inference"),
        ({KEY: ""}, "CronJob", ALL, "training"),
        ({}, "ReplicaSet", ("batch", "inference"), "inference"),
        ({}, "Job", ("inference", "batch"), "inference"),
        ({"training.kubeflow.org/job-name": "x"}, "", ALL, "inference"),
        ({"trainer.kubeflow.org/trainjob-ancestor-step": "x"}, "", ALL, "inference"),
        ({"trainer.kubeflow.org/trainjob-ancestor-step": "x"}, "Job", ALL, "training"),
        ({"training.kubeflow.org/job-name": "x", KEY: "training"}, "", ALL, "training"),
        ({"training.kubeflow.org/job-name": "x", KEY: "training"}, "", ("inference",), "inference"),
        ({"training.kubeflow.org/job-name": "x"}, "StatefulSet", ALL, "inference"),
        ({"serving.kserve.io/inferenceservice": "x"}, "Unknown", ALL, "inference"),
    ],
)
def test_the_label_counts_only_where_it_is_allowed(
    labels: dict[str, str], owner: str, allowed: tuple[str, ...], expected: str
) -> None:
    classes = tuple(WorkloadClass(one) for one in allowed)
    assert workload_class(labels, owner, classes, WorkloadClass.INFERENCE) == expected


@pytest.mark.parametrize("default", list(WorkloadClass))
@pytest.mark.parametrize("label", [key for one in FRAMEWORKS for key, _ in one.labels])
def test_a_label_of_another_system_chooses_no_class_but_the_one_that_every_rule_covers(
    label: str, default: WorkloadClass
) -> None:
    assert workload_class({label: "x"}, "", ALL, default) in (WorkloadClass.INFERENCE, default)


def test_an_inferred_class_that_is_not_allowed_falls_back_to_the_namespaces_default() -> None:
    assert workload_class({}, "Job", (WorkloadClass.BATCH,), WorkloadClass.DEVELOPMENT) == "development"


@pytest.mark.parametrize(
    ("kind", "username", "trusted"),
    [
        ("ReplicaSet", "system:serviceaccount:kube-system:replicaset-controller", True),
        ("Job", "system:serviceaccount:kube-system:job-controller", True),
        ("DaemonSet", "system:serviceaccount:kube-system:daemon-set-controller", True),
        ("StatefulSet", "system:kube-controller-manager", True),
        ("DaemonSet", "mia", False),
        ("DaemonSet", "system:serviceaccount:kube-system:job-controller", False),
        ("DaemonSet", "system:serviceaccount:models:daemon-set-controller", False),
        ("DaemonSet", "", False),
        ("RayCluster", "system:kube-controller-manager", False),
    ],
)
def test_an_owner_counts_only_in_a_request_of_its_controller(kind: str, username: str, trusted: bool) -> None:
    pod = {"metadata": {"ownerReferences": [{"kind": "Node"}, {"kind": kind, "controller": True}]}}
    assert trusted_owner_kind(pod, username) == (kind if trusted else "")


@pytest.mark.parametrize("references", [None, [], [{"kind": "Job"}], [{"kind": "Job", "controller": False}]])
def test_without_a_controlling_owner_there_is_none(references: object) -> None:
    pod = {"metadata": {"ownerReferences": references}}
    assert trusted_owner_kind(pod, "system:kube-controller-manager") == ""
    assert trusted_owner_kind({}, "system:kube-controller-manager") == ""


@pytest.mark.parametrize("kind", [one.kind for one in WORKLOAD_KINDS if one.group == "kubeflow.org"])
def test_pods_of_a_training_operator_are_training_as_their_job_is(kind: str) -> None:
    assert workload_class({}, kind, ALL, WorkloadClass.INFERENCE) == WorkloadClass.TRAINING
