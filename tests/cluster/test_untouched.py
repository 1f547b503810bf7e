"""What is not ours comes out as if Tidewaiter were not installed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.cluster.conftest import opted_in
from tests.cluster.manifests import Object, pod, web_pod
from tests.controlplane.cluster import ControlPlane, KubectlError
from tests.controlplane.tidewaiter import Tidewaiter

NODE = "system:node:gpu-board-1"
MIRROR = "kubernetes.io/config.mirror"
# What the API server makes up anew for every object.
MADE_UP = ("uid", "creationTimestamp", "resourceVersion")
GENERATED = re.compile(r"kube-api-access-\w{5}")


@pytest.fixture(scope="module")
def manifests(tidewaiter: Tidewaiter) -> dict[str, tuple[Object, str | None]]:
    """Pods that must stay as they are, each with the user who creates it."""
    plane = tidewaiter.plane
    plane.create_namespace("web")
    opted_in(plane, "shop")
    if plane.get("namespace", "exempt") is None:
        plane.create_namespace("exempt")
    plane.user_kubeconfig(NODE, groups=("system:nodes",))
    system = pod("gpu-daemon", "kube-system", version="4", hostNetwork=True)
    mirrored = _mirror(pod("static-triton", "shop", version="4", nodeName="gpu-board-1"))
    return {
        "a GPU pod of kube-system": (system, None),
        "a GPU pod of an exempt namespace": (pod("triton", "exempt", version="4"), None),
        "a web pod where no environment is set": (web_pod("web", "web"), None),
        "a web pod in production": (web_pod("web", "shop"), None),
        "a GPU pod where no environment is set": (pod("triton", "web", version="4"), None),
        "the mirror of a node's static pod": (mirrored, NODE),
    }


def test_pods_that_are_not_ours_are_stored_as_without_tidewaiter(
    tidewaiter: Tidewaiter, manifests: dict[str, tuple[Object, str | None]]
) -> None:
    with_tidewaiter = {name: _stored(tidewaiter.plane, *one) for name, one in manifests.items()}
    with tidewaiter.unregistered():
        without = {name: _stored(tidewaiter.plane, *one) for name, one in manifests.items()}

    assert list(with_tidewaiter) == list(without)
    for name, text in without.items():
        assert with_tidewaiter[name] == text, name


def test_the_same_pods_would_be_changed_and_refused_in_production(plane: ControlPlane) -> None:
    """Otherwise the test above would show nothing."""
    with pytest.raises(KubectlError, match="resnet50:4 is not in the registry"):
        plane.apply(pod("gpu-daemon", "models", version="4"))


@pytest.mark.parametrize("user", [None, "system:node:gpu-board-2"])
def test_the_mirror_annotation_of_anybody_else_hides_nothing(plane: ControlPlane, user: str | None) -> None:
    namespace = "shop"
    if user is not None:
        plane.user_kubeconfig(user)
        plane.kubectl(
            "create", "rolebinding", "other-node", "-n", namespace, "--clusterrole=edit", f"--user={user}", check=False
        )
    forged = _mirror(pod("forged", namespace, version="4", nodeName="gpu-board-1"))

    with pytest.raises(KubectlError, match="resnet50:4 is not in the registry"):
        plane.apply(forged, user=user)


def _mirror(obj: Object) -> Object:
    obj["metadata"]["annotations"] = {MIRROR: "a1b2"}
    return obj


def _stored(plane: ControlPlane, manifest: Object, user: str | None) -> str:
    """The pod as the API server stored it when it was created, without what differs each time; then it goes."""
    created = plane.kubectl("create", "-o", "json", "-f", "-", input=json.dumps(manifest), user=user).stdout
    metadata = manifest["metadata"]
    plane.kubectl(
        "delete", "pod", metadata["name"], "-n", metadata["namespace"], "--force", "--grace-period=0", "--wait=true"
    )
    obj: dict[str, Any] = json.loads(GENERATED.sub("kube-api-access-X", created))
    for key in MADE_UP:
        del obj["metadata"][key]
    for entry in obj["metadata"].get("managedFields", ()):
        del entry["time"]
    return json.dumps(obj, indent=1)
