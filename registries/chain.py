"""Several registries in one order: the first that covers a question and knows the version answers.

One that covers a question and does not answer ends the asking: a later one may call approved
what the first has revoked. One that does not cover it is never asked, and troubles nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from admission.approval import Answer, Approval, ApprovalQuestion, NotFound, Unavailable
from registries.answered import Answered, Answering

_KNOWN_AT_MOST = 32


@dataclass(frozen=True, slots=True)
class Member:
    """One registry, and what it is asked about; empty means everything."""

    registry: Answering
    environments: frozenset[str] = frozenset()
    models: tuple[str, ...] = ()

    def covers(self, question: ApprovalQuestion) -> bool:
        """Whether it is asked this question."""
        return (not self.environments or question.environment in self.environments) and (
            not self.models or any(fnmatchcase(question.model, pattern) for pattern in self.models)
        )


class RegistryChain:
    """All registries, in the order of the settings; ``deadline`` is for one question to all of them."""

    def __init__(self, members: Sequence[Member], deadline: float = 2.0) -> None:
        self._members = tuple(members)
        self._deadline = deadline
        self._by_name = {one.registry.name: one.registry for one in members}

    @property
    def by_name(self) -> Mapping[str, Answering]:
        """The registries by their names, for whoever pushes answers into a cache."""
        return self._by_name

    async def lookup(self, question: ApprovalQuestion) -> Answer:
        """The registries' answer as seen from the question's environment; never raises."""
        return (await self.ask(question)).answer

    async def ask(self, question: ApprovalQuestion) -> Answered:
        """The same with who answered, and how old the answer is."""
        if not self._members:
            return Answered(Unavailable("no registry is configured (settings: registries)"))
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._deadline
        known: dict[str, None] = {}
        last = Answered(NotFound())
        for member in self._members:
            if not member.covers(question):
                continue
            last = await member.registry.ask(question, max(0.0, ends - loop.time()))
            if isinstance(last.answer, Approval):
                seen = last.answer.seen_from(question.environment)
                named = seen if seen.registry == last.registry else replace(seen, registry=last.registry)
                return replace(last, answer=named)
            if isinstance(last.answer, Unavailable):
                return last
            known.update(dict.fromkeys(last.answer.known))
        return replace(last, answer=NotFound(tuple(known)[:_KNOWN_AT_MOST]))

    async def run(self) -> None:
        """Keep what is in use fresh, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for member in self._members:
                group.create_task(member.registry.run())

    async def close(self) -> None:
        """Let connections go, and keep what is to be kept."""
        for member in self._members:
            await member.registry.close()
