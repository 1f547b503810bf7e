"""One child process that evaluates policies, seen from the parent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from admission.validator import PolicyError
from webhook.rego.evaluation_process import HEADER, IDLE, WORD
from webhook.rego.policy_set import PolicySet

_MODULE = "webhook.rego.evaluation_process"
_ENVIRONMENT = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG")
_LOAD_SECONDS = 20.0
_MAX_FRAME = 64 * 1024 * 1024


def _shared_file() -> IO[bytes]:
    """A file in memory where the system has them: the root file system may be read-only."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("tidewaiter-progress"), "w+b")
    return tempfile.TemporaryFile()


class ChildEndedError(Exception):
    """The child ended before it answered."""


@dataclass(frozen=True, slots=True)
class ChildAnswer:
    """``found`` is what rules answered, ``failed`` the reasons why others did not."""

    found: dict[str, Any]
    failed: dict[str, str]


class EvaluationChild:
    """A started child; ``ask`` one thing at a time."""

    def __init__(self, process: asyncio.subprocess.Process, progress: mmap.mmap) -> None:
        self._process = process
        self._progress = progress
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[ChildAnswer]] = {}
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, policies: PolicySet, memory_bytes: int) -> EvaluationChild:
        """Start a child with the policies loaded; raises ``PolicyError`` where they do not load."""
        with _shared_file() as shared:
            shared.truncate(WORD.size)
            progress = mmap.mmap(shared.fileno(), WORD.size)
            WORD.pack_into(progress, 0, IDLE)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", _MODULE, str(os.getpid()), str(shared.fileno()), str(memory_bytes)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(shared.fileno(),),
                # Ours has credentials; what is not there cannot leak.
                env={key: os.environ[key] for key in _ENVIRONMENT if key in os.environ},
            )
        child = cls(process, progress)
        try:
            await asyncio.wait_for(child._load(policies), _LOAD_SECONDS)
        except BaseException as error:
            await child.end()
            if isinstance(error, TimeoutError | ChildEndedError):
                raise PolicyError(f"policies of {policies.source} did not load within {_LOAD_SECONDS:g} s") from None
            raise
        return child

    async def _load(self, policies: PolicySet) -> None:
        groups = [
            {"modules": [(one.path, one.text) for one in group.modules], "queries": group.queries}
            for group in policies.groups()
        ]
        self._send({"groups": groups, "data": policies.data})
        answer = await self._receive()
        if answer["problem"]:
            raise PolicyError(answer["problem"])
        self._reader = asyncio.create_task(self._read())

    @property
    def rule_under_evaluation(self) -> int:
        """The number of the rule that is evaluated right now, ``IDLE`` where none is."""
        number: int = WORD.unpack_from(self._progress, 0)[0]
        return number

    def cpu_seconds(self) -> float:
        """CPU time of the child so far; where the kernel does not say, the time that has passed."""
        try:
            about = Path(f"/proc/{self._process.pid}/schedstat").read_text(encoding="ascii")
            return int(about.split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            return time.monotonic()

    def ask(self, policy_input: str, rules: Sequence[str]) -> asyncio.Future[ChildAnswer]:
        """Have ``rules`` evaluated; the future fails with ``ChildEndedError``."""
        number = next(self._ids)
        answer: asyncio.Future[ChildAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        if self._reader is None or self._reader.done():
            answer.set_exception(ChildEndedError())
            return answer
        WORD.pack_into(self._progress, 0, IDLE)
        self._send({"id": number, "input": policy_input, "rules": list(rules)})
        return answer

    async def end(self) -> None:
        """Kill the child and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        if self._reader is not None:
            await asyncio.wait([self._reader])
        # The transport of the pipes closes a turn of the loop later, else it warns when it is collected.
        if self._process.stdin is not None:
            self._process.stdin.close()
        transport: Any = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()
        await asyncio.sleep(0)

    def _send(self, value: Any) -> None:
        body = orjson.dumps(value)
        if self._process.stdin is not None:
            # Never more than one request: what cannot be written at once is bounded by it.
            self._process.stdin.write(HEADER.pack(len(body)) + body)

    async def _receive(self) -> Any:
        stream = self._process.stdout
        try:
            if stream is None:
                raise ChildEndedError
            (size,) = HEADER.unpack(await stream.readexactly(HEADER.size))
            if size > _MAX_FRAME:
                raise ChildEndedError
            return orjson.loads(await stream.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError, orjson.JSONDecodeError):
            raise ChildEndedError from None

    async def _read(self) -> None:
        """Hand every answer to whoever waits for it; one that nobody waits for any more is dropped."""
        try:
            while True:
                answer = await self._receive()
                waiting = self._waiting.pop(answer["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(ChildAnswer(answer["found"], answer["failed"]))
        except ChildEndedError:
            pass
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ChildEndedError())
            self._waiting.clear()
