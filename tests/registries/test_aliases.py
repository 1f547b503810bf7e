from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from admission.approval import Approval, ApprovalState
from registries.aliases import approval_of
from registries.settings import MlflowSettings

DIGEST = "sha256:" + "d" * 64
APPROVED, PROPOSED = ApprovalState.APPROVED, ApprovalState.PROPOSED


def found(aliases: list[str], tags: dict[str, str] | None = None, **settings: Any) -> Approval:
    given = {
        "name": "m",
        "type": "mlflow",
        "url": "https://mlflow.example.com",
        "aliases": {"champion": ["production", "staging"], "candidate": ["staging"], "everywhere": ["*"]},
        **settings,
    }
    return approval_of(
        "bert", "1", aliases, tags or {}, MlflowSettings.model_validate(given), source="s3://x", lineage="run r"
    )


def environments(approval: Approval) -> list[str]:
    return [one.environment for one in approval.by_environment]


@pytest.mark.parametrize(
    ("aliases", "expected"),
    [
        ([], []),
        (["latest", "Champion"], []),
        (["candidate"], ["staging"]),
        (["champion", "candidate"], ["staging", "production"]),
        (["candidate", "everywhere"], ["*"]),
    ],
)
def test_aliases_approve_for_their_environments(aliases: list[str], expected: list[str]) -> None:
    approval = found(aliases)
    assert environments(approval) == expected
    assert approval.state is (APPROVED if expected else PROPOSED)


@pytest.mark.parametrize(
    ("by", "alias", "tag", "state"),
    [
        ("alias", True, False, APPROVED),
        ("alias", False, True, PROPOSED),
        ("tag", False, True, APPROVED),
        ("tag", True, False, PROPOSED),
        ("both", True, False, PROPOSED),
        ("both", False, True, PROPOSED),
        ("both", True, True, APPROVED),
    ],
)
def test_what_approves_is_what_the_settings_say(by: str, alias: bool, tag: bool, state: ApprovalState) -> None:
    tags = {"validation_status": "approved"} if tag else {}
    assert found(["champion"] if alias else [], tags, approvedBy=by).state is state


def test_revoked_and_rejected_count_whatever_the_aliases_say() -> None:
    for state in ("revoked", "rejected"):
        approval = found(["champion"], {"validation_status": state})
        assert (approval.state.value, approval.by_environment) == (state, ())


def test_a_teams_own_words_for_states_are_understood_and_unknown_ones_approve_nothing() -> None:
    states = {"ok": "approved", "withdrawn": "revoked"}
    assert found([], {"stage": "ok"}, approvedBy="tag", stateKey="stage", states=states).state is APPROVED
    assert found([], {"stage": "OK"}, approvedBy="tag", stateKey="stage", states=states).state is PROPOSED
    withdrawn = found(["champion"], {"stage": "withdrawn"}, stateKey="stage", states=states)
    assert withdrawn.state is ApprovalState.REVOKED


def test_an_end_is_heeded_and_one_that_cannot_be_read_approves_nothing() -> None:
    by_day = found(["candidate"], {"approval_expires": "2030-01-31"})
    assert by_day.by_environment[0].expires == datetime(2030, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
    by_time = found(["candidate"], {"approval_expires": "2030-01-31T12:00:00+00:00"})
    assert by_time.by_environment[0].expires == datetime(2030, 1, 31, 12, tzinfo=UTC)
    for text in ("soon", "31.01.2030", "2030-02-31"):
        assert found(["candidate"], {"approval_expires": text}).state is PROPOSED


def test_only_a_sha256_is_taken_for_a_digest() -> None:
    assert found([], {"digest": DIGEST.upper().replace("SHA", "sha")}).digest == DIGEST
    assert found([], {"digest": "d41d8cd98f00b204e9800998ecf8427e"}).digest == ""


def test_approvers_and_lineage_are_kept() -> None:
    approval = found(["candidate"], {"approved_by": " ann,, bob "})
    assert approval.by_environment[0].approvers == ("ann", "bob")
    assert approval.by_environment[0].reason == "alias candidate; run r"
