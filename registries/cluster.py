"""The ``cluster`` registry: approvals from ``ModelVersion`` objects, as a watch brings them.

It holds what it was told and asks nobody: ``put`` and ``remove`` are called by the watch's
thread, ``lookup`` by reviews. Until the objects were listed once it answers ``Unavailable``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from typing import Any

from admission.approval import Answer, Approval, ApprovalQuestion, ApprovalState, NotFound, Unavailable
from registries.model_version import (
    Required,
    UnreadableObjectError,
    approval_of,
    read_model_version,
)
from registries.registry import RegistryError

_LOG = logging.getLogger("tidewaiter.registry")
_UNLISTED = (
    "the cluster's ModelVersion objects have not been listed yet; "
    "is the CustomResourceDefinition installed, and may Tidewaiter list them?"
)
_Refused = tuple[tuple[str, ApprovalState], ...]


class ClusterRegistry:
    """Approvals by object name. ``required`` says how many approvers each environment wants.

    ``unlisted`` is the sentence until it was told of all objects; ``clock`` gives seconds that
    only grow.
    """

    def __init__(
        self,
        required: Required | None = None,
        name: str = "cluster",
        *,
        unlisted: str = _UNLISTED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._heard: float | None = None
        self._name = name
        self._unlisted = unlisted
        self._required = dict(required or {})
        self._lock = threading.Lock()
        self._approvals: dict[str, Approval] = {}
        self._refused: dict[str, _Refused] = {}
        self._versions: dict[str, dict[str, str]] = {}
        self._listed = False
        self.problems: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The registry's name in the settings."""
        return self._name

    def __len__(self) -> int:
        return len(self._approvals)

    def put(self, obj: Mapping[str, Any]) -> None:
        """Take an object in. One that cannot be believed counts as absent, and ``problems`` says why."""
        name = str(obj["metadata"]["name"])
        try:
            read = read_model_version(obj)
        except UnreadableObjectError as error:
            self.remove(name)
            self.problems[name] = str(error)
            _LOG.warning("%s", error)
            return
        approval = approval_of(read, self._required, self._name)
        standings = read.standings(self._required)
        refused = tuple(
            (one.environment, one.state)
            for one in standings
            if one.state in (ApprovalState.REVOKED, ApprovalState.REJECTED)
        )
        with self._lock:
            self.problems.pop(name, None)
            self._approvals[name] = approval
            if refused:
                self._refused[name] = refused
            else:
                self._refused.pop(name, None)
            self._versions.setdefault(read.model, {})[read.version] = name

    def remove(self, name: str) -> None:
        """Forget an object."""
        with self._lock:
            self.problems.pop(name, None)
            self._refused.pop(name, None)
            approval = self._approvals.pop(name, None)
            if approval is None:
                return
            versions = self._versions[approval.model]
            del versions[approval.version]
            if not versions:
                del self._versions[approval.model]

    def keep_only(self, names: Set[str]) -> None:
        """Forget what a complete list does not have any more; from then on it answers."""
        for name in (self._approvals.keys() | self.problems.keys()) - names:
            self.remove(name)
        self.listed()

    def heard(self) -> None:
        """The API server has just said how things stand, be it that nothing changed."""
        self._heard = self._clock()

    @property
    def silence(self) -> float:
        """Seconds since it was last heard; 0 where the objects come from no watch."""
        return 0.0 if self._heard is None else self._clock() - self._heard

    def listed(self) -> None:
        """What was put is all that there is: it answers from now on."""
        self._listed = True

    def lookup(self, model: str, version: str, environment: str = "") -> Answer:
        """What the objects say of one version; with ``environment``, as seen from there.

        Without it, a version that any environment approved is approved, for that one.
        """
        if not self._listed:
            return Unavailable(self._unlisted)
        with self._lock:
            versions = self._versions.get(model, {})
            name = versions.get(version)
            if name is None:
                return NotFound(tuple(sorted(versions)))
            approval, refused = self._approvals[name], self._refused.get(name, ())
        return approval if not environment else _seen_from(approval, refused, environment)

    def answer(self, question: ApprovalQuestion) -> Answer:
        """What the objects say to a review, as seen from its environment."""
        return self.lookup(question.model, question.version, question.environment)

    async def fetch(self, model: str, version: str) -> Approval | NotFound:
        """The same without an environment; raises ``RegistryError`` until the objects were listed."""
        answer = self.lookup(model, version)
        if isinstance(answer, Unavailable):
            raise RegistryError(answer.reason, "unlisted")
        return answer

    async def close(self) -> None:
        """Nothing to let go: the connection is the watch's."""


def _seen_from(approval: Approval, refused: _Refused, environment: str) -> Approval:
    here = next((state for name, state in refused if name == environment), None)
    if here is not None:
        return replace(approval, state=here, by_environment=(), environments=(), approvers=(), expires=None)
    if approval.by_environment:
        return approval.seen_from(environment)
    # What another environment refused is not held against this one; it is still to be approved here.
    return replace(approval, state=ApprovalState.PROPOSED, approvers=())
