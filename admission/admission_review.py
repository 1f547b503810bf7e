"""AdmissionReview v1 on the wire: bounded, typed decoding, and the answer.

Source: k8s.io/api/admission/v1/types.go. Objects inside stay plain JSON, so that
fields we do not know survive untouched.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_BODY_BYTES = 7 * 1024 * 1024
"""controller-runtime's limit: an update carries two objects of at most 3 MiB (etcd's
limit with the API server's allowance) and the envelope."""

MAX_DEPTH = 254
"""orjson's own limit when it writes; no Kubernetes object comes near."""

API_VERSION = "admission.k8s.io/v1"
_JSON_PATCH = "JSONPatch"


class BadReviewError(Exception):
    """The request is no AdmissionReview that we can answer; the text is a sentence.

    ``uid`` is the request's, where it could be read.
    """

    def __init__(self, message: str, uid: str = "") -> None:
        super().__init__(message)
        self.uid = uid


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class GroupVersionKind(_Wire):
    """The kind of the object under review."""

    group: str = ""
    version: str = ""
    kind: str


class UserInfo(_Wire):
    """Who asks."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = Field(default=None, strict=False)


class AdmissionRequest(_Wire):
    """One request of the API server. ``object`` is absent for DELETE."""

    uid: str = Field(min_length=1, max_length=256)
    kind: GroupVersionKind
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    sub_resource: str = Field(default="", alias="subResource")
    name: str = ""
    namespace: str = ""
    user: UserInfo = Field(default_factory=UserInfo, alias="userInfo")
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = Field(default=None, alias="oldObject")
    dry_run: bool | None = Field(default=None, alias="dryRun")


class _AdmissionReview(_Wire):
    api_version: Literal["admission.k8s.io/v1"] = Field(alias="apiVersion")
    kind: Literal["AdmissionReview"]
    request: AdmissionRequest


def decode(body: bytes) -> AdmissionRequest:
    """Read one request; raises ``BadReviewError`` with a sentence for anything else.

    Refused: more than 7 MiB, bytes after the value, NaN, lone surrogates, keys given
    twice, nesting beyond 254 levels, wrong types.
    """
    if len(body) > MAX_BODY_BYTES:
        raise BadReviewError(f"body has {len(body)} bytes; at most {MAX_BODY_BYTES} are read")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadReviewError(f"body is not JSON: {error}; send one AdmissionReview of {API_VERSION}") from None
    uid = _uid(document)
    _refuse_lossy(body, document, uid)
    try:
        return _AdmissionReview.model_validate(document).request
    except ValidationError as error:
        raise BadReviewError(_sentence(error), uid) from None


def _uid(document: Any) -> str:
    request = document.get("request") if isinstance(document, dict) else None
    uid = request.get("uid") if isinstance(request, dict) else None
    return uid if isinstance(uid, str) and len(uid) <= 256 else ""


def _refuse_lossy(body: bytes, document: Any, uid: str) -> None:
    """Refuse keys given twice and too deep nesting.

    The API server writes compact JSON, so writing the value again mostly gives the
    same bytes: nothing was lost. Only otherwise the slow reader looks for the key.
    """
    try:
        again = orjson.dumps(document)
    except orjson.JSONEncodeError:
        raise BadReviewError(f"body is nested deeper than {MAX_DEPTH} levels", uid) from None
    if again == body.rstrip():
        return
    try:
        json.loads(body, object_pairs_hook=_unique)
    except _DuplicateKeyError as error:
        raise BadReviewError(f"key {error.args[0]!r} is given twice in one object; give it once", uid) from None
    except (ValueError, RecursionError) as error:
        raise BadReviewError(f"body is not JSON: {error}", uid) from None


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise _DuplicateKeyError(key)
        seen.add(key)


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "body"
    found = first.get("input")
    shown = "" if isinstance(found, dict | list) else f", found {str(found)[:64]!r}"
    return f"{where}: {first['msg']}{shown}; send an AdmissionReview of {API_VERSION}"


def encode(
    uid: str,
    *,
    allowed: bool,
    message: str = "",
    code: int = 403,
    warnings: Sequence[str] = (),
    patch: Sequence[dict[str, Any]] = (),
    audit_annotations: dict[str, str] | None = None,
) -> bytes:
    """The answer's bytes. ``patch`` is for mutating webhooks only."""
    response: dict[str, Any] = {"uid": uid, "allowed": allowed}
    if not allowed:
        reason = "Forbidden" if code == 403 else "BadRequest" if code == 400 else "InternalError"
        response["status"] = {"status": "Failure", "message": message, "reason": reason, "code": code}
    if warnings:
        response["warnings"] = list(warnings)
    if patch:
        response["patchType"] = _JSON_PATCH
        response["patch"] = base64.b64encode(orjson.dumps(list(patch))).decode()
    if audit_annotations:
        response["auditAnnotations"] = audit_annotations
    return orjson.dumps({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})
