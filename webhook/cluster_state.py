"""What the process knows of the cluster, kept up to date by whoever feeds it objects.

Only what reviews need is kept: of a node its labels, of a Service its selector, and
that only where it names a cost label, of a ReplicaSet a hash of its template. Feeding
happens on other threads than reading.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from admission.context import ClusterFacts, PriorityClass, Selector
from admission.namespace import Namespace
from admission.template_history import kept_template
from admission.workload_kinds.workload_pod import WorkloadFacts
from mutators.cost_labels import COST_LABELS
from webhook.pod_history import PodHistory

_HOST_NAME = "kubernetes.io/hostname"
_TEMPLATE_KEEPERS = ("ReplicaSet", "ControllerRevision")
_Key = tuple[str, str]


class ClusterState:
    """Objects by kind, and the ``ClusterFacts`` that come of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._namespaces: dict[str, Namespace] = {}
        self._kept: dict[str, dict[_Key, Any]] = {kind: {} for kind in _READERS}
        self._facts: ClusterFacts | None = None
        self._templates: dict[str, dict[_Key, tuple[str, str]]] = {kind: {} for kind in _TEMPLATE_KEEPERS}
        self._owners: dict[tuple[str, str, str], tuple[str, str] | None] = {}
        self.pods = PodHistory()
        self._had: Counter[tuple[str, str, str]] = Counter()
        self.namespaces_revision = 0

    def namespace(self, name: str) -> Namespace | None:
        """The namespace; None where it has not been seen."""
        return self._namespaces.get(name)

    @property
    def facts(self) -> ClusterFacts:
        """The facts as of now; made again only after a change that matters."""
        facts = self._facts
        if facts is None:
            with self._lock:
                facts = self._facts = _facts(self._kept)
        return facts

    def put(self, obj: Mapping[str, Any]) -> None:
        """Take in a new or changed object of a kind that is kept; others are passed over."""
        kind, metadata = str(obj.get("kind") or ""), obj.get("metadata") or {}
        if kind == "Namespace":
            self.put_namespace(_namespace(metadata))
            return
        key = (metadata.get("namespace") or "", metadata.get("name") or "")
        if kind in _TEMPLATE_KEEPERS:
            self._put_template(kind, key, kept_template(obj))
            self._owners[kind, *key] = _controller(metadata)
            return
        if kind == "Pod":
            self.pods.put(obj)
            return
        read = _READERS.get(kind)
        if read is None:
            return
        value = read(obj)
        with self._lock:
            if self._kept[kind].get(key) == value:
                return
            if value is None:
                self._kept[kind].pop(key, None)
            else:
                self._kept[kind][key] = value
            self._facts = None

    def put_namespace(self, namespace: Namespace) -> None:
        """Take in one namespace."""
        with self._lock:
            if self._namespaces.get(namespace.name) != namespace:
                self._namespaces[namespace.name] = namespace
                self.namespaces_revision += 1

    def had_template(self, namespace: str, uid: str, fingerprint: str) -> bool:
        """Whether a controller keeps this template as one that the workload of ``uid`` has or had.

        Only in the workload's own namespace: elsewhere anybody may write that UID into an object.
        """
        return self._had[namespace, uid, fingerprint] > 0

    def owner_of(self, namespace: str, kind: str, name: str) -> tuple[str, str] | None:
        """Kind and name of the controller of a ReplicaSet; None where it has none, or is not known."""
        return self._owners.get((kind, namespace, name))

    def _put_template(self, kind: str, key: _Key, template: tuple[str, str] | None) -> None:
        with self._lock:
            before = self._templates[kind].pop(key, None)
            if before is not None:
                counted = (key[0], *before)
                self._had[counted] -= 1
                if not self._had[counted]:
                    del self._had[counted]
            if template is not None:
                self._templates[kind][key] = template
                self._had[key[0], *template] += 1

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Forget an object."""
        if kind == "Pod":
            self.pods.remove(namespace, name)
            return
        if kind in _TEMPLATE_KEEPERS:
            self._put_template(kind, (namespace, name), None)
            self._owners.pop((kind, namespace, name), None)
            return
        with self._lock:
            if kind == "Namespace":
                self._namespaces.pop(name, None)
                self.namespaces_revision += 1
            elif self._kept.get(kind, {}).pop((namespace, name), None) is not None:
                self._facts = None

    def keep_only(self, kind: str, keys: set[_Key]) -> None:
        """Forget objects of a kind that a complete list does not have any more."""
        if kind == "Pod":
            self.pods.keep_only(keys)
            return
        for namespace, name in self._keys(kind) - keys:
            self.remove(kind, namespace, name)

    def _keys(self, kind: str) -> set[_Key]:
        with self._lock:
            if kind == "Namespace":
                return {("", name) for name in self._namespaces}
            return set(self._templates[kind] if kind in _TEMPLATE_KEEPERS else self._kept[kind])


def _controller(metadata: Mapping[str, Any]) -> tuple[str, str] | None:
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    return (str(owner.get("kind") or ""), str(owner.get("name") or "")) if owner else None


def _namespace(metadata: Mapping[str, Any]) -> Namespace:
    return Namespace(str(metadata["name"]), metadata.get("labels") or {}, metadata.get("annotations") or {})


def _node(obj: Mapping[str, Any]) -> dict[str, str]:
    labels = (obj.get("metadata") or {}).get("labels") or {}
    return {key: value for key, value in labels.items() if key != _HOST_NAME}


def _priority_class(obj: Mapping[str, Any]) -> PriorityClass:
    return PriorityClass(obj["metadata"]["name"], int(obj.get("value") or 0), bool(obj.get("globalDefault")))


def _selector(obj: Mapping[str, Any]) -> Selector | None:
    spec = obj.get("spec") or {}
    found = spec.get("podSelector") or spec.get("selector") or {}
    # A Service's selector is the labels themselves; the others wrap them.
    labels = found if obj.get("kind") == "Service" else found.get("matchLabels") or {}
    if not any(label in labels for label in COST_LABELS):
        return None
    return Selector(str(obj.get("kind")), obj["metadata"]["name"], labels)


def _claim_template(obj: Mapping[str, Any]) -> tuple[str, ...]:
    devices = ((obj.get("spec") or {}).get("spec") or {}).get("devices") or {}
    classes: list[str] = []
    for request in devices.get("requests") or ():
        alternatives = [request.get("exactly") or request, *(request.get("firstAvailable") or ())]
        classes += [one["deviceClassName"] for one in alternatives if one.get("deviceClassName")]
    return tuple(classes)


def _serving_runtime(obj: Mapping[str, Any]) -> dict[str, Any]:
    created = obj["metadata"].get("creationTimestamp")
    return {"metadata": {"creationTimestamp": created}, "spec": obj.get("spec") or {}}


_READERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "Node": _node,
    "PriorityClass": _priority_class,
    "Service": _selector,
    "NetworkPolicy": _selector,
    "PodDisruptionBudget": _selector,
    "ResourceClaimTemplate": _claim_template,
    "ServingRuntime": _serving_runtime,
    "ClusterServingRuntime": _serving_runtime,
}


def _facts(kept: Mapping[str, Mapping[_Key, Any]]) -> ClusterFacts:
    shapes = {tuple(sorted(labels.items())): labels for labels in kept["Node"].values()}
    selectors: dict[str, list[Selector]] = {}
    for kind in ("Service", "NetworkPolicy", "PodDisruptionBudget"):
        for (namespace, _), selector in kept[kind].items():
            selectors.setdefault(namespace, []).append(selector)
    return ClusterFacts(
        nodes=tuple(shapes.values()),
        priority_classes={one.name: one for one in kept["PriorityClass"].values()},
        selectors={namespace: tuple(found) for namespace, found in selectors.items()},
        claim_templates=dict(kept["ResourceClaimTemplate"]),
        workloads=WorkloadFacts({**kept["ServingRuntime"], **kept["ClusterServingRuntime"]}),
    )
