"""``review``: from a request and facts to a decision. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any
from weakref import WeakKeyDictionary

from admission.admission_review import AdmissionRequest
from admission.approval import Answered, ApprovalQuestion
from admission.context import DeployQuestion, ReviewContext
from admission.decision import CreatedPod, Decision, Injection, Purpose
from admission.finding import Action, JudgedFinding
from admission.image_signature import SignatureQuestion, none_wanted, used_images
from admission.injection import inject, missing_injections
from admission.json_patch import diff
from admission.judging import Judging, judge
from admission.model_reference import model_reference
from admission.namespace import NamespacePolicy
from admission.pod import ModelPod
from admission.policy_exception import PolicyException
from admission.rules_in_force import Mutators, RulesInForce, Validators, rules_in_force
from admission.subject import Subject, subjects
from admission.template_history import owner_and_template, template_fingerprint
from admission.validator import PolicyAnswers, PolicyInput, PolicyRule, RuleFailure
from admission.what_runs import what_runs
from admission.workload import trusted_owner_kind, workload_class

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_NODE_USER = "system:node:"
_NODE_GROUP = "system:nodes"

Question = PolicyInput | ApprovalQuestion | SignatureQuestion | DeployQuestion
Reviewing = Generator[Question, Any, Decision]
"""A review that stops where Rego or a registry is asked, and goes on with the answer:
``PolicyAnswers`` to a ``PolicyInput``, an ``Answered`` to an ``ApprovalQuestion``, ``Signatures``
to a ``SignatureQuestion``."""
_Findings = Generator[Question, Any, list[JudgedFinding]]
_Asked = list[tuple[PolicyInput, PolicyAnswers]]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Mutators in order and rules, each with its settings; ``policies`` are the Rego rules in force."""

    mutators: Mutators = ()
    validators: Validators = ()
    policies: Mapping[str, PolicyRule] = field(default_factory=dict)
    _resolved: WeakKeyDictionary[NamespacePolicy, RulesInForce] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )

    def in_force(self, namespace: NamespacePolicy, day: date) -> RulesInForce:
        """What acts in a namespace on a day (UTC); kept until the day ends or the namespace's settings change."""
        found = self._resolved.get(namespace)
        if found is None or found.day != day:
            found = rules_in_force(self.mutators, self.validators, self.policies, namespace, day)
            self._resolved[namespace] = found
        return found


@dataclass(frozen=True, slots=True)
class _Judged:
    """A pod that is judged: as it was received, or as it would come of a workload."""

    subject: Subject
    pod: ModelPod
    context: ReviewContext
    injections: tuple[Injection, ...] = ()
    exceptions: tuple[PolicyException, ...] = ()


def review(
    request: AdmissionRequest,
    purpose: Purpose,
    context: ReviewContext,
    rules: RuleSet,
    evaluate: Callable[[PolicyInput], PolicyAnswers] = lambda _question: {},
) -> Decision:
    """Judge one request, with an engine and a registry that answer at once. Raises what ``reviewing`` raises."""
    steps = reviewing(request, purpose, context, rules)
    try:
        question = next(steps)
        while True:
            if isinstance(question, ApprovalQuestion):
                answer = context.approvals(question.model, question.version)
                question = steps.send(Answered(answer, getattr(answer, "registry", "")))
            elif isinstance(question, DeployQuestion):
                question = steps.send(context.may_deploy)
            elif isinstance(question, SignatureQuestion):
                question = steps.send(context.signatures)
            else:
                question = steps.send(evaluate(question))
    except StopIteration as end:
        decision: Decision = end.value
        return decision


def reviewing(request: AdmissionRequest, purpose: Purpose, context: ReviewContext, rules: RuleSet) -> Reviewing:
    """Judge one request. Yields questions to registries and to Rego, and takes the answers.

    ``context`` belongs to the request's namespace. Raises ``MalformedObjectError`` where
    the object has a wrong shape; the caller turns it into a counted decision.
    """
    reason = _ignored(request)
    if reason:
        return Decision(uid=request.uid, purpose=purpose, allowed=True, ignored=reason)
    in_force = rules.in_force(context.namespace, context.now.date())
    context = replace(
        context,
        by_controller=bool(trusted_owner_kind(request.object or {}, request.user.username, context.controllers)),
        operation=request.operation,
        username=request.user.username,
        groups=request.user.groups or (),
        mutators=in_force.settings,
    )
    about = subjects(request, request.object, context)
    if not about:
        return Decision(uid=request.uid, purpose=purpose, allowed=True, ignored="object makes no pods")
    if purpose is Purpose.MUTATE:
        return (yield from _mutate(request, about[0], context, in_force))
    return (yield from _validate(request, about, context, in_force))


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


