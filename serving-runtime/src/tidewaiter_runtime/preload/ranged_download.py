"""Brings files in parts, several at a time, and goes on where an earlier run was cut off.

A part that is complete is a line in a journal. The journal counts only for the same listing of
the source (names, sizes, versions) and until the machine is started again: a line may be on
disk before the bytes that it tells of.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import astuple, dataclass, field
from pathlib import Path

from tidewaiter_runtime.preload.small_file import read_small
from tidewaiter_runtime.preload.source_files import UNKNOWN_SIZE, Interrupted, Source, SourceFile, SourceUnavailable
from tidewaiter_runtime.refusals import Unreadable

PART = 32 << 20
"""Bytes of one request: what a killed run loses for each connection."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_LONGEST_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once, how often again, and how often progress is told (seconds); ``retried`` counts."""

    connections: int = 8
    attempts: int = 5
    first_wait_s: float = 0.5
    report_s: float = 5.0
    retried: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Part:
    """A range of one file; the whole of a file that has no ranges."""

    file: SourceFile
    start: int
    end: int

    @property
    def line(self) -> str:
        """Its line in the journal."""
        return f"{json.dumps(self.file.name)} {self.start} {self.end}"


def parts_of(file: SourceFile, size: int = PART) -> list[Part]:
    """The requests that bring a file."""
    if not file.ranges or file.size <= size:
        return [Part(file, 0, file.size)]
    return [Part(file, start, min(start + size, file.size)) for start in range(0, file.size, size)]


_LARGEST_JOURNAL = 64 << 20


class Journal:
    """Which parts are complete."""

    def __init__(self, path: Path, listing: str) -> None:
        self._path = path
        self._listing = listing
        self._lock = threading.Lock()
        self._complete = self._read()

    def _read(self) -> set[str]:
        content = read_small(self._path, _LARGEST_JOURNAL)
        if content is None:
            return set()
        first, *lines = content.split("\n")
        return set(lines[:-1]) if first == self._listing else set()

    @property
    def continues(self) -> bool:
        """Whether an earlier run has brought parts of the same files."""
        return bool(self._complete)

    def start(self) -> None:
        """Begin a journal, unless an earlier one continues."""
        if not self.continues:
            self._path.write_text(f"{self._listing}\n", encoding="utf-8")

    def __contains__(self, part: Part) -> bool:
        return part.line in self._complete

    def add(self, part: Part) -> None:
        """Write down that a part is complete."""
        with self._lock:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(f"{part.line}\n")
            self._complete.add(part.line)


def listing_of(shown: str, files: Iterable[SourceFile]) -> str:
    """What a journal is about, as one word."""
    boot = _BOOT.read_text() if _BOOT.exists() else ""
    content = json.dumps([boot, shown, sorted((astuple(one) for one in files), key=str)])
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(slots=True)
class Download:
    """One run: ``report`` is called from time to time with the bytes that are there."""

    source: Source
    folder: Path
    journal: Journal
    pace: Pace
    report: Callable[[int], None]
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _arrived: int = 0

    def bring(self, files: Sequence[SourceFile]) -> None:
        """Bring what is missing of ``files``; raises a ``Refusal``."""
        parts = [part for file in files for part in parts_of(file)]
        missing = [part for part in parts if part not in self.journal]
        self._arrived = sum(max(0, part.end - part.start) for part in parts if part in self.journal)
        self._prepare(missing)
        with ThreadPoolExecutor(self.pace.connections, thread_name_prefix="bring") as pool:
            pending: set[Future[None]] = {pool.submit(self._bring, part) for part in missing}
            try:
                while pending:
                    done, pending = wait(pending, timeout=self.pace.report_s, return_when=FIRST_EXCEPTION)
                    self.report(self._arrived)
                    for one in done:
                        one.result()
            finally:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _prepare(self, missing: Sequence[Part]) -> None:
        """Files with nothing to read exist too; what an earlier, larger version left is cut off."""
        for file in {part.file.name: part.file for part in missing}.values():
            path = self.folder / file.name
            with written(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
                try:
                    os.ftruncate(descriptor, max(0, file.size))
                finally:
                    os.close(descriptor)

    def _bring(self, part: Part) -> None:
        descriptor = os.open(self.folder / part.file.name, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            offset = part.start
            for attempt in range(1, self.pace.attempts + 1):
                if self._stop.is_set():
                    return
                try:
                    offset = self._read(part, offset, descriptor)
                    break
                except _Cut as cut:
                    offset = cut.offset if part.file.ranges else self._again(part, cut.offset)
                    self._wait(part, attempt, cut.why)
            if part.file.size == UNKNOWN_SIZE:
                with written(self.folder / part.file.name):
                    os.ftruncate(descriptor, offset)
        finally:
            os.close(descriptor)
        if not self._stop.is_set():
            with written(self.folder / part.file.name):
                self.journal.add(part)

    def _again(self, part: Part, offset: int) -> int:
        self._count(part.start - offset)
        return part.start

    def _read(self, part: Part, offset: int, descriptor: int) -> int:
        """Read until the part's end; returns the offset behind the last byte."""
        try:
            if offset == part.end and part.file.size != UNKNOWN_SIZE:
                return offset
            for piece in self.source.read(part.file, offset, part.end):
                self._write(part, descriptor, piece if part.end == UNKNOWN_SIZE else piece[: part.end - offset], offset)
                offset += len(piece)
                if self._stop.is_set():
                    return offset
        except Interrupted as why:
            raise _Cut(offset, why) from None
        if part.end != UNKNOWN_SIZE and offset > part.end:
            raise SourceUnavailable(f"{self.source.shown}: file {part.file.name!r}: more bytes came than it has")
        if offset < part.end:
            raise _Cut(offset, Interrupted(f"the connection ended {part.end - offset:,} bytes too early"))
        return offset

    def _write(self, part: Part, descriptor: int, piece: memoryview, offset: int) -> None:
        with written(self.folder / part.file.name):
            done = 0
            while done < len(piece):
                done += os.pwrite(descriptor, piece[done:], offset + done)
        self._count(len(piece))

    def _count(self, count: int) -> None:
        with self._lock:
            self._arrived += count

    def _wait(self, part: Part, attempt: int, why: Interrupted) -> None:
        if attempt == self.pace.attempts:
            raise SourceUnavailable(
                f"{self.source.shown}: file {part.file.name!r} was not brought in {attempt} attempts; the last: {why}"
            )
        self.pace.retried()
        self._stop.wait(waiting_s(self.pace, attempt, why))


class _Cut(Exception):  # noqa: N818  # what happened, not a fault
    def __init__(self, offset: int, why: Interrupted) -> None:
        super().__init__(str(why))
        self.offset = offset
        self.why = why


def waiting_s(pace: Pace, attempt: int, why: Interrupted) -> float:
    """How long to wait after a failed attempt: twice as long each time, or what the server asked for."""
    doubled: float = pace.first_wait_s * 2 ** (attempt - 1)
    return min(_LONGEST_WAIT_S, max(why.wait_s, doubled))


class written:  # noqa: N801  # reads as a phrase: with written(path)
    """Turns a failed write into a sentence."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Nothing is needed before."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise Unreadable(
                f"{self._path} cannot be written: {error.strerror}; is the volume large enough, and writable for "
                f"uid {os.getuid()}?"
            ) from None
