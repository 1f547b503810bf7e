"""New decisions as they come, over server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

from audit.chain import Entry
from audit.record_columns import columns
from audit.selection import Selection
from audit.sql_records import SqlRecords
from webhook.page.identity import Visible
from webhook.page.reading import NotReadError, Reading

_EVERY_SECONDS = 1.0
_LATE = timedelta(seconds=30)
"""Replicas write into one database, each when it can: a record may appear after younger ones."""
_AT_ONCE = 50
_REMEMBERED = 2_000
_SILENCE_SECONDS = 15.0

Look = Callable[[], Awaitable[Visible | None]]
"""What may be seen now; None where the login has ended."""


class Streams:
    """How many streams are open: ``most`` at once, and ``each`` of one user."""

    def __init__(self, most: int = 50, each: int = 5) -> None:
        self._most = most
        self._each = each
        self._open: dict[str, int] = {}
        self.ending = asyncio.Event()

    def enter(self, username: str) -> bool:
        """Whether one more may be opened; it must be left again."""
        if sum(self._open.values()) >= self._most or self._open.get(username, 0) >= self._each:
            return False
        self._open[username] = self._open.get(username, 0) + 1
        return True

    def leave(self, username: str) -> None:
        """One is closed."""
        self._open[username] -= 1
        if not self._open[username]:
            del self._open[username]


async def stream(
    reading: Reading,
    selection: Selection,
    look: Look,
    render: Callable[[list[Entry]], str],
    streams: Streams,
    now: Callable[[], datetime],
) -> AsyncIterator[str]:
    """Events of rendered rows. What may be seen is asked before each look; the stream ends with the login."""
    begun = now()
    seen: OrderedDict[str, None] = OrderedDict()
    spoke = time.monotonic()
    yield "retry: 3000\n\n"
    while not streams.ending.is_set():
        visible = await look()
        if visible is None:
            yield "event: ended\ndata: the login has ended\n\n"
            return
        since = max(begun, now() - _LATE)
        asked = replace(selection, namespaces=visible.namespaces, since=since, until=None)
        fresh = await _fresh(reading, asked, seen)
        if fresh:
            html = await asyncio.to_thread(render, fresh)
            yield "event: decisions\n" + "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
            spoke = time.monotonic()
        elif time.monotonic() - spoke > _SILENCE_SECONDS:
            # Whoever went away is noticed by writing to them.
            yield ": still here\n\n"
            spoke = time.monotonic()
        try:
            async with asyncio.timeout(_EVERY_SECONDS):
                await streams.ending.wait()
        except TimeoutError:
            continue


async def _fresh(reading: Reading, asked: Selection, seen: OrderedDict[str, None]) -> list[Entry]:
    def newest(records: SqlRecords) -> list[Entry]:
        return list(records.page(asked, _AT_ONCE).entries)

    try:
        found = await reading.ask(newest)
    except NotReadError:
        return []
    fresh = [entry for entry in found if str(entry.value.get("id")) not in seen]
    if asked.namespaces is not None:
        fresh = [entry for entry in fresh if columns(entry.value)[2] in asked.namespaces]
    for entry in fresh:
        seen[str(entry.value.get("id"))] = None
    while len(seen) > _REMEMBERED:
        seen.popitem(last=False)
    return fresh
