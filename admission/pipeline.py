"""``review``: from a request and facts to a decision. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from admission.admission_review import AdmissionRequest
from admission.context import MissingInjection, ReviewContext
from admission.decision import Decision, Injection, Purpose
from admission.finding import Action, JudgedFinding
from admission.json_patch import diff
from admission.model_reference import model_reference
from admission.mutator import Change, Mutator, MutatorSettings
from admission.namespace import Mode
from admission.pod import ModelPod
from admission.pod_schema import check_shape
from admission.pod_template import authored_path, pod_template, template_path
from admission.policy_input import policy_input
from admission.template_history import template_fingerprint
from admission.validator import PolicyEngine, RuleSettings, Validator
from admission.workload import trusted_owner_kind, workload_class

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_NODE_USER = "system:node:"
_NODE_GROUP = "system:nodes"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Mutators in order and rules, each with its settings, and the Rego engine."""

    mutators: tuple[tuple[Mutator[Any], MutatorSettings], ...] = ()
    validators: tuple[tuple[Validator[Any], RuleSettings], ...] = ()
    policies: PolicyEngine | None = None


@dataclass(frozen=True, slots=True)
class _Subject:
    """The pod (or pod template) that a request is about."""

    obj: dict[str, Any]
    path: str
    owner_kind: str


def review(request: AdmissionRequest, purpose: Purpose, context: ReviewContext, rules: RuleSet) -> Decision:
    """Judge one request.

    ``context`` belongs to the request's namespace. Raises ``MalformedObjectError`` where
    the object is no pod, ``PolicyError`` where a Rego rule fails; the caller turns
    both into counted decisions.
    """
    reason = _ignored(request)
    if reason:
        return Decision(uid=request.uid, purpose=purpose, allowed=True, ignored=reason)
    subject = _subject(request, request.object)
    if subject is None:
        return Decision(uid=request.uid, purpose=purpose, allowed=True, ignored="object has no pod template")
    context = replace(
        context,
        operation=request.operation,
        username=request.user.username,
        groups=request.user.groups or (),
        mutators={
            mutator.id: settings
            for mutator, settings in rules.mutators
            if context.namespace.mode(mutator.id, settings.mode) is not Mode.OFF
        },
    )
    if purpose is Purpose.MUTATE:
        return _mutate(request, subject, context, rules)
    return _validate(request, subject, context, rules)


def _ignored(request: AdmissionRequest) -> str:
    """Why a request is let through unseen; empty where it is not."""
    if request.operation not in ("CREATE", "UPDATE") or request.object is None:
        return f"operation {request.operation}"
    metadata = request.object.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if request.kind.kind == "Pod" and isinstance(annotations, dict) and MIRROR_ANNOTATION in annotations:
        # Anybody may set the annotation; only a node mirrors its own static pods.
        spec = request.object.get("spec")
        node = spec.get("nodeName") if isinstance(spec, dict) else None
        if _NODE_GROUP in (request.user.groups or ()) and request.user.username == f"{_NODE_USER}{node}":
            return "mirror pod of its node"
    return ""


def _subject(request: AdmissionRequest, obj: dict[str, Any] | None, prefix: str = "") -> _Subject | None:
    if obj is None:
        return None
    if request.kind.kind == "Pod" and not request.kind.group:
        check_shape(obj, prefix)
        return _Subject(obj, "", trusted_owner_kind(obj, request.user.username))
    path = template_path(request.kind.group, request.kind.kind)
    template = pod_template(obj, path) if path else None
    if template is None or path is None:
        return None
    check_shape(template, f"{prefix}.{path}".lstrip("."))
    return _Subject(template, path, request.kind.kind)


def _mutate(request: AdmissionRequest, subject: _Subject, context: ReviewContext, rules: RuleSet) -> Decision:
    if subject.path or request.operation != "CREATE" or request.sub_resource:
        return Decision(uid=request.uid, purpose=Purpose.MUTATE, allowed=True, ignored="only new pods are mutated")
    pod = _pod(_copy(subject.obj), subject, request.namespace, context)
    if not pod.recognised_by:
        return Decision(uid=request.uid, purpose=Purpose.MUTATE, allowed=True, ignored="no model pod")
    context = _about(pod, context)
    injections = tuple(_inject(pod, context, rules))
    return Decision(
        uid=request.uid,
        purpose=Purpose.MUTATE,
        allowed=True,
        injections=injections,
        patch=tuple(diff(subject.obj, pod.obj)),
        **_facts(pod, context),
    )


