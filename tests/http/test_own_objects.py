"""Exceptions and approvals count in ``tidewaiter review`` as in the webhook."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.controlplane.waiting import wait_until
from tests.governance.objects import entry, version_of
from tests.http.service import pod, review, running
from webhook.cli import main

_SETTINGS = {
    "environments": {"development": {}, "production": {"action": "deny"}},
    "registries": [{"name": "cluster", "type": "cluster"}],
}
_NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "vision", "labels": {"tidewaiter.dev/environment": "production"}},
}
_APPROVED = {"approval": {"approvedBy": "ada", "approvedAt": "2026-06-01T12:00:00Z"}}


def exception(days: float = 7, namespace: str = "tidewaiter", status: Any = _APPROVED, **more: Any) -> dict[str, Any]:
    """One that switches ``approved-version`` off in namespace ``vision``."""
    expires = datetime.now(UTC) + timedelta(days=days)
    return {
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "PolicyException",
        "metadata": {"name": "trial", "namespace": namespace},
        "spec": {
            "rules": ["approved-version"],
            "match": {"namespaces": ["vision"]},
            "expires": expires.isoformat(),
            "reason": "a trial",
            "requestedBy": "mia",
        },
        "status": status,
        **more,
    }


def excused_by_review(folder: Path, *reviewed: Any, cluster: list[Any]) -> list[str | None]:
    """The exceptions that each finding of ``approved-version`` names, as ``tidewaiter review`` has it."""
    (folder / "settings.yaml").write_text(yaml.safe_dump(_SETTINGS), encoding="utf-8")
    (folder / "cluster.yaml").write_text(yaml.safe_dump_all([_NAMESPACE, *cluster]), encoding="utf-8")
    files = ["--settings", str(folder / "settings.yaml"), "--cluster", str(folder / "cluster.yaml")]
    result = CliRunner().invoke(main, ["review", "-", "--format", "json", *files], input=yaml.safe_dump_all(reviewed))
    assert result.exit_code in (0, 1), result.output
    objects = json.loads(result.stdout)["objects"]
    judged = next(one for one in objects if one["kind"] == "Pod")
    return [one["exception"] for one in judged["findings"] if one["rule"] == "approved-version"]


def excused_by_webhook(folder: Path, obj: Any, cluster: list[Any]) -> list[str | None]:
    """The same, as the running webhook writes it down."""
    (folder / "cluster.yaml").write_text(yaml.safe_dump_all([_NAMESPACE, *cluster]), encoding="utf-8")
    with running(folder, _SETTINGS, "--cluster", str(folder / "cluster.yaml")) as service:
        service.post("/validate", review(obj, "u-1", namespace="vision"))
        record = wait_until(lambda: next(iter(service.records), None), "the record")
    return [one.get("exception") for one in record["findings"] if one["rule"] == "approved-version"]


def model_pod(version: str = "3") -> dict[str, Any]:
    """A pod of namespace ``vision``."""
    obj = pod(version)
    return {**obj, "metadata": {**obj["metadata"], "namespace": "vision"}}


OBJECTS = {
    "approved": (exception(), ["trial"]),
    "expired": (exception(days=-1), [None]),
    "in another namespace": (exception(namespace="vision"), [None]),
    "not approved": (exception(status={}), [None]),
    "approved by its requester": (exception(status={"approval": {"approvedBy": "mia"}}), [None]),
    "of another project": (exception(apiVersion="kyverno.io/v2"), [None]),
    "misshapen": (exception(spec=["approved-version"]), [None]),
}


@pytest.mark.parametrize("which", OBJECTS)
def test_an_exception_counts_alike_in_both(tmp_path: Path, which: str) -> None:
    obj, expected = OBJECTS[which]

    assert excused_by_review(tmp_path, model_pod(), cluster=[obj]) == expected
    assert excused_by_review(tmp_path, model_pod(), obj, cluster=[]) == expected
    assert excused_by_webhook(tmp_path, model_pod(), [obj]) == expected


def test_an_excused_finding_names_its_exception_to_people(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(_SETTINGS), encoding="utf-8")
    stdin = yaml.safe_dump_all([_NAMESPACE, exception(), model_pod()])

    result = CliRunner().invoke(main, ["review", "-", "--settings", str(tmp_path / "settings.yaml")], input=stdin)

    assert "excused by exception trial" in result.stdout


def test_a_list_that_is_none_holds_for_nothing_instead_of_everything(tmp_path: Path) -> None:
    obj = exception()
    obj["spec"]["match"]["kinds"] = {"Deployment": True}

    assert excused_by_review(tmp_path, model_pod(), cluster=[obj]) == [None]


def test_approvals_of_manifests_are_those_of_the_cluster_registry(tmp_path: Path) -> None:
    approved = version_of("resnet50", "3", entry("production", "ada"))
    del approved["spec"]["source"]

    assert excused_by_review(tmp_path, model_pod(), cluster=[approved]) == []
    assert excused_by_webhook(tmp_path, model_pod(), [approved]) == []
    assert excused_by_review(tmp_path, model_pod("4"), cluster=[approved]) == [None]


def test_without_any_version_nobody_can_say_and_the_sentence_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(_SETTINGS), encoding="utf-8")

    stdin = yaml.safe_dump_all([_NAMESPACE, model_pod()])
    result = CliRunner().invoke(main, ["review", "-", "--settings", str(tmp_path / "settings.yaml")], input=stdin)

    assert "nobody can say whether resnet50:3 is approved" in result.stdout
    assert "--kubeconfig" in result.stdout