def _mutate(request: AdmissionRequest, subject: Subject, context: ReviewContext, rules: RulesInForce) -> Reviewing:
    if subject.template or request.operation != "CREATE" or request.sub_resource:
        return Decision(uid=request.uid, purpose=Purpose.MUTATE, allowed=True, ignored="only new pods are mutated")
    pod = subject.model_pod(context, copy=True)
    if not pod.recognised_by:
        return Decision(uid=request.uid, purpose=Purpose.MUTATE, allowed=True, ignored="no model pod")
    context = yield from _about(pod, subject, context)
    injections = tuple(inject(pod, context, rules))
    return Decision(
        uid=request.uid,
        purpose=Purpose.MUTATE,
        allowed=True,
        injections=injections,
        patch=tuple(diff(subject.pod, pod.obj)),
        **_facts(pod, context),
    )


def _validate(
    request: AdmissionRequest, about: tuple[Subject, ...], context: ReviewContext, rules: RulesInForce
) -> Reviewing:
    judged: list[_Judged] = []
    for subject in about:
        one = yield from _as_admitted(subject, request, context, rules)
        if one is not None:
            excepted = _exceptions(request, one)
            judged.append(replace(one, exceptions=excepted) if excepted else one)
    if not judged:
        return Decision(uid=request.uid, purpose=Purpose.VALIDATE, allowed=True, ignored="no model pod")
    if context.asks_rbac and not context.by_controller and any(one.pod.recognised_by for one in judged):
        may = yield DeployQuestion(context.username, context.groups, request.namespace)
        context = replace(context, may_deploy=may)
        judged = [replace(one, context=replace(one.context, may_deploy=may)) for one in judged]
    asked: _Asked = []
    findings: list[JudgedFinding] = []
    for position, one in enumerate(judged):
        signed = judged[position] = yield from _with_signatures(one)
        findings += yield from _findings(signed, rules, asked)
    tolerated = 0
    if request.operation == "UPDATE" and findings:
        before = yield from _identities_before(request, context, rules, asked)
        unchanged = _runs_the_same(request, about, context)
        kept = [
            one
            for one in findings
            if one.finding.identity not in before or (one.finding.rule in rules.judged_anew and not unchanged)
        ]
        tolerated, findings = len(findings) - len(kept), kept
        if _rolled_back(request, about, context):
            findings = [one if one.finding.of_request else _softened(one) for one in findings]
    recreated = _is_recreation(request, context)
    findings = [_softened(one) if recreated and one.finding.lapse else one for one in dict.fromkeys(findings)]
    findings.sort(key=lambda one: -one.action.strictness)
    main = next((one for one in judged if one.pod.recognised_by), judged[0])
    return Decision(
        uid=request.uid,
        purpose=Purpose.VALIDATE,
        allowed=not any(one.action is Action.DENY for one in findings),
        findings=tuple(findings),
        tolerated=tolerated,
        recreated=recreated and any(one.finding.lapse for one in findings),
        injections=tuple(injection for one in judged for injection in one.injections),
        missing=tuple(missing for one in judged for missing in one.context.missing),
        created=tuple(
            CreatedPod(one.subject.role, one.subject.pod, one.pod.obj, one.subject.origin.place)
            for one in judged
            if one.subject.template
        ),
        signatures={image: said for one in judged for image, said in one.context.signatures.items()},
        **_facts(main.pod, main.context),
    )


def _as_admitted(
    subject: Subject, request: AdmissionRequest, context: ReviewContext, rules: RulesInForce
) -> Generator[Question, Any, _Judged | None]:
    """The pod to judge: a pod as it was received, the pod of a workload after injection.

    None for a pod that is no model's where nobody asked for every pod to be judged.
    """
    pod = subject.model_pod(context)
    if not pod.recognised_by and not context.namespace.opted_in:
        return None
    about = yield from _about(pod, subject, context)
    if not pod.recognised_by:
        return _Judged(subject, pod, about)
    if subject.template and not pod.containers:
        # A model that other pods will load (Seldon 2): there is nothing to inject into.
        return _Judged(subject, pod, about)
    if subject.template:
        pod = subject.model_pod(context, copy=True)
        injections = tuple(inject(pod, about, rules, subject.role))
        pod.refresh()
        return _Judged(subject, pod, (yield from _about(pod, subject, context)), injections)
    if request.operation == "CREATE" and context.namespace.opted_in:
        missing = missing_injections(subject, about, rules)
        about = replace(about, missing=missing) if missing else about
    return _Judged(subject, pod, about)


def _findings(one: _Judged, rules: RulesInForce, asked: _Asked) -> _Findings:
    """Every finding on one pod, at the field that its author wrote; ``asked`` grows by what Rego said."""
    judging = judge(one.pod, one.context, rules)
    found = yield from _remembering(judging, asked, old=False)
    excused = [_excepted(judged, one) for judged in found]
    return [_at_authored_field(judged, one) for judged in excused]


def _with_signatures(one: _Judged) -> Generator[Question, Any, _Judged]:
    """The same with what is known of those of its images that must be signed."""
    if one.context.wants_signature is none_wanted:
        return one
    images = (used.image for used in used_images(one.pod, one.context.model))
    wanted = tuple(dict.fromkeys(image for image in images if one.context.wants_signature(image)))
    if not wanted:
        return one
    signatures = yield SignatureQuestion(wanted)
    return replace(one, context=replace(one.context, signatures=signatures))


