"""A bounded sample of what came by in a window of time."""

from __future__ import annotations

import random
from collections.abc import Sequence


class Window:
    """At most ``size`` values of the current window, each as likely as any other (Vitter's algorithm R).

    Values are those of the window that ended last, as long as the current one has fewer than it.
    """

    def __init__(self, size: int, seconds: float, source: random.Random) -> None:
        self._size = size
        self._seconds = seconds
        self._random = source
        self._begin = -1.0
        self._values: list[float] = []
        self._seen = 0
        self._last: list[float] = []

    def add(self, value: float, now: float) -> None:
        """Take one value into account; ``now`` in seconds of any clock that does not go back."""
        self._turn(now)
        self._seen += 1
        if len(self._values) < self._size:
            self._values.append(value)
            return
        place = self._random.randrange(self._seen)
        if place < self._size:
            self._values[place] = value

    def values(self, now: float) -> Sequence[float]:
        """The sample that says most about now; nothing where nothing came by in the last two windows."""
        self._turn(now)
        return self._values if len(self._values) >= len(self._last) else self._last

    def _turn(self, now: float) -> None:
        if self._begin < 0:
            self._begin = now
        passed = int((now - self._begin) / self._seconds)
        if passed > 0:
            self._last = self._values if passed == 1 else []
            self._values, self._seen = [], 0
            self._begin += passed * self._seconds
