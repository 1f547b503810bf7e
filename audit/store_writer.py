"""Brings records to the store by a thread of its own, whatever the store does meanwhile.

What the store does not take goes to a file on the disk, and from there to the store once it
takes records again; what even the disk does not take waits in memory. Only what has no room
there is dropped, and every drop is counted.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from audit.chain import Entry
from audit.checkpoint import Reach
from audit.spill import Spill
from audit.store import RecordStore, StoreError

_LOG = logging.getLogger("tidewaiter.audit")
_AT_ONCE = 1000
_IDLE_SECONDS = 0.5
_PRUNE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Pace:
    """``capacity`` entries may wait; a store that failed is tried again after ``retry_seconds``,
    each time later up to ``longest_retry_seconds``."""

    capacity: int = 10_000
    retry_seconds: float = 0.5
    longest_retry_seconds: float = 30.0


class StoreWriter:
    """``write`` takes an entry; ``on_drop`` is called for each that is lost.

    ``open_store`` may raise ``StoreError`` and is called again then. ``retention`` is how old
    records may become, and ``covering`` makes the checkpoint of what was removed.
    """

    def __init__(
        self,
        open_store: Callable[[], RecordStore],
        spill: Spill,
        *,
        retention: timedelta,
        covering: Callable[[Reach], Entry],
        on_drop: Callable[[], None] = lambda: None,
        pace: Pace | None = None,
    ) -> None:
        self._open_store = open_store
        self._spill = spill
        self._retention = retention
        self._covering = covering
        self._on_drop = on_drop
        self._pace = pace or Pace()
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._held: list[Entry] = []
        self._store: RecordStore | None = None
        self._delay = self._pace.retry_seconds
        self._retry_at = self._prune_at = 0.0
        self._thread = threading.Thread(target=self._run, name="record-store", daemon=True)
        self._thread.start()

    def write(self, entry: Entry) -> None:
        """Queue one entry. Where the store hangs and the queue is full, it goes to the disk at once."""
        if self._queue.qsize() < self._pace.capacity:
            self._queue.put(entry)
            return
        try:
            self._spill.put([entry])
        except OSError:
            self._on_drop()

    def close(self, timeout_seconds: float = 5) -> None:
        """Bring everything to the store, or else to the disk, and end."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            _LOG.warning("the store of records does not answer: what it has not taken goes to the disk")
            left = list(self._held)
            while not self._queue.empty():
                entry = self._queue.get()
                left += [entry] if entry is not None else []
            self._put_down_or_drop(left)

    def _run(self) -> None:
        closed = False
        while not closed:
            closed = self._gather()
            self._try()
            if closed and self._held:
                # The last chance: it may have been an old connection to a store that is there again.
                self._retry_at = 0.0
                self._try()
            if self._held:
                self._put_down()
        self._put_down_or_drop(self._held)
        if self._store is not None:
            self._store.close()

    def _try(self) -> None:
        try:
            self._bring()
        except Exception:  # noqa: BLE001  # the thread must outlive every error: records go on coming
            _LOG.exception("records could not be brought to their store")
            self._failed()

    def _gather(self) -> bool:
        """Take what waits in the queue; whether the end was reached."""
        if len(self._held) >= self._pace.capacity and not self._closing.wait(_IDLE_SECONDS):
            return False
        try:
            entry = self._queue.get(timeout=_IDLE_SECONDS)
            while entry is not None:
                self._held.append(entry)
                if len(self._held) >= _AT_ONCE and not self._closing.is_set():
                    return False
                entry = self._queue.get_nowait()
        except queue.Empty:
            return self._closing.is_set()
        return True

    def _bring(self) -> None:
        """Everything to the store, where it takes anything now."""
        if time.monotonic() < self._retry_at and not self._closing.is_set():
            return
        try:
            if self._store is None:
                self._store = self._open_store()
            if self._held:
                self._store.append(self._held)
                self._held = []
            self._bring_back(self._store)
            self._prune(self._store)
        except (StoreError, OSError) as error:
            _LOG.warning("records wait for their store: %s", error)
            self._failed()
        else:
            self._delay = self._pace.retry_seconds

    def _bring_back(self, store: RecordStore) -> None:
        """What was put down. Meanwhile new records queue, and beyond that are put down themselves."""
        if not self._spill.waiting:
            return
        for batch in self._spill.take(_AT_ONCE):
            store.append(batch)

    def _prune(self, store: RecordStore) -> None:
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + _PRUNE_SECONDS
            store.prune(datetime.now(UTC) - self._retention, self._covering)

    def _failed(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
        self._retry_at = time.monotonic() + self._delay
        self._delay = min(self._delay * 2, self._pace.longest_retry_seconds)

    def _put_down(self) -> None:
        try:
            self._spill.put(self._held)
        except OSError as error:
            _LOG.warning("%d records wait in memory: %s", len(self._held), error)
        else:
            self._held = []

    def _put_down_or_drop(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        try:
            self._spill.put(entries)
        except OSError as error:
            _LOG.error("%d records are lost: %s", len(entries), error)
            for _ in entries:
                self._on_drop()
