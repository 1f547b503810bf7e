"""Records as they come, for whoever looks on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from audit.chain import Entry
from audit.record_columns import columns
from audit.records import JsonLines, Records
from audit.selection import Selection

_AT_ONCE = 10_000
_LATE = timedelta(seconds=10)
"""A replica's records may come to the store so much later than another's."""


def following(records: Records, selection: Selection, limit: int, pause: Callable[[], None]) -> Iterator[Entry]:
    """The newest ``limit`` records, oldest first, then each that comes, for ever; lines end with their source.

    ``pause`` is called between two looks into a store.
    """
    if isinstance(records, JsonLines):
        yield from records.matching(selection)
        return
    # Those of the last moments by id, so that what comes late is shown, and nothing twice.
    shown: dict[str, int] = {}
    there, newest = records.search(selection, max(limit, _AT_ONCE)), 0
    for entry in there[limit:]:
        # Older than what was asked for: the next look goes back over them.
        shown[str(entry.value.get("id"))] = columns(entry.value)[0]
    found = there[:limit]
    while True:
        for entry in reversed(found):
            time, identifier = columns(entry.value)[0], str(entry.value.get("id"))
            if identifier not in shown:
                shown[identifier] = time
                newest = max(newest, time)
                yield entry
        pause()
        edge = newest - int(_LATE.total_seconds() * 1000)
        shown = {identifier: time for identifier, time in shown.items() if time >= edge}
        since = datetime.fromtimestamp(max(edge, 0) / 1000, UTC) if newest else selection.since
        if selection.since is not None and since is not None:
            since = max(since, selection.since)
        found = records.search(replace(selection, since=since), _AT_ONCE)
