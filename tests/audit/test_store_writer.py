"""Whatever happens to the store, the caller does not wait and no record is lost."""

from __future__ import annotations

import io
import resource
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from audit.chain import START, Entry
from audit.checkpoint import RETENTION, Signer
from audit.records import RecordsError
from audit.selection import Selection
from audit.settings import AuditSettings
from audit.spill import Spill
from audit.sqlite_records import SqliteRecords
from audit.sqlite_store import SqliteStore
from audit.store import RecordStore, StoreError
from audit.store_writer import Pace, StoreWriter
from audit.trail import open_trail
from tests.audit.sealed import KEY, chain_of, key_files, public, record, records_of, stored, verified_file

_LIMIT = 20
_FAST = Pace(retry_seconds=0.01, longest_retry_seconds=0.05)


def _wait_until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _LIMIT
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def _writer(
    path: Path,
    drops: list[int],
    open_store: Callable[[], RecordStore] | None = None,
    *,
    pace: Pace = _FAST,
    spill: Spill | None = None,
    days: int = 36500,
) -> StoreWriter:
    return StoreWriter(
        open_store or (lambda: SqliteStore(path)),
        spill or Spill(path.with_name("waiting"), 2**30),
        retention=timedelta(days=days),
        covering=lambda reach: Signer(KEY).sign(reach, RETENTION, datetime.now(UTC)),
        on_drop=lambda: drops.append(1),
        pace=pace,
    )


