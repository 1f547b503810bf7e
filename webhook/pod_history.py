"""Which templates had pods: evidence that making one again is no deployment.

Only what the API server stored counts: a pod that exists was admitted. It is remembered for
a day after the last pod of its template went, since a drained node's pod may be gone before
its controller makes the next.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from admission.template_history import owner_and_template

_Key = tuple[str, str]
_Made = tuple[str, str, str]
"""Namespace, UID of the owner, what tells its templates apart: a UID is no secret, so a pod of
another namespace is no evidence here."""
_REMEMBERED_SECONDS = 24 * 3600.0
_MAX_GONE = 20_000


class PodHistory:
    """Pods of controllers by owner and template. Feeding happens on other threads than asking."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pods: dict[_Key, _Made] = {}
        self._alive: dict[_Made, int] = {}
        self._gone: OrderedDict[_Made, float] = OrderedDict()

    def had(self, namespace: str, uid: str, template_hash: str) -> bool:
        """Whether there is or was, within a day, a pod of this owner from this template."""
        made = namespace, uid, template_hash
        if made in self._alive:
            return True
        gone = self._gone.get(made)
        return gone is not None and self._clock() - gone < _REMEMBERED_SECONDS

    def put(self, pod: Mapping[str, Any]) -> None:
        """Take in a pod, or its metadata."""
        from_template = owner_and_template(pod)
        if from_template is None:
            return
        metadata = pod["metadata"]
        namespace = sys.intern(str(metadata.get("namespace") or ""))
        key = namespace, str(metadata["name"])
        # Thousands of pods share a few owners: one string each.
        made = namespace, sys.intern(from_template[0]), sys.intern(from_template[1])
        with self._lock:
            before = self._pods.get(key)
            if before == made:
                return
            if before is not None:
                self._leave(before)
            self._pods[key] = made
            self._alive[made] = self._alive.get(made, 0) + 1

    def remove(self, namespace: str, name: str) -> None:
        """A pod is gone."""
        with self._lock:
            made = self._pods.pop((namespace, name), None)
            if made is not None:
                self._leave(made)

    def keep_only(self, keys: set[_Key]) -> None:
        """Every pod that a complete list does not have is gone."""
        with self._lock:
            gone = self._pods.keys() - keys
        for namespace, name in gone:
            self.remove(namespace, name)

    def _leave(self, made: _Made) -> None:
        left = self._alive[made] - 1
        if left:
            self._alive[made] = left
            return
        del self._alive[made]
        self._gone[made] = self._clock()
        self._gone.move_to_end(made)
        while len(self._gone) > _MAX_GONE:
            self._gone.popitem(last=False)
