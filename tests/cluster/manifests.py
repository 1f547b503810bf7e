"""Manifests as a model developer writes them: plain, with nothing about safety in them."""

from __future__ import annotations

import copy
import json
from typing import Any

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.waiting import wait_until

DIGEST = f"sha256:{'a' * 64}"
TRITON = f"nvcr.io/nvidia/tritonserver@{DIGEST}"
PRELOADER = f"nvcr.io/acme/preloader@{DIGEST}"
Object = dict[str, Any]


def template(name: str, model: str = "resnet50", version: str = "3") -> Object:
    """A pod that serves a model on one GPU."""
    labels = {"app": name, "tidewaiter.dev/model": model, "tidewaiter.dev/model-version": version}
    resources = {"limits": {"nvidia.com/gpu": "1", "memory": "1Gi", "cpu": "1"}}
    container = {"name": "triton", "image": TRITON, "resources": resources}
    return {"metadata": {"labels": labels}, "spec": {"containers": [container]}}


def pod(name: str, namespace: str, model: str = "resnet50", version: str = "3", **spec: Any) -> Object:
    """The same as a bare pod."""
    made = template(name, model, version)
    made["metadata"] |= {"name": name, "namespace": namespace}
    made["spec"] |= spec
    return {"apiVersion": "v1", "kind": "Pod", **made}


def web_pod(name: str, namespace: str) -> Object:
    """A pod that has nothing to do with models."""
    containers = [{"name": "web", "image": "docker.io/library/nginx:1.29", "ports": [{"containerPort": 8080}]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": containers},
    }


def deployment(name: str, namespace: str = "models", **pod_arguments: str) -> Object:
    """A Deployment of `template`."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name, **pod_arguments)},
    }


def job(name: str, namespace: str = "models") -> Object:
    """A training Job; training needs no approved version."""
    made = copy.deepcopy(template(name))
    made["metadata"]["labels"] = {"app": name}
    made["spec"]["restartPolicy"] = "Never"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": made},
    }


def pods_of(plane: ControlPlane, app: str, namespace: str) -> list[Object]:
    """The stored pods with that `app` label."""
    listed = plane.kubectl("get", "pods", "-n", namespace, "-l", f"app={app}", "-o", "json").stdout
    return list(json.loads(listed)["items"])


def the_pod_of(plane: ControlPlane, app: str, namespace: str) -> Object:
    """The only pod of a workload, as soon as there is one."""
    (found,) = wait_until(lambda: pods_of(plane, app, namespace), f"a pod of {app} in {namespace}")
    return found


def roll_out(plane: ControlPlane, name: str, namespace: str = "models") -> None:
    """Wait until the Deployment's pods run."""
    plane.kubectl("rollout", "status", f"deployment/{name}", "-n", namespace, "--timeout=40s")
