"""RBAC for people, pipelines and Tidewaiter itself.

Reading goes into ``view``; nothing that writes or approves is ever aggregated into
``admin`` or ``edit``, so that the owner of a namespace does not become an approver.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from webhook.governance.access import APPROVE, ENVIRONMENTS, EXCEPT, FORGET, GROUP, RULES

_LABELS = {"app.kubernetes.io/name": "tidewaiter"}
_AGGREGATED = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
_READ = ["get", "list", "watch"]
_VERSIONS, _EXCEPTIONS = "modelversions", "policyexceptions"
Role = dict[str, Any]


def roles(environments: Iterable[str], own_namespace: str) -> list[Role]:
    """Every role. ``own_namespace`` is Tidewaiter's: exceptions live there."""
    return [
        _cluster_role("viewer", [_rule([_VERSIONS], _READ)], _AGGREGATED),
        _cluster_role("model-developer", [_rule([_VERSIONS], [*_READ, "create"])]),
        *(_approver(one) for one in environments),
        _cluster_role(
            "platform-administrator",
            [_rule([_VERSIONS, _EXCEPTIONS], [*_READ, "create", "update", "patch", "delete", "deletecollection"])],
        ),
        # Bound to nobody as a rule: a version that was revoked could be proposed and approved again.
        _cluster_role("revocation-eraser", [_rule([_VERSIONS], [*_READ, "delete"]), _rule([ENVIRONMENTS], [FORGET])]),
        _role("exception-requester", own_namespace, [_rule([_EXCEPTIONS], [*_READ, "create"])]),
        exception_approver(own_namespace),
        _cluster_role(
            "governance",
            [
                _rule([_VERSIONS], ["list", "watch"]),
                _rule(["subjectaccessreviews"], ["create"], group="authorization.k8s.io"),
            ],
        ),
        _role("governance", own_namespace, [_rule([_EXCEPTIONS], ["list", "watch"])]),
    ]


def exception_approver(own_namespace: str, rules: Iterable[str] = (), name: str = "exception-approver") -> Role:
    """May approve exceptions of these rules; of every rule where none is named."""
    return _role(
        name,
        own_namespace,
        [
            _rule([_EXCEPTIONS], _READ),
            _rule([f"{_EXCEPTIONS}/status"], ["get", "update", "patch"]),
            _rule([RULES], [EXCEPT], names=list(rules)),
        ],
    )


def _approver(environment: str) -> Role:
    return _cluster_role(
        f"model-approver-{environment}",
        [
            _rule([_VERSIONS], _READ),
            _rule([f"{_VERSIONS}/status"], ["get", "update", "patch"]),
            _rule([ENVIRONMENTS], [APPROVE], names=[environment]),
        ],
    )


def _rule(resources: list[str], verbs: list[str], *, group: str = GROUP, names: Iterable[str] = ()) -> dict[str, Any]:
    rule: dict[str, Any] = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    named = list(names)
    return {**rule, "resourceNames": named} if named else rule


def _cluster_role(name: str, rules: list[dict[str, Any]], labels: dict[str, str] | None = None) -> Role:
    metadata = {"name": f"tidewaiter-{name}", "labels": {**_LABELS, **(labels or {})}}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}


def _role(name: str, namespace: str, rules: list[dict[str, Any]]) -> Role:
    metadata = {"name": f"tidewaiter-{name}", "namespace": namespace, "labels": _LABELS}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}
