from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.admission_review import MAX_BODY_BYTES, BadReviewError, decode, encode


def body(**changes: Any) -> dict[str, Any]:
    request = {
        "uid": "u-1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "object": {"spec": {}},
        **changes,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


GOOD = compact(body())


def nested(depth: int) -> bytes:
    return GOOD.replace(b'"spec":{}', b'"spec":' + b"[" * depth + b"]" * depth)


@pytest.mark.parametrize(
    ("raw", "sentence", "uid"),
    [
        (b"", "not JSON", ""),
        (GOOD[:-1], "not JSON", ""),
        (GOOD + b"{}", "not JSON", ""),
        (GOOD + b"x", "not JSON", ""),
        (b"\xff" + GOOD, "not JSON", ""),
        (GOOD.replace(b'"spec":{}', b'"spec":NaN'), "not JSON", ""),
        (GOOD.replace(b'"spec":{}', b'"spec":Infinity'), "not JSON", ""),
        (GOOD.replace(b'"spec":{}', b'"spec":"\\ud800"'), "not JSON", ""),
        (GOOD.replace(b'"spec":{}', b'"spec":' + b"9" * 5000), "not JSON", ""),
        (nested(300), "nested deeper than 254 levels", "u-1"),
        (nested(100_000), "not JSON", ""),
        (b" " * (MAX_BODY_BYTES + 1 - len(GOOD)) + GOOD, "at most 7340032 are read", ""),
        (GOOD.replace(b'"uid"', b'"uid":"u-2","uid"'), "key 'uid' is given twice", "u-1"),
        (GOOD.replace(b'"kind":"AdmissionReview"', b'"kind":"AdmissionReview","kind":"AdmissionReview"'), "twice", "u-1"),
        (GOOD.replace(b'"spec":{}', b'"spec":{"containers":[{"image":"a","image":"b"}]}'), "'image' is given twice", "u-1"),
        (GOOD.replace(b'"spec":{}', b'"spec":{"a":1,"\\u0061":2}'), "'a' is given twice", "u-1"),
        (b"null", "body", ""),
        (b"[]", "body", ""),
        (b'"x"', "body", ""),
        (compact({**body(), "kind": "Review"}), "kind: ", "u-1"),
        (compact({**body(), "apiVersion": "admission.k8s.io/v1beta1"}), "apiVersion: ", "u-1"),
        (compact({**body(), "request": None}), "request: ", ""),
        (compact({**body(), "request": []}), "request: ", ""),
        (compact(body(uid="")), "request.uid: ", ""),
        (compact(body(uid=7)), "request.uid: ", ""),
        (compact(body(uid="u" * 257)), "request.uid: ", ""),
        (compact(body(operation="PATCH")), "request.operation: ", "u-1"),
        (compact(body(kind=None)), "request.kind: ", "u-1"),
        (compact(body(kind={"group": ""})), "request.kind.kind: ", "u-1"),
        (compact(body(object=[])), "request.object: ", "u-1"),
        (compact(body(object="x")), "request.object: ", "u-1"),
        (compact(body(oldObject=1)), "request.oldObject: ", "u-1"),
        (compact(body(userInfo={"username": 1})), "request.userInfo.username: ", "u-1"),
        (compact(body(userInfo={"groups": "admins"})), "request.userInfo.groups: ", "u-1"),
        (compact(body(dryRun="true")), "request.dryRun: ", "u-1"),
        (compact(body(namespace=None)), "request.namespace: ", "u-1"),
    ],
)  # fmt: skip
def test_a_broken_request_is_refused_with_a_sentence_that_keeps_the_uid(raw: bytes, sentence: str, uid: str) -> None:
    with pytest.raises(BadReviewError) as refusal:
        decode(raw)
    assert sentence in str(refusal.value)
    assert len(str(refusal.value)) < 400
    assert refusal.value.uid == uid


@pytest.mark.parametrize("raw", [GOOD, json.dumps(body(), indent=2).encode(), b" \n" + GOOD + b"\n "])
def test_white_space_is_no_matter(raw: bytes) -> None:
    assert decode(raw).uid == "u-1"


def test_a_body_of_exactly_the_limit_is_read() -> None:
    assert decode(GOOD + b" " * (MAX_BODY_BYTES - len(GOOD))).uid == "u-1"


def test_fields_that_we_do_not_know_survive() -> None:
    pod = {"spec": {"futureField": {"é": [1, 2.5, None, True]}}, "status": {"x": 18446744073709551615}}
    assert decode(compact(body(object=pod, requestKind={"x": 1}))).object == pod


def test_what_the_api_server_may_leave_out_has_defaults() -> None:
    request = decode(compact(body(object=None, oldObject=None, userInfo={}, dryRun=None, operation="DELETE")))
    assert (request.object, request.user.username, request.user.groups, request.dry_run) == (None, "", None, None)


@given(st.binary(max_size=200) | st.integers(0, len(GOOD)).map(lambda cut: GOOD[:cut] + b'"' + GOOD[cut:]))
def test_any_bytes_are_a_request_or_a_refusal(raw: bytes) -> None:
    try:
        decode(raw)
    except BadReviewError as refusal:
        assert str(refusal)


def test_the_answer_carries_the_patch_and_only_what_there_is() -> None:
    patch = [{"op": "remove", "path": "/a"}]
    answer = json.loads(encode("u-1", allowed=True, patch=patch, warnings=["w"]))
    response = answer["response"]
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert json.loads(base64.b64decode(response.pop("patch"))) == patch
    assert response == {"uid": "u-1", "allowed": True, "patchType": "JSONPatch", "warnings": ["w"]}
    assert json.loads(encode("u-1", allowed=True))["response"] == {"uid": "u-1", "allowed": True}


@pytest.mark.parametrize(("code", "reason"), [(403, "Forbidden"), (400, "BadRequest"), (500, "InternalError")])
def test_a_denial_has_a_reason_that_clients_know(code: int, reason: str) -> None:
    response = json.loads(encode("u-1", allowed=False, message="no", code=code, audit_annotations={"k": "v"}))[
        "response"
    ]
    assert response["status"] == {"status": "Failure", "message": "no", "reason": reason, "code": code}
    assert response["auditAnnotations"] == {"k": "v"}
