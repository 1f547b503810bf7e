"""Nobody goes around placement, priority or the workload class of the namespace.

Fields: ``spec.nodeName`` (bypasses the scheduler and its accounting altogether),
``spec.tolerations`` (one without a key tolerates
every taint of its effect), ``spec.priorityClassName``, the label
``tidewaiter.dev/workload``.

``nodeName`` and the tolerations of a DaemonSet's pods are its controller's own and
stay. Where a namespace lists no priority classes, all but the system's are open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from admission.context import ReviewContext
from admission.finding import Finding
from admission.pod import ModelPod
from admission.validator import Applicability, RuleSettings, Scope, Validator
from admission.workload import WORKLOAD_KEY, requested_class

_ID = "placement-bypass"
_SYSTEM = "system-"


class PlacementBypassSettings(RuleSettings):
    """Settings of placement-bypass."""


def check(pod: ModelPod, context: ReviewContext, _settings: PlacementBypassSettings) -> Iterable[Finding]:
    """Find what goes around the scheduler or the namespace's rules."""
    # A pod that runs is bound to a node; a template's pods are not yet made.
    if pod.owner_kind != "DaemonSet" and (context.operation == "CREATE" or pod.template):
        yield from _scheduler(pod)
    yield from _priority(pod, context)
    yield from _workload(pod, context)


def _scheduler(pod: ModelPod) -> Iterator[Finding]:
    node = pod.spec.get("nodeName")
    if node:
        yield _finding(
            "spec.nodeName",
            f"the pod is bound to node {node!r} past the scheduler",
            "remove it; use a node selector",
        )
    for index, toleration in enumerate(pod.spec.get("tolerations") or ()):
        if not toleration.get("key") and toleration.get("operator") == "Exists":
            effect = toleration.get("effect") or ""
            yield _finding(
                f"spec.tolerations[{index}]",
                f"the toleration covers every taint{f' of effect {effect}' if effect else ''}",
                "name the taints that the pod may tolerate; those of its GPUs are added by themselves",
            )


def _priority(pod: ModelPod, context: ReviewContext) -> Iterator[Finding]:
    name = pod.spec.get("priorityClassName") or ""
    allowed = context.namespace.settings.priority_classes
    if not name or (allowed is None and not name.startswith(_SYSTEM)) or (allowed is not None and name in allowed):
        return
    choices = f"one of {', '.join(allowed)}" if allowed else "a class of your cluster that is not the system's"
    yield _finding(
        "spec.priorityClassName",
        f"priority class {name!r} may not be used in namespace {context.namespace.namespace.name}",
        f"leave it out, or use {choices}",
    )


def _workload(pod: ModelPod, context: ReviewContext) -> Iterator[Finding]:
    asked = requested_class(pod.labels)
    allowed = context.namespace.workloads
    if asked and asked not in allowed:
        yield _finding(
            f"metadata.labels[{WORKLOAD_KEY}]",
            f"workload class {asked!r} may not be used in namespace {context.namespace.namespace.name}",
            f"use {', '.join(allowed)}",
        )


def _finding(path: str, message: str, remedy: str) -> Finding:
    return Finding(rule=_ID, path=path, message=message, remedy=remedy)


VALIDATOR = Validator(
    id=_ID, check=check, settings=PlacementBypassSettings, applies=Applicability(scope=Scope.EVERY_POD)
)
