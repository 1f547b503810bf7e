"""After a pod was admitted: what is new is judged, what was there before is not held against anybody."""

from __future__ import annotations

import json

import pytest

from tests.cluster.conftest import opted_in
from tests.cluster.manifests import DIGEST, Object, pod
from tests.controlplane.cluster import ControlPlane, KubectlError
from tests.controlplane.tidewaiter import Tidewaiter
from tests.controlplane.waiting import wait_until

NAMESPACE, EARLIER = "debugged", "tightened"
RESTRICTED_CONTEXT = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def running(plane: ControlPlane) -> ControlPlane:
    """A good pod runs in production, where Pod Security does not enforce: its refusal would hide ours."""
    opted_in(plane, NAMESPACE)
    plane.apply(pod("resnet", NAMESPACE))
    plane.kubectl("wait", "pod/resnet", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=30s")
    return plane


def test_kubectl_debug_with_a_privileged_profile_is_refused(running: ControlPlane) -> None:
    done = running.kubectl(
        "debug", "pod/resnet", "-n", NAMESPACE, "--profile=sysadmin", f"--image=docker.io/library/busybox@{DIGEST}",
        "--container=root-shell", check=False,
    )  # fmt: skip

    assert done.returncode != 0
    assert "spec.ephemeralContainers[0]" in done.stderr
    assert "(rule security-posture)" in done.stderr
    assert _ephemeral(running) == []


def test_an_ephemeral_container_that_nobody_pinned_is_refused(running: ControlPlane) -> None:
    with pytest.raises(KubectlError, match='busybox:1" is not pinned by digest'):
        _debug(
            running, {"name": "shell", "image": "docker.io/library/busybox:1", "securityContext": RESTRICTED_CONTEXT}
        )


def test_an_ephemeral_container_that_sees_every_gpu_is_refused(running: ControlPlane) -> None:
    shell = {"name": "shell", "image": f"docker.io/library/busybox@{DIGEST}", "securityContext": RESTRICTED_CONTEXT}
    with pytest.raises(KubectlError, match="NVIDIA_VISIBLE_DEVICES='all' shows the container GPUs"):
        _debug(running, {**shell, "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]})


def test_a_restricted_ephemeral_container_is_admitted(running: ControlPlane) -> None:
    shell = {"name": "good", "image": f"docker.io/library/busybox@{DIGEST}", "securityContext": RESTRICTED_CONTEXT}

    _debug(running, shell)

    assert _ephemeral(running) == ["good"]


def test_a_resize_is_judged_and_admitted_where_it_makes_nothing_worse(
    running: ControlPlane, tidewaiter: Tidewaiter
) -> None:
    _resize(running, "resnet", NAMESPACE, {"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}})

    # No rule has anything against CPU, so the record is what shows that the pod was seen.
    (record,) = wait_until(lambda: _records(tidewaiter, NAMESPACE, "resize"), "the record of the resize")
    assert (record["recognised"], record["verdict"], record["operation"]) == ("triton", "allowed", "UPDATE")
    stored = running.get("pod", "resnet", NAMESPACE)
    assert stored is not None
    assert stored["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "500m"


@pytest.fixture(scope="module")
def earlier(plane: ControlPlane) -> ControlPlane:
    """Pods of an unapproved version, admitted in staging; then the namespace became production."""
    opted_in(plane, EARLIER, "staging")
    for name in ("resnet", "finalized", "deleted"):
        manifest = pod(name, EARLIER, version="4")
        manifest["metadata"]["finalizers"] = ["example.com/held"] if name == "finalized" else []
        plane.apply(manifest)
    plane.kubectl("label", "namespace", EARLIER, "tidewaiter.dev/environment=production", "--overwrite")
    wait_until(lambda: _refused(plane), "production's rules to hold")
    return plane


def test_a_label_may_be_changed_on_a_pod_that_would_not_be_admitted_any_more(earlier: ControlPlane) -> None:
    earlier.kubectl("label", "pod", "resnet", "-n", EARLIER, "owner=mia")

    stored = earlier.get("pod", "resnet", EARLIER)
    assert stored is not None
    assert stored["metadata"]["labels"]["owner"] == "mia"


def test_an_update_that_makes_such_a_pod_worse_is_refused(earlier: ControlPlane) -> None:
    with pytest.raises(KubectlError, match="resnet50:5 is not in the registry"):
        earlier.kubectl("label", "pod", "resnet", "-n", EARLIER, "tidewaiter.dev/model-version=5", "--overwrite")


def test_such_a_pod_is_resized(earlier: ControlPlane) -> None:
    _resize(earlier, "resnet", EARLIER, {"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}})


def test_such_a_pod_is_deleted_and_its_finalizer_removed(earlier: ControlPlane) -> None:
    earlier.kubectl("delete", "pod", "deleted", "-n", EARLIER, "--timeout=30s")
    earlier.kubectl("delete", "pod", "finalized", "-n", EARLIER, "--wait=false")
    held = earlier.get("pod", "finalized", EARLIER)
    assert held is not None

    earlier.kubectl(
        "patch", "pod", "finalized", "-n", EARLIER, "--type=merge", "-p", '{"metadata": {"finalizers": null}}'
    )

    earlier.kubectl("wait", "pod/finalized", "-n", EARLIER, "--for=delete", "--timeout=30s")
    assert earlier.get("pod", "deleted", EARLIER) is None


def _refused(plane: ControlPlane) -> bool:
    manifest = json.dumps(pod("probe", EARLIER, version="4"))
    return plane.kubectl("create", "--dry-run=server", "-f", "-", input=manifest, check=False).returncode != 0


def _records(tidewaiter: Tidewaiter, namespace: str, subresource: str) -> list[Object]:
    lines = tidewaiter.process.log.read_text().splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{") and '"webhook":' in line]
    return [one for one in records if (one["namespace"], one["subresource"]) == (namespace, subresource)]


def _debug(plane: ControlPlane, container: Object) -> None:
    _patch(plane, "resnet", NAMESPACE, "ephemeralcontainers", {"ephemeralContainers": [container]})


def _resize(plane: ControlPlane, name: str, namespace: str, resources: Object) -> None:
    # A kubelet that can resize says what it has given; KWOK does not.
    given = {"op": "add", "path": "/status/containerStatuses/0/resources", "value": {"limits": {"cpu": "1"}}}
    plane.kubectl("wait", f"pod/{name}", "-n", namespace, "--for=condition=Ready", "--timeout=30s")
    plane.kubectl(
        "patch", "pod", name, "-n", namespace, "--subresource=status", "--type=json", "-p", json.dumps([given])
    )
    _patch(plane, name, namespace, "resize", {"containers": [{"name": "triton", "resources": resources}]})


def _patch(plane: ControlPlane, name: str, namespace: str, subresource: str, spec: Object) -> None:
    plane.kubectl(
        "patch", "pod", name, "-n", namespace, f"--subresource={subresource}", "--type=strategic",
        "-p", json.dumps({"spec": spec}),
    )  # fmt: skip


def _ephemeral(plane: ControlPlane) -> list[str]:
    stored = plane.get("pod", "resnet", NAMESPACE)
    assert stored is not None
    return [one["name"] for one in stored["spec"].get("ephemeralContainers", ())]
