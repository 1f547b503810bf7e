"""What a watch of our own objects feeds: the registry and the exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registries.cluster import ClusterRegistry
from registries.model_version import KIND as MODEL_VERSION
from webhook.governance.access import GROUP
from webhook.governance.policy_exceptions import KIND as POLICY_EXCEPTION
from webhook.governance.policy_exceptions import PolicyExceptions


def watched_paths(own_namespace: str) -> dict[str, str]:
    """Where each kind is listed and watched; exceptions elsewhere are not even read."""
    return {
        MODEL_VERSION: f"/apis/{GROUP}/v1alpha1/modelversions",
        POLICY_EXCEPTION: f"/apis/{GROUP}/v1alpha1/namespaces/{own_namespace}/policyexceptions",
    }


class GovernanceState:
    """Takes objects from a ``webhook.cluster.ClusterWatch``."""

    def __init__(self, registry: ClusterRegistry, exceptions: PolicyExceptions) -> None:
        self._registry = registry
        self._exceptions = exceptions

    def put(self, obj: Mapping[str, Any]) -> None:
        """Take an object in; other kinds are not for us."""
        if obj.get("kind") == MODEL_VERSION:
            self._registry.put(obj)
        elif obj.get("kind") == POLICY_EXCEPTION:
            self._exceptions.put(obj)

    def heard(self, kind: str) -> None:
        """What was put of a kind is how things stand now."""
        if kind == MODEL_VERSION:
            self._registry.heard()

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Forget an object."""
        if kind == MODEL_VERSION:
            self._registry.remove(name)
        elif kind == POLICY_EXCEPTION:
            self._exceptions.remove(namespace, name)

    def keep_only(self, kind: str, keys: set[tuple[str, str]]) -> None:
        """Forget objects of a kind that a complete list does not have any more."""
        if kind == MODEL_VERSION:
            self._registry.keep_only({name for _, name in keys})
        elif kind == POLICY_EXCEPTION:
            self._exceptions.keep_only(keys)
