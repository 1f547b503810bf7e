"""Tells the owner of a controller's pod, by an Event, what nobody else would read.

Warnings about a pod go to whoever made it: for most pods a controller, which reads none.
A refusal shows up as ``FailedCreate`` on the ReplicaSet, a warning nowhere.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from admission.admission_review import AdmissionRequest
from admission.decision import Decision, Purpose
from admission.finding import Action

_LOG = logging.getLogger("tidewaiter.events")
PostEvent = Callable[[dict[str, Any]], None]
"""Writes one Event to the cluster; blocks, and raises whatever went wrong."""

_MAX_QUEUED = 1000
_MAX_REMEMBERED = 10_000
_QUIET_SECONDS = 600.0
_MAX_MESSAGE = 1024
"""The API server refuses longer ones."""


class OwnerEvents:
    """Events about pods of controllers, written on a thread of its own; the same one at most every ten minutes."""

    def __init__(self, post: PostEvent, on_drop: Callable[[], None], clock: Callable[[], float] = time.monotonic):
        self._post = post
        self._on_drop = on_drop
        self._clock = clock
        self._told: dict[str, float] = {}
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_MAX_QUEUED)
        self._thread = threading.Thread(target=self._write, name="owner-events", daemon=True)
        self._thread.start()

    def tell(self, request: AdmissionRequest, decision: Decision) -> None:
        """Queue an Event, where there is something to tell; never blocks."""
        event = owner_event(request, decision, datetime.now(UTC))
        if event is None:
            return
        name, now = event["metadata"]["name"], self._clock()
        if now - self._told.get(name, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return
        if len(self._told) >= _MAX_REMEMBERED:
            self._told.clear()
        self._told[name] = now
        self.write(event)

    def write(self, event: dict[str, Any]) -> None:
        """Queue an Event as it is; never blocks."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._on_drop()

    def close(self, timeout_seconds: float = 2) -> None:
        """Write what is queued, within a limit."""
        try:
            self._queue.put(None, timeout=timeout_seconds)
        except queue.Full:
            return
        self._thread.join(timeout_seconds)

    def _write(self) -> None:
        while (event := self._queue.get()) is not None:
            try:
                self._post(event)
            except Exception as error:  # noqa: BLE001  # a lost Event must not end the thread
                _LOG.warning("an Event could not be written: %s", str(error).splitlines()[:1] or type(error).__name__)
                self._on_drop()


def owner_event(request: AdmissionRequest, decision: Decision, now: datetime) -> dict[str, Any] | None:
    """The Event on the controller of a pod that was found fault with; None where there is nothing to tell."""
    if decision.purpose is not Purpose.VALIDATE or request.dry_run or request.kind.kind != "Pod":
        return None
    findings = [one for one in decision.findings if one.action in (Action.DENY, Action.WARN)]
    owner = _controller(request)
    if owner is None or not findings:
        return None
    refused = not decision.allowed
    said = [one.text() for one in findings if not refused or one.action is Action.DENY]
    message = _cut(f"{len(said)} findings: " if len(said) > 1 else "", said)
    reason = "ModelPodRefused" if refused else "ModelPodWarning"
    key = hashlib.sha256(f"{owner.get('uid')}/{reason}/{message}".encode()).hexdigest()[:16]
    time_text = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "metadata": {"name": f"{owner['name']}.{key}", "namespace": request.namespace},
        "involvedObject": {
            "apiVersion": owner.get("apiVersion"),
            "kind": owner.get("kind"),
            "name": owner["name"],
            "namespace": request.namespace,
            "uid": owner.get("uid"),
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "source": {"component": "tidewaiter"},
        "firstTimestamp": time_text,
        "lastTimestamp": time_text,
        "count": 1,
    }


def _controller(request: AdmissionRequest) -> dict[str, Any] | None:
    metadata = (request.object or {}).get("metadata") or {}
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller") and owner.get("name"):
            found: dict[str, Any] = owner
            return found
    return None


def _cut(start: str, said: list[str]) -> str:
    text = start + " | ".join(said)
    return text if len(text) <= _MAX_MESSAGE else f"{text[: _MAX_MESSAGE - 3]}..."