def _number_in(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        records = SqliteRecords(path)
    except RecordsError:
        return 0  # its tables are being made
    try:
        return records.statistics(Selection()).total
    finally:
        records.close()


def test_everything_is_in_the_file_once_the_writer_is_closed(tmp_path: Path) -> None:
    path, drops = tmp_path / "audit.db", list[int]()
    writer = _writer(path, drops)
    for entry in chain_of(2500, every=100):
        writer.write(entry)

    writer.close(_LIMIT)

    assert not drops
    assert _number_in(path) == 2500
    assert not verified_file(path, public(KEY), uncovered=0).all_problems


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Another process that holds the file's lock."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        database.execute("ROLLBACK")
        database.close()


def test_while_the_file_is_locked_records_go_to_the_disk_and_come_back(tmp_path: Path) -> None:
    path, drops = stored(tmp_path / "audit.db", []), list[int]()
    with _locked(path):
        writer = _writer(path, drops)
        for entry in chain_of(300):
            writer.write(entry)
        waiting = tmp_path / "waiting"
        _wait_until(lambda: waiting.exists() and waiting.stat().st_size > 0, "the file of waiting records")
    _wait_until(lambda: _number_in(path) == 300, "the records in the store")

    writer.close(_LIMIT)

    assert not drops
    assert not verified_file(path, public(KEY), uncovered=0).all_problems
    assert not Spill(waiting, 1).waiting


def test_what_a_process_left_on_the_disk_the_next_one_brings_to_the_store(tmp_path: Path) -> None:
    path, drops = stored(tmp_path / "audit.db", []), list[int]()
    with _locked(path):
        writer = _writer(path, drops)
        for entry in chain_of(50):
            writer.write(entry)
        writer.close(_LIMIT)
    assert _number_in(path) == 0

    _writer(path, drops).close(_LIMIT)

    assert (_number_in(path), drops) == (50, [])


@pytest.mark.parametrize("when", ["before the first record", "while records come"])
def test_a_folder_that_is_removed_is_made_again(tmp_path: Path, when: str) -> None:
    folder, drops = tmp_path / "folder", list[int]()
    path = folder / "audit.db"
    writer = _writer(path, drops)
    entries = chain_of(60)
    before = entries[:20] if when == "while records come" else []
    for entry in before:
        writer.write(entry)
    _wait_until(lambda: _number_in(path) == len(records_of(before)), "the first records")
    shutil.rmtree(folder, ignore_errors=True)
    for entry in entries[20:] if before else entries:
        writer.write(entry)

    writer.close(_LIMIT)

    assert not drops
    assert _number_in(path) == len(records_of(entries)) - len(records_of(before))
    if before:
        # What was in the folder went with it, and that is not kept quiet.
        assert "are missing" in verified_file(path, public(KEY)).all_problems[0]


class _Hanging:
    """A store whose disk does not answer."""

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()

    def append(self, _entries: Sequence[Entry]) -> None:
        self.asked.set()
        assert self.answers.wait(_LIMIT)
        raise StoreError("gone after all")

    def last_hash(self) -> str:
        return START

    def prune(self, _before: datetime, _covering: object) -> int:
        return 0

    def close(self) -> None:
        pass


def test_with_a_store_that_hangs_nothing_is_lost_even_at_the_end(tmp_path: Path) -> None:
    path, drops, hanging = tmp_path / "audit.db", list[int](), _Hanging()
    writer = _writer(path, drops, lambda: hanging, pace=Pace(capacity=10))
    entries = chain_of(100)
    for entry in entries:
        writer.write(entry)
    assert hanging.asked.wait(_LIMIT)

    writer.close(0.05)

    _writer(path, drops).close(_LIMIT)
    hanging.answers.set()
    writer._thread.join(_LIMIT)
    assert not writer._thread.is_alive()
    assert not drops
    assert not verified_file(path, public(KEY), uncovered=0).all_problems


def test_without_store_and_disk_records_wait_in_memory_and_then_are_counted(tmp_path: Path) -> None:
    drops: list[int] = []

    def gone() -> RecordStore:
        raise StoreError("no such server")

    writer = _writer(tmp_path / "audit.db", drops, gone, pace=Pace(capacity=10), spill=Spill(tmp_path / "waiting", 0))
    entries = records_of(chain_of(100))
    for entry in entries:
        writer.write(entry)
    writer.close(_LIMIT)

    assert len(drops) == 100


def test_with_the_disk_full_records_wait_in_memory_until_the_store_takes_them(tmp_path: Path) -> None:
    path, drops, works = tmp_path / "audit.db", list[int](), threading.Event()

    def later() -> RecordStore:
        if not works.is_set():
            raise StoreError("not now")
        return SqliteStore(path)

    writer = _writer(path, drops, later, spill=Spill(tmp_path / "waiting", 0))
    for entry in chain_of(50):
        writer.write(entry)
    works.set()
    _wait_until(lambda: _number_in(path) == 50, "the records in the store")
    writer.close(_LIMIT)

    assert not drops


def test_a_disk_that_fills_up_breaks_neither_file(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow beyond a limit."""
    program = """
        import resource, sys
        from pathlib import Path
        from tests.audit.sealed import chain_of
        from tests.audit.test_store_writer import _LIMIT, _number_in, _wait_until, _writer
        folder, drops = Path(sys.argv[1]), []
        writer = _writer(folder / "audit.db", drops)
        entries = chain_of(400, every=50)
        for entry in entries[:49]:
            writer.write(entry)
        _wait_until(lambda: _number_in(folder / "audit.db") == 49, "the first records")
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
        for entry in entries[49:]:
            writer.write(entry)
        writer.close(_LIMIT)
        print(len(drops))
    """
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    drops = int(run.stdout)
    again: list[int] = []

    _writer(tmp_path / "audit.db", again).close(_LIMIT)

    # Everything is there but what was counted.
    kept = _number_in(tmp_path / "audit.db")
    assert 400 > kept >= 49
    assert (drops > 0, again) == (True, [])
    with sqlite3.connect(tmp_path / "audit.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (checkpoints,) = database.execute("SELECT count(*) FROM checkpoints").fetchone()
    database.close()
    assert kept + checkpoints + drops == len(chain_of(400, every=50))


def test_a_line_that_was_cut_off_on_the_disk_does_not_stop_the_others(tmp_path: Path) -> None:
    path, drops = tmp_path / "audit.db", list[int]()
    entries = chain_of(3, key=None)
    (tmp_path / "waiting").write_bytes(b"".join(one.line + b"\n" for one in entries) + entries[0].line[:50])

    _writer(path, drops).close(_LIMIT)

    assert _number_in(path) == 3


def test_records_beyond_the_retention_are_removed_and_a_checkpoint_covers_them(tmp_path: Path) -> None:
    path, drops = tmp_path / "audit.db", list[int]()
    stored(path, chain_of(20))

    _writer(path, drops, days=1).close(_LIMIT)

    verified = verified_file(path, public(KEY), uncovered=0)
    assert (verified.records, verified.chains[0].removed_by_retention, verified.all_problems) == (0, 20, ())


def test_the_trail_writes_the_same_lines_to_the_stream_and_to_the_file(tmp_path: Path) -> None:
    private, _ = key_files(tmp_path)
    settings = AuditSettings(path=tmp_path / "a" / "audit.db", signing_key=private, checkpoint_records=10)
    stream, drops = io.BytesIO(), list[int]()
    trail = open_trail(settings, stream, lambda: drops.append(1))
    for number in range(25):
        trail.write(record(number, now=datetime.now(UTC)))
    trail.close(_LIMIT)

    records = SqliteRecords(tmp_path / "a" / "audit.db")
    kept = sorted(one.line for one in records.entries() if isinstance(one, Entry))
    records.close()
    assert kept == sorted(stream.getvalue().splitlines())
    assert not verified_file(tmp_path / "a" / "audit.db", public(KEY), uncovered=0).all_problems
    reasons = [orjson.loads(line).get("reason") for line in stream.getvalue().splitlines()]
    assert [one for one in reasons if one] == ["interval", "interval", "close"]


def test_the_next_process_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    settings, stream = AuditSettings(path=tmp_path / "audit.db"), io.BytesIO()
    for _ in range(2):
        trail = open_trail(settings, stream)
        trail.write(record(1, now=datetime.now(UTC)))
        trail.close(_LIMIT)

    first, second = (orjson.loads(line) for line in stream.getvalue().splitlines())
    assert second["previous"] == first["hash"]
    assert second["replica"] != first["replica"]


def test_a_checkpoint_follows_a_record_after_a_while(tmp_path: Path) -> None:
    private, _ = key_files(tmp_path)
    stream = io.BytesIO()
    trail = open_trail(AuditSettings(signing_key=private, checkpoint_seconds=0.05), stream)
    trail.write(record())
    _wait_until(lambda: b'"interval"' in stream.getvalue(), "a checkpoint")
    trail.close(_LIMIT)


def test_what_was_dropped_is_told_by_the_next_record(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    trail = open_trail(AuditSettings(path=path, queue_records=2), io.BytesIO())
    for number in range(50):
        trail.write(record(number, now=datetime.now(UTC)))
    _wait_until(lambda: trail.waiting == 0, "an empty queue")
    trail.write(record(50, now=datetime.now(UTC)))
    trail.close(_LIMIT)

    records = SqliteRecords(path)
    kept = [one.value for one in records.search(Selection(), 100)]
    records.close()
    lost = sum(one.get("dropped_before", 0) for one in kept)
    assert lost > 0
    assert len(kept) + lost == 51


def test_a_trail_whose_queue_is_full_counts_and_nobody_waits() -> None:
    reading, drops = threading.Event(), list[int]()

    class Stuck(io.BytesIO):
        def write(self, data: object) -> int:
            assert reading.wait(_LIMIT)
            return super().write(data)  # type: ignore[arg-type]  # whatever the log writes

    stream = Stuck()
    trail = open_trail(AuditSettings(queue_records=2), stream, lambda: drops.append(1))
    for number in range(50):
        trail.write(record(number))
    assert drops
    reading.set()
    trail.close(_LIMIT)

    assert len(stream.getvalue().splitlines()) + len(drops) == 50


@pytest.mark.parametrize("content", [b"nothing", None])
def test_a_signing_key_that_cannot_be_used_is_said_in_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"key\.pem"):
        open_trail(AuditSettings(signing_key=path), io.BytesIO())


def test_a_file_that_cannot_be_made_does_not_keep_the_trail_from_starting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    stream = io.BytesIO()
    trail = open_trail(AuditSettings(path=tmp_path / "file" / "audit.db"), stream)
    trail.write(record())
    trail.close(_LIMIT)

    assert len(stream.getvalue().splitlines()) == 1
