"""Every record that there is keeps to the schema that others read it by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import audit
from admission.approval import Answered, Approval, ApprovalQuestion, ApprovalState
from admission.decision import Purpose, Verdict
from admission.namespace import ENVIRONMENT_KEY, Namespace
from audit.chain import Chain
from audit.checkpoint import CLOSE, Reach, Signer
from tests.audit.sealed import KEY, record
from tests.governance.objects import entry, review_of, version_of
from webhook.access_review import AccessQuestion
from webhook.cluster_state import ClusterState
from webhook.governance.review import GovernanceReviewer
from webhook.governance.settings import GovernanceSettings
from webhook.reviewer import Reviewer
from webhook.settings import Settings

_SCHEMAS = Path(audit.__file__).parent / "schemas"
_NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def _schema(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((_SCHEMAS / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


DECISION, CHECKPOINT = _schema("decision.v1.json"), _schema("checkpoint.v1.json")


class _Approvals:
    async def ask(self, question: ApprovalQuestion) -> Answered:
        approval = Approval(question.model, question.version, ApprovalState.APPROVED, approvers=("ada",))
        return Answered(approval, registry="company", age=1.5, revision="7", cause="timeout")


def _review(spec: dict[str, Any], namespace: str = "models", labels: dict[str, str] | None = None) -> bytes:
    obj = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "m", "labels": labels or {}}, "spec": spec}
    return json.dumps(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "u-1",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "operation": "CREATE",
                "namespace": namespace,
                "userInfo": {"username": "mia", "groups": ["developers"]},
                "object": obj,
            },
        }
    ).encode()


def _settings(action: str) -> Settings:
    return Settings.model_validate({"environments": {"production": {"action": action}}, "mutators": {}, "rules": {}})


def _reviewed(body: bytes, purpose: Purpose, settings: Settings) -> Iterator[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    state = ClusterState()
    state.put_namespace(Namespace("models", {ENVIRONMENT_KEY: "production"}))
    reviewer = Reviewer(settings, state, None, approvals=_Approvals(), record=kept.append)
    asyncio.run(reviewer.answer(body, purpose))
    yield from kept


_TRITON = {"containers": [{"name": "t", "image": "nvcr.io/nvidia/tritonserver:24.01", "args": ["tritonserver"]}]}
_LABELS = {"tidewaiter.dev/model": "resnet50", "tidewaiter.dev/model-version": "3"}


def _real_records() -> dict[str, dict[str, Any]]:
    """By verdict, as the reviewer itself makes them."""
    deny, warn = _settings("deny"), _settings("warn")
    cases = [
        (_review(_TRITON, labels=_LABELS), Purpose.VALIDATE, deny),
        (_review(_TRITON, labels=_LABELS), Purpose.VALIDATE, warn),
        (_review(_TRITON, labels=_LABELS), Purpose.MUTATE, deny),
        (_review({"containers": [{"name": "web", "image": "nginx"}]}), Purpose.VALIDATE, deny),
        (_review(_TRITON, namespace="kube-system"), Purpose.VALIDATE, deny),
        (_review(_TRITON, labels=_LABELS), Purpose.VALIDATE, _settings("audit")),
        (b"no JSON", Purpose.VALIDATE, deny),
        (_review({"containers": "none"}), Purpose.VALIDATE, deny),
    ]
    return {one["verdict"]: one for body, purpose, settings in cases for one in _reviewed(body, purpose, settings)}


REAL = _real_records()


@pytest.mark.parametrize("verdict", [one.value for one in Verdict])
def test_a_record_of_every_verdict_keeps_to_the_schema(verdict: str) -> None:
    sealed = Chain("pod/run").seal(REAL[verdict]).value

    assert sealed["verdict"] == verdict
    DECISION.validate(sealed)


def test_the_records_tried_have_every_part_that_the_schema_describes() -> None:
    """But for those that only special circumstances bring about."""
    seen = {key for one in REAL.values() for key in Chain("pod/run").seal(one).value}

    assert set(DECISION.schema["properties"]) - seen == {"recreated", "tolerated", "governance", "dropped_before"}


def test_who_approved_is_in_the_record() -> None:
    assert REAL["denied"]["approval"]["approvers"] == ["ada"]


def test_a_record_of_an_approval_keeps_to_the_schema() -> None:
    async def everybody(_question: AccessQuestion) -> bool | None:
        return True

    kept: list[dict[str, Any]] = []
    reviewer = GovernanceReviewer(
        GovernanceSettings(), ("staging",), "tidewaiter", everybody, lambda: _NOW, kept.append
    )
    new = version_of("resnet50", "3", entry("staging", "ada", at="2026-06-01T12:00:00Z", reason="run 7"))
    asyncio.run(reviewer.validate(review_of(new, "ada", old=version_of(), subresource="status")))

    (found,) = kept
    assert found["governance"]
    DECISION.validate(Chain("pod/run").seal(found).value)


@pytest.mark.parametrize("key", [KEY, None])
def test_a_checkpoint_keeps_to_its_schema(key: Any) -> None:
    CHECKPOINT.validate(Signer(key).sign(Reach("pod/run", 3, "a" * 64), CLOSE, _NOW).value)


@pytest.mark.parametrize("change", [{"verdict": "maybe"}, {"hash": "x"}, {"sequence": 0}, {"more": 1}])
def test_the_schema_refuses_what_is_no_record(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        DECISION.validate({**Chain("pod/run").seal(record()).value, **change})
