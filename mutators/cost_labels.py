"""Labels a pod for cost reports: ``team``, ``project``, ``model``, ``environment``, ``env``.

Fields: ``metadata.labels``; ``metadata.annotations`` for names that no label can hold.

OpenCost and Kubecost read ``team`` and ``env`` by default, the others when mapped. A
value comes from the pod's annotations, then the namespace (its settings, labels and
annotations), then the settings' defaults; ``model`` is the model that the pod loads,
``environment`` and ``env`` are the namespace's. A label that is there stays as it is.

A label is left out where a Service, NetworkPolicy or PodDisruptionBudget of the
namespace would begin to select the pod by it. Names longer than a label allows are
shortened with a hash, and kept whole in the annotation ``tidewaiter.dev/full-<label>``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field

from admission.context import ReviewContext
from admission.label_value import as_label_value
from admission.mutator import Change, Mutator, MutatorSettings
from admission.pod import ModelPod, child

COST_LABELS = ("team", "project", "model", "environment", "env")
_PREFIX = "tidewaiter.dev/"
_FULL = "tidewaiter.dev/full-"


class CostLabelsSettings(MutatorSettings):
    """Settings of cost-labels."""

    defaults: dict[str, str] = Field(default_factory=dict)
    """Values for labels that neither pod nor namespace gives."""


def mutate(pod: ModelPod, context: ReviewContext, settings: CostLabelsSettings) -> Iterable[Change]:
    """Add the labels that are missing."""
    added = []
    for label in COST_LABELS:
        if label in pod.labels:
            continue
        text = _value(label, pod, context, settings)
        if not text:
            continue
        value = as_label_value(text)
        catching = _newly_selected_by(pod, label, value, context)
        if catching:
            yield Change(
                f"label it {label}={value}, but {catching} would begin to select the pod by that", applied=False
            )
            continue
        child(pod.metadata, "labels")[label] = value
        if value != text:
            child(pod.metadata, "annotations")[_FULL + label] = text
        added.append(f"{label}={value}")
    if added:
        yield Change(f"label it {', '.join(added)}")


def _value(label: str, pod: ModelPod, context: ReviewContext, settings: CostLabelsSettings) -> str:
    if label in ("environment", "env"):
        return context.environment
    if label == "model":
        return context.model.name
    namespace = context.namespace
    for source in (
        pod.annotations,
        namespace.settings.labels,
        namespace.namespace.labels,
        namespace.namespace.annotations,
    ):
        found = _named(source, label)
        if found:
            return found
    return settings.defaults.get(label, "")


def _named(source: Mapping[str, str], label: str) -> str:
    return source.get(_PREFIX + label) or source.get(label) or ""


def _newly_selected_by(pod: ModelPod, label: str, value: str, context: ReviewContext) -> str:
    labels = {**pod.labels, label: value}
    for selector in context.cluster.selectors.get(pod.namespace, ()):
        if label in selector.match_labels and selector.selects(labels):
            return f"{selector.kind} {selector.name}"
    return ""


MUTATOR = Mutator(id="cost-labels", order=40, mutate=mutate, settings=CostLabelsSettings)
