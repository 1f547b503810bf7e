from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest

from admission.decision import Decision, Injection, Purpose
from admission.finding import Action, Finding, JudgedFinding
from admission.model_reference import ModelReference
from audit.record import MAX_RECORD_BYTES, SCHEMA, decision_record
from tests.kernel import NOW, request

SECRET = "hf_" + "a" * 20
DECISION = Decision(
    uid="u-1",
    purpose=Purpose.VALIDATE,
    allowed=False,
    recognised="vllm",
    environment="production",
    workload="inference",
    model=ModelReference("llama", "1", "https://mia:pass@host/m"),
    digest="sha256:abc",
    findings=(JudgedFinding(Finding("r", "spec", f"found {SECRET}", f"drop {SECRET}", "main"), Action.DENY),),
    injections=(Injection("m", (f"set {SECRET}",), preview=True),),
    patch=({"op": "add", "path": "/spec/containers/0/env", "value": [{"name": "TOKEN", "value": "plain"}]},),
    tolerated=2,
)


def record(decision: Decision = DECISION, **more: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"request": request({}), "now": NOW, "latency_seconds": 0.0012345, **more}
    return decision_record(decision, policy_revision="p1", **arguments)


def test_a_record_says_who_did_what_where_and_what_came_of_it() -> None:
    found = record()
    assert found.items() >= {
        "schema": SCHEMA,
        "time": "2026-06-01T12:00:00.000Z",
        "uid": "u-1",
        "webhook": "validate",
        "verdict": "denied",
        "allowed": False,
        "latency_ms": 1.234,
        "policy_revision": "p1",
        "user": "mia",
        "groups": ["developers"],
        "operation": "CREATE",
        "kind": "Pod",
        "namespace": "models",
        "recognised": "vllm",
        "environment": "production",
        "workload": "inference",
        "tolerated": 2,
    }.items()  # fmt: skip
    assert found["model"] == {"name": "llama", "version": "1", "uri": "https://***@host/m", "digest": "sha256:abc"}
    assert found["findings"][0].items() >= {"rule": "r", "action": "deny", "path": "spec", "container": "main"}.items()
    assert found["injections"] == [{"mutator": "m", "changes": ["set ***"], "preview": True}]


def test_no_secret_is_in_a_record_and_it_is_json() -> None:
    text = json.dumps(record(replace(DECISION, error=f"failed with {SECRET}")))
    assert SECRET not in text
    assert "plain" not in text
    assert "pass" not in text


@pytest.mark.parametrize(
    ("obj", "more", "name"),
    [
        ({"metadata": {"generateName": "web-"}}, {}, "web-*"),
        ({"metadata": {"generateName": "web-"}}, {"name": "web-1"}, "web-1"),
        ({"metadata": None}, {}, ""),
        ({"metadata": "broken"}, {}, ""),
        (None, {}, ""),
    ],
)
def test_an_object_without_a_name_is_named_by_its_prefix(obj: Any, more: dict[str, Any], name: str) -> None:
    assert record(request=request(obj, **more))["name"] == name


def test_a_request_that_could_not_be_read_has_a_record_too() -> None:
    found = record(Decision(uid="", purpose=Purpose.MUTATE, allowed=True, error="body is not JSON"), request=None)
    assert (found["verdict"], found["error"]) == ("error", "body is not JSON")
    assert "user" not in found


def test_what_there_is_not_is_left_out() -> None:
    found = record(Decision(uid="u", purpose=Purpose.MUTATE, allowed=True, ignored="no model pod"))
    assert found["ignored"] == "no model pod"
    assert not {"findings", "injections", "patch", "tolerated", "model", "error"} & set(found)


LONG = {
    "plain": "x" * 300_000,
    "wide": "\U0001f600" * 300_000,
    "control": "\x01" * 300_000,
    "words": "key token " * 30_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_record_is_bounded_whatever_the_pod_says(text: str) -> None:
    finding = JudgedFinding(Finding("r", f"spec.{text}", text, text, text), Action.DENY)
    decision = replace(
        DECISION,
        recognised=text,
        model=ModelReference(text, text, text),
        digest=text,
        error=text,
        findings=(finding,) * 2_000,
        injections=(Injection("m", (text,) * 500),) * 500,
        patch=({"op": "add", "path": "/spec", "value": text},),
    )
    user = {"username": text, "groups": [text] * 500}
    about = request({"metadata": {"generateName": text}}, userInfo=user, namespace=text)

    found = record(decision, request=about)

    assert len(orjson.dumps(found)) <= MAX_RECORD_BYTES
    assert len(found["findings"]) + found["findings_left_out"] == 2_000
    assert len(found["injections"]) + found["injections_left_out"] == 500
    assert len(found["groups"]) + found["groups_left_out"] == 500
    assert found["patch_left_out"] == {"operations": 1, "bytes": len(orjson.dumps(decision.patch))}
    assert "patch" not in found


def test_a_text_that_is_cut_says_so_and_hides_its_secrets() -> None:
    uri = f"https://mia:{'p' * 200}@host/{'x' * 2_000}"
    found = record(replace(DECISION, model=ModelReference("m", "1", uri)))["model"]["uri"]

    assert found.startswith("https://***@host/x")
    assert "(cut: " in found


def test_what_is_not_cut_is_not_marked() -> None:
    assert not [key for key in record() if key.endswith("left_out")]
