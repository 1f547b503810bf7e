"""The cache in front of a registry: fresh, stale-while-revalidate, negative, with one question per key.

What it promises:

- While the registry answers, a change there is seen within ``fresh`` + ``revalidate`` seconds
  and the time of one question. Nothing older is given but as stale.
- While it does not answer, the last approval is given, marked stale, for ``stale`` seconds
  since the registry last gave it; after that, and for what was never asked, ``Unavailable``.
- Once a version was seen revoked, changed or gone, no older answer comes back: not from a
  question that was under way, and not from disk.
- One key is asked about once at a time, whoever waits; no waiter waits longer than its own
  deadline, and none takes the question from the others by leaving.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from admission.approval import Approval, ApprovalQuestion, NotFound, Unavailable
from registries.answered import Answered
from registries.breaker import CircuitBreaker
from registries.registry import Registry, RegistryError, Revisioned
from registries.settings import CacheSettings
from registries.snapshot import Kept, Snapshot

_log = logging.getLogger(__name__)
_LONGEST_KEY = 2048
_REFRESHED_AT_ONCE = 4
_TICK = 1.0
_TIMES_SAVED_EVERY = 30.0
UNREACHED = frozenset({"deadline", "refused", "tls", "failing", "throttled", "internal"})
"""Causes that say something about the registry as a whole. One broken manifest is not one of them:
else whoever can write a manifest could have everybody's registry left alone."""

Key = tuple[str, str]


@dataclass(slots=True)
class _Entry:
    approval: Approval
    fetched: float
    due: float
    used: float
    revision: str
    failure: RegistryError | None = None
    """Why it could not be had anew when that was last tried."""
    superseded: bool = False

    def kept(self) -> Kept:
        return Kept(self.approval, self.fetched, self.revision)


@dataclass(frozen=True, slots=True)
class _Brief:
    """What is remembered for a moment only, so that nobody hammers a registry with it."""

    answer: NotFound | RegistryError
    until: float


_Result = _Entry | NotFound | RegistryError | None
"""None: something newer came while the question was under way."""


