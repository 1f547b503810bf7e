"""Asks the cluster's RBAC what a user may do, by SubjectAccessReview, and remembers it for a moment."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

_LOG = logging.getLogger("tidewaiter.access")
_TIMEOUT_SECONDS = 2.0
_FRESH_SECONDS = 10.0
_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class AccessQuestion:
    """Whether a user may do ``verb`` on ``resource`` of ``group`` in a namespace; a verb may be virtual."""

    username: str
    groups: tuple[str, ...]
    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


AskCluster = Callable[[AccessQuestion], bool]
"""Asks the API server; blocks, and raises whatever went wrong."""


class AccessReviews:
    """Answers of the cluster, each remembered for ten seconds. Errors are not remembered."""

    def __init__(self, ask: AskCluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._answers: dict[AccessQuestion, tuple[float, bool]] = {}
        self._flights: dict[AccessQuestion, asyncio.Task[bool | None]] = {}

    async def allowed(self, question: AccessQuestion) -> bool | None:
        """The cluster's answer; None where it gave none in time."""
        known = self._answers.get(question)
        now = self._clock()
        if known is not None and now - known[0] < _FRESH_SECONDS:
            return known[1]
        flight = self._flights.get(question)
        if flight is None:
            flight = self._flights[question] = asyncio.create_task(self._asked(question))
            flight.add_done_callback(lambda _done: self._flights.pop(question, None))
        return await asyncio.shield(flight)

    async def _asked(self, question: AccessQuestion) -> bool | None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                answer = await asyncio.to_thread(self._ask, question)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody gave leave
            _LOG.warning("access review of %s failed: %s", question.username, str(error) or type(error).__name__)
            return None
        if len(self._answers) >= _MAX_REMEMBERED:
            self._answers.clear()
        self._answers[question] = self._clock(), answer
        return answer
