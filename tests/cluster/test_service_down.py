"""The whole service out of reach: production takes in no new pod, and everything that runs goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.conftest import opted_in
from tests.cluster.manifests import deployment, pod, roll_out, web_pod
from tests.controlplane.cluster import ControlPlane, KubectlError
from tests.controlplane.components import LOCALHOST
from tests.controlplane.tidewaiter import NAME, NOBODY, Tidewaiter

NAMESPACE = "night"


@pytest.fixture(scope="module")
def night(tidewaiter: Tidewaiter) -> Iterator[ControlPlane]:
    plane = tidewaiter.plane
    opted_in(plane, NAMESPACE)
    plane.create_namespace("day")
    held = pod("held", NAMESPACE)
    held["metadata"]["finalizers"] = ["example.com/held"]
    plane.apply(deployment("shrinking", NAMESPACE), held)
    roll_out(plane, "shrinking", NAMESPACE)
    plane.register_service(NAME, NAME, NOBODY)
    try:
        yield plane
    finally:
        plane.register_service(NAME, NAME, (LOCALHOST, tidewaiter.port))
        tidewaiter.register()


def test_production_takes_in_no_pod(night: ControlPlane) -> None:
    with pytest.raises(KubectlError, match=r"failed calling webhook \"pods.tidewaiter.dev\""):
        night.apply(pod("late", NAMESPACE))


def test_a_label_of_a_running_pod_waits_for_the_service(night: ControlPlane) -> None:
    with pytest.raises(KubectlError, match="failed calling webhook"):
        night.kubectl("label", "pod", "held", "-n", NAMESPACE, "tidewaiter.dev/model-version=4", "--overwrite")


def test_workloads_and_other_namespaces_do_not_notice(night: ControlPlane) -> None:
    night.apply(deployment("planned", NAMESPACE), web_pod("web", "day"), pod("model", "day"))

    assert night.get("pod", "model", "day") is not None


def test_a_workload_scales_down(night: ControlPlane) -> None:
    night.kubectl("scale", "deployment/shrinking", "-n", NAMESPACE, "--replicas=0")

    night.kubectl("wait", "pod", "-n", NAMESPACE, "-l", "app=shrinking", "--for=delete", "--timeout=30s")


def test_a_finalizer_is_removed_and_the_pod_goes(night: ControlPlane) -> None:
    night.kubectl("delete", "pod", "held", "-n", NAMESPACE, "--wait=false")

    night.kubectl("patch", "pod", "held", "-n", NAMESPACE, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')

    night.kubectl("wait", "pod/held", "-n", NAMESPACE, "--for=delete", "--timeout=30s")
