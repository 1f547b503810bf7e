"""Exceptions from rules: who may request and approve them, and which ones hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from admission.policy_exception import PolicyException
from tests.cluster.governed import OWN_NAMESPACE, Governed, governed
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.waiting import wait_until


@pytest.fixture(scope="module")
def tower(control_plane: ControlPlane) -> Iterator[Governed]:
    with governed(control_plane) as running:
        yield running


def _exception(name: str, *rules: str, namespace: str = OWN_NAMESPACE, days: float = 30, **spec: Any) -> dict:
    expires = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "PolicyException",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "rules": list(rules) or ["image-pinned"],
            "match": {"namespaces": ["vision"], "names": ["legacy-*"]},
            "expires": expires,
            "reason": "vendor image",
            **spec,
        },
    }


def _held(tower: Governed, name: str) -> PolicyException | None:
    return next((one for one in tower.exceptions.current if one.name == name), None)


def _approve(tower: Governed, user: str, name: str) -> Any:
    return tower.cli(user, "exception", "approve", name)


def test_an_exception_holds_once_somebody_else_approved_it(tower: Governed) -> None:
    requested = tower.cli(
        "mia", "exception", "request", "old-image", "--rule", "image-pinned", "--for-namespace", "vision",
        "--for-name", "legacy-*", "--expires", "30d", "--reason", "vendor image", "--ticket", "OPS-7",
    )  # fmt: skip
    assert "does not hold yet" in requested.stdout, requested.output
    assert _held(tower, "old-image") is None

    approved = _approve(tower, "ada", "old-image")

    assert "Exception old-image is approved and holds until" in approved.stdout, approved.output
    held = wait_until(lambda: _held(tower, "old-image"), "the exception to hold", 10)
    assert (held.requester, held.approver, held.ticket) == ("mia", "ada", "OPS-7")
    assert held.selects("vision", "Pod", "legacy-1", {})
    assert held.covers("image-pinned", datetime.now(UTC))


def test_an_expired_exception_is_gone_at_its_end(tower: Governed) -> None:
    assert tower.create("mia", _exception("short", days=2 / 86400)).returncode == 0
    assert _approve(tower, "ada", "short").exit_code == 0
    held = wait_until(lambda: _held(tower, "short"), "the exception to hold", 10)

    wait_until(lambda: datetime.now(UTC) >= held.expires, "its end", 10)

    assert not held.covers("image-pinned", datetime.now(UTC))
    assert tower.cli("mia", "exception", "list").stdout.count("expired") >= 1


def test_the_requester_does_not_approve(tower: Governed) -> None:
    assert tower.create("max", _exception("own")).returncode == 0

    done = _approve(tower, "max", "own")

    assert done.exit_code == 1
    assert "max requested this exception, and nobody approves their own" in done.stderr


def test_an_approver_for_one_rule_approves_for_no_other(tower: Governed) -> None:
    assert tower.create("mia", _exception("pinned", "image-pinned")).returncode == 0
    assert tower.create("mia", _exception("two-rules", "image-pinned", "host-access")).returncode == 0
    assert tower.create("mia", _exception("all-rules", "*")).returncode == 0

    assert _approve(tower, "eve", "pinned").exit_code == 0
    for name, rule in (("two-rules", "host-access"), ("all-rules", "*")):
        done = _approve(tower, "eve", name)
        assert done.exit_code == 1
        assert f"eve may not approve exceptions of rule {rule}" in done.stderr
    assert _approve(tower, "ada", "all-rules").exit_code == 0


def test_who_requests_is_written_down_and_an_approval_that_comes_along_is_dropped(tower: Governed) -> None:
    approval = {"approvedBy": "ada", "approvedAt": "2026-01-01T00:00:00Z"}
    obj = {**_exception("forged", requestedBy="ada"), "status": {"approval": approval}}

    assert tower.create("mia", obj).returncode == 0

    stored = tower.plane.get("policyexception", "forged", OWN_NAMESPACE)
    assert stored is not None
    assert stored["spec"]["requestedBy"] == "mia"
    assert "status" not in stored


def test_who_approves_is_written_down_whatever_the_request_says(tower: Governed) -> None:
    assert tower.create("mia", _exception("signed")).returncode == 0
    approval = {"approvedBy": "tom", "approvedAt": "2020-01-01T00:00:00Z"}

    done = tower.patch(
        "ada", "signed", {"status": {"approval": approval}}, "--subresource=status", "-n", OWN_NAMESPACE,
        kind="policyexception",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    stored = tower.plane.get("policyexception", "signed", OWN_NAMESPACE)
    assert stored is not None
    assert stored["status"]["approval"]["approvedBy"] == "ada"
    assert not stored["status"]["approval"]["approvedAt"].startswith("2020")


def test_an_exception_never_changes(tower: Governed) -> None:
    assert tower.create("mia", _exception("fixed")).returncode == 0

    done = tower.patch("root", "fixed", {"spec": {"rules": ["*"]}}, "-n", OWN_NAMESPACE, kind="policyexception")

    assert done.returncode != 0
    assert "an exception never changes" in tower.plane.kubectl(
        "patch", "policyexception", "fixed", "-n", OWN_NAMESPACE, "--type=merge",
        "-p", json.dumps({"spec": {"rules": ["*"]}}), check=False,
    ).stderr  # fmt: skip


@pytest.mark.parametrize(("days", "sentence"), [(91, "more than 90 days away"), (-1, "is past")])
def test_an_exception_has_an_end_and_a_near_one(tower: Governed, days: float, sentence: str) -> None:
    assert sentence in tower.create("mia", _exception("endless", days=days)).stderr


def test_an_exception_elsewhere_is_refused_and_one_that_was_there_before_does_not_hold(tower: Governed) -> None:
    if tower.plane.get("namespace", "elsewhere") is None:
        tower.plane.create_namespace("elsewhere")
    manifest = json.dumps(_exception("anywhere", "*", namespace="elsewhere"))

    done = tower.plane.kubectl("create", "-f", "-", input=manifest, check=False)
    assert f"honoured only in namespace {OWN_NAMESPACE}, not in elsewhere" in done.stderr

    obj = _exception("anywhere", "*", namespace="elsewhere", requestedBy="mia")
    tower.exceptions.put({**obj, "status": {"approval": {"approvedBy": "ada", "approvedAt": "2026-01-01T00:00:00Z"}}})
    assert _held(tower, "anywhere") is None


def test_a_deleted_exception_is_gone(tower: Governed) -> None:
    assert tower.create("mia", _exception("deleted")).returncode == 0
    assert _approve(tower, "ada", "deleted").exit_code == 0
    wait_until(lambda: _held(tower, "deleted"), "the exception to hold", 10)

    tower.plane.kubectl("delete", "policyexception", "deleted", "-n", OWN_NAMESPACE)

    wait_until(lambda: _held(tower, "deleted") is None, "the exception to go", 10)


def test_nothing_is_requested_or_approved_while_nobody_reviews(tower: Governed) -> None:
    assert tower.create("mia", _exception("waiting")).returncode == 0

    with tower.down():
        requested = tower.create("mia", _exception("unseen"))
        approved = _approve(tower, "ada", "waiting")

    assert "failed calling webhook" in requested.stderr
    assert "Tidewaiter does not answer" in approved.stderr
    assert _held(tower, "waiting") is None
