"""The way of a record from a review to where it is kept: sealed, written out, stored.

Reviews only put a record into a queue. A thread seals them one after another, and standard
output and the store each have a thread of their own, so that none waits for the other.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from audit.chain import START, Chain, Entry
from audit.checkpoint import CLOSE, INTERVAL, RETENTION, Reach, Signer, load_signer
from audit.record_log import RecordLog
from audit.settings import AuditSettings
from audit.spill import Spill
from audit.sqlite_store import SqliteStore
from audit.store import RecordStore, StoreError
from audit.store_writer import Pace, StoreWriter

_LOG = logging.getLogger("tidewaiter.audit")
_GATHER_SECONDS = 0.02
_MEGABYTE = 2**20


class EntryWriter(Protocol):
    """What keeps sealed entries."""

    def write(self, entry: Entry) -> None:
        """Take one; must not block for long."""

    def close(self, timeout_seconds: float = 5) -> None:
        """Keep everything and end."""


class Trail:
    """``write`` takes a record and never blocks; ``on_drop`` is called for each that does not fit.

    A checkpoint follows every ``checkpoint_records`` records, every ``checkpoint_seconds`` with
    records that none covers, and at the end.
    """

    def __init__(
        self,
        chain: Chain,
        signer: Signer,
        output: RecordLog,
        store: EntryWriter | None,
        settings: AuditSettings,
        on_drop: Callable[[], None] = lambda: None,
    ) -> None:
        self._chain = chain
        self._signer = signer
        self._output = output
        self._store = store
        self._settings = settings
        self._on_drop = on_drop
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._covered = 0
        self._dropped = self._told = 0
        self._covered_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="record-chain", daemon=True)
        self._thread.start()

    def write(self, record: dict[str, Any]) -> None:
        """Queue one record."""
        if self._queue.qsize() >= self._settings.queue_records:
            self._dropped += 1
            self._on_drop()
            return
        self._queue.put(record)

    @property
    def waiting(self) -> int:
        """How many records are queued."""
        return self._queue.qsize()

    def close(self, timeout_seconds: float = 5) -> None:
        """Seal, write and store what is queued, sign the last checkpoint, and end."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        if self._store is not None:
            self._store.close(timeout_seconds)
        self._output.close(timeout_seconds)

    def _run(self) -> None:
        while True:
            try:
                record = self._queue.get(timeout=self._settings.checkpoint_seconds)
            except queue.Empty:
                self._checkpoint(INTERVAL)
                continue
            # Woken for every single record, the thread would take turns with reviews.
            self._closing.wait(_GATHER_SECONDS)
            while record is not None:
                self._seal(record)
                try:
                    record = self._queue.get_nowait()
                except queue.Empty:
                    break
            if record is None:
                self._checkpoint(CLOSE)
                return
            if time.monotonic() - self._covered_at >= self._settings.checkpoint_seconds:
                self._checkpoint(INTERVAL)

    def _seal(self, record: dict[str, Any]) -> None:
        # What was dropped has no number that could be missing; the next record tells of it.
        lost = self._dropped - self._told
        if lost:
            self._told += lost
            record = {**record, "dropped_before": lost}
        try:
            self._keep(self._chain.seal(record))
        except Exception:  # noqa: BLE001  # one record must not end the log of all others
            _LOG.exception("record %s could not be sealed", record.get("uid"))
            self._on_drop()
        if self._chain.sequence - self._covered >= self._settings.checkpoint_records:
            self._checkpoint(INTERVAL)

    def _checkpoint(self, reason: str) -> None:
        self._covered_at = time.monotonic()
        new = self._chain.sequence > self._covered
        if not self._signer.signs or not (new or (reason == CLOSE and self._chain.sequence)):
            return
        self._covered = self._chain.sequence
        reach = Reach(self._chain.replica, self._chain.sequence, self._chain.last)
        self._keep(self._signer.sign(reach, reason, datetime.now(UTC)))

    def _keep(self, entry: Entry) -> None:
        self._output.write(entry.line)
        if self._store is not None:
            self._store.write(entry)


def replica_name() -> str:
    """A name for this process: where it runs, and a run that no other has."""
    return f"{os.environ.get('HOSTNAME') or socket.gethostname()}/{secrets.token_hex(6)}"


def open_trail(settings: AuditSettings, stream: BinaryIO, on_drop: Callable[[], None] = lambda: None) -> Trail:
    """The trail that the settings ask for, with lines on ``stream``.

    Raises ``ValueError`` where the signing key or ``postgres.waiting`` cannot be used. A store that cannot be opened is
    tried again and again, while the records wait.
    """
    signer = load_signer(settings.signing_key)
    capacity = settings.queue_records
    kept = _kept_in(settings)
    output = RecordLog(stream, on_drop, capacity)
    if kept is None:
        return Trail(Chain(replica_name()), signer, output, None, settings, on_drop)
    open_store, waiting = kept
    chain = Chain(replica_name(), _last_hash(open_store))
    writer = StoreWriter(
        open_store,
        Spill(waiting, settings.spill_megabytes * _MEGABYTE),
        retention=timedelta(days=settings.retention_days),
        covering=lambda reach: signer.sign(reach, RETENTION, datetime.now(UTC)),
        on_drop=on_drop,
        pace=Pace(capacity),
    )
    return Trail(chain, signer, output, writer, settings, on_drop)


def _kept_in(settings: AuditSettings) -> tuple[Callable[[], RecordStore], Path] | None:
    """What opens the store that the settings name, and the file in which records wait for it."""
    path, database = settings.path, settings.postgres
    if database is not None:
        # Its driver takes a while to import, which only those wait for who have a database.
        from audit.postgres_store import PostgresStore

        _refuse_unwritable(database.waiting)
        return lambda: PostgresStore(database.url, database.password_file), database.waiting
    if path is not None:
        return lambda: SqliteStore(path), path.with_name(path.name + ".waiting")
    return None


def _refuse_unwritable(waiting: Path) -> None:
    """Say now what would lose records once the database is away; raises ``ValueError``."""
    try:
        waiting.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(waiting, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    except OSError as error:
        raise ValueError(
            f"audit.postgres.waiting: {waiting} cannot be written ({error.strerror}), and records would be lost while "
            "the database is away; name a file on a volume that this process may write to"
        ) from None


def _last_hash(open_store: Callable[[], RecordStore]) -> str:
    try:
        store = open_store()
    except StoreError as error:
        _LOG.warning("the store of records is tried again while the process runs: %s", error)
        return START
    try:
        return store.last_hash()
    except StoreError:
        return START
    finally:
        store.close()
