"""What would happen to a manifest, without a cluster: both webhooks in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import jsonpatch

from admission.admission_review import AdmissionRequest, GroupVersionKind, UserInfo
from admission.decision import CreatedPod, Decision, Purpose
from admission.finding import Action
from admission.namespace import ENVIRONMENT_KEY, Namespace, namespace_policy
from admission.pod_schema import MalformedObjectError
from admission.subject import path_before_injection
from admission.workload_kinds.kinds import workload_kind
from admission.workload_kinds.workload_pod import WorkloadKind
from webhook.cluster_state import ClusterState
from webhook.manifests import Manifest
from webhook.reviewer import Reviewer
from webhook.settings import Settings

_DEFAULT_NAMESPACE = "default"
_PRODUCTION = "production"
_UID = "offline"

Kinds = Callable[[str, str], WorkloadKind | None]
"""What is known of a kind, by API group and kind."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One manifest and what became of it.

    ``pods`` are the pod itself, or those of a workload, as written and as admitted.
    ``skipped`` says why nobody looked, ``problem`` why nobody could.
    """

    manifest: Manifest
    namespace: str
    decision: Decision | None = None
    pods: tuple[CreatedPod, ...] = ()
    skipped: str = ""
    problem: str = ""

    @property
    def refused(self) -> bool:
        """Whether the API server would turn the object away."""
        return self.decision is not None and not self.decision.allowed

    @property
    def warned(self) -> bool:
        """Whether it would come in with a finding that warns."""
        return (
            not self.refused
            and self.decision is not None
            and any(one.action is Action.WARN for one in self.decision.findings)
        )

    @property
    def looked_at(self) -> bool:
        """Whether it was judged."""
        return self.decision is not None and not self.decision.ignored

    @property
    def is_pod(self) -> bool:
        """Whether the object is a pod, which is changed, and no workload, which is not."""
        return _is_pod(self.manifest)


def assume_environments(
    manifests: Iterable[Manifest],
    state: ClusterState,
    settings: Settings,
    default_namespace: str,
    environment: str,
    kinds: Kinds = workload_kind,
) -> dict[str, str]:
    """Give each namespace that nothing is known of an environment; answers what was assumed.

    ``environment`` holds for every namespace of the manifests, where it is given. The
    manifests themselves may bring their Namespace, nodes and priority classes along.
    """
    manifests = list(manifests)
    for manifest in manifests:
        if manifest.name:
            state.put(manifest.obj)
    assumed: dict[str, str] = {}
    judged = [one for one in manifests if _makes_pods(one, kinds)]
    for name in dict.fromkeys(one.namespace or default_namespace or _DEFAULT_NAMESPACE for one in judged):
        known = state.namespace(name)
        own = settings.namespaces.get(name)
        if not environment and (known is not None or (own is not None and own.environment)):
            continue
        chosen = environment or (_PRODUCTION if _PRODUCTION in settings.environments else _strictest(settings))
        labels = {**(known.labels if known is not None else {}), ENVIRONMENT_KEY: chosen}
        state.put_namespace(Namespace(name, labels, known.annotations if known is not None else {}))
        if not environment:
            assumed[name] = chosen
    return assumed


def _makes_pods(manifest: Manifest, settings_kinds: Kinds) -> bool:
    return _is_pod(manifest) or settings_kinds(manifest.group, manifest.kind) is not None


def _is_pod(manifest: Manifest) -> bool:
    return manifest.kind == "Pod" and not manifest.group


def _strictest(settings: Settings) -> str:
    def strictness(environment: str) -> int:
        namespace = Namespace("", {ENVIRONMENT_KEY: environment})
        return namespace_policy(namespace, settings.environments, {}).environment_action.strictness

    return max(settings.environments, key=strictness)


async def review_manifest(
    manifest: Manifest, reviewer: Reviewer, default_namespace: str = "", user: UserInfo | None = None
) -> Reviewed:
    """Review one manifest as the API server would have it reviewed on CREATE."""
    namespace = manifest.namespace or default_namespace or _DEFAULT_NAMESPACE
    if not _makes_pods(manifest, reviewer.workload_kind):
        return Reviewed(manifest, namespace, skipped=f"a {manifest.kind} makes no pods")
    request = AdmissionRequest(
        uid=_UID,
        kind=GroupVersionKind(group=manifest.group, version=manifest.version, kind=manifest.kind),
        operation="CREATE",
        name=manifest.name,
        namespace=namespace,
        userInfo=user or UserInfo(),
        object=manifest.obj,
        dryRun=True,
    )
    try:
        if _is_pod(manifest):
            return await _review_pod(request, manifest, reviewer)
        decision = await reviewer.judge(request, Purpose.VALIDATE)
    except MalformedObjectError as error:
        return Reviewed(manifest, namespace, problem=str(error))
    return Reviewed(manifest, namespace, decision, decision.created)


async def _review_pod(request: AdmissionRequest, manifest: Manifest, reviewer: Reviewer) -> Reviewed:
    """``/mutate``, then ``/validate`` of what came of it."""
    written = manifest.obj
    mutated = await reviewer.judge(request, Purpose.MUTATE)
    after: dict[str, Any] = jsonpatch.apply_patch(written, list(mutated.patch))
    judged = await reviewer.judge(request.model_copy(update={"object": after}), Purpose.VALIDATE)
    findings = tuple(
        replace(one, finding=replace(one.finding, path=path_before_injection(one.finding.path, written, after)))
        for one in judged.findings
    )
    decision = replace(judged, findings=findings, injections=mutated.injections)
    return Reviewed(manifest, request.namespace, decision, (CreatedPod("", written, after, place=""),))
