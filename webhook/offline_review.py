"""What would happen to a manifest, without a cluster: both webhooks in one step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import jsonpatch

from admission.admission_review import AdmissionRequest, GroupVersionKind, UserInfo
from admission.decision import Decision, Purpose
from admission.finding import Action
from admission.namespace import ENVIRONMENT_KEY, Namespace, namespace_policy
from admission.pod_schema import MalformedObjectError
from admission.pod_template import authored_path, pod_template, template_path
from webhook.cluster_state import ClusterState
from webhook.manifests import Manifest
from webhook.reviewer import Reviewer
from webhook.settings import Settings

_DEFAULT_NAMESPACE = "default"
_PRODUCTION = "production"
_UID = "offline"


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One manifest and what became of it.

    ``before`` and ``after`` are the pod, or the pod template of a workload. ``skipped``
    says why nobody looked, ``problem`` why nobody could.
    """

    manifest: Manifest
    namespace: str
    decision: Decision | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
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

    def admitted_object(self) -> dict[str, Any]:
        """The manifest's object with ``after`` in place of ``before``."""
        if self.after is None:
            return self.manifest.obj
        path = template_path(self.manifest.group, self.manifest.kind)
        return _put(self.manifest.obj, path.split("."), self.after) if path else self.after


def _put(obj: dict[str, Any], path: list[str], value: dict[str, Any]) -> dict[str, Any]:
    if not path:
        return value
    return {**obj, path[0]: _put(obj[path[0]], path[1:], value)}


def assume_environments(
    manifests: Iterable[Manifest], state: ClusterState, settings: Settings, default_namespace: str, environment: str
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
    judged = [one for one in manifests if _makes_pods(one)]
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


def _makes_pods(manifest: Manifest) -> bool:
    return _is_pod(manifest) or template_path(manifest.group, manifest.kind) is not None


def _is_pod(manifest: Manifest) -> bool:
    return manifest.kind == "Pod" and not manifest.group


def _strictest(settings: Settings) -> str:
    def strictness(environment: str) -> int:
        namespace = Namespace("", {ENVIRONMENT_KEY: environment})
        return namespace_policy(namespace, settings.environments, {}).environment_action.strictness

    return max(settings.environments, key=strictness)


def review_manifest(
    manifest: Manifest, reviewer: Reviewer, default_namespace: str = "", user: UserInfo | None = None
) -> Reviewed:
    """Review one manifest as the API server would have it reviewed on CREATE.

    Raises ``PolicyError`` where a Rego rule fails.
    """
    namespace = manifest.namespace or default_namespace or _DEFAULT_NAMESPACE
    path = template_path(manifest.group, manifest.kind)
    if not _makes_pods(manifest):
        return Reviewed(manifest, namespace, skipped=f"a {manifest.kind} makes no pods")
    template = pod_template(manifest.obj, path) if path else manifest.obj
    if template is None:
        return Reviewed(manifest, namespace, problem=f"{path} is missing or no object; a {manifest.kind} needs it")
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
    after: dict[str, Any] | None
    try:
        if _is_pod(manifest):
            decision, after = _review_pod(request, reviewer)
        else:
            decision = reviewer.judge(request, Purpose.VALIDATE)
            after = decision.created
    except MalformedObjectError as error:
        return Reviewed(manifest, namespace, problem=str(error))
    return Reviewed(manifest, namespace, decision, template, after)


def _review_pod(request: AdmissionRequest, reviewer: Reviewer) -> tuple[Decision, dict[str, Any]]:
    """``/mutate``, then ``/validate`` of what came of it."""
    written = request.object or {}
    mutated = reviewer.judge(request, Purpose.MUTATE)
    after: dict[str, Any] = jsonpatch.apply_patch(written, list(mutated.patch))
    judged = reviewer.judge(request.model_copy(update={"object": after}), Purpose.VALIDATE)
    findings = tuple(
        replace(one, finding=replace(one.finding, path=authored_path(one.finding.path, written, after)))
        for one in judged.findings
    )
    return replace(judged, findings=findings, injections=mutated.injections), after