class CachedRegistry:
    """A registry with a memory. ``clock`` gives wall-clock seconds; ``random`` a number from 0 to 1."""

    def __init__(
        self,
        registry: Registry,
        settings: CacheSettings,
        breaker: CircuitBreaker,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        snapshot: Snapshot | None = None,
        count: Callable[[str, str], None] = lambda _registry, _result: None,
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._breaker = breaker
        self._clock = clock
        self._random = random
        self._snapshot = snapshot
        self._count = count
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._briefs: OrderedDict[Key, _Brief] = OrderedDict()
        self._flights: dict[Key, asyncio.Task[_Result]] = {}
        self._orphans: set[asyncio.Task[_Result]] = set()
        self._changed = asyncio.Event()
        self._saved = float("-inf")
        self._saving = asyncio.Lock()
        self._touched = False
        self.problem = self._warm()

    @property
    def name(self) -> str:
        """The registry's name in the settings."""
        return self._registry.name

    @property
    def breaker_state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        return self._breaker.state

    def __len__(self) -> int:
        return len(self._entries) + len(self._briefs)

    async def ask(self, question: ApprovalQuestion, within: float | None = None) -> Answered:
        """What is known of one version, after ``within`` seconds or the settings' deadline at most."""
        key = (question.model, question.version)
        if len(question.model) + len(question.version) > _LONGEST_KEY:
            return Answered(NotFound(), self.name)
        now = self._clock()
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            entry.used = now
            age = now - entry.fetched
            if 0 <= age < self._settings.fresh_seconds:
                self._count(self.name, "fresh")
                return Answered(entry.approval, self.name, age, entry.revision)
            if 0 <= age < self._settings.fresh_seconds + self._settings.revalidate_seconds:
                self._revalidate(key, now)
                self._count(self.name, "revalidated")
                return Answered(entry.approval, self.name, age, entry.revision)
            failure = entry.failure or (self._left_alone() if self._breaker.state != "closed" else None)
            if failure is not None and self._may_stand_in(entry, now):
                # Nobody waits for a registry that did not answer the last time: it is asked behind.
                self._revalidate(key, now)
                return self._answered(key, failure)
        limit = self._settings.deadline_seconds
        result = await self._result(key, limit if within is None else min(within, limit))
        return self._answered(key, result)

    def put(self, model: str, version: str, answer: Approval | NotFound, revision: str = "") -> None:
        """Take in what a registry says by itself; it is newer than any question under way."""
        key = (model, version)
        self._supersede(key)
        self._take(key, answer, revision)

    def invalidate(self, model: str, version: str) -> None:
        """Forget a version, so that the next question goes to the registry."""
        key = (model, version)
        self._supersede(key)
        self._briefs.pop(key, None)
        if self._entries.pop(key, None) is not None:
            self._changed.set()

    async def refresh_due(self) -> None:
        """Ask again for what was used lately and will soon be too old."""
        now = self._clock()
        warm = now - self._settings.keep_warm_seconds
        due = [key for key, one in self._entries.items() if one.due <= now and one.used >= warm]
        for start in range(0, len(due), _REFRESHED_AT_ONCE):
            if self._breaker.state == "open":
                return
            flights = [self._started(key) for key in due[start : start + _REFRESHED_AT_ONCE]]
            if under_way := [one for one in flights if one is not None]:
                await asyncio.wait(under_way)

    async def run(self) -> None:
        """Refresh in the background, and keep the snapshot up to date, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_TICK * (0.5 + self._random() / 2)):
                    await self._changed.wait()
            except TimeoutError:
                await self.refresh_due()
            await self.save()

    async def save(self, *, at_once: bool = False) -> None:
        """Write the snapshot where an answer has changed, or its age alone some time ago."""
        now = self._clock()
        old = self._touched and abs(now - self._saved) >= _TIMES_SAVED_EVERY
        wanted = self._changed.is_set() or old or (at_once and self._touched)
        self._changed.clear()
        if self._snapshot is None or not wanted:
            return
        async with self._saving:
            self._touched = False
            kept = [one.kept() for one in self._entries.values()]
            self.problem = await asyncio.to_thread(self._snapshot.write, kept)
            self._saved = now
            if self.problem:
                _log.warning("%s", self.problem)
                self._touched = True

    async def close(self) -> None:
        """End what is under way, write the snapshot, and let connections go."""
        under_way = [*self._flights.values(), *self._orphans]
        for flight in under_way:
            flight.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self.save(at_once=True)
        await self._registry.close()

    # Asking

    async def _result(self, key: Key, within: float) -> _Result:
        """The registry's answer or why there is none, after ``within`` seconds at most."""
        brief = self._briefs.get(key)
        if brief is not None and self._clock() < brief.until:
            return brief.answer
        ends = asyncio.get_running_loop().time() + within
        while (left := ends - asyncio.get_running_loop().time()) > 0:
            flight = self._started(key)
            if flight is None:
                return RegistryError(f"registry {self.name} is asked too many questions at once", "busy")
            await asyncio.wait({flight}, timeout=left)
            if not flight.done():
                break
            if flight.cancelled():
                return RegistryError(f"registry {self.name} is being closed", "internal")
            result = flight.result()
            if isinstance(result, _Entry) and result.superseded:
                result = None  # between the answer and now
            result = result if result is not None else self._newer(key)
            if result is not None:
                return result
        return self._late()

    def _left_alone(self) -> RegistryError:
        return RegistryError(f"registry {self.name} has failed and is left alone for a while", "open")

    def _late(self) -> RegistryError:
        return RegistryError(f"registry {self.name} did not answer in time", "deadline")

    def _newer(self, key: Key) -> _Entry | NotFound | RegistryError | None:
        """What came while the question was under way."""
        entry = self._entries.get(key)
        if entry is not None:
            return entry
        brief = self._briefs.get(key)
        return brief.answer if brief is not None else None

    def _revalidate(self, key: Key, now: float) -> None:
        brief = self._briefs.get(key)
        if brief is None or now >= brief.until:
            self._started(key)

    def _started(self, key: Key) -> asyncio.Task[_Result] | None:
        """The question about a key that is under way, or a new one; None where too many are."""
        flight = self._flights.get(key)
        if flight is None and len(self._flights) + len(self._orphans) < self._settings.questions:
            flight = self._flights[key] = asyncio.create_task(self._fetched(key))
            flight.add_done_callback(lambda done: self._landed(key, done))
        return flight

    def _landed(self, key: Key, flight: asyncio.Task[_Result]) -> None:
        self._orphans.discard(flight)
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _fetched(self, key: Key) -> _Result:
        if not self._breaker.allows():
            return self._left_alone()
        answer: Approval | NotFound | RegistryError | None = None
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                answer = self._checked(key, await self._registry.fetch(*key))
        except TimeoutError:
            answer = self._late()
        except RegistryError as error:
            answer = error
        except Exception:  # noqa: BLE001  # a fault of ours must not look like an approval, nor end the process
            _log.exception("registry %s cannot be asked", self.name)
            answer = RegistryError(f"registry {self.name} cannot be asked: something is wrong inside", "internal")
        finally:
            self._judge(answer)
        if self._flights.get(key) is not asyncio.current_task():
            return None
        revision = self._registry.revision(*key) if isinstance(self._registry, Revisioned) else ""
        return self._take(key, answer, revision)

    def _checked(self, key: Key, answer: Approval | NotFound) -> Approval | NotFound:
        if isinstance(answer, Approval) and (answer.model, answer.version) != key:
            raise RegistryError(f"registry {self.name} answers for another model or version", "garbage")
        return answer

    def _judge(self, answer: Approval | NotFound | RegistryError | None) -> None:
        """Tell the breaker; None is a question that was cancelled."""
        cause = answer.cause if isinstance(answer, RegistryError) else ""
        self._count(self.name, cause or "asked")
        if answer is None or cause in UNREACHED:
            self._breaker.failed(answer.retry_after if isinstance(answer, RegistryError) else None)
        else:
            self._breaker.succeeded()

    # Keeping

    def _supersede(self, key: Key) -> None:
        flight = self._flights.pop(key, None)
        if flight is not None:
            self._orphans.add(flight)
        if key in self._entries:
            self._entries[key].superseded = True

    def _take(
        self, key: Key, answer: Approval | NotFound | RegistryError, revision: str
    ) -> _Entry | NotFound | RegistryError:
        now = self._clock()
        if isinstance(answer, Approval):
            return self._keep(key, replace(answer, registry=self.name, stale=False), revision, now)
        if isinstance(answer, RegistryError):
            if key in self._entries:
                self._entries[key].failure = answer
        elif self._entries.pop(key, None) is not None:
            self._changed.set()
        if self._settings.negative_seconds > 0:
            self._briefs[key] = _Brief(answer, now + self._settings.negative_seconds)
            self._briefs.move_to_end(key)
            self._bound()
        return answer

    def _keep(self, key: Key, approval: Approval, revision: str, now: float) -> _Entry:
        old = self._entries.get(key)
        entry = _Entry(
            approval,
            fetched=now,
            due=now + self._settings.fresh_seconds * (0.6 + 0.3 * self._random()),
            used=old.used if old is not None else now,
            revision=revision,
        )
        self._briefs.pop(key, None)
        self._entries[key] = entry
        self._touched = True
        if old is None or old.approval != approval:
            self._changed.set()
        self._bound()
        return entry

    def _bound(self) -> None:
        """What is remembered briefly goes first: questions about what is not there push out no approval."""
        while len(self) > self._settings.entries:
            (self._briefs or self._entries).popitem(last=False)

    def _answered(self, key: Key, result: _Result) -> Answered:
        if isinstance(result, NotFound):
            self._count(self.name, "not-found")
            return Answered(result, self.name)
        now = self._clock()
        if isinstance(result, _Entry):
            return Answered(result.approval, self.name, max(0.0, now - result.fetched), result.revision)
        error = result if result is not None else self._late()
        entry = self._entries.get(key)
        if entry is not None and self._may_stand_in(entry, now):
            self._count(self.name, "stale")
            stale = replace(entry.approval, stale=True)
            return Answered(stale, self.name, max(0.0, now - entry.fetched), entry.revision, error.cause)
        self._count(self.name, "unavailable")
        old = f", and what it last said is older than {_hours(self._settings.stale_seconds)}" if entry else ""
        return Answered(Unavailable(f"{error}{old}"), self.name, cause=error.cause)

    def _may_stand_in(self, entry: _Entry, now: float) -> bool:
        """Whether an old answer may be given for a registry that does not answer."""
        # A clock that was set back makes an age unknown, not young.
        return abs(now - entry.fetched) <= self._settings.stale_seconds

    def _warm(self) -> str:
        """Take in the snapshot; returns a sentence where there is one that cannot be used."""
        if self._snapshot is None:
            return ""
        now = self._clock()
        kept, problem = self._snapshot.read()
        usable = [one for one in kept if abs(now - one.fetched) <= self._settings.stale_seconds]
        for one in usable[-self._settings.entries :]:
            key = (one.approval.model, one.approval.version)
            # Due and not fresh: it stands in for a registry that is down, and for nothing else.
            self._entries[key] = _Entry(one.approval, min(one.fetched, now), now, now, one.revision)
        if problem:
            _log.warning("%s", problem)
        return problem


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"
