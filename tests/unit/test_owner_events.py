"""Events on the owners of controllers' pods."""

from __future__ import annotations

import threading
from typing import Any

from admission.admission_review import AdmissionRequest
from admission.decision import Decision, Purpose
from admission.finding import Action, Finding, JudgedFinding
from tests.kernel import NOW, request
from webhook.owner_events import OwnerEvents, owner_event

_OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "resnet-5d8f", "uid": "u-1", "controller": True}


def _pod(**more: Any) -> AdmissionRequest:
    return request({"metadata": {"ownerReferences": [_OWNER]}, "spec": {"containers": []}}, **more)


def _decision(*actions: Action, message: str = "found") -> Decision:
    findings = tuple(
        JudgedFinding(Finding(f"rule-{number}", "spec", message, "mend it"), action)
        for number, action in enumerate(actions)
    )
    return Decision("u", Purpose.VALIDATE, Action.DENY not in actions, findings=findings)


def test_a_warning_about_a_controllers_pod_becomes_an_event_on_its_owner() -> None:
    event = owner_event(_pod(), _decision(Action.WARN), NOW)

    assert event is not None
    assert event["reason"] == "ModelPodWarning"
    assert event["involvedObject"]["name"] == "resnet-5d8f"
    assert event["message"] == "spec: found; mend it (rule rule-0)"
    assert event["metadata"]["namespace"] == "models"


def test_a_refusal_tells_what_refused_and_leaves_the_warnings_out() -> None:
    event = owner_event(_pod(), _decision(Action.DENY, Action.WARN), NOW)

    assert event is not None
    assert event["reason"] == "ModelPodRefused"
    assert "rule-0" in event["message"]
    assert "rule-1" not in event["message"]


def test_a_message_stays_within_what_the_api_server_takes() -> None:
    event = owner_event(_pod(), _decision(Action.WARN, Action.WARN, message="x" * 900), NOW)

    assert event is not None
    assert len(event["message"]) == 1024


def test_nothing_is_told_of_bare_pods_dry_runs_audits_and_workloads() -> None:
    bare = request({"metadata": {}, "spec": {"containers": []}})

    assert owner_event(bare, _decision(Action.WARN), NOW) is None
    assert owner_event(_pod(dryRun=True), _decision(Action.WARN), NOW) is None
    assert owner_event(_pod(), _decision(Action.AUDIT), NOW) is None
    assert owner_event(_pod(kind="ReplicaSet"), _decision(Action.WARN), NOW) is None


def test_the_same_event_is_written_once_in_ten_minutes_and_another_at_once() -> None:
    written: list[str] = []
    now = 0.0
    events = OwnerEvents(lambda event: written.append(event["message"]), lambda: None, clock=lambda: now)

    events.tell(_pod(), _decision(Action.WARN))
    events.tell(_pod(), _decision(Action.WARN))
    events.tell(_pod(), _decision(Action.WARN, message="another"))
    now = 600.0
    events.tell(_pod(), _decision(Action.WARN))
    events.close()

    assert [message.split(";")[0] for message in written] == ["spec: found", "spec: another", "spec: found"]


def test_an_event_that_cannot_be_written_is_counted_and_the_next_one_is_written() -> None:
    written: list[str] = []
    dropped = threading.Event()

    def post(event: dict[str, Any]) -> None:
        if "first" in event["message"]:
            raise OSError("connection refused")
        written.append(event["message"])

    events = OwnerEvents(post, dropped.set)
    events.tell(_pod(), _decision(Action.WARN, message="first"))
    events.tell(_pod(), _decision(Action.WARN, message="second"))
    events.close()

    assert dropped.is_set()
    assert len(written) == 1
