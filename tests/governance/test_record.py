"""What is written down of who approved what."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from tests.governance.objects import entry, review_of, version_of
from webhook.access_review import AccessQuestion
from webhook.governance.review import GovernanceReviewer
from webhook.governance.settings import GovernanceSettings

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STAMP = "2026-06-01T12:00:00Z"


def _records(*bodies: bytes, path: str = "validate") -> list[dict[str, Any]]:
    async def only_staging(question: AccessQuestion) -> bool | None:
        return question.name == "staging"

    kept: list[dict[str, Any]] = []
    reviewer = GovernanceReviewer(
        GovernanceSettings(), ("staging", "production"), "tidewaiter", only_staging, lambda: NOW, kept.append
    )
    for body in bodies:
        asyncio.run(getattr(reviewer, path)(body))
    return kept


def _status(old: dict[str, Any], new: dict[str, Any]) -> bytes:
    return review_of(new, "ada", old=old, subresource="status")


def test_an_approval_is_written_down_with_who_what_and_where() -> None:
    new = version_of("resnet50", "3", entry("staging", "ada", at=STAMP, reason="run 7"))

    (record,) = _records(_status(version_of(), new))

    assert (record["user"], record["kind"], record["subresource"], record["allowed"]) == (
        "ada", "ModelVersion", "status", True,
    )  # fmt: skip
    assert record["time"] == "2026-06-01T12:00:00.000Z"
    assert record["governance"]["model"] == "resnet50"
    assert record["governance"]["changes"] == [entry("staging", "ada", at=STAMP, reason="run 7")]


def test_a_withdrawal_is_written_down() -> None:
    (record,) = _records(_status(version_of("resnet50", "3", entry("staging", "ada", at=STAMP)), version_of()))

    assert record["governance"]["changes"] == [{"environment": "staging", "approver": "ada", "state": "withdrawn"}]


def test_a_refusal_is_written_down_with_its_reason_and_what_was_tried() -> None:
    (record,) = _records(_status(version_of(), version_of("resnet50", "3", entry("production", "ada", at=STAMP))))

    assert (record["allowed"], record["verdict"]) == (False, "denied")
    (finding,) = record["findings"]
    assert (finding["rule"], finding["action"]) == ("governance", "deny")
    assert "ada may not approve for production" in finding["message"]
    assert record["governance"]["changes"] == [entry("production", "ada", at=STAMP, reason="")]


def test_what_could_not_be_reviewed_is_written_down_by_either_webhook() -> None:
    for path in ("mutate", "validate"):
        (record,) = _records(b"{", path=path)
        assert (record["webhook"], record["allowed"]) == (path, False)
        assert "body is not JSON" in record["error"]


def test_a_malformed_object_is_written_down_too() -> None:
    obj = {"kind": "ModelVersion", "spec": "text", "status": {"approvals": ["text"]}}

    (record,) = _records(review_of(obj, subresource="status"))

    assert record["name"] == ""


def test_stamping_alone_is_no_decision() -> None:
    assert _records(review_of(version_of(), "mia", operation="CREATE"), path="mutate") == []
