"""Where records wait on the disk while the store cannot take them: JSON lines in a file."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from audit.chain import Entry


class SpillFullError(OSError):
    """There is more in the file than it may hold."""


class Spill:
    """Two files: one that grows, and one that is given back to the store.

    What a process leaves behind, the next one finds. For several threads.
    """

    def __init__(self, path: Path, largest_bytes: int) -> None:
        self._path = path
        self._returning = path.with_name(path.name + ".returning")
        self._largest = largest_bytes
        self._lock = threading.Lock()

    def put(self, entries: Sequence[Entry]) -> None:
        """Append all or none; raises ``OSError``."""
        data = b"".join(entry.line + b"\n" for entry in entries)
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                before = os.fstat(file).st_size
                if before + len(data) > self._largest:
                    raise SpillFullError(f"{self._path} holds all it may")
                try:
                    _write_all(file, data)
                    os.fsync(file)
                except OSError:
                    os.ftruncate(file, before)
                    raise
            finally:
                os.close(file)

    @property
    def waiting(self) -> bool:
        """Whether there is something to give back."""
        return self._returning.exists() or (self._path.exists() and self._path.stat().st_size > 0)

    def take(self, at_once: int) -> Iterator[list[Entry]]:
        """What is there, in batches; it is gone once the last of them was asked for and taken."""
        with self._lock:
            if not self._returning.exists():
                if not self._path.exists():
                    return
                self._path.rename(self._returning)
        batch: list[Entry] = []
        with self._returning.open("rb") as file:
            for line in file:
                entry = _entry(line)
                if entry is not None:
                    batch.append(entry)
                if len(batch) >= at_once:
                    yield batch
                    batch = []
        if batch:
            yield batch
        self._returning.unlink(missing_ok=True)


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _entry(line: bytes) -> Entry | None:
    """None for a line that was cut off when a process or its disk ended."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return Entry(value, line.rstrip(b"\n")) if isinstance(value, dict) and "replica" in value else None