def _exceptions(request: AdmissionRequest, one: _Judged) -> tuple[PolicyException, ...]:
    if not one.context.exceptions:
        return ()
    stands_for = list(_stands_for(request, one.context))
    return tuple(
        exception
        for exception in one.context.exceptions
        if any(exception.selects(request.namespace, kind, name, one.pod.labels) for kind, name in stands_for)
    )


def _stands_for(request: AdmissionRequest, context: ReviewContext) -> Iterator[tuple[str, str]]:
    """(kind, name) of the object, and of those whose controllers made it: an exception for a Deployment
    is one for its ReplicaSets and their pods."""
    metadata = (request.object or {}).get("metadata") or {}
    yield request.kind.kind, request.name or metadata.get("name") or ""
    if not context.by_controller:
        return
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    above = (str(owner.get("kind") or ""), str(owner.get("name") or "")) if owner else None
    while above is not None:
        yield above
        above = context.owner_of(request.namespace, *above)


def _excepted(judged: JudgedFinding, one: _Judged) -> JudgedFinding:
    """The finding without its action, where an exception covers it; who used which is written down."""
    if judged.finding.always:
        return judged
    for exception in one.exceptions:
        if exception.covers(judged.finding.rule, one.context.now):
            return replace(judged, action=Action.AUDIT, deny_after=None, exception=exception.name)
    return judged


def _remembering(judging: Judging, asked: _Asked, *, old: bool) -> _Findings:
    """Ask Rego no question twice. What it could not answer about the old object excuses nothing."""
    try:
        question = next(judging)
        while True:
            answers = next((known for before, known in asked if before == question), None) if old else None
            if answers is None:
                answers = yield question
                if old:
                    answers = {rule: one for rule, one in answers.items() if not isinstance(one, RuleFailure)}
                else:
                    asked.append((question, answers))
            question = judging.send(answers)
    except StopIteration as end:
        found: list[JudgedFinding] = end.value
        return found


def _identities_before(
    request: AdmissionRequest, context: ReviewContext, rules: RulesInForce, asked: _Asked
) -> Generator[Question, Any, frozenset[tuple[str, ...]]]:
    """What was already wrong before an update: it is not held against the update."""
    identities: set[tuple[str, ...]] = set()
    for subject in subjects(request, request.old_object, context):
        one = yield from _as_admitted(subject, request, context, rules)
        if one is None:
            continue
        one = yield from _with_signatures(one)
        judging = judge(one.pod, one.context, rules)
        found = yield from _remembering(judging, asked, old=True)
        identities |= {_at_authored_field(judged, one).finding.identity for judged in found}
    return frozenset(identities)


def _at_authored_field(judged: JudgedFinding, one: _Judged) -> JudgedFinding:
    path = one.subject.authored(judged.finding, one.pod.obj)
    return judged if path == judged.finding.path else replace(judged, finding=replace(judged.finding, path=path))


def _runs_the_same(request: AdmissionRequest, about: Iterable[Subject], context: ReviewContext) -> bool:
    """Whether an update leaves what the pods run as it was."""
    old = subjects(request, request.old_object, context)
    return [what_runs(one.pod) for one in old] == [what_runs(one.pod) for one in about]


def _rolled_back(request: AdmissionRequest, about: Iterable[Subject], context: ReviewContext) -> bool:
    """Whether the workload goes back to a template that it had; its pods are still judged one by one."""
    uid = ((request.old_object or {}).get("metadata") or {}).get("uid") or ""
    return bool(uid) and all(
        subject.template and context.had_template(request.namespace, uid, template_fingerprint(subject.pod))
        for subject in about
    )


def _is_recreation(request: AdmissionRequest, context: ReviewContext) -> bool:
    """Whether a controller makes a pod again that it had from the same template: nodes drain at night."""
    if not context.by_controller or request.kind.kind != "Pod" or request.operation != "CREATE":
        return False
    made_from = owner_and_template(request.object or {})
    return made_from is not None and context.had_pods(request.namespace, *made_from)


def _softened(judged: JudgedFinding) -> JudgedFinding:
    if judged.action is not Action.DENY or judged.finding.always:
        return judged
    return replace(judged, action=Action.WARN)


def _about(pod: ModelPod, subject: Subject, context: ReviewContext) -> Generator[Question, Any, ReviewContext]:
    """Fill in what belongs to one pod: its workload class, model and approval."""
    model = model_reference(pod)
    namespace = context.namespace
    answered = context.answered
    if model.name and model.version:
        answered = yield ApprovalQuestion(context.environment, model.name, model.version)
    return replace(
        context,
        workload=workload_class(
            pod.labels, pod.owner_kind, namespace.workloads, namespace.default_workload, subject.said_by_kind
        ),
        model=model,
        approval=answered.answer if answered is not None else context.approval,
        answered=answered,
    )


def _facts(pod: ModelPod, context: ReviewContext) -> dict[str, Any]:
    return {
        "recognised": pod.recognised_by,
        "environment": context.environment,
        "workload": context.workload.value if pod.recognised_by else "",
        "model": context.model,
        "digest": getattr(context.approval, "digest", ""),
        "answered": context.answered,
    }
