"""A circuit breaker: after several failures in a row, nobody is asked for a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Opens after ``failures`` in a row; after ``pause_seconds`` one request at a time tries again."""

    def __init__(self, failures: int, pause_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._pause = pause_seconds
        self._clock = clock
        self._failed = 0
        self._opened_at: float | None = None
        self._trying = False

    @property
    def open(self) -> bool:
        """Whether requests are turned away, but for the one that tries."""
        return self._opened_at is not None

    def enter(self) -> bool:
        """Whether this request may go; one that may must be ended by ``succeed``, ``fail`` or ``leave``."""
        if self._opened_at is None:
            return True
        if self._trying or self._clock() - self._opened_at < self._pause:
            return False
        self._trying = True
        return True

    def succeed(self) -> None:
        """The request was answered: close."""
        self._failed, self._opened_at, self._trying = 0, None, False

    def fail(self) -> None:
        """The request was not answered."""
        self._failed += 1
        self._trying = False
        if self._failed >= self._limit:
            self._opened_at = self._clock()

    def leave(self) -> None:
        """The request was given up by whoever made it: that says nothing of the other side."""
        self._trying = False
