"""Hands a ConfigMap that is followed over to the policies that are read from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webhook.rego.sources import ConfigMapSource


class ConfigMapFeed:
    """What a ``ClusterWatch`` feeds, where it follows one ConfigMap."""

    def __init__(self, source: ConfigMapSource) -> None:
        self._source = source

    def put(self, obj: Mapping[str, Any]) -> None:
        """The ConfigMap as it is now."""
        self._source.put(dict(obj.get("data") or {}))

    def remove(self, _kind: str, _namespace: str, _name: str) -> None:
        """It is gone."""
        self._source.put(None)

    def keep_only(self, _kind: str, keys: set[tuple[str, str]]) -> None:
        """A complete list without it."""
        if not keys:
            self._source.put(None)
