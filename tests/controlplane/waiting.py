"""Waiting for a condition, with a limit."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_INTERVAL_S = 0.05


class WaitTimeoutError(Exception):
    """A condition did not become true in time."""


def wait_until(condition: Callable[[], T | None], what: str, timeout_s: float = 30.0) -> T:
    """Poll `condition` until it returns something truthy, and return that.

    `what` completes the sentence "waited 30 s for ...". The condition is asked at
    least once. Raises WaitTimeoutError after `timeout_s` seconds; whatever the condition
    raises ends the wait at once.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(POLL_INTERVAL_S)
