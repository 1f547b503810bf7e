"""Records in a real PostgreSQL: many replicas at once, an outage, retention, and somebody who edits them."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from audit.chain import START, Chain, Entry
from audit.checkpoint import RETENTION, Signer
from audit.postgres_records import PostgresRecords
from audit.postgres_schema import VERSION
from audit.postgres_store import PostgresStore
from audit.records import RecordsError
from audit.selection import Selection
from audit.settings import AuditSettings, PostgresSettings
from audit.store import StoreError
from audit.trail import open_trail
from audit.verification import Verified, verify
from tests.audit.postgres import PASSWORD, Postgres, postgres
from tests.audit.sealed import KEY, NOW, chain_of, key_files, public, record, records_of
from tests.controlplane.waiting import wait_until
from webhook.cli import main

_LIMIT = 60


def _store(server: Postgres, url: str) -> PostgresStore:
    return PostgresStore(url, server.password_file)


def _put(server: Postgres, url: str, entries: Sequence[Entry]) -> None:
    with closing(_store(server, url)) as store:
        store.append(entries)


def _total(server: Postgres, url: str) -> int:
    with closing(PostgresRecords(url, server.password_file)) as found:
        return found.statistics(Selection()).total


def _verified(server: Postgres, url: str, uncovered: int | None = 0) -> Verified:
    with closing(PostgresRecords(url, server.password_file)) as found:
        return verify(found.entries(), public(KEY), whole=True, uncovered=uncovered)


def _sql(url: str) -> psycopg.Connection:
    return psycopg.connect(url, password=PASSWORD, autocommit=True)


def test_a_batch_that_is_given_again_is_there_once(postgres_server: Postgres, database: str) -> None:
    for _ in range(2):
        _put(postgres_server, database, chain_of(60))

    verified = _verified(postgres_server, database)
    assert (verified.records, verified.all_problems) == (60, ())


def test_replicas_that_start_and_write_at_once_keep_a_chain_each(postgres_server: Postgres, database: str) -> None:
    together, failures = threading.Barrier(4), list[Exception]()

    def replica(name: str) -> None:
        try:
            together.wait(_LIMIT)
            entries = chain_of(100, f"pod-{name}/{name}")
            with closing(_store(postgres_server, database)) as store:
                for start in range(0, len(entries), 7):
                    store.append(entries[start : start + 7])
        except Exception as error:  # noqa: BLE001  # shown below
            failures.append(error)

    threads = [threading.Thread(target=replica, args=(f"r{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LIMIT)

    verified = _verified(postgres_server, database)
    assert not failures
    assert (len(verified.chains), verified.records, verified.all_problems) == (4, 400, ())


def test_records_of_every_month_have_a_partition_of_it(postgres_server: Postgres, database: str) -> None:
    _put(postgres_server, database, chain_of(5))
    with closing(_store(postgres_server, database)) as store:
        store.append(_on(store.last_hash(), "pod-2/bbbb", datetime(2026, 12, 31, 23, 59, tzinfo=UTC)))

    with _sql(database) as connection:
        rows = connection.execute("SELECT tableoid::regclass::text, count(*) FROM records GROUP BY 1 ORDER BY 1")
        assert rows.fetchall() == [("records_2026_06", 5), ("records_2026_12", 1)]


def _on(previous: str, replica: str, when: datetime) -> list[Entry]:
    return [Chain(replica, previous).seal(record(1, now=when))]


def test_what_is_beyond_the_retention_is_removed_with_its_partition_and_the_rest_verifies(
    postgres_server: Postgres, database: str
) -> None:
    old, signer = chain_of(20), Signer(KEY)
    _put(postgres_server, database, old)
    with closing(_store(postgres_server, database)) as store:
        store.append(_on(store.last_hash(), "pod-2/bbbb", datetime(2026, 9, 1, tzinfo=UTC)))
        removed = store.prune(
            datetime(2026, 8, 1, tzinfo=UTC), lambda reach: signer.sign(reach, RETENTION, datetime.now(UTC))
        )

    verified = _verified(postgres_server, database, uncovered=1)
    assert (removed, verified.records, verified.all_problems) == (20, 1, ())
    with _sql(database) as connection:
        rows = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'records'::regclass"
        )
        assert "records_2026_06" not in {name for (name,) in rows}
        # Every second one of the old had a finding; the one that is left has none.
        assert connection.execute("SELECT count(*) FROM findings").fetchone() == (0,)


def test_retention_takes_the_beginning_of_a_chain_alone(postgres_server: Postgres, database: str) -> None:
    _put(postgres_server, database, chain_of(60))
    with closing(_store(postgres_server, database)) as store:
        removed = store.prune(
            NOW + timedelta(minutes=30), lambda reach: Signer(KEY).sign(reach, RETENTION, datetime.now(UTC))
        )

    verified = _verified(postgres_server, database)
    assert (removed, verified.records, verified.chains[0].removed_by_retention) == (29, 31, 29)
    assert not verified.all_problems


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM records WHERE sequence = 30", "record 30 is missing"),
        ("UPDATE records SET \"user\" = 'somebody' WHERE sequence = 30", "is filed under something else"),
        ("UPDATE records SET body = 'x'::bytea WHERE sequence = 30", "its bytes are damaged"),
        ("DELETE FROM records WHERE sequence > 50", "record 51 of pod-1/aaaa is missing"),
        ("DELETE FROM findings", "is filed under something else"),
    ],
)
def test_what_somebody_does_to_the_tables_is_found(
    postgres_server: Postgres, database: str, statement: str, problem: str
) -> None:
    _put(postgres_server, database, chain_of(60))
    with _sql(database) as connection:
        connection.execute(statement.encode())

    assert problem in _verified(postgres_server, database).all_problems[0]


def test_a_name_with_a_nul_byte_is_kept_and_verifies(postgres_server: Postgres, database: str) -> None:
    _put(postgres_server, database, [Chain("pod-1/aaaa").seal({**record(1), "user": "a\0b", "namespace": "n" * 3000})])

    assert not _verified(postgres_server, database, uncovered=None).all_problems


def test_a_database_of_a_newer_program_is_neither_written_nor_read(postgres_server: Postgres, database: str) -> None:
    _put(postgres_server, database, chain_of(1))
    with _sql(database) as connection:
        connection.execute("UPDATE tidewaiter_schema SET version = %s", [VERSION + 1])

    with pytest.raises(StoreError, match="use a newer one"):
        _store(postgres_server, database)
    with pytest.raises(RecordsError, match="use a newer one"):
        PostgresRecords(database, postgres_server.password_file)


def test_a_wrong_password_is_said_without_the_password(database: str, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("hush-hush")

    with pytest.raises(StoreError, match=r"127\.0\.0\.1.*password authentication failed") as caught:
        PostgresStore(database, wrong)

    assert "hush-hush" not in str(caught.value)


def test_a_database_without_records_is_said_to_be_one(postgres_server: Postgres, database: str) -> None:
    with pytest.raises(RecordsError, match="there are no records in it"):
        PostgresRecords(database, postgres_server.password_file)


def test_a_reader_cannot_write(postgres_server: Postgres, database: str) -> None:
    _put(postgres_server, database, chain_of(1))
    with (
        closing(PostgresRecords(database, postgres_server.password_file)) as found,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        found._db.execute("DELETE FROM records")


def test_a_new_process_follows_the_last_record_of_any_replica(postgres_server: Postgres, database: str) -> None:
    entries = chain_of(3, key=None)
    with closing(_store(postgres_server, database)) as store:
        assert store.last_hash() == START
        store.append(entries)
        assert store.last_hash() == entries[-1].value["hash"]


def test_the_auditors_commands_take_the_url(
    postgres_server: Postgres, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    _put(postgres_server, database, chain_of(12))
    _, shown = key_files(tmp_path)

    stats = CliRunner().invoke(main, ["audit", "stats", "-r", database, "--format", "json"])
    intact = CliRunner().invoke(main, ["audit", "verify", "-r", database, "--public-key", str(shown)])

    assert (stats.exit_code, '"total": 12' in stats.output or '"total":12' in stats.output) == (0, True), stats.output
    assert intact.exit_code == 0, intact.output


@pytest.mark.parametrize(
    ("audit", "problem"),
    [
        ({"path": "a", "postgres": {"url": "postgresql://h/d", "waiting": "w"}}, "give path or postgres"),
        ({"postgres": {"url": "postgresql://u:p@h/d", "waiting": "w"}}, "passwordFile"),
        ({"postgres": {"url": "postgresql://h/d?password=p", "waiting": "w"}}, "passwordFile"),
        ({"postgres": {"url": "mysql://h/d", "waiting": "w"}}, "pattern"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(audit: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        AuditSettings.model_validate(audit)


def test_a_place_to_wait_in_that_cannot_be_written_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = PostgresSettings(url="postgresql://127.0.0.1:1/x", waiting=tmp_path / "file" / "waiting")

    with pytest.raises(ValueError, match=r"audit\.postgres\.waiting: .* cannot be written"):
        open_trail(AuditSettings(postgres=settings), io.BytesIO())


def test_killed_and_started_again_under_load_it_loses_nothing_and_nobody_waits(tmp_path: Path) -> None:
    private, _ = key_files(tmp_path)
    stream, drops = io.BytesIO(), list[int]()
    with postgres() as server:
        settings = AuditSettings(
            postgres=PostgresSettings(url=server.url, password_file=server.password_file, waiting=tmp_path / "waiting"),
            signing_key=private,
            checkpoint_records=100,
        )
        trail = open_trail(settings, stream, lambda: drops.append(1))
        number = iter(range(1_000_000))

        def write(count: int) -> None:
            for _ in range(count):
                trail.write(record(next(number), now=datetime.now(UTC)))

        write(500)
        wait_until(lambda: _total_or_none(server, server.url) == 500, "the first records", _LIMIT)
        server.kill()
        # Whoever writes a record is never made to wait: these return with nobody there to take them.
        write(2000)
        wait_until(lambda: (tmp_path / "waiting").exists(), "records on the disk", _LIMIT)
        server.start()
        write(500)
        trail.close(_LIMIT)

        verified = _verified(server, server.url)
        assert (verified.records, drops, verified.all_problems) == (3000, [], ())
        assert len(records_of(_entries(server))) == 3000


def _entries(server: Postgres) -> list[Entry]:
    with closing(PostgresRecords(server.url, server.password_file)) as found:
        return [one for one in found.entries() if isinstance(one, Entry)]


def _total_or_none(server: Postgres, url: str) -> int | None:
    try:
        return _total(server, url)
    except RecordsError:
        return None  # its tables are being made
