"""Who may deploy where, by the cluster's own RBAC."""

from __future__ import annotations

import json

import pytest

from tests.cluster.conftest import opted_in
from tests.cluster.manifests import deployment, roll_out
from tests.controlplane.cluster import ControlPlane, KubectlError
from tests.controlplane.waiting import wait_until

NAMESPACE = "permitted"


def _grant(plane: ControlPlane, name: str, user: str, *rules: dict[str, list[str]]) -> None:
    meta = {"name": name, "namespace": NAMESPACE}
    api = "rbac.authorization.k8s.io"
    subject = {"kind": "User", "name": user, "apiGroup": api}
    plane.apply(
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": meta, "rules": list(rules)},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    )


def test_a_developer_deploys_once_rbac_grants_the_virtual_verb_and_pods_follow(plane: ControlPlane) -> None:
    opted_in(plane, NAMESPACE)
    plane.user_kubeconfig("mia")
    workloads = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "create", "patch"]}
    _grant(plane, "developer", "mia", workloads)
    manifest = json.dumps(deployment("resnet", NAMESPACE))

    with pytest.raises(KubectlError, match="mia may not deploy models to namespace permitted"):
        plane.kubectl("apply", "-f", "-", input=manifest, user="mia")
    models = {"apiGroups": ["tidewaiter.dev"], "resources": ["models"], "verbs": ["deploy"]}
    _grant(plane, "deployer", "mia", models)

    def deployed() -> bool:
        return plane.kubectl("apply", "-f", "-", input=manifest, user="mia", check=False).returncode == 0

    wait_until(deployed, "the grant to be seen")
    roll_out(plane, "resnet", NAMESPACE)