def _validate(request: AdmissionRequest, subject: _Subject, context: ReviewContext, rules: RuleSet) -> Decision:
    injections: tuple[Injection, ...] = ()
    created: dict[str, Any] | None = None
    pod = _pod(subject.obj, subject, request.namespace, context)
    if not pod.recognised_by and not context.namespace.opted_in:
        return Decision(uid=request.uid, purpose=Purpose.VALIDATE, allowed=True, ignored="no model pod")
    context = _about(pod, context)
    missing: tuple[MissingInjection, ...] = ()
    if subject.path:
        pod, injections = _as_created(pod, subject, request.namespace, context, rules)
        context = _about(pod, context)
        created = pod.obj
    elif request.operation == "CREATE" and pod.recognised_by and context.namespace.opted_in:
        missing = _missing(pod, subject, request.namespace, context, rules)
        context = replace(context, missing=missing)
    findings = [_in_authored_object(one, subject, pod) for one in check(pod, context, rules)]
    tolerated = 0
    if request.operation == "UPDATE" and findings:
        before = _findings_before(request, context, rules)
        kept = [one for one in findings if one.finding.identity not in before]
        tolerated, findings = len(findings) - len(kept), kept
        if subject.path and _rolled_back(request, subject, context):
            findings = [_softened(one) for one in findings]
    findings.sort(key=lambda one: -one.action.strictness)
    return Decision(
        uid=request.uid,
        purpose=Purpose.VALIDATE,
        allowed=not any(one.action is Action.DENY for one in findings),
        findings=tuple(findings),
        tolerated=tolerated,
        injections=injections,
        missing=missing,
        created=created,
        **_facts(pod, context),
    )


def _rolled_back(request: AdmissionRequest, subject: _Subject, context: ReviewContext) -> bool:
    """Whether the workload goes back to a template that it had; its pods are still judged one by one."""
    uid = ((request.old_object or {}).get("metadata") or {}).get("uid") or ""
    return bool(uid) and context.had_template(uid, template_fingerprint(subject.obj))


def _softened(judged: JudgedFinding) -> JudgedFinding:
    if judged.action is not Action.DENY or judged.finding.always:
        return judged
    return replace(judged, action=Action.WARN)


def _in_authored_object(judged: JudgedFinding, subject: _Subject, pod: ModelPod) -> JudgedFinding:
    """The finding at the field of the template that its author wrote."""
    if pod.obj is subject.obj:
        return judged
    path = authored_path(judged.finding.path, subject.obj, pod.obj, subject.path)
    return replace(judged, finding=replace(judged.finding, path=path))


def check(pod: ModelPod, context: ReviewContext, rules: RuleSet) -> Iterator[JudgedFinding]:
    """Every finding of every rule that covers the pod, with the action that holds."""
    for validator, settings in rules.validators:
        if not validator.applies.covers(pod, context):
            continue
        action = context.namespace.action(validator.id, settings.action)
        if action is not Action.OFF:
            for finding in validator.check(pod, context, settings):
                yield JudgedFinding(finding, action)
    yield from _check_policies(pod, context, rules.policies)


def _check_policies(pod: ModelPod, context: ReviewContext, engine: PolicyEngine | None) -> Iterator[JudgedFinding]:
    if engine is None:
        return
    actions = {
        rule.id: context.namespace.action(rule.id, rule.settings.action)
        for rule in engine.rules.values()
        if rule.applies.covers(pod, context)
    }
    if all(action is Action.OFF for action in actions.values()):
        return
    for rule, findings in engine.evaluate(policy_input(pod, context)).items():
        action = actions.get(rule, Action.OFF)
        if action is not Action.OFF:
            for finding in findings:
                yield JudgedFinding(finding, action)


