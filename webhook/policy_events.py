"""Tells the cluster, by an Event, that policies were read again: well, or not."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from webhook.rego.policy_store import PolicyStore

_MAX_MESSAGE = 1024


def policy_event(store: PolicyStore, namespace: str, config_map: str, now: datetime) -> dict[str, Any]:
    """On the ConfigMap that the policies come from; on the service's namespace where they come from files."""
    about = {"apiVersion": "v1", "kind": "ConfigMap", "name": config_map, "namespace": namespace}
    if not config_map:
        about = {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "namespace": namespace}
    broken = bool(store.problem)
    message = store.problem or f"policies of {store.source} are in force, revision {store.revision}"
    key = hashlib.sha256(f"{store.source}/{message}".encode()).hexdigest()[:16]
    time_text = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "metadata": {"name": f"{about['name']}.{key}", "namespace": namespace},
        "involvedObject": about,
        "type": "Warning" if broken else "Normal",
        "reason": "PoliciesRefused" if broken else "PoliciesInForce",
        "message": message if len(message) <= _MAX_MESSAGE else f"{message[: _MAX_MESSAGE - 3]}...",
        "source": {"component": "tidewaiter"},
        "firstTimestamp": time_text,
        "lastTimestamp": time_text,
        "count": 1,
    }
