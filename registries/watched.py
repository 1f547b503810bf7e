"""The cluster's own objects as a registry, with an eye on whether the watch still hears of them.

A watch that is cut off says nothing, as a quiet one does; but the API server sends a bookmark
about each minute. What was last heard is believed for a while, marked stale, and then no more:
nobody knows what was revoked since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from admission.approval import Approval, ApprovalQuestion, Unavailable
from registries.answered import Answered
from registries.cluster import ClusterRegistry
from registries.held import HeldRegistry
from registries.settings import ClusterSettings

_UNHEARD = "unheard"
_MINUTE, _HOUR = 60, 3600


class WatchedRegistry(HeldRegistry):
    """``versions`` is fed by a watch; ``count`` takes the registry's name and what came of a question."""

    def __init__(
        self,
        settings: ClusterSettings,
        versions: ClusterRegistry,
        count: Callable[[str, str], None] = lambda _registry, _result: None,
    ) -> None:
        super().__init__(settings.name, versions.answer)
        self._settings = settings
        self._versions = versions
        self._count = count

    async def ask(self, question: ApprovalQuestion, within: float | None = None) -> Answered:
        """What is held of one version, and since when nothing was heard."""
        answered = self._judged(await super().ask(question, within))
        self._count(self.name, "not-found" if answered.state == "not-found" else answered.freshness)
        return answered

    def _judged(self, answered: Answered) -> Answered:
        answer, silence = answered.answer, self._versions.silence
        if isinstance(answer, Unavailable):
            return answered
        if silence <= self._settings.fresh_seconds:
            return replace(answered, age=silence)
        if isinstance(answer, Approval) and silence <= self._settings.stale_seconds:
            return replace(answered, answer=replace(answer, stale=True), age=silence, cause=_UNHEARD)
        reason = (
            f"registry {self.name} has not heard from the cluster's API server for {_span(silence)}, "
            "and what was approved or revoked since is not known"
        )
        return replace(answered, answer=Unavailable(reason), age=0.0, cause=_UNHEARD)


def _span(seconds: float) -> str:
    if seconds >= _HOUR:
        return f"{int(seconds // _HOUR)} h"
    return f"{int(seconds // _MINUTE)} min" if seconds >= _MINUTE else f"{int(seconds)} s"
