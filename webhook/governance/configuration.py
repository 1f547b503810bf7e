"""The webhook configurations for our own objects: they fail closed, always."""

from __future__ import annotations

from typing import Any

from webhook.governance.access import GROUP
from webhook.governance.routes import MUTATE_PATH, VALIDATE_PATH

NAME = "tidewaiter-governance"
_LABELS = {"app.kubernetes.io/name": "tidewaiter", "app.kubernetes.io/managed-by": "tidewaiter"}
_RESOURCES = ["modelversions", "modelversions/status", "policyexceptions", "policyexceptions/status"]
_KEPT = ["modelversions"]
"""What is looked at before it is deleted."""
_SECONDS = 10
"""A review asks RBAC once for each environment or rule."""


def governance_configurations(service: str, namespace: str, ca_bundle: str) -> list[dict[str, Any]]:
    """Both configurations. ``ca_bundle`` is base64 of PEM, as the API has it.

    No namespace is exempt: what nobody reviewed would be believed.
    """
    return [
        _configuration("MutatingWebhookConfiguration", "mutate", MUTATE_PATH, service, namespace, ca_bundle),
        _configuration("ValidatingWebhookConfiguration", "validate", VALIDATE_PATH, service, namespace, ca_bundle),
    ]


def _configuration(kind: str, name: str, path: str, service: str, namespace: str, ca_bundle: str) -> dict[str, Any]:
    rule = {
        "apiGroups": [GROUP],
        "apiVersions": ["*"],
        "resources": _RESOURCES,
        "operations": ["CREATE", "UPDATE"],
        "scope": "*",
    }
    webhook: dict[str, Any] = {
        "name": f"{name}.governance.tidewaiter.dev",
        "clientConfig": {
            "service": {"namespace": namespace, "name": service, "path": path, "port": 443},
            "caBundle": ca_bundle,
        },
        "rules": [rule],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": _SECONDS,
    }
    if kind.startswith("Validating"):
        webhook["rules"] = [rule, {**rule, "resources": _KEPT, "operations": ["DELETE"]}]
    else:
        # Another webhook may write a name after us; what we stamped is stamped again.
        webhook["reinvocationPolicy"] = "IfNeeded"
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": NAME, "labels": _LABELS},
        "webhooks": [webhook],
    }
