"""Gives a pod the priority class of its workload class and environment.

Fields: ``spec.priorityClassName``; ``spec.priority`` and ``spec.preemptionPolicy`` are
taken away with it.

The built-in Priority plugin runs before webhooks and has stamped both fields; left
beside another class, its second run refuses the pod ("the integer value of priority
(0) must not be provided in pod spec"). Taken away again on a second call, with the
class in place, the pod would be stored without any priority: so nothing is done where
the class is already the wanted one. Only a class that the cluster has is set, since the
plugin refuses any other. A class that the author named stays; the cluster's global
default, which the plugin fills in, counts as unset.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from admission.context import ReviewContext
from admission.mutator import Change, Mutator, MutatorSettings
from admission.pod import ModelPod
from admission.workload import WorkloadClass


def _default_classes() -> dict[str, dict[WorkloadClass, str]]:
    return {
        "*": {
            WorkloadClass.INFERENCE: "tidewaiter-inference",
            WorkloadClass.TRAINING: "tidewaiter-training",
            WorkloadClass.BATCH: "tidewaiter-batch",
            WorkloadClass.DEVELOPMENT: "tidewaiter-development",
        },
        "production": {WorkloadClass.INFERENCE: "tidewaiter-inference-production"},
    }


class PriorityClassSettings(MutatorSettings):
    """Settings of priority-class."""

    classes: dict[str, dict[WorkloadClass, str]] = Field(default_factory=_default_classes)
    """Priority class by environment ("*" for every other one) and workload class."""


def mutate(pod: ModelPod, context: ReviewContext, settings: PriorityClassSettings) -> Iterable[Change]:
    """Set the class, where the author named none."""
    spec = pod.spec
    wanted = _wanted(context, settings)
    current = spec.get("priorityClassName") or ""
    if not wanted or current == wanted:
        return
    known = context.cluster.priority_classes
    if current and not (current in known and known[current].global_default):
        return
    if wanted not in known:
        if known:
            yield Change(f"set priority class {wanted}, but the cluster has no such class", applied=False)
        return
    spec["priorityClassName"] = wanted
    spec.pop("priority", None)
    spec.pop("preemptionPolicy", None)
    yield Change(f"set priority class {wanted}")


def _wanted(context: ReviewContext, settings: PriorityClassSettings) -> str:
    own = settings.classes.get(context.environment, {})
    return own.get(context.workload) or settings.classes.get("*", {}).get(context.workload) or ""


MUTATOR = Mutator(id="priority-class", order=20, mutate=mutate, settings=PriorityClassSettings)
