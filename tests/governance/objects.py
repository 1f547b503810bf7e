"""Objects and requests as the API server sends them."""

from __future__ import annotations

import json
from typing import Any

from registries.model_version import object_name

DIGEST = f"sha256:{'a' * 64}"


def entry(environment: str, approver: str, state: str = "approved", **more: str) -> dict[str, Any]:
    """One entry of status.approvals."""
    return {"environment": environment, "approver": approver, "state": state, **more}


def version_of(
    model: str = "resnet50", version: str = "3", *entries: dict[str, Any], proposer: str = "mia", **spec: Any
) -> dict[str, Any]:
    """A stored ModelVersion."""
    obj: dict[str, Any] = {
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": object_name(model, version), "resourceVersion": "1"},
        "spec": {
            "model": model, "version": version, "source": f"s3://models/{model}/{version}",
            "digest": DIGEST, "proposedBy": proposer, **spec,
        },
    }  # fmt: skip
    return {**obj, "status": {"approvals": list(entries)}} if entries else obj


def review_of(
    obj: dict[str, Any],
    user: str = "ada",
    *,
    old: dict[str, Any] | None = None,
    subresource: str = "",
    operation: str = "UPDATE",
    namespace: str = "",
    group: str = "tidewaiter.dev",
) -> bytes:
    """An AdmissionReview, as bytes."""
    request = {
        "uid": "u-1",
        "kind": {"group": group, "version": "v1alpha1", "kind": obj.get("kind", "ModelVersion")},
        "operation": operation,
        "subResource": subresource,
        "namespace": namespace,
        "userInfo": {"username": user, "groups": ["people"]},
        "object": obj,
        "oldObject": old,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()
