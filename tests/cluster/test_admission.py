"""The main job: a plain manifest runs safely, a bad one is refused with a reason."""

from __future__ import annotations

import json

import pytest

from tests.cluster.conftest import opted_in
from tests.cluster.manifests import deployment, pod, pods_of, roll_out, the_pod_of
from tests.controlplane.cluster import ControlPlane, KubectlError
from tests.controlplane.waiting import wait_until

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def test_with_tidewaiter_a_plain_deployment_runs_on_the_tainted_node_under_pod_security(plane: ControlPlane) -> None:
    plane.apply(deployment("resnet"))

    roll_out(plane, "resnet")

    stored = the_pod_of(plane, "resnet", "models")
    spec = stored["spec"]
    assert spec["nodeName"] == "gpu-board-1"
    assert (spec["priorityClassName"], spec["priority"]) == ("tidewaiter-inference-production", 1000)
    assert stored["metadata"]["labels"]["team"] == "serving"
    assert stored["status"]["phase"] == "Running"


def test_without_tidewaiter_the_same_deployment_stays_pending_for_the_taint(plane: ControlPlane) -> None:
    plane.create_namespace("exempt")

    plane.apply(deployment("resnet", "exempt"))

    assert "untolerated taint" in wait_until(lambda: _unschedulable(plane, "exempt"), "the scheduler's verdict")
    assert the_pod_of(plane, "resnet", "exempt")["status"]["phase"] == "Pending"


def test_without_tidewaiter_pod_security_refuses_the_same_deployment(plane: ControlPlane) -> None:
    # Not opted in: Tidewaiter would only say what it would do.
    plane.create_namespace("strict", RESTRICTED)

    plane.apply(deployment("resnet", "strict"))

    assert "violates PodSecurity" in wait_until(lambda: _replica_failure(plane, "strict"), "the failure to show")
    assert pods_of(plane, "resnet", "strict") == []


@pytest.mark.parametrize("kind", ["Pod", "Deployment"])
def test_an_unapproved_version_is_refused_when_it_is_applied(plane: ControlPlane, kind: str) -> None:
    stranger = (
        pod("stranger", "models", version="4") if kind == "Pod" else deployment("stranger", "models", version="4")
    )

    with pytest.raises(KubectlError, match="resnet50:4 is not in the registry"):
        plane.apply(stranger)


def test_an_approved_model_with_a_digest_is_preloaded_before_its_server(plane: ControlPlane) -> None:
    plane.apply(deployment("bert", model="bert", version="1"))

    roll_out(plane, "bert")

    (preload,) = the_pod_of(plane, "bert", "models")["spec"]["initContainers"]
    assert preload["name"] == "tidewaiter-preload"
    assert "--source=s3://models/bert/1" in preload["args"]


def test_staging_admits_with_a_warning_what_production_refuses(plane: ControlPlane) -> None:
    opted_in(plane, "trial", "staging")
    manifest = json.dumps(pod("stranger", "trial", version="4"))

    said = plane.kubectl("create", "-f", "-", input=manifest).stderr

    assert "Warning: " in said
    assert "resnet50:4 is not in the registry" in said
    assert plane.get("pod", "stranger", "trial") is not None


def _unschedulable(plane: ControlPlane, namespace: str) -> str:
    (stored,) = pods_of(plane, "resnet", namespace) or [{}]
    conditions = stored.get("status", {}).get("conditions", ())
    return "".join(one.get("message", "") for one in conditions if one["type"] == "PodScheduled")


def _replica_failure(plane: ControlPlane, namespace: str) -> str:
    stored = plane.get("deployment", "resnet", namespace) or {}
    conditions = stored.get("status", {}).get("conditions", ())
    return "".join(one["message"] for one in conditions if one["type"] == "ReplicaFailure")
