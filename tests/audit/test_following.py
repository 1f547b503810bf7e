"""Whoever looks on sees each record once, also one that a replica brings late."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import islice
from pathlib import Path

from audit.chain import Chain, Entry
from audit.following import following
from audit.records import JsonLines
from audit.selection import Selection
from audit.sqlite_records import SqliteRecords
from audit.sqlite_store import SqliteStore
from tests.audit.sealed import NOW, chain_of, lines, record, stored


class _EndError(Exception):
    """There is nothing more to write."""


def _ids(entries: Iterator[Entry]) -> list[str]:
    found: list[str] = []
    with contextlib.suppress(_EndError):
        found.extend(str(one.value["id"]) for one in entries)
    return found


def _followed(path: Path, batches: list[list[Entry]], selection: Selection, limit: int = 2) -> list[str]:
    """What is shown while the batches are written, one at each pause."""
    waiting = iter(batches)

    def pause() -> None:
        batch = next(waiting, None)
        if batch is None:
            raise _EndError
        with closing(SqliteStore(path)) as store:
            store.append(batch)

    with closing(SqliteRecords(path)) as records:
        return _ids(following(records, selection, limit, pause))


def test_new_records_follow_the_newest_of_the_old_each_once(tmp_path: Path) -> None:
    chain = chain_of(9, key=None)
    path = stored(tmp_path / "audit.db", chain[:5])

    found = _followed(path, [chain[5:6], [], chain[6:9], []], Selection())

    assert found == [f"aaaa-{number}" for number in (4, 5, 6, 7, 8, 9)]


def test_a_record_of_another_replica_that_comes_late_is_shown(tmp_path: Path) -> None:
    path = stored(tmp_path / "audit.db", chain_of(5, key=None))
    late = Chain("pod-2/bbbb").seal(record(1, now=NOW + timedelta(minutes=5, seconds=-3)))

    assert _followed(path, [[late], []], Selection()) == ["aaaa-4", "aaaa-5", "bbbb-1"]


def test_records_older_than_those_asked_for_do_not_come_later(tmp_path: Path) -> None:
    chain = Chain("pod-1/aaaa")
    entries = [chain.seal(record(number, now=NOW + timedelta(milliseconds=number))) for number in range(1, 8)]
    path = stored(tmp_path / "audit.db", entries[:6])

    assert _followed(path, [entries[6:], []], Selection()) == ["aaaa-5", "aaaa-6", "aaaa-7"]


def test_only_what_is_asked_for_is_shown(tmp_path: Path) -> None:
    chain = chain_of(9, key=None)
    path = stored(tmp_path / "audit.db", chain[:3])

    assert _followed(path, [chain[3:9]], Selection(verdict="denied"), limit=1) == [
        "aaaa-2",
        "aaaa-4",
        "aaaa-6",
        "aaaa-8",
    ]


def test_a_store_that_is_empty_yet_is_waited_for(tmp_path: Path) -> None:
    path = stored(tmp_path / "audit.db", [])

    assert _followed(path, [[], chain_of(1, key=None)], Selection()) == ["aaaa-1"]


def test_lines_are_shown_as_soon_as_they_are_read() -> None:
    given = iter(lines(chain_of(3, key=None)).splitlines())
    entries = following(JsonLines(given), Selection(), 10, lambda: None)

    assert [one.value["id"] for one in islice(entries, 2)] == ["aaaa-1", "aaaa-2"]
    assert len(list(given)) == 1


def test_lines_end_with_their_source() -> None:
    entries = following(JsonLines(io.BytesIO(lines(chain_of(3)))), Selection(), 10, lambda: None)

    assert len(list(entries)) == 3
