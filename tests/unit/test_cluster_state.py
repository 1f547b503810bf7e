"""What is kept of a cluster, and what comes of it for reviews."""

from __future__ import annotations

from typing import Any

import pytest

from admission.context import PriorityClass, Selector
from webhook.cluster_state import ClusterState


def put(state: ClusterState, kind: str, name: str, namespace: str = "", **more: Any) -> None:
    metadata = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
    state.put({"kind": kind, "metadata": metadata, **more})


def node(state: ClusterState, name: str, **labels: str) -> None:
    put(state, "Node", name, metadata={"labels": {"kubernetes.io/hostname": name, **labels}})


def test_nodes_with_the_same_labels_are_one_shape() -> None:
    state = ClusterState()
    for name in ("a", "b", "c"):
        node(state, name, pool="web" if name == "c" else "gpu")

    assert sorted(one["pool"] for one in state.facts.nodes) == ["gpu", "web"]
    assert all("kubernetes.io/hostname" not in one for one in state.facts.nodes)


def test_a_shape_is_there_as_long_as_one_node_has_it() -> None:
    state = ClusterState()
    node(state, "a", pool="gpu")
    node(state, "b", pool="gpu")

    state.remove("Node", "", "a")
    assert list(state.facts.nodes) == [{"pool": "gpu"}]
    state.remove("Node", "", "b")
    assert list(state.facts.nodes) == []


def test_a_priority_class_is_its_value_and_whether_it_is_the_default() -> None:
    state = ClusterState()
    put(state, "PriorityClass", "batch", value=10)
    put(state, "PriorityClass", "normal", value=100, globalDefault=True)

    assert state.facts.priority_classes == {
        "batch": PriorityClass("batch", 10, False),
        "normal": PriorityClass("normal", 100, True),
    }


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Service", {"selector": {"team": "x"}}),
        ("NetworkPolicy", {"podSelector": {"matchLabels": {"team": "x"}}}),
        ("PodDisruptionBudget", {"selector": {"matchLabels": {"team": "x"}}}),
    ],
)
def test_a_selector_is_kept_where_it_asks_for_a_cost_label(kind: str, spec: dict[str, Any]) -> None:
    state = ClusterState()
    put(state, kind, "s", "models", spec=spec)

    assert state.facts.selectors == {"models": (Selector(kind, "s", {"team": "x"}),)}


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Service", {"selector": {"app": "x"}}),
        ("Service", {}),
        ("NetworkPolicy", {"podSelector": {}}),
        ("PodDisruptionBudget", {"selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}),
    ],
)
def test_a_selector_that_asks_for_none_is_not_kept(kind: str, spec: dict[str, Any]) -> None:
    state = ClusterState()
    put(state, kind, "s", "models", spec=spec)

    assert state.facts.selectors == {}


def test_a_selector_that_no_longer_asks_for_a_cost_label_is_forgotten() -> None:
    state = ClusterState()
    put(state, "Service", "s", "models", spec={"selector": {"team": "x"}})
    put(state, "Service", "s", "models", spec={"selector": {"app": "x"}})

    assert state.facts.selectors == {}


def test_a_claim_template_is_the_device_classes_it_may_bring() -> None:
    state = ClusterState()
    requests = [
        {"name": "a", "exactly": {"deviceClassName": "gpu.nvidia.com"}},
        {"name": "b", "firstAvailable": [{"deviceClassName": "mig.nvidia.com"}, {"deviceClassName": "gpu.amd.com"}]},
        {"name": "c", "deviceClassName": "old.example"},
    ]
    put(state, "ResourceClaimTemplate", "t", "models", spec={"spec": {"devices": {"requests": requests}}})

    assert state.facts.claim_templates == {
        ("models", "t"): ("gpu.nvidia.com", "mig.nvidia.com", "gpu.amd.com", "old.example")
    }


def test_facts_are_made_again_only_after_a_change_that_matters() -> None:
    state = ClusterState()
    node(state, "a", pool="gpu")
    before = state.facts

    node(state, "a", pool="gpu")
    put(state, "Service", "s", "models", spec={"selector": {"app": "x"}})
    put(state, "ConfigMap", "c", "models")
    state.remove("Service", "models", "unknown")
    assert state.facts is before

    node(state, "a", pool="web")
    assert list(state.facts.nodes) == [{"pool": "web"}]


def test_the_namespaces_revision_moves_with_their_labels_only() -> None:
    state = ClusterState()
    put(state, "Namespace", "models", metadata={"labels": {"team": "x"}, "resourceVersion": "1"})
    before = state.namespaces_revision

    put(state, "Namespace", "models", metadata={"labels": {"team": "x"}, "resourceVersion": "2"})
    assert state.namespaces_revision == before

    put(state, "Namespace", "models", metadata={"labels": {"team": "y"}})
    assert state.namespaces_revision > before
    found = state.namespace("models")
    assert found is not None
    assert found.labels == {"team": "y"}


def test_a_removed_namespace_is_unknown_and_moves_the_revision() -> None:
    state = ClusterState()
    put(state, "Namespace", "models")
    before = state.namespaces_revision

    state.remove("Namespace", "", "models")

    assert state.namespace("models") is None
    assert state.namespaces_revision > before


def test_what_a_complete_list_does_not_have_is_forgotten() -> None:
    state = ClusterState()
    for name in ("a", "b"):
        put(state, "Namespace", name)
        node(state, name, pool=name)

    state.keep_only("Namespace", {("", "a")})
    state.keep_only("Node", {("", "b")})

    assert state.namespace("a") is not None
    assert state.namespace("b") is None
    assert list(state.facts.nodes) == [{"pool": "b"}]
