"""Our own objects without a service that watches them: from manifests, or listed once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from registries.cluster import ClusterRegistry
from registries.model_version import KIND as MODEL_VERSION
from webhook.governance.access import GROUP
from webhook.governance.policy_exceptions import PolicyExceptions
from webhook.governance.settings import GovernanceSettings
from webhook.governance.state import GovernanceState

_UNLISTED = (
    "no ModelVersion objects are known here; give the cluster that has them with --kubeconfig, "
    "or their manifests with --cluster"
)


class OwnObjects:
    """Approvals and exceptions as a service that watches them would hold them."""

    def __init__(self, settings: GovernanceSettings, own_namespace: str) -> None:
        self.versions = ClusterRegistry(settings.approvers, unlisted=_UNLISTED)
        self.exceptions = PolicyExceptions(own_namespace)
        self.state = GovernanceState(self.versions, self.exceptions)
        """What a ``ClusterWatch`` may feed instead."""

    def take(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Take in those that are ours; manifests that have a version are believed to have all."""
        found = False
        for obj in objects:
            # Other projects have a PolicyException too.
            if str(obj.get("apiVersion") or "").partition("/")[0] != GROUP or not _named(obj):
                continue
            self.state.put(obj)
            found |= obj.get("kind") == MODEL_VERSION
        if found:
            self.versions.listed()


def _named(obj: Mapping[str, Any]) -> bool:
    metadata = obj.get("metadata")
    return isinstance(metadata, dict) and isinstance(metadata.get("name"), str)
