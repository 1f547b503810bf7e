"""/mutate out of reach, /validate alive: nothing uninjected enters, and what runs goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import opted_in
from tests.cluster.manifests import deployment, job, pod, pods_of, roll_out, the_pod_of
from tests.controlplane.cluster import ControlPlane, KubectlError
from tests.controlplane.tidewaiter import Tidewaiter
from tests.controlplane.waiting import wait_until

NAMESPACE = "outage"
RUNNING = {
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
        "containerStatuses": [
            {
                "name": "triton",
                "image": "i",
                "imageID": "i",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }
        ],
    }
}
TRACKING = "batch.kubernetes.io/job-tracking"


@pytest.fixture(scope="module")
def outage(tidewaiter: Tidewaiter) -> Iterator[ControlPlane]:
    """A Deployment and a Job run; then /mutate goes away. KWOK completes a Job's pod at once, so it waits."""
    plane = tidewaiter.plane
    # Not where Pod Security enforces: its refusal would hide ours.
    opted_in(plane, NAMESPACE)
    plane.apply(deployment("shrinking", NAMESPACE))
    roll_out(plane, "shrinking", NAMESPACE)
    plane.stop("kwok")
    try:
        plane.apply(job("training", NAMESPACE))
        name = the_pod_of(plane, "training", NAMESPACE)["metadata"]["name"]
        wait_until(lambda: _bound(plane), "the Job's pod to be bound")
        plane.kubectl(
            "patch", "pod", name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", json.dumps(RUNNING)
        )
        with tidewaiter.mutate_down():
            plane.start("kwok")
            yield plane
    finally:
        plane.start("kwok")


def test_nothing_uninjected_enters_production(outage: ControlPlane) -> None:
    with pytest.raises(KubectlError, match="injection-missing"):
        outage.apply(pod("bare", NAMESPACE))


def test_the_replicas_of_a_workload_are_refused_too_and_its_status_says_so(outage: ControlPlane) -> None:
    outage.apply(deployment("late", NAMESPACE))

    def failure() -> str:
        status = (outage.get("deployment", "late", NAMESPACE) or {}).get("status", {})
        return "".join(one["message"] for one in status.get("conditions", ()) if one["type"] == "ReplicaFailure")

    assert "injection-missing" in wait_until(failure, "the ReplicaSet to fail")
    assert pods_of(outage, "late", NAMESPACE) == []


def test_a_running_job_finishes_and_its_finalizer_goes(outage: ControlPlane) -> None:
    outage.kubectl("wait", "job/training", "-n", NAMESPACE, "--for=condition=Complete", "--timeout=40s")

    stored = the_pod_of(outage, "training", NAMESPACE)
    assert stored["status"]["phase"] == "Succeeded"
    assert TRACKING not in stored["metadata"].get("finalizers", ())


def test_a_workload_scales_down(outage: ControlPlane) -> None:
    outage.kubectl("scale", "deployment/shrinking", "-n", NAMESPACE, "--replicas=0")

    outage.kubectl("wait", "pod", "-n", NAMESPACE, "-l", "app=shrinking", "--for=delete", "--timeout=30s")


def _bound(plane: ControlPlane) -> bool:
    (stored,) = pods_of(plane, "training", NAMESPACE)
    assert TRACKING in stored["metadata"]["finalizers"]
    return bool(stored["spec"].get("nodeName"))
