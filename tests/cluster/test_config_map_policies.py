"""A team's own policies in a ConfigMap: followed, in force within moments, and complained about by an Event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import opted_in
from tests.cluster.manifests import pod
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.tidewaiter import NAME, Tidewaiter
from tests.controlplane.waiting import wait_until
from tests.http.service import Service, review, running

NAMESPACE, CONFIG_MAP = "ruled", "team-policies"
RULE = """# METADATA
# title: Pods are named politely
# description: Judges the names of pods' containers.
# custom:
#   id: polite-name
#   severity: low
#   remedy: say please
package tidewaiter.polite_name

findings contains {"path": "spec", "message": "WORD"} if input.namespace == "ruled"
"""


def _config_map(text: str) -> dict[str, Any]:
    metadata = {"name": CONFIG_MAP, "namespace": NAME}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"polite_name.rego": text}}


@pytest.fixture(scope="module")
def service(tidewaiter: Tidewaiter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A second process beside the registered one, on the same cluster."""
    plane = tidewaiter.plane
    opted_in(plane, NAMESPACE)
    plane.apply(_config_map(RULE.replace("WORD", "be polite")))
    settings = {"environments": {"production": {"action": "deny"}}, "policies": {"configMap": CONFIG_MAP}}
    with running(tmp_path_factory.mktemp("ruled"), settings, "--kubeconfig", str(plane.kubeconfig)) as found:
        yield found


def _refusal(service: Service) -> str:
    asked = review(pod("resnet", NAMESPACE), namespace=NAMESPACE)
    message: str = service.post("/validate", asked).response.get("status", {}).get("message", "")
    return message


def test_a_config_map_is_in_force_followed_and_when_broken_complained_about(
    service: Service, plane: ControlPlane
) -> None:
    assert "be polite; say please (rule polite-name)" in _refusal(service)

    plane.apply(_config_map(RULE.replace("WORD", "be kind")))
    wait_until(lambda: "be kind" in _refusal(service), "the change to be in force")

    plane.apply(_config_map("package tidewaiter.polite_name\nfindings contains {"))
    event = wait_until(lambda: _event(plane), "the Event")
    assert "polite_name.rego" in event["message"]
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": CONFIG_MAP,
        "namespace": NAME,
    }
    assert "be kind" in _refusal(service)


def _event(plane: ControlPlane) -> dict[str, Any] | None:
    listed = plane.kubectl("get", "events", "-n", NAME, "--field-selector=reason=PoliciesRefused", "-o", "json").stdout
    return next(iter(json.loads(listed)["items"]), None)
