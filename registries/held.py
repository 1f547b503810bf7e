"""Registries that are in memory already, a file's or a watch's: no cache stands before them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from admission.approval import Answer, ApprovalQuestion, Unavailable
from registries.answered import Answered

_LOOK_SECONDS = 1.0


class HeldRegistry:
    """Answers at once by ``lookup``, which never raises. ``refresh`` is called about each second, in a thread."""

    def __init__(
        self, name: str, lookup: Callable[[ApprovalQuestion], Answer], refresh: Callable[[], object] | None = None
    ) -> None:
        self._name = name
        self._lookup = lookup
        self._refresh = refresh

    @property
    def name(self) -> str:
        """The registry's name in the settings."""
        return self._name

    async def ask(self, question: ApprovalQuestion, within: float | None = None) -> Answered:  # noqa: ARG002  # at once
        """What is held of one version."""
        answer = self._lookup(question)
        return Answered(answer, self.name, cause="unread" if isinstance(answer, Unavailable) else "")

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while self._refresh is not None:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.to_thread(self._refresh)

    async def close(self) -> None:
        """Nothing is held open."""
