"""The webhook on a real API server, registered by ``service:`` as a chart would do it."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.controlplane.cluster import ControlPlane, KubectlError
from tests.controlplane.conftest import control_plane  # noqa: F401  # a fixture
from tests.controlplane.waiting import wait_until
from webhook.settings import Settings
from webhook.webhook_configuration import webhook_configurations

_SETTINGS = """
environments: {production: {action: deny}}
registry: {file: {path: registry.yaml}}
server: {port: %d, healthPort: %d, address: 127.0.0.1, drainSeconds: 0}
"""
_REGISTRY = """
models: [{name: resnet50, versions: [{version: "3", state: approved, environments: [production]}]}]
"""
_IMAGE = "nvcr.io/nvidia/tritonserver@sha256:" + "a" * 64


@pytest.fixture(scope="module")
def tidewaiter(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:  # noqa: F811
    plane = control_plane
    folder = tmp_path_factory.mktemp("tidewaiter")
    port, health = _free_port(), _free_port()
    (folder / "settings.yaml").write_text(_SETTINGS % (port, health))
    (folder / "registry.yaml").write_text(_REGISTRY)
    pool, taint = "tidewaiter.dev/pool", "nvidia.com/gpu=present:NoSchedule"
    plane.add_gpu_node("gpu-board-1", labels={pool: "inference"}, taints=[taint], capacity={"nvidia.com/gpu": "4"})
    plane.apply(_priority_class())
    plane.create_namespace(
        "models",
        labels={
            "tidewaiter.dev/environment": "production",
            "team": "serving",
            "pod-security.kubernetes.io/enforce": "restricted",
        },
    )
    command = [sys.executable, "-m", "webhook", "serve", "--settings", str(folder / "settings.yaml")]
    command += ["--kubeconfig", str(plane.kubeconfig), "--certificates", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=Path.cwd(), start_new_session=True)
    try:
        wait_until(lambda: _ready(health), f"tidewaiter to be ready: {folder / 'log'}")
        plane.register_service("tidewaiter", "tidewaiter", ("127.0.0.1", port))
        bundle = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
        plane.apply(*webhook_configurations(Settings(), bundle))
        wait_until(lambda: _mutates(plane), "the webhooks to be called")
        yield plane
    finally:
        plane.kubectl(
            "delete", "mutatingwebhookconfiguration,validatingwebhookconfiguration", "tidewaiter", check=False
        )
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def test_a_plain_deployment_becomes_a_running_pod_on_the_tainted_gpu_node(tidewaiter: ControlPlane) -> None:
    tidewaiter.apply(_deployment("resnet", version="3"))

    tidewaiter.kubectl("rollout", "status", "deployment/resnet", "-n", "models", "--timeout=40s")

    pod = yaml.safe_load(tidewaiter.kubectl("get", "pods", "-n", "models", "-l", "app=resnet", "-o", "yaml").stdout)
    spec, labels = pod["items"][0]["spec"], pod["items"][0]["metadata"]["labels"]
    assert spec["nodeName"] == "gpu-board-1"
    assert spec["priorityClassName"] == "tidewaiter-inference-production"
    assert spec["priority"] == 1000
    assert labels["team"] == "serving"


@pytest.mark.parametrize("kind", ["Pod", "Deployment"])
def test_an_unapproved_version_is_refused_when_it_is_applied(tidewaiter: ControlPlane, kind: str) -> None:
    obj = _deployment("stranger", version="4")
    if kind == "Pod":
        obj = {"apiVersion": "v1", "kind": "Pod", **obj["spec"]["template"]}
        obj["metadata"] |= {"name": "stranger", "namespace": "models"}

    with pytest.raises(KubectlError, match="resnet50:4 is not in the registry"):
        tidewaiter.apply(obj)


def test_a_plain_web_pod_comes_out_as_without_tidewaiter(tidewaiter: ControlPlane) -> None:
    tidewaiter.create_namespace("web")
    web = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "web"}}
    web["spec"] = {"containers": [{"name": "web", "image": "nginx"}]}

    tidewaiter.apply(web)

    stored = tidewaiter.get("pod", "web", "web")
    assert stored is not None
    assert stored["spec"]["securityContext"] == {}
    assert "priorityClassName" not in stored["spec"]
    assert "labels" not in stored["metadata"]


def test_without_mutate_nothing_uninjected_enters_and_scaling_down_still_works(tidewaiter: ControlPlane) -> None:
    tidewaiter.create_namespace("open", labels={"tidewaiter.dev/environment": "production"})
    saved = tidewaiter.get("mutatingwebhookconfiguration", "tidewaiter")
    assert saved is not None
    tidewaiter.apply(_deployment("shrinking", version="3"))
    tidewaiter.kubectl("rollout", "status", "deployment/shrinking", "-n", "models", "--timeout=40s")
    tidewaiter.kubectl("delete", "mutatingwebhookconfiguration", "tidewaiter")
    try:
        wait_until(lambda: not _mutates(tidewaiter), "the mutating webhook to be gone")
        pod = {"apiVersion": "v1", "kind": "Pod", **_deployment("bare", version="3")["spec"]["template"]}
        # Not where Pod Security enforces: its refusal would hide ours.
        pod["metadata"] |= {"name": "bare", "namespace": "open"}
        with pytest.raises(KubectlError, match="injection-missing"):
            tidewaiter.apply(pod)
        tidewaiter.kubectl("scale", "deployment/shrinking", "-n", "models", "--replicas=0")
        tidewaiter.kubectl("wait", "pod", "-n", "models", "-l", "app=shrinking", "--for=delete", "--timeout=30s")
    finally:
        tidewaiter.apply(
            {key: saved[key] for key in ("apiVersion", "kind", "webhooks")} | {"metadata": {"name": "tidewaiter"}}
        )
        wait_until(lambda: _mutates(tidewaiter), "the mutating webhook to be back")


def _deployment(name: str, version: str) -> dict:
    labels = {"app": name, "tidewaiter.dev/model": "resnet50", "tidewaiter.dev/model-version": version}
    resources = {"limits": {"nvidia.com/gpu": "1", "memory": "1Gi", "cpu": "1"}}
    container = {"name": "triton", "image": _IMAGE, "resources": resources}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "models"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }


def _priority_class() -> dict:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "tidewaiter-inference-production"},
        "value": 1000,
    }


def _mutates(plane: ControlPlane) -> bool:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "namespace": "models"}}
    pod["metadata"]["labels"] = {"tidewaiter.dev/model": "resnet50", "tidewaiter.dev/model-version": "3"}
    pod["spec"] = {"containers": _deployment("probe", "3")["spec"]["template"]["spec"]["containers"]}
    done = plane.kubectl("create", "--dry-run=server", "-o", "yaml", "-f", "-", input=yaml.safe_dump(pod), check=False)
    return "tidewaiter-inference-production" in done.stdout


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
