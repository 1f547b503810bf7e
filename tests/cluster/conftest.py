"""Tidewaiter on a real control plane, with the nodes, classes and namespaces of a platform team."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from admission.workload_kinds.kinds import WORKLOAD_KINDS
from tests.cluster.manifests import DIGEST, PRELOADER
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.conftest import control_plane  # noqa: F401  # a fixture
from tests.controlplane.tidewaiter import KINDS, NAME, REPOSITORY, Tidewaiter
from webhook.governance.configuration import governance_configurations

OPERATORS = sorted({one.kind for one in WORKLOAD_KINDS if "." in one.group})
"""Kinds whose operators make pods themselves; each operator's user is named after its kind."""
SETTINGS = f"""
environments:
  development: {{action: audit}}
  staging: {{action: warn}}
  production: {{action: deny}}
exemptNamespaces: [kube-system, kube-public, kube-node-lease, exempt]
mutators: {{preload: {{image: "{PRELOADER}"}}}}
registries:
  - {{name: file, type: file, path: registry.yaml}}
  - {{name: cluster, type: cluster, models: ["governed-*"]}}
governance: {{approvers: {{production: 2}}}}
rules: {{deploy-permission: {{by: subject-access-review, action: off}}}}
namespaces: {{permitted: {{actions: {{deploy-permission: deny}}}}}}
controllers: {json.dumps({kind: [f"system:serviceaccount:operators:{kind.lower()}"] for kind in OPERATORS})}
"""
REGISTRY = f"""
models:
  - name: resnet50
    versions: [{{version: "3", state: approved, environments: [production]}}]
  - name: bert
    versions:
      - {{version: "1", state: approved, environments: [production], source: "s3://models/bert/1", digest: "{DIGEST}"}}
"""
GPU_TAINT, SPOT_TAINT = "nvidia.com/gpu=present:NoSchedule", "cloud.google.com/gke-spot=true:NoSchedule"
PRIORITIES = {
    "tidewaiter-inference-production": 1000,
    "tidewaiter-inference": 500,
    "tidewaiter-training": 100,
    "tidewaiter-batch": 50,
    "tidewaiter-development": 10,
}


@pytest.fixture(scope="session")
def tidewaiter(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tidewaiter]:  # noqa: F811
    """One for the whole run. Tests keep to namespaces of their own; `models` is production and restricted."""
    plane, folder = control_plane, tmp_path_factory.mktemp("tidewaiter")
    (folder / "registry.yaml").write_text(REGISTRY)
    for name, pool, taints in (
        ("gpu-board-1", "inference", [GPU_TAINT]),
        ("gpu-board-2", "training", [GPU_TAINT, SPOT_TAINT]),
    ):
        plane.add_gpu_node(
            name, labels={"tidewaiter.dev/pool": pool}, taints=taints, capacity={"nvidia.com/gpu": "100"}
        )
    plane.apply(*(_priority_class(name, value) for name, value in PRIORITIES.items()))
    opted_in(plane, "models", **{"pod-security.kubernetes.io/enforce": "restricted"})
    plane.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "charts" / "tidewaiter" / "crds"))
    with Tidewaiter(plane, folder, SETTINGS) as running:
        authority = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
        plane.apply(*governance_configurations(NAME, NAME, authority))
        try:
            yield running
        finally:
            plane.kubectl("delete", ",".join(KINDS), f"{NAME}-governance", "--ignore-not-found", check=False)


@pytest.fixture(scope="session")
def plane(tidewaiter: Tidewaiter) -> ControlPlane:
    """The control plane that Tidewaiter is registered with."""
    return tidewaiter.plane


def opted_in(plane: ControlPlane, name: str, environment: str = "production", **labels: str) -> str:
    """A namespace with an environment and a team."""
    plane.create_namespace(name, {"tidewaiter.dev/environment": environment, "team": "serving", **labels})
    return name


def _priority_class(name: str, value: int) -> dict:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
    }
