"""What holds of the cache whatever is asked, said, pushed, lost and waited for, in whatever order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from admission.approval import Approval, ApprovalState, NotFound, Unavailable
from registries.cache import CachedRegistry
from tests.registries.stub import DOWN, Clock, Stub, approval, cached, question

VERSIONS = ("1", "2", "3", "4")
ENTRIES, FRESH, REVALIDATE, STALE = 3, 20.0, 10.0, 100.0
Step = tuple[str, str, float]
_VERSION = st.sampled_from(VERSIONS)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ask", "ask", "ask", "revoke", "approve", "remove", "push", "invalidate"]), _VERSION, st.just(0.0)),
        st.tuples(st.sampled_from(["down", "up", "hold", "release", "background"]), st.just(""), st.just(0.0)),
        st.tuples(st.just("wait"), st.just(""), st.sampled_from([0.5, 5.0, FRESH, FRESH + REVALIDATE, STALE + 1])),
    ),
    max_size=60,
)  # fmt: skip


@dataclass
class World:
    """The truth behind the registry, and what of it the cache has seen."""

    clock: Clock = field(default_factory=Clock)
    stub: Stub = field(default_factory=Stub)
    truth: dict[str, ApprovalState | None] = field(default_factory=dict)
    changed: dict[str, float] = field(default_factory=dict)
    down: bool = False
    revision: int = 0
    revisions: dict[str, int] = field(default_factory=dict)
    """Which revision of the truth each version has; it stands in the approval's source."""
    told: dict[str, int] = field(default_factory=dict)
    """The newest revision that the cache was told or gave."""
    pushes: int = 0

    def set(self, version: str, state: ApprovalState | None) -> None:
        self.revision += 1
        self.truth[version] = state
        self.revisions[version] = self.revision
        self.changed[version] = self.clock.now
        self.speak()

    def said(self, version: str) -> Approval | NotFound:
        state = self.truth.get(version)
        if state is None:
            return NotFound()
        one = approval(version, state)
        return Approval(
            one.model, one.version, one.state, source=str(self.revisions[version]), by_environment=one.by_environment
        )

    def speak(self) -> None:
        for version in VERSIONS:
            self.stub.say(DOWN if self.down else self.said(version), version)


class Watching:
    """The stub, noting what the cache learns when an answer arrives."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.name = "models"

    async def fetch(self, model: str, version: str) -> Approval | NotFound:
        return await self._world.stub.fetch(model, version)

    async def close(self) -> None:
        return


async def play(steps: list[Step]) -> None:
    world = World()
    world.speak()
    registry = cached(
        Watching(world),
        world.clock,
        entries=ENTRIES,
        fresh_seconds=FRESH,
        revalidate_seconds=REVALIDATE,
        stale_seconds=STALE,
        negative_seconds=3,
        deadline_seconds=5,
    )
    asking: list[asyncio.Task[None]] = []
    for step in steps:
        await take(step, world, registry, asking)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(registry) <= ENTRIES
        assert world.stub.most_at_once <= 1 + world.pushes  # one, and those that a push has made old
    if world.stub.gate is not None:
        world.stub.gate.set()
    await asyncio.gather(*asking)
    await registry.close()


async def take(step: Step, world: World, registry: CachedRegistry, asking: list[asyncio.Task[None]]) -> None:
    what, version, seconds = step
    states = {"revoke": ApprovalState.REVOKED, "approve": ApprovalState.APPROVED, "remove": None}
    if what == "ask":
        asking.append(asyncio.create_task(judged(version, world, registry)))
    elif what in states:
        world.set(version, states[what])
    elif what == "push":
        world.told[version] = world.revisions.get(version, 0)
        world.pushes += 1
        registry.put("bert", version, world.said(version))
    elif what == "invalidate":
        world.told[version] = world.revisions.get(version, 0)
        world.pushes += 1
        registry.invalidate("bert", version)
    elif what in ("down", "up"):
        world.down = what == "down"
        world.speak()
    elif what == "hold" and world.stub.gate is None:
        world.stub.gate = asyncio.Event()
    elif what == "release" and world.stub.gate is not None:
        world.stub.gate.set()
        world.stub.gate = None
    elif what == "background" and world.stub.gate is None:
        await registry.refresh_due()
    elif what == "wait":
        world.clock.now += seconds


async def judged(version: str, world: World, registry: CachedRegistry) -> None:
    """Ask, and hold the answer against what was true and what had been told when it was asked."""
    told, asked_at = world.told.get(version, 0), world.clock.now
    changed = world.changed.get(version, float("-inf"))
    revision = world.revisions.get(version, 0)
    found = await registry.ask(question(version))
    if isinstance(found.answer, NotFound | Unavailable):
        return
    given = int(found.answer.source)
    # Nothing older than what the cache was told, or gave before, ever comes back.
    assert given >= told, (version, given, told)
    world.told[version] = max(world.told.get(version, 0), given)
    # Nothing is given as fresh that was wrong for longer than is stated.
    if not found.answer.stale and asked_at - changed >= FRESH + REVALIDATE:
        assert given >= revision
    # Time that passes while somebody waits is no longer than the deadline, but for a clock that jumps.
    assert found.age - (world.clock.now - asked_at) <= STALE


@settings(max_examples=400, deadline=None)
@given(_STEPS)
def test_no_order_of_events_brings_back_what_was_revoked_or_asks_twice_or_keeps_too_much(steps: list[Step]) -> None:
    asyncio.run(play(steps))
