"""Policies that are read again when they change; broken ones leave the last good ones in force."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping

from admission.validator import PolicyAnswers, PolicyError, PolicyInput, PolicyRule
from webhook.rego.combined_engine import Engine
from webhook.rego.policy_set import PolicySet
from webhook.rego.sources import PolicySource

_LOG = logging.getLogger("tidewaiter.policies")

MakeEngine = Callable[[PolicySet], Awaitable[Engine]]
"""Makes a started engine of a set; raises ``PolicyError`` where it does not work."""


def _say_nothing(_store: PolicyStore) -> None:
    """Told of each change of revision or problem."""


class PolicyStore:
    """An engine over a source. ``start``, then ``follow`` in a task of its own.

    ``problem`` is a sentence while the source holds something that is not in force, "" else.
    """

    def __init__(
        self,
        source: PolicySource,
        make: MakeEngine,
        poll_seconds: float = 0.5,
        on_change: Callable[[PolicyStore], None] = _say_nothing,
    ) -> None:
        self._source = source
        self._make = make
        self._poll_seconds = poll_seconds
        self._on_change = on_change
        self._stamp: Hashable = None
        self._lease: _Lease | None = None
        self._policies: PolicySet | None = None
        self.problem = ""

    @property
    def source(self) -> str:
        """Where the policies come from."""
        return self._source.name

    @property
    def policies(self) -> PolicySet:
        """The set in force."""
        if self._policies is None:
            raise PolicyError(f"policies of {self.source} are not loaded yet")
        return self._policies

    @property
    def rules(self) -> Mapping[str, PolicyRule]:
        """The rules in force by id."""
        return self._in_force().engine.rules

    @property
    def revision(self) -> str:
        """The revision in force."""
        return self._in_force().engine.revision

    async def start(self) -> None:
        """Load for the first time; raises ``PolicyError``, since there is nothing to fall back on."""
        await self._load()

    async def follow(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            await self.refresh()

    async def refresh(self) -> bool:
        """Read again if something changed; whether it did."""
        stamp = await asyncio.to_thread(self._source.stamp)
        if stamp == self._stamp:
            return False
        before = (self.problem, self._policies)
        try:
            await self._load()
        except PolicyError as error:
            self.problem = f"{self.source} is not in force: {error}"
        except Exception as error:  # noqa: BLE001  # whoever follows must not end; it is said, and tried again
            self.problem = f"{self.source} is not in force: {type(error).__name__}: {error}"
            self._stamp = object()
        if (self.problem, self._policies) != before:
            log = _LOG.error if self.problem else _LOG.warning
            log("%s", self.problem or f"policies of {self.source} are in force, revision {self.revision}")
            self._on_change(self)
        return True

    async def _load(self) -> None:
        # Before reading: a change in between is found by the next look.
        self._stamp = await asyncio.to_thread(self._source.stamp)
        policies = await asyncio.to_thread(self._source.read)
        if self._policies is not None and policies.revision == self._policies.revision:
            self.problem = ""
            return
        engine = await self._make(policies)
        old, self._lease, self._policies, self.problem = self._lease, _Lease(engine), policies, ""
        if old is not None:
            await old.retire()

    def _in_force(self) -> _Lease:
        if self._lease is None:
            raise PolicyError(f"policies of {self.source} are not loaded yet")
        return self._lease

    async def evaluate(self, policy_input: PolicyInput) -> PolicyAnswers:
        """Answers of the engine in force; a reload in the middle changes nothing about them."""
        async with self._in_force() as engine:
            return await engine.evaluate(policy_input)

    async def close(self) -> None:
        """Close the engine in force."""
        if self._lease is not None:
            with contextlib.suppress(ProcessLookupError):
                await self._lease.retire()


class _Lease:
    """An engine and who is using it: it is closed once nobody does."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> Engine:
        self._users += 1
        self._idle.clear()
        return self.engine

    async def __aexit__(self, *_about: object) -> None:
        self._users -= 1
        if not self._users:
            self._idle.set()

    async def retire(self) -> None:
        await self._idle.wait()
        await self.engine.close()
