"""A token bucket for each caller, for a bounded number of callers."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from tidewaiter_runtime.input_validation.rules import RateRule


class RateLimit:
    """Of too many callers, those seen least recently are forgotten, and their buckets are full again."""

    def __init__(self, rule: RateRule, clock: Callable[[], float] = time.monotonic) -> None:
        self._rule = rule
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str) -> float:
        """Take one token: 0 where there was one, else the seconds until there is one again."""
        if not self._rule.per_second:
            return 0.0
        now = self._clock()
        tokens, then = self._buckets.pop(caller, (self._rule.burst, now))
        tokens = min(self._rule.burst, tokens + (now - then) * self._rule.per_second)
        allowed = tokens >= 1
        self._buckets[caller] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > self._rule.callers:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._rule.per_second

    def __len__(self) -> int:
        return len(self._buckets)
