"""The review of our own objects where no API server shows it: errors, races, and what another webhook may do."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from datetime import UTC, datetime
from typing import Any

import jsonpatch
import pytest

from tests.governance.objects import entry, review_of, version_of
from webhook.access_review import AccessQuestion
from webhook.governance.access import Access, asking
from webhook.governance.review import GovernanceReviewer
from webhook.governance.settings import GovernanceSettings

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STAMP = "2026-06-01T12:00:00Z"


async def _yes(_question: AccessQuestion) -> bool | None:
    return True


def _reviewer(access: Access = _yes, **settings: Any) -> GovernanceReviewer:
    made = GovernanceSettings(approvers={"production": 2}, **settings)
    return GovernanceReviewer(made, ("staging", "production"), "tidewaiter", access, lambda: NOW)


def _validated(body: bytes, access: Access = _yes, **settings: Any) -> dict[str, Any]:
    answer = asyncio.run(_reviewer(access, **settings).validate(body))
    found: dict[str, Any] = json.loads(answer.body)["response"]
    return found


def _mutated(body: bytes) -> dict[str, Any]:
    response = json.loads(asyncio.run(_reviewer().mutate(body)).body)["response"]
    assert response["allowed"], response
    obj = json.loads(body)["request"]["object"]
    if "patch" not in response:
        return dict(obj)
    return dict(jsonpatch.apply_patch(obj, json.loads(base64.b64decode(response["patch"]))))


def _status(old: dict[str, Any], new: dict[str, Any], user: str = "ada") -> bytes:
    return review_of(new, user, old=old, subresource="status")


def test_a_new_entry_without_a_name_takes_the_place_of_what_one_said_before() -> None:
    said = entry("staging", "ada", "rejected", at="2026-01-01T00:00:00Z")
    old = version_of("resnet50", "3", said)
    new = version_of("resnet50", "3", said)
    new["status"]["approvals"].append({"environment": "staging", "state": "approved"})

    assert _mutated(_status(old, new))["status"]["approvals"] == [entry("staging", "ada", at=STAMP)]


def test_saying_the_same_again_within_a_second_keeps_it() -> None:
    old = version_of("resnet50", "3", entry("staging", "ada", at=STAMP))
    new = version_of("resnet50", "3", entry("staging", "ada"))

    assert _mutated(_status(old, new))["status"]["approvals"] == [entry("staging", "ada", at=STAMP)]


def test_an_entry_that_did_not_change_keeps_its_time() -> None:
    kept = entry("staging", "ada", at="2026-01-01T00:00:00Z")
    old = version_of("resnet50", "3", kept)
    new = version_of("resnet50", "3", kept, entry("production", "ada"))

    written = _mutated(_status(old, new))["status"]["approvals"]

    assert written == [kept, entry("production", "ada", at=STAMP)]


def test_what_follows_from_the_approvals_is_written_over_whatever_was_sent() -> None:
    new = version_of("resnet50", "3", entry("production", "ada"), entry("staging", "ada"))
    new["status"] |= {"state": "revoked", "environments": ["production"], "conditions": []}

    status = _mutated(_status(version_of(), new))["status"]

    assert (status["state"], status["environments"]) == ("approved", ["staging"])
    said = {one["type"]: (one["status"], one["reason"], one["message"]) for one in status["conditions"]}
    assert said == {
        "Approved-production": ("False", "MoreApproversNeeded", "1 of 2 approvals"),
        "Approved-staging": ("True", "Approved", "1 of 1 approvals"),
    }


def test_a_condition_that_did_not_change_keeps_its_time() -> None:
    old = _mutated(_status(version_of(), version_of("resnet50", "3", entry("staging", "sam", at=STAMP)), "sam"))
    old["status"]["conditions"][0]["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    new = copy.deepcopy(old)
    new["status"]["approvals"].append(entry("staging", "ada"))

    conditions = _mutated(_status(old, new))["status"]["conditions"]

    assert conditions[0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert conditions[0]["message"] == "2 of 1 approvals"


def test_an_entry_that_our_own_mutating_webhook_did_not_stamp_is_refused() -> None:
    new = version_of("resnet50", "3", entry("staging", "ada", at="2026-01-01T00:00:00Z"))

    response = _validated(_status(version_of(), new))

    assert not response["allowed"]
    assert "the time was not written by Tidewaiter; is its mutating webhook installed?" in response["status"]["message"]


def test_a_proposal_that_our_own_mutating_webhook_did_not_stamp_is_refused() -> None:
    response = _validated(review_of(version_of(proposer="tom"), "mia", operation="CREATE"))

    assert "spec.proposedBy: 'tom' did not send this" in response["status"]["message"]


def test_a_proposal_under_another_name_is_refused() -> None:
    obj = version_of()
    obj["metadata"]["name"] = "resnet"

    response = _validated(review_of(obj, "mia", operation="CREATE"))

    assert "metadata.name: 'resnet' is not the name of resnet50:3; name it resnet50--3" in response["status"]["message"]


@pytest.mark.parametrize(("sent", "stored"), [("tom", "ada"), (None, "ada")])
def test_whoever_creates_is_the_proposer(sent: str | None, stored: str) -> None:
    obj = version_of(proposer=sent or "")

    assert _mutated(review_of(obj, "ada", operation="CREATE"))["spec"]["proposedBy"] == stored


def test_an_update_that_leaves_the_proposer_out_keeps_them() -> None:
    obj = version_of()
    del obj["spec"]["proposedBy"]

    assert _mutated(review_of(obj, "root", old=version_of()))["spec"]["proposedBy"] == "mia"


@pytest.mark.parametrize("state", ["approved", "rejected", "revoked"])
def test_rbac_is_asked_for_each_environment_whatever_is_said(state: str) -> None:
    asked: list[AccessQuestion] = []

    async def ask(question: AccessQuestion) -> bool | None:
        asked.append(question)
        return False

    new = version_of(
        "resnet50", "3", entry("staging", "ada", state, at=STAMP), entry("production", "ada", state, at=STAMP)
    )
    response = _validated(_status(version_of(), new), ask)

    assert [(one.verb, one.group, one.resource, one.name, one.groups) for one in asked] == [
        ("approve", "tidewaiter.dev", "environments", "staging", ("people",)),
        ("approve", "tidewaiter.dev", "environments", "production", ("people",)),
    ]
    assert response["status"]["message"].count("\n") == 1


def test_taking_back_an_approval_takes_leave_too() -> None:
    async def no(_question: AccessQuestion) -> bool | None:
        return False

    old = version_of("resnet50", "3", entry("staging", "ada", at=STAMP))

    assert not _validated(_status(old, version_of()), no)["allowed"]


def test_the_proposer_may_revoke_and_reject_what_they_proposed() -> None:
    for state in ("revoked", "rejected"):
        new = version_of("resnet50", "3", entry("staging", "mia", state, at=STAMP))
        assert _validated(_status(version_of(), new, "mia"))["allowed"]


def test_a_second_revocation_is_allowed_and_nothing_else_is() -> None:
    revoked = entry("staging", "sam", "revoked", at=STAMP)
    old = version_of("resnet50", "3", revoked)
    for state, allowed in (("revoked", True), ("rejected", False), ("approved", False)):
        new = version_of("resnet50", "3", revoked, entry("staging", "ada", state, at=STAMP))
        assert _validated(_status(old, new))["allowed"] is allowed
    new = version_of("resnet50", "3", revoked, entry("production", "ada", at=STAMP))
    assert _validated(_status(old, new))["allowed"]


def test_service_accounts_approve_where_the_settings_let_them() -> None:
    user = "system:serviceaccount:ci:builder"
    body = _status(version_of(), version_of("resnet50", "3", entry("staging", user, at=STAMP)), user)

    assert not _validated(body)["allowed"]
    assert _validated(body, serviceAccountsMayApprove=True)["allowed"]


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([], "the entry of sam for staging would be taken away, and only sam may do that"),
        ([entry("staging", "sam", "rejected", at=STAMP)], "the entry of sam for staging would be changed"),
        ([entry("staging", "sam", at=STAMP), entry("staging", "tom", at=STAMP)], "ada cannot speak as tom for staging"),
    ],
)
def test_everybody_keeps_to_their_own_entry(entries: list[dict[str, Any]], sentence: str) -> None:
    old = version_of("resnet50", "3", entry("staging", "sam", at=STAMP))

    response = _validated(_status(old, version_of("resnet50", "3", *entries)))

    assert sentence in response["status"]["message"]


def test_where_rbac_cannot_be_asked_nothing_is_approved() -> None:
    def down(_question: AccessQuestion) -> bool:
        raise OSError("connection refused")

    new = version_of("resnet50", "3", entry("staging", "ada", at=STAMP))
    response = _validated(_status(version_of(), new), asking(down))

    assert not response["allowed"]
    assert "RBAC could not be asked what ada may do; try again" in response["status"]["message"]


def test_leave_that_was_taken_away_counts_at_once() -> None:
    answers = [True, False]
    access = asking(lambda _question: answers.pop(0))
    body = _status(version_of(), version_of("resnet50", "3", entry("staging", "ada", at=STAMP)))

    assert [_validated(body, access)["allowed"] for _ in range(2)] == [True, False]


@pytest.mark.parametrize("path", ["mutate", "validate"])
@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "body is not JSON"),
        (review_of(version_of(), group="apps"), "ModelVersion of group 'apps' is not reviewed here"),
        (review_of(version_of(), subresource="scale"), "subresource 'scale' is not reviewed here"),
    ],
)
def test_what_is_no_review_of_ours_is_refused(path: str, body: bytes, sentence: str) -> None:
    answer = asyncio.run(getattr(_reviewer(), path)(body))
    response = json.loads(answer.body)["response"]

    assert not response["allowed"]
    assert sentence in response["status"]["message"]


def test_an_error_of_ours_is_a_refusal_with_the_uid(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_question: AccessQuestion) -> bool | None:
        raise KeyError("surprise")

    new = version_of("resnet50", "3", entry("staging", "ada", at=STAMP))
    response = _validated(_status(version_of(), new), broken)

    assert (response["uid"], response["allowed"], response["status"]["code"]) == ("u-1", False, 500)
    assert "an error in Tidewaiter itself: KeyError (request u-1: refused" in response["status"]["message"]
    assert "surprise" in caplog.text


@pytest.mark.parametrize(
    "obj",
    [
        {"kind": "ModelVersion", "spec": "text"},
        {"kind": "ModelVersion", "spec": {}, "status": {"approvals": ["text", {"environment": 3}]}},
        {"kind": "ModelVersion", "status": {"approvals": {"a": 1}, "conditions": "text"}},
        {"kind": "PolicyException", "spec": [], "status": {"approval": "text"}},
        {"kind": "PolicyException"},
    ],
)
@pytest.mark.parametrize("subresource", ["", "status"])
def test_a_malformed_object_is_stamped_or_left_alone_for_the_schema_to_refuse(
    obj: dict[str, Any], subresource: str
) -> None:
    for operation in ("CREATE", "UPDATE"):
        _mutated(review_of(obj, subresource=subresource, operation=operation))


def _deletion(old: dict[str, Any] | None, user: str = "root") -> bytes:
    body = json.loads(review_of(version_of("resnet50", "3"), user, operation="DELETE"))
    body["request"] |= {"object": None, "oldObject": old}
    return json.dumps(body).encode()


def test_deleting_asks_about_each_environment_that_revoked_and_about_no_other() -> None:
    asked: list[tuple[str, str, str, str]] = []

    async def only_staging(question: AccessQuestion) -> bool | None:
        asked.append((question.username, question.verb, question.resource, question.name))
        return question.name == "staging"

    old = version_of(
        "resnet50", "3", entry("staging", "sam", "revoked", at=STAMP), entry("production", "tom", "revoked", at=STAMP)
    )
    old["status"]["approvals"].append(entry("development", "ada", at=STAMP))
    response = _validated(_deletion(old), only_staging)

    assert sorted(asked) == [("root", "forget", "environments", one) for one in ("production", "staging")]
    assert response["allowed"] is False
    assert "resnet50:3 was revoked for production by tom" in response["status"]["message"]
    assert "staging" not in response["status"]["message"].partition("production")[0]


def test_a_version_that_nobody_revoked_is_deleted_without_a_question() -> None:
    async def never(_question: AccessQuestion) -> bool | None:
        raise AssertionError

    assert _validated(_deletion(version_of("resnet50", "3", entry("staging", "sam", "rejected"))), never)["allowed"]


def test_a_deletion_that_does_not_say_of_what_is_refused() -> None:
    response = _validated(_deletion(None))

    assert response["allowed"] is False
    assert "nobody can say whether it was revoked" in response["status"]["message"]


def test_a_deletion_is_written_down_with_the_version() -> None:
    records: list[dict[str, Any]] = []
    made = GovernanceReviewer(GovernanceSettings(), ("staging",), "tidewaiter", _yes, lambda: NOW, records.append)
    asyncio.run(made.validate(_deletion(version_of("resnet50", "3", entry("staging", "sam", "revoked")))))

    assert (records[0]["operation"], records[0]["user"]) == ("DELETE", "root")
    assert (records[0]["governance"]["model"], records[0]["governance"]["version"]) == ("resnet50", "3")
