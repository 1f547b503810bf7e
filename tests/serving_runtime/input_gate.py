"""Runs the input gate as a process before a model server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.controlplane.child_process import ChildProcess
from tests.controlplane.waiting import wait_until
from tests.serving_runtime.conftest import SOURCES
from tests.serving_runtime.tritonserver import free_ports

RULES = """\
models:
  sum:
    bodyBytes: 65536
    inputs:
      INPUT: {datatype: FP32, shape: [1-16, 3], range: [-1000, 1000], features: [age, income, tenure]}
    watch: {share: 1, prediction: SUM}
  text_length:
    inputs:
      TEXT: {datatype: BYTES, shape: [1-16, 1], text: {minLength: 1, maxLength: 10, pattern: '[\\pL]+'}}
"""


@dataclass(frozen=True)
class Gate:
    """A gate that listens."""

    http: int
    grpc: int
    process: ChildProcess

    @property
    def accesses(self) -> list[dict[str, Any]]:
        """The access log so far."""
        lines = self.process.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def accessed(self, count: int) -> list[dict[str, Any]]:
        """The access log, once it has so many lines."""
        return wait_until(
            lambda: found if len(found := self.accesses) >= count else None, f"{count} lines of access log"
        )


@contextmanager
def running_gate(
    folder: Path, server_http: int, server_grpc: int = 9, *, rules: str = RULES, flags: Sequence[str | Path] = ()
) -> Iterator[Gate]:
    """The gate before a server on 127.0.0.1; ended by SIGTERM, which must succeed."""
    path = folder / "rules.yaml"
    path.write_text(rules)
    http_port, grpc_port = free_ports(2)
    command = [
        *(sys.executable, "-m", "tidewaiter_runtime", "input-gate", "--rules", str(path)),
        *(f"--http=127.0.0.1:{http_port}", f"--grpc=127.0.0.1:{grpc_port}"),
        *(f"--server-http=127.0.0.1:{server_http}", f"--server-grpc=127.0.0.1:{server_grpc}"),
        *(str(one) for one in flags),
    ]
    process = ChildProcess("input-gate", command, folder / "gate.log", env={**os.environ, "PYTHONPATH": str(SOURCES)})
    process.start()
    try:

        def listening() -> bool:
            assert process.running, process.log_tail()
            log = process.log.read_text()
            return f"http on 127.0.0.1:{http_port}" in log and f"grpc on 127.0.0.1:{grpc_port}" in log

        wait_until(listening, "the gate to listen", 60)
        yield Gate(http_port, grpc_port, process)
        assert process.running, process.log_tail()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        process.wait(20)
        assert process.exit_status == 0, process.log_tail()
    finally:
        process.stop()


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The protocol's error text."""
        found: str = json.loads(self.body)["error"]
        return found


def ask(port: int, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
    """One HTTP request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, target, body or None, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def of_rows(*rows: Sequence[float]) -> bytes:
    """A request to the model ``sum``."""
    flat = [value for row in rows for value in row]
    shape = [len(rows), len(rows[0])]
    return json.dumps({"inputs": [{"name": "INPUT", "datatype": "FP32", "shape": shape, "data": flat}]}).encode()
