"""The process that evaluates a team's policies: ``python -m webhook.rego.evaluation_process``.

Frames on standard input and output are a length (four bytes, big-endian) and JSON. The
first frame in has groups of modules and queries, and data, and is answered by ``{"problem": ""}``; each
one after it has ``id``, ``input`` and ``rules``, and is answered by ``{"id", "found",
"failed"}``. Before a rule is evaluated its number in ``rules`` is written to the shared
word, so that the parent knows which rule it was when it must end this process.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

import regorus

from webhook.rego.regorus_error import sentence

HEADER = struct.Struct(">I")
WORD = struct.Struct("=i")
IDLE = -1
_MAX_ANSWER = 1024 * 1024
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until standard input ends."""
    parent, shared, memory = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    _end_with(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    progress = mmap.mmap(shared, WORD.size)
    received, sent = sys.stdin.buffer, sys.stdout.buffer
    load = _read(received)
    if load is None:
        return
    rules, problem = _loaded(load)
    _limit_memory(memory)
    _write(sent, json.dumps({"problem": problem}))
    while not problem and (request := _read(received)) is not None:
        _write(sent, _answer(rules, request, progress))


def _end_with(parent: int) -> None:
    """Die with the parent, also in the middle of an evaluation."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)


def _limit_memory(limit: int) -> None:
    """Allow ``limit`` bytes on top of what the process has after loading."""
    statm = Path("/proc/self/statm")
    used = int(statm.read_text().split()[0]) * mmap.PAGESIZE if statm.exists() else 0
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))


_Rules = dict[str, tuple[Any, str]]
"""Engine and query by rule."""


def _loaded(load: Any) -> tuple[_Rules, str]:
    rules: _Rules = {}
    data = json.dumps(load["data"])
    try:
        for group in load["groups"]:
            engine = regorus.Engine()
            for path, text in group["modules"]:
                engine.add_policy(path, text)
            engine.add_data_json(data)
            # The first evaluation analyses every module: no rule should pay for it with its time.
            engine.eval_query_as_json("1")
            rules.update({rule: (engine, query) for rule, query in group["queries"].items()})
    except Exception as error:  # noqa: BLE001  # regorus raises plain exceptions
        return {}, sentence(error)
    return rules, ""


def _answer(rules: _Rules, request: Any, progress: mmap.mmap) -> str:
    found: list[str] = []
    failed: dict[str, str] = {}
    given = None
    for number, rule in enumerate(request["rules"]):
        engine, query = rules[rule]
        if engine is not given:
            given = engine
            engine.set_input_json(request["input"])
        WORD.pack_into(progress, 0, number)
        try:
            answer = engine.eval_rule_as_json(query)
        except Exception as error:  # noqa: BLE001  # regorus raises plain exceptions
            failed[rule] = sentence(error)
            continue
        if len(answer) > _MAX_ANSWER:
            failed[rule] = f"its answer has more than {_MAX_ANSWER >> 20} MiB"
        elif answer != "[]":
            found.append(f"{json.dumps(rule)}:{answer}")
    WORD.pack_into(progress, 0, IDLE)
    return f'{{"id":{request["id"]},"failed":{json.dumps(failed)},"found":{{{",".join(found)}}}}}'


def _read(stream: BinaryIO) -> Any:
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    return json.loads(stream.read(*HEADER.unpack(head)))


def _write(stream: BinaryIO, text: str) -> None:
    body = text.encode()
    stream.write(HEADER.pack(len(body)) + body)
    stream.flush()


if __name__ == "__main__":
    main()
