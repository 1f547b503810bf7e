"""Records as JSON lines on a stream, written by a thread of its own.

Admission never waits for whoever reads the stream: the queue is bounded, and what does
not fit is dropped and counted. The thread gathers for a moment before it writes: woken
for every single record, it would take turns with admission for the interpreter.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

import orjson

_LOG = logging.getLogger("tidewaiter.audit")
_CAPACITY = 10_000
_GATHER_SECONDS = 0.02
_CLOSED = None


class RecordLog:
    """``write`` takes a record; ``on_drop`` is called for each one that does not fit."""

    def __init__(self, stream: BinaryIO, on_drop: Callable[[], None] = lambda: None, capacity: int = _CAPACITY) -> None:
        self._stream = stream
        self._on_drop = on_drop
        self._capacity = capacity
        self._queue: queue.SimpleQueue[dict[str, Any] | bytes | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    def write(self, record: dict[str, Any] | bytes) -> None:
        """Queue one record, or its line without the end of line; never blocks."""
        if self._queue.qsize() >= self._capacity:
            self._on_drop()
            return
        self._queue.put(record)

    def close(self, timeout_seconds: float = 5) -> None:
        """Write what is queued and end; gives up after the time limit."""
        self._closing.set()
        self._queue.put(_CLOSED)
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            _LOG.warning("records are still queued and nobody reads them: they are lost")

    def _run(self) -> None:
        while True:
            batch, closed = self._batch()
            try:
                self._stream.write(b"".join(batch))
                self._stream.flush()
            except (OSError, ValueError) as error:
                _LOG.warning("%d records could not be written: %s", len(batch), error)
                for _ in batch:
                    self._on_drop()
            if closed:
                return

    def _line(self, record: dict[str, Any] | bytes) -> list[bytes]:
        """The record's line. One that cannot be written must not end the thread for all others."""
        if isinstance(record, bytes):
            return [record + b"\n"]
        try:
            return [orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)]
        except orjson.JSONEncodeError as error:
            _LOG.error("record %s cannot be written as JSON: %s", record.get("uid"), error)
            self._on_drop()
            return []

    def _batch(self) -> tuple[list[bytes], bool]:
        """Lines of everything that is there, once something is; whether the end was reached."""
        lines: list[bytes] = []
        entry = self._queue.get()
        self._closing.wait(_GATHER_SECONDS)
        while entry is not _CLOSED:
            lines.extend(self._line(entry))
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                return lines, False
        return lines, True
