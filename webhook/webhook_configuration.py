"""The webhook configurations, made from the framework table and the settings.

Scope, as Kubernetes' own good practice has it: mutation fails open, the check of pods in
opted-in namespaces fails closed, advice on workloads and in other namespaces fails open.
An update of a pod that touches nothing a rule reads is not asked about, so that Jobs finish
and finalizers go while the service is down.
Exempt namespaces never reach the service. Outside opted-in namespaces a CEL match
condition lets only what looks like a model pod through: it may match more than
``ModelPod.recognised_by`` does, never less.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from admission.accelerators import ACCELERATOR_PREFIXES, ACCELERATOR_RESOURCES, GPU_NODE_KEYS
from admission.frameworks import FRAMEWORKS, KSERVE_SOURCE_URI, OUR_LABELS
from admission.model_servers import SERVER_PROGRAM
from admission.namespace import ENVIRONMENT_KEY
from admission.workload_kinds.kinds import WORKLOAD_KINDS
from admission.workload_kinds.workload_pod import WorkloadKind
from webhook.governance.configuration import governance_configurations
from webhook.settings import Settings

_NAME = "tidewaiter"
_LABELS = {"app.kubernetes.io/name": _NAME, "app.kubernetes.io/managed-by": _NAME}
_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_MUTATE_SECONDS = 5
_VALIDATE_SECONDS = 5
_BUILT_IN_GROUPS = ("", "apps", "batch")
_Expression = dict[str, Any]
# Finalizers, owners and managed fields say nothing to a rule. Whatever is not plainly such
# an update is asked about.
_MORE_THAN_BOOKKEEPING = " || ".join(
    [
        "request.operation != 'UPDATE'",
        "request.?subResource.orValue('') != ''",
        "object == null",
        "oldObject == null",
        "object.spec != oldObject.spec",
        *(
            f"object.metadata.?{field}.orValue({{}}) != oldObject.metadata.?{field}.orValue({{}})"
            for field in ("labels", "annotations")
        ),
    ]
)
_BROUGHT_BY_A_PERSON = (
    f"!request.userInfo.username.startsWith('system:serviceaccount:kube-system:') && ({_MORE_THAN_BOOKKEEPING})"
)


def webhook_configurations(settings: Settings, ca_bundle: str) -> list[dict[str, Any]]:
    """Those for pods and workloads. ``ca_bundle`` is base64 of PEM, as the API has it."""
    return [_mutating(settings, ca_bundle), _validating(settings, ca_bundle)]


def all_configurations(settings: Settings, ca_bundle: str) -> list[dict[str, Any]]:
    """Those for pods and workloads, then those for our own resources, which always fail closed."""
    server = settings.server
    own = governance_configurations(server.service, server.namespace, ca_bundle)
    return [*webhook_configurations(settings, ca_bundle), *own]


def _mutating(settings: Settings, ca_bundle: str) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": _NAME, "labels": _LABELS},
        "webhooks": [
            {
                **_webhook("mutate.pods", "/mutate", settings, ca_bundle, fail=False, seconds=_MUTATE_SECONDS),
                "rules": [_rule("", ["v1"], ["pods"], ["CREATE"])],
                "namespaceSelector": {"matchExpressions": [_not_exempt(settings)]},
                "matchConditions": [{"name": "model-pod", "expression": _model_pod("object")}],
                # Another webhook may add containers after us: they are looked at too.
                "reinvocationPolicy": "IfNeeded",
            }
        ],
    }


def _validating(settings: Settings, ca_bundle: str) -> dict[str, Any]:
    mapped = sorted(name for name, own in settings.namespaces.items() if own.environment and not settings.exempt(name))
    labelled = {"key": ENVIRONMENT_KEY, "operator": "Exists"}
    unlabelled = {"key": ENVIRONMENT_KEY, "operator": "DoesNotExist"}
    not_exempt = _not_exempt(settings)
    webhooks = list(_opted_in(settings, ca_bundle, "", [not_exempt, labelled]))
    others = [not_exempt, unlabelled]
    if mapped:
        webhooks += _opted_in(
            settings, ca_bundle, "mapped.", [unlabelled, {"key": _NAMESPACE_NAME, "operator": "In", "values": mapped}]
        )
        others.append({"key": _NAMESPACE_NAME, "operator": "NotIn", "values": mapped})
    webhooks += _others(settings, ca_bundle, others)
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": _NAME, "labels": _LABELS},
        "webhooks": webhooks,
    }


def _opted_in(settings: Settings, ca_bundle: str, prefix: str, selector: list[_Expression]) -> Iterable[dict[str, Any]]:
    """Namespaces with an environment: every pod, and every workload."""
    # A selector of namespaces takes in every object that has none: those are asked about once, elsewhere.
    kinds = [one for one in (*WORKLOAD_KINDS, *settings.custom_kinds.values()) if one.namespaced]
    scopes = [
        ("pods", _pod_rules(), True, _MORE_THAN_BOOKKEEPING),
        ("workloads", _workload_rules(kinds), False, ""),
    ]
    if settings.workloads_fail_closed:
        # Asked about people once more, and closed: controllers scale and finish while the service is down.
        scopes.append(("deployers", _workload_rules(kinds), True, _BROUGHT_BY_A_PERSON))
    for name, rules, fail, condition in scopes:
        webhook = {
            **_webhook(f"{prefix}{name}", "/validate", settings, ca_bundle, fail=fail, seconds=_VALIDATE_SECONDS),
            "rules": rules,
            "namespaceSelector": {"matchExpressions": selector},
        }
        if condition:
            webhook["matchConditions"] = [{"name": "more-than-bookkeeping", "expression": condition}]
        yield webhook


def _others(settings: Settings, ca_bundle: str, selector: list[_Expression]) -> Iterable[dict[str, Any]]:
    """Other namespaces: model pods only, and only warnings. Custom kinds are few: each is looked at."""
    built_in = [one for one in WORKLOAD_KINDS if one.group in _BUILT_IN_GROUPS]
    custom = [one for one in WORKLOAD_KINDS if one.group not in _BUILT_IN_GROUPS]
    custom += settings.custom_kinds.values()
    for name, rules, condition in (
        ("other.pods", [_rule("", ["v1"], ["pods"], ["CREATE"])], _model_pod("object")),
        ("other.workloads", _workload_rules(built_in), _model_workload()),
        ("other.custom-workloads", _workload_rules(custom), ""),
    ):
        if rules:
            webhook = {
                **_webhook(name, "/validate", settings, ca_bundle, fail=False, seconds=_VALIDATE_SECONDS),
                "rules": rules,
                "namespaceSelector": {"matchExpressions": selector},
            }
            if condition:
                webhook["matchConditions"] = [{"name": "model-pod", "expression": condition}]
            yield webhook


def _webhook(name: str, path: str, settings: Settings, ca_bundle: str, *, fail: bool, seconds: int) -> dict[str, Any]:
    server = settings.server
    return {
        "name": f"{name}.tidewaiter.dev",
        "clientConfig": {
            "service": {"namespace": server.namespace, "name": server.service, "path": path, "port": 443},
            "caBundle": ca_bundle,
        },
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail" if fail else "Ignore",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": seconds,
    }


def _rule(
    group: str, versions: Iterable[str], resources: list[str], operations: list[str], scope: str = "Namespaced"
) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": list(versions),
        "resources": resources,
        "operations": operations,
        "scope": scope,
    }


def _pod_rules() -> list[dict[str, Any]]:
    # Ephemeral containers and resizes come on subresources: forgetting them is the classic bypass.
    return [
        _rule("", ["v1"], ["pods"], ["CREATE", "UPDATE"]),
        _rule("", ["v1"], ["pods/ephemeralcontainers", "pods/resize"], ["UPDATE"]),
    ]


def _workload_rules(kinds: Iterable[WorkloadKind]) -> list[dict[str, Any]]:
    """One rule for each group and set of versions; a kind whose CRD is not installed matches nothing."""
    resources: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for kind in kinds:
        resources.setdefault((kind.group, kind.versions), []).append(kind.plural)
    return [
        _rule(group, versions, plurals, ["CREATE", "UPDATE"], scope="*")
        for (group, versions), plurals in resources.items()
    ]


def _not_exempt(settings: Settings) -> _Expression:
    names = dict.fromkeys([*settings.exempt_namespaces, settings.server.namespace])
    return {"key": _NAMESPACE_NAME, "operator": "NotIn", "values": list(names)}


def _model_workload() -> str:
    """The same question about the pod template, wherever the kind has it."""
    cron, other = "object.spec.jobTemplate.spec.template", "object.spec.template"
    return (
        f"object != null && (has(object.spec.jobTemplate) ? ({_model_pod(cron)}) : "
        f"(has(object.spec.template) && ({_model_pod(other)})))"
    )


def _model_pod(pod: str) -> str:
    """CEL that is true for every pod at ``pod`` that the framework table recognises.

    Absent fields are reached with ``.?``: one error would refuse the pod under Fail and
    skip the webhook under Ignore. Without ``!= null`` a DELETE would be an error.
    """
    labels = f"{pod}.?metadata.?labels.orValue({{}})"
    annotations = f"{pod}.?metadata.?annotations.orValue({{}})"
    keys, pairs = [*OUR_LABELS], []
    for framework in FRAMEWORKS:
        for key, value in framework.labels:
            if value:
                pairs.append(f"{labels}[?{json.dumps(key)}].orValue('') == {json.dumps(value)}")
            else:
                keys.append(key)
    images = [part for framework in FRAMEWORKS for part in framework.images]
    containers = " + ".join(f"{pod}.spec.?{kind}.orValue([])" for kind in ("containers", "initContainers"))
    resource = " || ".join(
        [f"k in {_list(ACCELERATOR_RESOURCES)}", *(f"k.startsWith({json.dumps(one)})" for one in ACCELERATOR_PREFIXES)]
    )
    asked = "[c.?resources.?limits.orValue({}), c.?resources.?requests.orValue({})]"
    container = (
        f"{_list(images)}.exists(s, c.?image.orValue('').lowerAscii().contains(s)) || "
        f"{asked}.exists(m, m.exists(k, {resource})) || "
        f"(c.?command.orValue([]) + c.?args.orValue([])).exists(w, w.matches({json.dumps(SERVER_PROGRAM.pattern)}))"
    )
    node_keys = _list(GPU_NODE_KEYS)
    affinity = f"{pod}.spec.?affinity.?nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution.?nodeSelectorTerms"
    gpu_node = (
        f"{pod}.spec.?nodeSelector.orValue({{}}).exists(k, k in {node_keys}) || "
        f"{pod}.spec.?tolerations.orValue([]).exists(t, t.?key.orValue('') in {node_keys}) || "
        f"{affinity}.orValue([]).exists(t, "
        f"t.?matchExpressions.orValue([]).exists(e, e.?key.orValue('') in {node_keys}))"
    )
    return (
        f"{pod} != null && ({labels}.exists(k, k in {_list(keys)}) || {' || '.join(pairs)} || "
        f"{json.dumps(KSERVE_SOURCE_URI)} in {annotations} || "
        f"{pod}.spec.?resourceClaims.orValue([]).size() > 0 || "
        f"{gpu_node} || "
        f"({containers}).exists(c, {container}))"
    )


def _list(words: Iterable[str]) -> str:
    return json.dumps(list(words))
