"""Whatever people send, one after the other: nobody gains what they were not given."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonpatch
from hypothesis import given, settings
from hypothesis import strategies as st

from admission.approval import ApprovalState
from registries.model_version import read_model_version
from tests.governance.objects import review_of, version_of
from webhook.access_review import AccessQuestion
from webhook.governance.review import GovernanceReviewer
from webhook.governance.settings import GovernanceSettings

ENVIRONMENTS = ("staging", "production")
LEAVE = {"mia": {"staging"}, "sam": {"staging"}, "ada": {"staging", "production"}, "tom": {"production"}, "pat": set()}
PROPOSER = "mia"
APPROVERS = {"production": 2}
PAST = "2020-01-01T00:00:00Z"
START = datetime(2026, 6, 1, tzinfo=UTC)

_ENTRY = st.fixed_dictionaries(
    {
        "environment": st.sampled_from(["staging", "staging", "production", "production", "lab"]),
        "state": st.sampled_from(["approved", "approved", "approved", "rejected", "revoked"]),
        "at": st.just("2020-01-01T00:00:00Z"),
        # Mostly left out, as most people do.
        "approver": st.sampled_from([*[""] * 15, *sorted(LEAVE)]),
        "expires": st.sampled_from([*[""] * 6, PAST, "2090-01-01T00:00:00Z"]),
    }
).map(lambda entry: {key: value for key, value in entry.items() if value})
_STEP = st.tuples(
    st.sampled_from(["mia", "sam", "ada", "ada", "tom", "pat"]),
    # Which of the stored entries are sent again: mostly all of them.
    st.lists(st.sampled_from([True, True, True, False]), min_size=6, max_size=6),
    st.lists(_ENTRY, max_size=1),
)


async def _access(question: AccessQuestion) -> bool | None:
    return question.name in LEAVE[question.username]


class _Server:
    """What the API server does with a status: both webhooks, the keys of the list, then the store."""

    def __init__(self) -> None:
        self.stored = version_of(proposer=PROPOSER)
        self.now = START
        own = GovernanceSettings(approvers=APPROVERS)
        self._reviewer = GovernanceReviewer(own, ENVIRONMENTS, "tidewaiter", _access, lambda: self.now)

    def send(self, user: str, entries: list[dict[str, Any]]) -> bool:
        sent = {**self.stored, "status": {**self.stored.get("status", {}), "approvals": entries}}
        answer = self._ask(self._reviewer.mutate, sent, user)
        assert answer["allowed"], answer
        if "patch" in answer:
            sent = jsonpatch.apply_patch(sent, json.loads(base64.b64decode(answer["patch"])))
        keys = [(one.get("environment"), one.get("approver")) for one in sent["status"].get("approvals", ())]
        if len(set(keys)) != len(keys) or not self._ask(self._reviewer.validate, sent, user)["allowed"]:
            return False
        self.stored = sent
        return True

    def _ask(self, review: Any, obj: dict[str, Any], user: str) -> dict[str, Any]:
        body = review_of(obj, user, old=self.stored, subresource="status")
        found: dict[str, Any] = json.loads(asyncio.run(review(body)).body)["response"]
        return found

    def entries(self) -> dict[tuple[str, str], dict[str, Any]]:
        found = self.stored.get("status", {}).get("approvals", ())
        return {(one["environment"], one["approver"]): one for one in found}


@settings(max_examples=300)
@given(st.lists(_STEP, min_size=4, max_size=10))
def test_nobody_gains_what_they_were_not_given(steps: list[Any]) -> None:
    server = _Server()
    for user, kept, added in steps:
        server.now += timedelta(minutes=1)
        before = server.entries()
        again = [one for one, wanted in zip(before.values(), kept, strict=False) if wanted]
        server.send(user, [*again, *added])
        after = server.entries()
        for key in before.keys() | after.keys():
            if before.get(key) == after.get(key):
                continue
            environment, approver = key
            assert approver == user
            assert environment in LEAVE[user]
            if before.get(key, {}).get("state") == "revoked":
                assert after[key]["state"] == "revoked"
            if key in after:
                assert after[key].get("expires") != PAST or after[key]["state"] != "approved"
                assert after[key]["at"] == server.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        _holds(server)


def _holds(server: _Server) -> None:
    read = read_model_version(server.stored)
    for environment in ENVIRONMENTS:
        said = {who: one["state"] for (where, who), one in server.entries().items() if where == environment}
        assert said.get(PROPOSER) != "approved"
        if read.standing(environment, APPROVERS).state is ApprovalState.APPROVED:
            approvers = {who for who, state in said.items() if state == "approved"}
            assert len(approvers) >= APPROVERS.get(environment, 1)
            assert set(said.values()) == {"approved"}
            assert all(environment in LEAVE[who] for who in approvers)


def test_two_approvers_do_reach_production() -> None:
    """The sequences above would hold as well if nothing were ever allowed."""
    server = _Server()

    assert server.send("ada", [{"environment": "production", "state": "approved"}])
    assert server.send("tom", [*server.entries().values(), {"environment": "production", "state": "approved"}])

    assert read_model_version(server.stored).standing("production", APPROVERS).state is ApprovalState.APPROVED
