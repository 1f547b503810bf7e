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
from admission.decision import Decision, Injection, Purpose, Verdict
from admission.finding import Action, Finding, JudgedFinding
from admission.image_signature import ImageNotSigned, ImageSigned, ImageUnknown, SignatureQuestion, Signatures
from admission.namespace import ENVIRONMENT_KEY, Namespace
from audit.chain import Chain
from audit.checkpoint import CLOSE, Reach, Signer
from audit.presentation import show_text
from audit.record import decision_record
from tests.audit.sealed import KEY, record
from tests.governance.objects import entry, review_of, version_of
from tests.kernel import request
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


class _Images:
    """One image is signed, one is not, and of one nobody can say."""

    def wants(self, image: str) -> bool:
        return image.startswith("signed.example.com/")

    async def ask(self, question: SignatureQuestion) -> Signatures:
        said = (
            ImageSigned("release", age=90.0, stale=True),
            ImageNotSigned("no signature", age=2.0),
            ImageUnknown("down"),
        )
        return dict(zip(question.images, said, strict=True))


class _Approvals:
    async def ask(self, question: ApprovalQuestion) -> Answered:
        approval = Approval(question.model, question.version, ApprovalState.APPROVED, approvers=("ada",))
        return Answered(approval, registry="company", age=1.5, revision="7", cause="timeout")


def _review(spec: dict[str, Any], namespace: str = "models", labels: dict[str, str] | None = None) -> bytes:
    obj = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "m", "labels": labels or {}, "annotations": {"tidewaiter.dev/review": "u-0"}},
        "spec": spec,
    }
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
    reviewer = Reviewer(settings, state, None, approvals=_Approvals(), images=_Images(), record=kept.append)
    asyncio.run(reviewer.answer(body, purpose))
    yield from kept


_TRITON = {"containers": [{"name": "t", "image": "nvcr.io/nvidia/tritonserver:24.01", "args": ["tritonserver"]}]}
for _number, _digest in enumerate(("a", "b", "c")):
    _TRITON["containers"].append(
        {"name": f"s{_number}", "image": f"signed.example.com/s{_number}@sha256:{_digest * 64}"}
    )
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

    rare = {"recreated", "tolerated", "governance", "dropped_before"}
    assert {one for one in DECISION.schema["properties"] if not one.endswith("_left_out")} - seen == rare


def test_a_record_that_leaves_something_out_keeps_to_the_schema() -> None:
    finding = JudgedFinding(Finding("r", "spec", "m" * 1000, "x", "main"), Action.DENY)
    large = Decision(
        uid="u-1",
        purpose=Purpose.VALIDATE,
        allowed=False,
        recognised="vllm",
        findings=(finding,) * 100,
        signatures={f"host/image-{number}": ImageUnknown("r" * 400) for number in range(100)},
        injections=tuple(Injection(f"m{number}", ("c" * 400,) * 20, preview=False) for number in range(20)),
        patch=({"op": "add", "path": "/x", "value": "v" * 20_000},),
    )
    asking = request({}, userInfo={"username": "mia", "groups": ["g" * 400] * 100})
    found = decision_record(large, asking, _NOW, 0.001, "p1")

    left_out = {one for one in found if one.endswith("_left_out")}
    assert left_out == {one for one in DECISION.schema["properties"] if one.endswith("_left_out")}
    assert "changes_left_out" in found["injections"][0]
    DECISION.validate(Chain("pod/run").seal(found).value)


def test_who_approved_is_in_the_record() -> None:
    assert REAL["denied"]["approval"]["approvers"] == ["ada"]


def test_whose_signature_an_image_carries_and_how_fresh_that_is_is_in_the_record() -> None:
    about = {"image": "signed.example.com/s0@sha256:" + "a" * 64, "digest": "sha256:" + "a" * 64}
    signed, unsigned, unknown = REAL["denied"]["signatures"]

    assert signed == {**about, "state": "signed", "key": "release", "freshness": "stale", "age_seconds": 90.0}
    assert (unsigned["state"], unsigned["freshness"], unsigned["reason"]) == ("unsigned", "fresh", "no signature")
    assert (unknown["state"], unknown["freshness"], unknown["reason"]) == ("unknown", "unavailable", "down")
    assert "age_seconds" not in unknown
    shown = show_text(Chain("pod/run").seal(REAL["denied"]))
    assert "by release" in shown
    assert f"signed.example.com/s0@sha256:{'a' * 64} (stale, 90.0 s old)" in shown
    assert "no signature" in shown


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
