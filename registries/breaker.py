"""A circuit breaker: a registry that fails is left alone for a while, then tried once."""

from __future__ import annotations

from collections.abc import Callable


class CircuitBreaker:
    """Counts failures in a row. ``clock`` gives seconds and ``random`` a number from 0 to 1.

    After ``failures`` of them nothing is asked for ``wait`` seconds; then one question may go
    through, and if it fails the wait doubles, up to ``longest_wait``. Waits are shortened by
    up to a quarter, by chance, so that replicas do not come back all at once.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        random: Callable[[], float],
        *,
        failures: int = 5,
        wait: float = 1.0,
        longest_wait: float = 60.0,
    ) -> None:
        self._clock = clock
        self._random = random
        self._limit = failures
        self._first_wait = wait
        self._longest_wait = longest_wait
        self._failed = 0
        self._wait = wait
        self._closed_from = float("-inf")
        self._trying = False

    @property
    def state(self) -> str:
        """``closed`` (asked as usual), ``open`` (left alone) or ``half-open`` (one question goes through)."""
        if self._closed_from == float("-inf"):
            return "closed"
        return "open" if self._clock() < self._closed_from else "half-open"

    def allows(self) -> bool:
        """Whether a question may go through now; one that does must end in ``succeeded`` or ``failed``."""
        state = self.state
        if state == "closed":
            return True
        if state == "open" or self._trying:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """The registry answered."""
        self._failed, self._wait, self._trying = 0, self._first_wait, False
        self._closed_from = float("-inf")

    def failed(self, retry_after: float | None = None) -> None:
        """The registry did not answer; ``retry_after`` are seconds that it asked for."""
        self._failed += 1
        tried, self._trying = self._trying, False
        if retry_after is not None:
            self._open(min(retry_after, self._longest_wait))
        elif tried or self._failed == self._limit:
            self._open(self._wait * (1 - self._random() / 4))
            self._wait = min(self._wait * 2, self._longest_wait)

    def _open(self, seconds: float) -> None:
        self._closed_from = max(self._closed_from, self._clock() + seconds)