def _findings_before(
    request: AdmissionRequest, context: ReviewContext, rules: RuleSet
) -> frozenset[tuple[str, str, str, str]]:
    """What was already wrong before an update: it is not held against the update."""
    old = _subject(request, request.old_object, "oldObject")
    if old is None:
        return frozenset()
    pod = _pod(old.obj, old, request.namespace, context)
    about = _about(pod, context)
    if old.path:
        pod, _ = _as_created(pod, old, request.namespace, about, rules)
        about = _about(pod, about)
    return frozenset(_in_authored_object(one, old, pod).finding.identity for one in check(pod, about, rules))


def _as_created(
    pod: ModelPod, subject: _Subject, namespace: str, context: ReviewContext, rules: RuleSet
) -> tuple[ModelPod, tuple[Injection, ...]]:
    """The pod that would come of a template, and what it would be told."""
    if not pod.recognised_by:
        return pod, ()
    created = _pod(_copy(subject.obj), subject, namespace, context)
    injections = tuple(_inject(created, context, rules))
    created.refresh()
    return created, injections


def _missing(
    pod: ModelPod, subject: _Subject, namespace: str, context: ReviewContext, rules: RuleSet
) -> tuple[MissingInjection, ...]:
    """What ``/mutate`` would still change. The pod itself is judged as it was received."""
    copy = _pod(_copy(pod.obj), subject, namespace, context)
    return tuple(
        MissingInjection(injection.mutator, injection.changes)
        for injection in _inject(copy, context, rules)
        if not injection.preview and injection.changes
    )


def _inject(pod: ModelPod, context: ReviewContext, rules: RuleSet) -> Iterator[Injection]:
    """Run the mutators on ``pod``, those in preview on a copy that is thrown away."""
    preview: ModelPod | None = None
    for mutator, settings in rules.mutators:
        mode = context.namespace.mode(mutator.id, settings.mode)
        if mode is Mode.OFF:
            continue
        target = pod
        if mode is Mode.PREVIEW:
            if preview is None:
                preview = ModelPod(_copy(pod.obj), pod.namespace, pod.path, pod.owner_kind, pod.claim_is_accelerator)
            target = preview
        changes = list(mutator.mutate(target, context, settings))
        yield from _injections(mutator.id, changes, preview=mode is Mode.PREVIEW)


def _injections(mutator: str, changes: Iterable[Change], *, preview: bool) -> Iterator[Injection]:
    applied: list[str] = []
    said: list[str] = []
    for change in changes:
        (applied if change.applied and not preview else said).append(change.summary)
    if applied:
        yield Injection(mutator, tuple(applied))
    if said:
        yield Injection(mutator, tuple(said), preview=True)


def _about(pod: ModelPod, context: ReviewContext) -> ReviewContext:
    """Fill in what belongs to one pod: its workload class, model and approval."""
    model = model_reference(pod)
    return replace(
        context,
        workload=workload_class(
            pod.labels, pod.owner_kind, context.namespace.workloads, context.namespace.default_workload
        ),
        model=model,
        approval=context.approvals(model.name, model.version) if model.name and model.version else context.approval,
    )


def _facts(pod: ModelPod, context: ReviewContext) -> dict[str, Any]:
    return {
        "recognised": pod.recognised_by,
        "environment": context.environment,
        "workload": context.workload.value if pod.recognised_by else "",
        "model": context.model,
        "digest": getattr(context.approval, "digest", ""),
    }


def _pod(obj: dict[str, Any], subject: _Subject, namespace: str, context: ReviewContext) -> ModelPod:
    def claim_is_accelerator(claim: Mapping[str, Any]) -> bool:
        return context.cluster.claim_is_accelerator(namespace, claim)

    if obj.get("spec") is None:
        # ModelPod makes what is missing: not in what was received.
        obj = {**obj, "spec": {}}
    return ModelPod(obj, namespace, subject.path, subject.owner_kind, claim_is_accelerator)


def _copy(obj: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of JSON; through bytes, since ``copy.deepcopy`` takes five times as long."""
    copied: dict[str, Any] = orjson.loads(orjson.dumps(obj))
    return copied
