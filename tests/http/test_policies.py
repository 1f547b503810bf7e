"""A team's own policies in a running service: in force, read again, broken, and out of control."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controlplane.binaries import locate
from tests.controlplane.child_process import ChildProcess
from tests.controlplane.waiting import wait_until
from tests.http.conftest import SETTINGS, with_registry
from tests.http.service import LIMIT_S, Service, pod, review, running

RULE = """# METADATA
# title: Pods are named politely
# description: Judges the names of containers.
# custom:
#   id: polite-name
#   severity: low
#   remedy: say please
package tidewaiter.polite_name

findings contains finding if {
	some container in input.containers
	container.kind == "containers"
	finding := {"path": sprintf("%s.name", [container.path]), "container": container.name, "message": "WORD"}
}
"""
ENDLESS = RULE.replace(
    'finding := {"path"',
    'count([1 | numbers.range(1, 100000)[_]; numbers.range(1, 100000)[_]]) > 0\n\tfinding := {"path"',
)


def _refusal(service: Service) -> str:
    response = service.post("/validate", review(pod(hostPID=True))).response
    message: str = response.get("status", {}).get("message", "")
    return message


def _own(folder: Path, text: str) -> dict[str, object]:
    (folder / "own").mkdir()
    (folder / "own" / "polite_name.rego").write_text(text)
    return {**SETTINGS, "policies": {"directory": "own"}}


def test_a_policy_of_a_folder_is_in_force_beside_the_shipped_ones_and_read_again_when_it_changes(
    tmp_path: Path,
) -> None:
    with running(with_registry(tmp_path), _own(tmp_path, RULE.replace("WORD", "be polite"))) as service:
        assert "be polite; say please (rule polite-name)" in _refusal(service)
        assert "(rule host-access)" in _refusal(service)
        revision = service.records[-1]["policy_revision"] if service.records else ""

        (tmp_path / "own" / "polite_name.rego").write_text(RULE.replace("WORD", "be kind"))

        wait_until(lambda: "be kind" in _refusal(service), "the change to be in force", LIMIT_S)
        wait_until(lambda: service.records[-1]["policy_revision"] != revision, "its revision to be recorded", LIMIT_S)


def test_a_broken_policy_leaves_the_last_good_one_in_force_and_is_shown_by_a_metric(tmp_path: Path) -> None:
    with running(with_registry(tmp_path), _own(tmp_path, RULE.replace("WORD", "be polite"))) as service:
        (tmp_path / "own" / "polite_name.rego").write_text("package tidewaiter.polite_name\nfindings contains {")

        wait_until(lambda: service.metric("tidewaiter_policies_refused") == 1, "the metric", LIMIT_S)
        assert "be polite" in _refusal(service)
        assert "polite_name.rego" in service.log

        (tmp_path / "own" / "polite_name.rego").write_text(RULE.replace("WORD", "be kind"))
        wait_until(lambda: service.metric("tidewaiter_policies_refused") == 0, "the metric to fall", LIMIT_S)
        assert "be kind" in _refusal(service)


def test_a_policy_that_never_ends_is_stopped_counted_and_does_what_its_action_says(tmp_path: Path) -> None:
    settings = _own(tmp_path, RULE.replace("WORD", "be polite"))
    with running(with_registry(tmp_path), settings) as service:
        assert "be polite" in _refusal(service)
        (tmp_path / "own" / "polite_name.rego").write_text(
            ENDLESS.replace("WORD", "x").replace("some container", 'input.operation == "CREATE"\n\tsome container')
        )

        def stopped() -> bool:
            return "nobody can say whether the rule holds" in _refusal(service) or bool(
                service.metric("tidewaiter_policies_refused")
            )

        wait_until(stopped, "the policy to be stopped or refused", LIMIT_S)
        assert _refusal(service)
        assert service.health("/healthz").status == 200


def test_a_broken_policy_at_start_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "x.rego").write_text("package other\n")
    service = Service(with_registry(tmp_path), {**SETTINGS, "policies": {"directory": "own"}})

    assert service.process.wait(LIMIT_S) == 2
    assert "x.rego" in service.log
    assert "Traceback" not in service.log


def test_data_of_a_team_stands_over_that_of_the_shipped_policies(tmp_path: Path) -> None:
    (tmp_path / "registries.yaml").write_text("settings: {image_registry: {allowed: [registry.example.com]}}\n")
    settings = {**SETTINGS, "policies": {"data": "registries.yaml"}}
    with running(with_registry(tmp_path), settings) as service:
        assert "(rule image-registry)" in _refusal(service)
        (tmp_path / "registries.yaml").write_text("settings: {image_registry: {allowed: [nvcr.io]}}\n")
        wait_until(lambda: "(rule image-registry)" not in _refusal(service), "the data to be in force", LIMIT_S)


@pytest.fixture
def opa(tmp_path: Path) -> ChildProcess:
    """OPA with the shipped policies, on a port of its own choice."""
    command = [str(locate("opa")), "run", "--server", "--addr=localhost:18181", "policies"]
    return ChildProcess("opa", command, tmp_path / "opa.log")


def test_an_opa_server_evaluates_them_instead_and_its_absence_is_said(tmp_path: Path, opa: ChildProcess) -> None:
    settings = {**SETTINGS, "policies": {"opa": {"url": "http://localhost:18181", "deadlineSeconds": 2}}}
    with running(with_registry(tmp_path), settings) as service:
        wait_until(lambda: "OPA" in _refusal(service), "the absence to be said", LIMIT_S)
        assert service.metric("tidewaiter_policy_failures_total") > 0
        opa.start()
        try:
            wait_until(lambda: "OPA" not in _refusal(service), "OPA to answer", LIMIT_S)
            assert "(rule host-access)" in _refusal(service)
        finally:
            opa.stop(10)
