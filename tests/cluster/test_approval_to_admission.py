"""From the approver to admission: the same pod is refused, then approved, admitted, revoked and refused again."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cluster.conftest import opted_in
from tests.cluster.manifests import DIGEST, pod
from tests.controlplane.cluster import ControlPlane, KubectlError
from tests.controlplane.waiting import wait_until
from webhook.governance.roles import roles

NAMESPACE, MODEL = "governed", "governed-resnet"
ROLES = {"dana": "model-developer", "ada": "model-approver-production", "grace": "model-approver-production"}


@pytest.fixture(scope="module")
def people(plane: ControlPlane) -> ControlPlane:
    """Dana proposes; Ada and Grace may approve for production."""
    opted_in(plane, NAMESPACE)
    for person in ROLES:
        plane.user_kubeconfig(person)
    return plane


def _tidewaiter(plane: ControlPlane, person: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    kubeconfig = plane.user_kubeconfig(person)
    command = [sys.executable, "-m", "webhook", "model", *arguments, "--kubeconfig", str(kubeconfig)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_same_pod_is_refused_until_two_people_approved_and_again_once_one_revokes(
    people: ControlPlane,
) -> None:
    people.apply(*roles(("production",), "tidewaiter"))
    for person, role in ROLES.items():
        binding = ("create", "clusterrolebinding", f"governed-{person}")
        people.kubectl(*binding, f"--clusterrole=tidewaiter-{role}", f"--user={person}")
    manifest = json.dumps(pod("owl", NAMESPACE, model=MODEL))

    with pytest.raises(KubectlError, match=f"{MODEL}:3 is not in the registry"):
        people.kubectl("apply", "-f", "-", input=manifest)
    source = ["--source", "s3://models/governed/3", "--digest", DIGEST]
    assert _tidewaiter(people, "dana", "propose", f"{MODEL}:3", *source).returncode == 0
    wait_until(lambda: f"{MODEL}:3 is proposed" in _refusal(people, manifest), "the proposal to be seen", 5)

    assert _tidewaiter(people, "dana", "approve", f"{MODEL}:3", "-e", "production").returncode != 0
    assert _tidewaiter(people, "ada", "approve", f"{MODEL}:3", "-e", "production", "--reason", "ok").returncode == 0
    assert f"{MODEL}:3 is proposed" in _refusal(people, manifest)
    done = _tidewaiter(people, "grace", "approve", f"{MODEL}:3", "-e", "production", "--reason", "ok")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not _refusal(people, manifest), "the approval to be seen", 5)

    done = _tidewaiter(people, "ada", "revoke", f"{MODEL}:3", "-e", "production", "--reason", "leaks")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: f"{MODEL}:3 is revoked" in _refusal(people, manifest), "the revocation to be seen", 5)


def _refusal(plane: ControlPlane, manifest: str) -> str:
    done = plane.kubectl("create", "--dry-run=server", "-f", "-", input=manifest, check=False)
    return done.stderr if done.returncode else ""
