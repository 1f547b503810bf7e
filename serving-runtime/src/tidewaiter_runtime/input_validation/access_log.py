"""The access log: one JSON line for each request; never what was asked or answered."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO

import orjson


@dataclass(slots=True)
class Access:
    """One request. ``verdict`` is accepted, rejected, limited, blocked, unknown-caller or failed."""

    protocol: str
    caller: str = ""
    model: str = ""
    version: str = ""
    id: str = ""
    request_bytes: int = 0
    response_bytes: int = 0
    verdict: str = "failed"
    status: int = 0
    reason: str = ""
    gate_ms: float = 0.0
    """What the gate itself took until the request went on."""
    total_ms: float = 0.0


class AccessLog:
    """Writes lines in a thread of its own, so that a slow reader of the log delays no request.

    At most ``capacity`` lines wait. What does not fit is counted, and the next line says how many were dropped.
    """

    def __init__(
        self, stream: IO[bytes], capacity: int = 10_000, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._waiting: deque[tuple[datetime, Access, int]] = deque()
        self._capacity = capacity
        self._dropped = 0
        self._wake = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def add(self, access: Access) -> None:
        """Keep one line; returns at once."""
        if len(self._waiting) >= self._capacity:
            self._dropped += 1
            return
        self._waiting.append((self._clock(), access, self._dropped))
        self._dropped = 0
        self._wake.set()

    def close(self) -> None:
        """Write what waits, and end."""
        self._ended = True
        self._wake.set()
        self._thread.join(5)

    def _write(self) -> None:
        while not self._ended or self._waiting:
            self._wake.wait()
            if not self._ended:
                self._wake.clear()
            lines = []
            while self._waiting:
                lines.append(_line(*self._waiting.popleft()))
            try:
                self._stream.write(b"".join(lines))
                self._stream.flush()
            except (OSError, ValueError):
                self._dropped += len(lines)


def _line(at: datetime, access: Access, dropped: int) -> bytes:
    document: dict[str, object] = {"time": at.isoformat(timespec="milliseconds"), **asdict(access)}
    document["gate_ms"] = round(access.gate_ms, 3)
    document["total_ms"] = round(access.total_ms, 3)
    if dropped:
        document["dropped_before"] = dropped
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
