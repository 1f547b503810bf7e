"""What is asked for is found, in a file and in JSON lines alike."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from audit.postgres_records import PostgresRecords
from audit.postgres_store import PostgresStore
from audit.records import JsonLines, Records, RecordsError
from audit.selection import Selection
from audit.sqlite_records import SqliteRecords
from audit.sqlite_schema import VERSION
from audit.sqlite_store import SqliteStore
from audit.store import StoreError
from tests.audit.sealed import NOW, chain_of, lines, records_of, stored

ENTRIES = chain_of(60)


@pytest.fixture(params=["file", "lines", "database"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    if request.param == "database":
        server, url = request.getfixturevalue("postgres_server"), request.getfixturevalue("database")
        with closing(PostgresStore(url, server.password_file)) as store:
            store.append(ENTRIES)
        with closing(PostgresRecords(url, server.password_file)) as read:
            yield read
        return
    if request.param == "lines":
        yield JsonLines(io.BytesIO(lines(ENTRIES)))
        return
    with closing(SqliteRecords(stored(tmp_path / "audit.db", ENTRIES))) as found:
        yield found


@pytest.mark.parametrize(
    "selection",
    [
        Selection(),
        Selection(namespace="team-1"),
        Selection(model="model-2"),
        Selection(user="user-3"),
        Selection(rule="image-pinned"),
        Selection(rule="no-such-rule"),
        Selection(verdict="denied"),
        Selection(verdict="denied", namespace="team-2", model="model-0", user="user-2", rule="image-pinned"),
        Selection(since=NOW + timedelta(minutes=50)),
        Selection(until=NOW + timedelta(minutes=10)),
        Selection(rule="image-pinned", since=NOW + timedelta(minutes=5), until=NOW + timedelta(minutes=9)),
        Selection(text="FOUND 1"),
        Selection(text="not there"),
    ],
)
def test_what_is_found_is_what_has_all_that_is_asked_for_the_newest_first(
    records: Records, selection: Selection
) -> None:
    expected = [one.line for one in reversed(records_of(ENTRIES)) if selection.has(one)]

    assert [one.line for one in records.search(selection, 1000)] == expected


def test_a_selection_is_about_each_of_its_parts() -> None:
    """So that the test above does not compare one mistake to the same mistake."""
    (even, odd) = records_of(ENTRIES)[1], records_of(ENTRIES)[2]
    assert Selection(namespace="team-2", model="model-2", user="user-2", verdict="denied", rule="image-pinned").has(
        even
    )
    for other in (
        Selection(namespace="team-1"), Selection(model="model-1"), Selection(user="user-1"),
        Selection(verdict="allowed"), Selection(rule="other"), Selection(text="nowhere"),
        Selection(since=NOW + timedelta(minutes=3)), Selection(until=NOW + timedelta(minutes=2)),
    ):  # fmt: skip
        assert not other.has(even)
    assert not Selection(rule="image-pinned").has(odd)


def test_only_so_many_are_found_as_are_asked_for(records: Records) -> None:
    assert [one.value["sequence"] for one in records.search(Selection(), 3)] == [60, 59, 58]


@pytest.mark.parametrize(("identifier", "sequence"), [("aaaa-7", 7), ("uid-9", 9)])
def test_a_record_is_found_by_its_id_and_by_the_uid_of_its_review(
    records: Records, identifier: str, sequence: int
) -> None:
    assert [one.value["sequence"] for one in records.find(identifier)] == [sequence]


@pytest.mark.parametrize("identifier", ["", "-", "aaaa-61", "aaa-7", "b-7", "aaaa-x", "' OR 1 --", "aaaa-" + "9" * 30])
def test_nothing_is_found_by_any_other_word(records: Records, identifier: str) -> None:
    assert records.find(identifier) == []


def test_counts_are_of_what_was_asked_for(records: Records) -> None:
    found = records.statistics(Selection(verdict="denied"))

    assert (found.total, found.first, found.last) == (30, "2026-06-01T12:02:00.000Z", "2026-06-01T13:00:00.000Z")
    assert found.counts["verdict"] == {"denied": 30}
    assert found.counts["rule"] == {"image-pinned": 30}
    assert found.counts["namespace"] == {"team-0": 15, "team-2": 15}


def test_counts_with_a_rule_and_a_text_asked_for(records: Records) -> None:
    found = records.statistics(Selection(rule="image-pinned", text="found 1"))

    assert (found.total, found.counts["rule"]) == (5, {"image-pinned": 5})


def test_counts_with_a_rule_asked_for(records: Records) -> None:
    assert records.statistics(Selection(rule="image-pinned")).counts["rule"] == {"image-pinned": 30}


def test_a_file_of_a_newer_program_is_neither_written_nor_read(tmp_path: Path) -> None:
    path = stored(tmp_path / "audit.db", ENTRIES)
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()

    with pytest.raises(StoreError, match="use a newer one"):
        SqliteStore(path)
    with pytest.raises(RecordsError, match="use a newer one"):
        SqliteRecords(path)


def test_writing_the_same_twice_keeps_it_once(tmp_path: Path) -> None:
    stored(tmp_path / "audit.db", ENTRIES)
    stored(tmp_path / "audit.db", ENTRIES)

    with closing(SqliteRecords(tmp_path / "audit.db")) as found:
        assert found.statistics(Selection()).total == 60


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    assert stored(tmp_path / "audit.db", ENTRIES).stat().st_mode & 0o077 == 0
