"""Several engines as one: the policies that come with Tidewaiter, and a team's own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from admission.validator import PolicyAnswers, PolicyError, PolicyInput, PolicyRule


class Engine(Protocol):
    """What every engine here does; ``evaluate`` never raises for a rule."""

    @property
    def rules(self) -> Mapping[str, PolicyRule]:
        """The rules in force by id."""

    @property
    def revision(self) -> str:
        """Names the content in force."""

    async def evaluate(self, policy_input: PolicyInput) -> PolicyAnswers:
        """Findings or a failure by rule id."""

    async def close(self) -> None:
        """Let go of processes and connections."""


class CombinedEngine:
    """All rules of ``engines``; raises ``PolicyError`` where two have a rule of one id."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = tuple(engines)
        seen: set[str] = set()
        for engine in self._engines:
            if twice := sorted(seen & set(engine.rules)):
                raise PolicyError(f"rule id {twice[0]} stands in two sources of policies; rename one")
            seen |= set(engine.rules)

    @property
    def rules(self) -> Mapping[str, PolicyRule]:
        """The rules in force by id; of two with one id, the first engine's."""
        return {name: rule for engine in reversed(self._engines) for name, rule in engine.rules.items()}

    @property
    def revision(self) -> str:
        """The revisions in order."""
        return "+".join(engine.revision for engine in self._engines)

    async def evaluate(self, policy_input: PolicyInput) -> PolicyAnswers:
        """The answers of all engines, asked at once."""
        if len(self._engines) == 1:
            return await self._engines[0].evaluate(policy_input)  # gathering one costs 25 us
        given = await asyncio.gather(*(engine.evaluate(policy_input) for engine in self._engines))
        return {rule: answer for answers in reversed(given) for rule, answer in answers.items()}

    async def close(self) -> None:
        """Close every engine."""
        for engine in self._engines:
            await engine.close()
