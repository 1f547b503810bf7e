"""Another mutating webhook edits the pods too, before ours or after it: the stored pod is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import opted_in
from tests.cluster.manifests import DIGEST, Object, pod
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.tidewaiter import Tidewaiter
from tests.controlplane.waiting import wait_until
from tests.controlplane.webhook_server import WebhookServer

NAMESPACE = "edited"
SIDECAR, INIT = "agent", "fetch"
IMAGES = {SIDECAR: f"docker.io/seldonio/seldon-agent@{DIGEST}", INIT: f"docker.io/seldonio/seldon-rclone@{DIGEST}"}


def _edit(_path: str, request: dict[str, Any]) -> list[Object]:
    """A sidecar at the end, an init container in front, a variable changed: what serving systems and meshes do."""
    spec = request["object"]["spec"]
    if any(one["name"] == SIDECAR for one in spec["containers"]):
        return []
    resources = {"limits": {"memory": "64Mi"}}
    added = [{"name": name, "image": IMAGES[name], "resources": resources} for name in (SIDECAR, INIT)]
    where = "/spec/initContainers/0" if spec.get("initContainers") else "/spec/initContainers"
    return [
        {"op": "add", "path": "/spec/containers/-", "value": added[0]},
        {"op": "add", "path": where, "value": added[1] if spec.get("initContainers") else [added[1]]},
        {"op": "replace", "path": "/spec/containers/0/env/0/value", "value": "changed"},
    ]


@pytest.fixture(scope="module", params=["before", "after"])
def order(request: pytest.FixtureRequest, tidewaiter: Tidewaiter) -> Iterator[str]:
    """The foreign webhook, whose configuration's name sorts before ours or after it."""
    plane, name = tidewaiter.plane, {"before": "a-foreign", "after": "z-foreign"}[request.param]
    if plane.get("namespace", NAMESPACE) is None:
        opted_in(plane, NAMESPACE)
    with WebhookServer(plane, name, _edit) as server:
        selector = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
        plane.apply(server.configuration({"name": "edit", "namespaceSelector": selector}))
        wait_until(lambda: SIDECAR in _created(plane, "probe", "--dry-run=server"), "the foreign webhook to be called")
        yield request.param


@pytest.fixture(scope="module")
def stored(order: str, plane: ControlPlane) -> Object:
    _created(plane, f"bert-{order}")
    found = plane.get("pod", f"bert-{order}", NAMESPACE)
    assert found is not None
    return found


def test_what_the_other_webhook_did_survives(stored: Object) -> None:
    names = [one["name"] for one in stored["spec"]["containers"]]
    assert names == ["triton", SIDECAR]
    assert stored["spec"]["containers"][0]["env"][0] == {"name": "MODE", "value": "changed"}


def test_the_containers_that_it_added_are_unprivileged(stored: Object) -> None:
    for container in [*stored["spec"]["initContainers"], *stored["spec"]["containers"]]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]
    assert stored["spec"]["securityContext"]["runAsNonRoot"] is True


def test_the_pod_has_the_priority_of_its_class(stored: Object) -> None:
    spec = stored["spec"]
    assert (spec["priorityClassName"], spec["priority"]) == ("tidewaiter-inference-production", 1000)
    assert spec["preemptionPolicy"] == "PreemptLowerPriority"


def test_the_model_is_preloaded_once_and_before_every_server(order: str, stored: Object) -> None:
    """Ours goes in front of what it finds; who comes after it and goes in front again stands before it."""
    names = [one["name"] for one in stored["spec"]["initContainers"]]
    ours_first = ["tidewaiter-preload", INIT]
    assert names == (ours_first if order == "before" else ours_first[::-1])


def test_a_server_that_it_added_reads_the_same_model(order: str, plane: ControlPlane) -> None:
    """Without a name that tells the server, every container of a known image counts as one."""
    _created(plane, f"unnamed-{order}", named=False)
    found = plane.get("pod", f"unnamed-{order}", NAMESPACE)
    assert found is not None
    read = {
        one["name"]: [mount["mountPath"] for mount in one["volumeMounts"] if mount["name"] == "tidewaiter-model"]
        for one in found["spec"]["containers"]
    }
    assert read == {"triton": ["/models"], SIDECAR: ["/mnt/models"]}


def _created(plane: ControlPlane, name: str, *options: str, named: bool = True) -> str:
    manifest = pod(name, NAMESPACE, "bert", "1")
    if named:
        # Seldon's server has a name by which it is told from its agent.
        manifest["metadata"]["labels"]["seldon-server-name"] = "bert"
    manifest["spec"]["containers"][0]["env"] = [{"name": "MODE", "value": "plain"}]
    return plane.kubectl("create", "-o", "json", "-f", "-", *options, input=json.dumps(manifest)).stdout
