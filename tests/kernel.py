"""Builds what the pure kernel needs from short, readable data: contexts, requests, rules."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import mutators
import validators
from admission.admission_review import AdmissionRequest
from admission.approval import Answer, Approval, ApprovalLookup, ApprovalState, NotFound, Unavailable
from admission.context import ClusterFacts, MissingInjection, PriorityClass, ReviewContext, Selector
from admission.discovery import discover_mutators, discover_validators
from admission.finding import Action
from admission.image_signature import ImageNotSigned, ImageSignature, ImageSigned, ImageUnknown
from admission.model_reference import model_reference
from admission.namespace import EnvironmentSettings, Namespace, NamespaceSettings, namespace_policy
from admission.pipeline import RuleSet
from admission.pod import ModelPod
from admission.pools import Pool
from admission.workload import workload_class

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
MUTATORS = {one.id: one for one in discover_mutators(mutators)}
VALIDATORS = {one.id: one for one in discover_validators(validators)}
DIGEST = f"sha256:{'a' * 64}"
REPLICASET_CONTROLLER = "system:serviceaccount:kube-system:replicaset-controller"
ENVIRONMENTS = {
    "development": EnvironmentSettings(action=Action.AUDIT),
    "staging": EnvironmentSettings(action=Action.WARN),
    "production": EnvironmentSettings(action=Action.DENY),
}


def lookup(answers: Iterable[Mapping[str, Any]] | str) -> ApprovalLookup:
    """A registry that knows these approvals; a text is the reason why it does not answer."""
    if isinstance(answers, str):
        reason = answers
        return lambda _model, _version: Unavailable(reason)
    known = [Approval(**{**one, "state": ApprovalState(one["state"])}) for one in map(_approval, answers)]

    def answer(model: str, version: str) -> Answer:
        versions = {one.version: one for one in known if one.model == model}
        return versions.get(version) or NotFound(tuple(versions))

    return answer


def _approval(one: Mapping[str, Any]) -> dict[str, Any]:
    lists = {key: tuple(one[key]) for key in ("environments", "approvers") if key in one}
    return {"state": "approved", **one, **lists}


def cluster(facts: Mapping[str, Any]) -> ClusterFacts:
    """``nodes``, ``priorityClasses`` (name: value), ``globalDefault``, ``selectors``, ``claimTemplates``."""
    default = facts.get("globalDefault")
    return ClusterFacts(
        nodes=tuple(facts.get("nodes", ())),
        priority_classes={
            name: PriorityClass(name, value, name == default)
            for name, value in facts.get("priorityClasses", {}).items()
        },
        selectors={
            "models": tuple(
                Selector(one["kind"], one["name"], one["matchLabels"]) for one in facts.get("selectors", ())
            )
        },
        claim_templates={("models", name): tuple(classes) for name, classes in facts.get("claimTemplates", {}).items()},
    )


def context(
    *,
    environment: str = "production",
    namespace: Mapping[str, Any] | None = None,
    pools: Mapping[str, Any] | None = None,
    cluster_facts: Mapping[str, Any] | None = None,
    approvals: Iterable[Mapping[str, Any]] | str = (),
    **more: Any,
) -> ReviewContext:
    """A context for namespace ``models``; ``namespace`` has its labels, annotations and settings."""
    own = dict(namespace or {})
    labels = {**({"tidewaiter.dev/environment": environment} if environment else {}), **own.get("labels", {})}
    return ReviewContext(
        namespace=namespace_policy(
            Namespace("models", labels, own.get("annotations", {})),
            ENVIRONMENTS,
            {"models": NamespaceSettings.model_validate(own.get("settings", {}))},
        ),
        now=NOW,
        pools={name: Pool.model_validate(pool) for name, pool in (pools or {}).items()},
        cluster=cluster(cluster_facts or {}),
        approvals=lookup(approvals),
        **more,
    )


def _signature(said: Mapping[str, str]) -> ImageSignature:
    ((what, text),) = said.items()
    return {"signed": ImageSigned, "notSigned": ImageNotSigned, "unknown": ImageUnknown}[what](text)


def case_pod(case: Mapping[str, Any], about: ReviewContext) -> ModelPod:
    """The pod of a case, on a copy of its own."""
    return ModelPod(
        copy.deepcopy(case["pod"]),
        "models",
        case.get("owner", ""),
        lambda claim: about.cluster.claim_is_accelerator("models", claim),
        template=bool(case.get("path")),
    )


def case_context(case: Mapping[str, Any]) -> ReviewContext:
    """The context of a case, with what belongs to its pod filled in as the pipeline does."""
    about = context(
        environment=case.get("environment", "production"),
        namespace=case.get("namespace"),
        pools=case.get("pools"),
        cluster_facts=case.get("cluster"),
        approvals=case.get("approvals", ()),
        operation=case.get("operation", "CREATE"),
        username=case.get("username", ""),
        groups=tuple(case.get("groups", ())),
        by_controller=case.get("by_controller", False),
        may_deploy=case.get("may_deploy"),
        wants_signature=lambda image: image in case.get("signatures", {}),
        signatures={image: _signature(said) for image, said in case.get("signatures", {}).items()},
        mutators={name: MUTATORS[name].settings.model_validate(own) for name, own in case.get("mutators", {}).items()},
        missing=tuple(MissingInjection(one["mutator"], tuple(one["changes"])) for one in case.get("missing", ())),
    )
    pod = case_pod(case, about)
    model = model_reference(pod)
    policy = about.namespace
    return replace(
        about,
        workload=workload_class(pod.labels, pod.owner_kind, policy.workloads, policy.default_workload),
        model=model,
        approval=about.approvals(model.name, model.version) if model.name and model.version else about.approval,
    )


def request(
    obj: Mapping[str, Any] | None, *, old: Mapping[str, Any] | None = None, kind: str = "Pod", **more: Any
) -> AdmissionRequest:
    """A CREATE, or an UPDATE where ``old`` is given, by a person in namespace ``models``."""
    groups = {"CronJob": "batch", "Job": "batch", "Pod": ""}
    return AdmissionRequest.model_validate(
        {
            "uid": "u-1",
            "kind": {"group": groups.get(kind, "apps"), "version": "v1", "kind": kind},
            "operation": "CREATE" if old is None else "UPDATE",
            "namespace": "models",
            "userInfo": {"username": "mia", "groups": ["developers"]},
            "object": obj,
            "oldObject": old,
            **more,
        }
    )


def rules(
    *,
    only_mutators: Iterable[str] | None = None,
    only_validators: Iterable[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> RuleSet:
    """All mutators and rules, or those named; ``settings`` by id."""
    own = settings or {}
    chosen_mutators = MUTATORS if only_mutators is None else {name: MUTATORS[name] for name in only_mutators}
    chosen_validators = VALIDATORS if only_validators is None else {name: VALIDATORS[name] for name in only_validators}
    return RuleSet(
        mutators=tuple((one, one.settings.model_validate(own.get(one.id, {}))) for one in chosen_mutators.values()),
        validators=tuple((one, one.settings.model_validate(own.get(one.id, {}))) for one in chosen_validators.values()),
        **more,
    )
