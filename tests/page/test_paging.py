"""Lists go on by key: nothing twice, nothing left out, also while records come in; in every kind of store."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from audit.chain import Chain
from audit.postgres_records import PostgresRecords
from audit.postgres_store import PostgresStore
from audit.records import JsonLines
from audit.selection import Cursor, Page, Selection
from audit.sql_records import SqlRecords
from audit.sqlite_records import SqliteRecords
from audit.sqlite_store import SqliteStore
from tests.audit.sealed import NOW, chain_of, lines, record, records_of, stored

ENTRIES = chain_of(60)
Ask = Callable[[Selection, int, Cursor | None], Page]
BOTH = frozenset(["team-1", "team-3"])


@pytest.fixture(params=["file", "database"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    if request.param == "database":
        server, url = request.getfixturevalue("postgres_server"), request.getfixturevalue("database")
        with closing(PostgresStore(url, server.password_file)) as store:
            store.append(ENTRIES)
        with closing(PostgresRecords(url, server.password_file)) as read:
            yield read
        return
    with closing(SqliteRecords(stored(tmp_path / "audit.db", ENTRIES))) as found:
        yield found


SELECTIONS = [
    Selection(),
    Selection(namespace="team-1"),
    Selection(namespaces=BOTH),
    Selection(namespaces=BOTH, namespace="team-3"),
    Selection(namespaces=BOTH, namespace="team-2"),
    Selection(namespaces=frozenset()),
    Selection(namespaces=frozenset([""])),
    Selection(rule="image-pinned"),
    Selection(rule="image-pinned", namespaces=frozenset(["team-0", "team-2"])),
    Selection(verdict="denied", user="user-2"),
    Selection(model="model-1", version="1"),
    Selection(model="model-1", version="2"),
    Selection(text="found 1", namespaces=frozenset(["team-0"])),
    Selection(since=NOW, until=NOW.replace(minute=40)),
]


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("size", [1, 7, 60])
def test_pages_one_after_another_are_all_that_was_asked_for(
    selection: Selection, size: int, records: SqlRecords
) -> None:
    expected = [one.value["id"] for one in reversed(records_of(ENTRIES)) if selection.has(one)]

    assert _walked(lambda asked, limit, before: records.page(asked, limit, before), selection, size) == expected


@pytest.mark.parametrize("selection", SELECTIONS)
def test_json_lines_are_paged_alike(selection: Selection) -> None:
    data = lines(ENTRIES)
    expected = [one.value["id"] for one in reversed(records_of(ENTRIES)) if selection.has(one)]

    def ask(asked: Selection, limit: int, before: Cursor | None) -> Page:
        return JsonLines(io.BytesIO(data)).page(asked, limit, before)

    assert _walked(ask, selection, 7) == expected


def _walked(ask: Ask, selection: Selection, size: int) -> list[str]:
    found, before = [], None
    while True:
        page = ask(selection, size, before)
        found += [one.value["id"] for one in page.entries]
        assert len(page.entries) <= size
        if page.following is None:
            return found
        before = page.following


def test_a_record_that_comes_in_meanwhile_moves_no_page(tmp_path: Path) -> None:
    path = stored(tmp_path / "audit.db", ENTRIES[:30])
    with closing(SqliteRecords(path)) as records:
        first = records.page(Selection(), 5)
        with closing(SqliteStore(path)) as store:
            store.append(ENTRIES[30:])
        second = records.page(Selection(), 5, first.following)

    ids = [one.value["id"] for one in (*first.entries, *second.entries)]
    assert ids == [one.value["id"] for one in reversed(records_of(ENTRIES[:30]))][:10]


def test_a_search_inside_of_records_stops_and_goes_on_from_there(records: SqlRecords) -> None:
    rare = Selection(text='found 4"')
    first = records.page(rare, 5, scan=20)

    assert first.entries == ()
    assert first.looked_at == 20
    assert first.following is not None
    found, before = [], first.following
    while before is not None:
        page = records.page(rare, 5, before, scan=20)
        found += [one.value["uid"] for one in page.entries]
        before = page.following
    assert found == ["uid-4"]


def test_records_of_one_moment_are_told_apart_by_their_number(tmp_path: Path) -> None:
    chain = Chain("pod-1/aaaa")
    same = [chain.seal(record(number, now=NOW)) for number in range(20)]
    with closing(SqliteRecords(stored(tmp_path / "audit.db", same))) as records:
        found = _walked(lambda asked, limit, before: records.page(asked, limit, before), Selection(), 3)

    assert found == [one.value["id"] for one in reversed(same)]


def test_spans_of_time_are_counted_by_verdict(records: SqlRecords) -> None:
    first = int(NOW.timestamp() * 1000)
    half_hour = 30 * 60 * 1000

    everything = records.timeline(Selection(), first, half_hour, 3)
    some = records.timeline(Selection(namespaces=frozenset(["team-2"])), first, half_hour, 3)

    # Record 1 is a minute after NOW; every second one is refused.
    assert everything["denied"] == [14, 15, 1]
    assert everything["allowed"] == [15, 15, 0]
    assert sum(some["denied"]) == 15
    assert sum(some["allowed"]) == 0


def test_namespaces_are_listed_once_each(records: SqlRecords) -> None:
    assert records.namespaces(100) == ["team-0", "team-1", "team-2", "team-3"]
    assert records.namespaces(2) == ["team-0", "team-1"]


def test_rules_are_counted_by_how_the_decision_ended(records: SqlRecords) -> None:
    assert records.by_rule_and_verdict(Selection()) == {"image-pinned": {"denied": 30}}
    assert records.by_rule_and_verdict(Selection(namespaces=frozenset(["team-2"]))) == {"image-pinned": {"denied": 15}}
    assert records.by_rule_and_verdict(Selection(since=NOW, until=NOW.replace(minute=11))) == {
        "image-pinned": {"denied": 5}
    }


def test_the_most_frequent_come_first(records: SqlRecords) -> None:
    assert records.most(Selection(verdict="denied"), "namespace", 5) == {"team-0": 15, "team-2": 15}
    assert records.most(Selection(), "rule", 5) == {"image-pinned": 30}
    assert records.most(Selection(namespace="team-1"), "rule", 5) == {}
    assert records.most(Selection(user="user-1"), "model", 2) == {"model-0": 4, "model-1": 4}


def test_a_record_stands_between_its_neighbours_and_before_a_checkpoint(records: SqlRecords) -> None:
    wanted = records_of(ENTRIES)[14]
    place = records.place(wanted)

    assert place.before is not None
    assert place.after is not None
    assert place.checkpoint is not None
    assert (place.before.value["sequence"], place.after.value["sequence"]) == (14, 16)
    assert place.checkpoint.value["sequence"] == 20


def test_a_question_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    def many(records: SqliteRecords) -> None:
        # Enough steps that the database looks at its clock.
        for _ in range(10_000):
            records.statistics(Selection(namespaces=BOTH))

    with closing(SqliteRecords(stored(tmp_path / "audit.db", ENTRIES))) as records:
        records.give_up_after(-1)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            many(records)
