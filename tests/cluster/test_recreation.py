"""Recreating is not deploying: what a controller had it may make again when an approval lapses, never when it is revoked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.conftest import REGISTRY, opted_in
from tests.cluster.manifests import deployment, pod, roll_out, the_pod_of
from tests.controlplane.cluster import ControlPlane, KubectlError
from tests.controlplane.tidewaiter import Tidewaiter
from tests.controlplane.waiting import wait_until

NAMESPACE = "night"
MODEL = """
  - name: {name}
    versions: [{{version: "3", state: {state}, environments: [production]{more}}}]
"""
SetState = Callable[[str, str], None]


@pytest.fixture
def set_state(tidewaiter: Tidewaiter) -> Iterator[SetState]:
    """Changes what the registry says of a model of this test's own, and waits until it is in force."""
    file, plane = tidewaiter.folder / "registry.yaml", tidewaiter.plane
    opted_in(plane, NAMESPACE)

    def change(name: str, state: str) -> None:
        more = ', expires: "2020-01-01"' if state == "expired" else ""
        kept = "approved" if state == "expired" else state
        file.write_text(REGISTRY + MODEL.format(name=name, state=kept, more=more))
        said = {"expired": "expired on 2020-01-01", "revoked": "is revoked", "approved": ""}[state]

        def in_force() -> bool:
            message = _refusal(plane, name)
            return said in message if said else not message

        wait_until(in_force, f"{name} to be {state}")

    yield change
    file.write_text(REGISTRY)


def test_a_drained_nodes_pod_comes_back_after_its_approval_expired(tidewaiter: Tidewaiter, set_state: SetState) -> None:
    plane = tidewaiter.plane
    set_state("owl", "approved")
    plane.apply(deployment("owl", NAMESPACE, model="owl"))
    roll_out(plane, "owl", NAMESPACE)
    before = the_pod_of(plane, "owl", NAMESPACE)["metadata"]["name"]
    set_state("owl", "expired")

    plane.kubectl("delete", "pod", before, "-n", NAMESPACE, "--wait=false")

    roll_out(plane, "owl", NAMESPACE)
    wait_until(lambda: _names(plane, "owl") - {before}, "the pod to be made again")
    event = wait_until(lambda: _event(plane, "ModelPodWarning"), "the owner to be told")
    assert "expired on 2020-01-01" in event["message"]
    assert event["involvedObject"]["kind"] == "ReplicaSet"
    assert any(one.get("recreated") for one in _records(tidewaiter))


def test_a_new_template_of_an_expired_version_is_refused(tidewaiter: Tidewaiter, set_state: SetState) -> None:
    plane = tidewaiter.plane
    set_state("lark", "approved")
    plane.apply(deployment("lark", NAMESPACE, model="lark"))
    roll_out(plane, "lark", NAMESPACE)
    set_state("lark", "expired")
    changed = deployment("lark", NAMESPACE, model="lark")
    changed["spec"]["template"]["metadata"]["labels"]["release"] = "new"

    with pytest.raises(KubectlError, match="expired on 2020-01-01"):
        plane.apply(deployment("crow", NAMESPACE, model="lark"))
    # An update that leaves the model as it was makes nothing worse; a new ReplicaSet is another matter.
    plane.apply(changed)
    wait_until(lambda: "expired on 2020-01-01" in _conditions(plane, "lark"), "the Deployment to say why")
    assert len(_names(plane, "lark")) == 1


def test_a_revoked_version_does_not_come_back(tidewaiter: Tidewaiter, set_state: SetState) -> None:
    plane = tidewaiter.plane
    set_state("hawk", "approved")
    plane.apply(deployment("hawk", NAMESPACE, model="hawk"))
    roll_out(plane, "hawk", NAMESPACE)
    name = the_pod_of(plane, "hawk", NAMESPACE)["metadata"]["name"]
    set_state("hawk", "revoked")

    plane.kubectl("delete", "pod", name, "-n", NAMESPACE, "--wait=true", "--timeout=30s")

    wait_until(lambda: _event(plane, "ModelPodRefused", "hawk:3 is revoked"), "the owner to be told")
    assert _names(plane, "hawk") == set()


def _refusal(plane: ControlPlane, model: str) -> str:
    done = plane.kubectl(
        "create", "--dry-run=server", "-f", "-", input=json.dumps(pod("probe", NAMESPACE, model=model)), check=False
    )
    return done.stderr if done.returncode else ""


def _names(plane: ControlPlane, app: str) -> set[str]:
    listed = plane.kubectl("get", "pods", "-n", NAMESPACE, "-l", f"app={app}", "-o", "json").stdout
    return {one["metadata"]["name"] for one in json.loads(listed)["items"]}


def _conditions(plane: ControlPlane, name: str) -> str:
    stored = plane.get("deployment", name, NAMESPACE) or {}
    return json.dumps((stored.get("status") or {}).get("conditions") or [])


def _event(plane: ControlPlane, reason: str, part: str = "") -> dict[str, Any] | None:
    listed = plane.kubectl("get", "events", "-n", NAMESPACE, f"--field-selector=reason={reason}", "-o", "json").stdout
    return next((one for one in json.loads(listed)["items"] if part in one["message"]), None)


def _records(tidewaiter: Tidewaiter) -> Iterator[dict[str, Any]]:
    for line in tidewaiter.process.log.read_text(errors="replace").splitlines():
        if line.startswith("{") and '"webhook":' in line:
            yield json.loads(line)
