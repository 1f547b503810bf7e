"""PolicyException under review, read, and kept."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import Any

import jsonpatch
import pytest

from registries.model_version import UnreadableObjectError
from tests.governance.objects import review_of
from webhook.access_review import AccessQuestion
from webhook.governance.policy_exceptions import PolicyExceptions, read_policy_exception
from webhook.governance.review import GovernanceReviewer
from webhook.governance.settings import GovernanceSettings

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
APPROVAL = {"approvedBy": "ada", "approvedAt": "2026-06-01T12:00:00Z"}


def _exception(name: str = "old", approval: dict | None = None, namespace: str = "tidewaiter", **spec: Any) -> dict:
    obj = {
        "kind": "PolicyException",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "rules": ["image-pinned"], "match": {"namespaces": ["vision"]}, "expires": "2026-07-01T00:00:00Z",
            "reason": "vendor image", "requestedBy": "mia", **spec,
        },
    }  # fmt: skip
    return obj if approval is None else {**obj, "status": {"approval": approval}}


def _reviewer(asked: list[AccessQuestion] | None = None, **settings: Any) -> GovernanceReviewer:
    async def yes(question: AccessQuestion) -> bool | None:
        if asked is not None:
            asked.append(question)
        return True

    return GovernanceReviewer(GovernanceSettings(**settings), ("production",), "tidewaiter", yes, lambda: NOW)


def _refusal(body: bytes, asked: list[AccessQuestion] | None = None, **settings: Any) -> str:
    response = json.loads(asyncio.run(_reviewer(asked, **settings).validate(body)).body)["response"]
    return "" if response["allowed"] else str(response["status"]["message"])


def _create(obj: dict, user: str = "mia") -> bytes:
    return review_of(obj, user, operation="CREATE", namespace=obj["metadata"]["namespace"])


def _status(old: dict, new: dict, user: str = "ada") -> bytes:
    return review_of(new, user, old=old, subresource="status", namespace="tidewaiter")


@pytest.mark.parametrize(
    ("obj", "sentence"),
    [
        (_exception(), ""),
        (_exception(expires="2026-08-30T12:00:00Z"), ""),
        (_exception(expires="2026-08-30T12:00:01Z"), "is more than 90 days away; give at most 2026-08-30T12:00:00Z"),
        (_exception(expires="2026-06-01T12:00:00Z"), "2026-06-01T12:00:00Z is past"),
        (_exception(namespace="vision"), "honoured only in namespace tidewaiter, not in vision; request it there"),
        (_exception(requestedBy="tom"), "spec.requestedBy: 'tom' did not send this"),
    ],
)
def test_a_request_is_in_our_namespace_ends_soon_and_says_who_asks(obj: dict, sentence: str) -> None:
    found = _refusal(_create(obj))
    assert sentence in found
    assert bool(found) == bool(sentence)


def test_how_far_away_the_end_may_be_is_set() -> None:
    assert "more than 7 days away" in _refusal(_create(_exception()), maxExceptionDays=7)


@pytest.mark.parametrize(
    ("user", "approval", "sentence"),
    [
        ("ada", APPROVAL, ""),
        ("ada", {**APPROVAL, "approvedBy": "tom"}, "it was not written by Tidewaiter"),
        ("ada", {**APPROVAL, "approvedAt": "2026-05-01T12:00:00Z"}, "it was not written by Tidewaiter"),
        ("mia", {**APPROVAL, "approvedBy": "mia"}, "mia requested this exception, and nobody approves their own"),
        (
            "system:serviceaccount:ci:bot",
            {**APPROVAL, "approvedBy": "system:serviceaccount:ci:bot"},
            "is a service account, and those may request but not approve",
        ),
    ],
)
def test_an_approval_is_by_somebody_else(user: str, approval: dict, sentence: str) -> None:
    found = _refusal(_status(_exception(), _exception(approval=approval), user))
    assert sentence in found
    assert bool(found) == bool(sentence)


def test_leave_is_asked_for_each_rule_and_for_every_rule_by_a_pattern() -> None:
    asked: list[AccessQuestion] = []
    rules = ["image-pinned", "host-*"]

    _refusal(_status(_exception(rules=rules), _exception(approval=APPROVAL, rules=rules)), asked)

    assert [(one.verb, one.resource, one.namespace, one.name) for one in asked] == [
        ("except", "rules", "tidewaiter", "image-pinned"),
        ("except", "rules", "tidewaiter", ""),
    ]


def test_taking_an_approval_back_takes_leave_too() -> None:
    asked: list[AccessQuestion] = []

    assert _refusal(_status(_exception(approval=APPROVAL), _exception()), asked) == ""
    assert len(asked) == 1


def test_whoever_approves_is_written_down() -> None:
    body = _status(_exception(), _exception(approval={"approvedBy": "tom", "approvedAt": "2020-01-01T00:00:00Z"}))
    response = json.loads(asyncio.run(_reviewer().mutate(body)).body)["response"]

    obj = json.loads(body)["request"]["object"]
    patched = jsonpatch.apply_patch(obj, json.loads(base64.b64decode(response["patch"])))

    assert patched["status"]["approval"] == APPROVAL


def test_an_approved_exception_is_read() -> None:
    found = read_policy_exception(_exception(approval=APPROVAL, ticket="OPS-7"), "tidewaiter")

    assert found is not None
    assert (found.requester, found.approver, found.ticket) == ("mia", "ada", "OPS-7")
    assert found.covers("image-pinned", datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC))
    assert not found.covers("image-pinned", datetime(2026, 7, 1, tzinfo=UTC))


@pytest.mark.parametrize("obj", [_exception(), _exception(approval=APPROVAL, namespace="vision")])
def test_one_that_is_not_approved_or_elsewhere_does_not_hold(obj: dict) -> None:
    assert read_policy_exception(obj, "tidewaiter") is None


@pytest.mark.parametrize(
    "obj",
    [
        _exception(approval={**APPROVAL, "approvedBy": "mia"}),
        _exception(approval=APPROVAL, requestedBy=""),
        _exception(approval=APPROVAL, expires=""),
        _exception(approval=APPROVAL, expires="soon"),
    ],
)
def test_one_that_was_never_reviewed_is_not_believed(obj: dict) -> None:
    with pytest.raises(UnreadableObjectError):
        read_policy_exception(obj, "tidewaiter")
    kept = PolicyExceptions("tidewaiter")
    kept.put(_exception(approval=APPROVAL))
    kept.put(obj)
    assert kept.current == ()


def test_what_is_not_in_a_list_any_more_is_gone() -> None:
    kept = PolicyExceptions("tidewaiter")
    for name in ("one", "two"):
        kept.put(_exception(name, APPROVAL))

    kept.keep_only({("tidewaiter", "two"), ("vision", "one")})
    assert [one.name for one in kept.current] == ["two"]

    kept.remove("vision", "two")
    assert [one.name for one in kept.current] == ["two"]
    kept.remove("tidewaiter", "two")
    assert kept.current == ()


def test_an_approval_that_is_taken_back_ends_the_exception() -> None:
    kept = PolicyExceptions("tidewaiter")
    kept.put(_exception(approval=APPROVAL))

    kept.put(_exception())

    assert kept.current == ()
