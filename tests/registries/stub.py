"""A registry whose answers a test gives by hand, and a clock that a test moves."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from admission.approval import Approval, ApprovalQuestion, ApprovalState, EnvironmentApproval, NotFound
from registries.breaker import CircuitBreaker
from registries.cache import CachedRegistry
from registries.registry import RegistryError
from registries.settings import CacheSettings
from registries.snapshot import Snapshot

DOWN = RegistryError("registry models cannot be reached", "refused")
GARBAGE = RegistryError("registry models answers with what is not JSON", "garbage")


@dataclass
class Clock:
    """Seconds that pass only when a test says so."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def approval(version: str = "1", state: ApprovalState = ApprovalState.APPROVED, model: str = "bert") -> Approval:
    return Approval(model, version, state, by_environment=(EnvironmentApproval("production", ("ann",)),))


def question(version: str = "1", environment: str = "production", model: str = "bert") -> ApprovalQuestion:
    return ApprovalQuestion(environment, model, version)


@dataclass
class Stub:
    """Answers what stands in ``answers``, after ``gate`` opens; counts what was asked."""

    name: str = "models"
    answers: dict[tuple[str, str], Approval | NotFound | Exception] = field(default_factory=dict)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    under_way: Counter[tuple[str, str]] = field(default_factory=Counter)
    most_at_once: int = 0
    gate: asyncio.Event | None = None
    closed: bool = False

    def say(self, answer: Approval | NotFound | Exception, version: str = "1", model: str = "bert") -> None:
        self.answers[model, version] = answer

    async def fetch(self, model: str, version: str) -> Approval | NotFound:
        key = (model, version)
        self.asked[key] += 1
        self.under_way[key] += 1
        self.most_at_once = max(self.most_at_once, self.under_way[key])
        try:
            answer = self.answers.get(key, NotFound())  # what was true when it was asked
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.under_way[key] -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


def cached(
    stub: Any,
    clock: Callable[[], float],
    *,
    snapshot: Path | None = None,
    identity: str = "one",
    failures: int = 5,
    count: Callable[[str, str], None] = lambda _registry, _result: None,
    **settings: Any,
) -> CachedRegistry:
    chance = random.Random(1).random  # noqa: S311  # jitter
    return CachedRegistry(
        stub,
        CacheSettings(**settings),
        CircuitBreaker(clock, chance, failures=failures, wait=1, longest_wait=60),
        clock=clock,
        random=chance,
        snapshot=Snapshot(snapshot, identity) if snapshot is not None else None,
        count=count,
    )


async def settled(condition: Callable[[], bool]) -> None:
    """Let the loop run until a condition holds; for at most two seconds."""
    async with asyncio.timeout(2):
        while not condition():  # noqa: ASYNC110  # tests of the cache have no event to wait for
            await asyncio.sleep(0)
