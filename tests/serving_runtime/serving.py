"""``configure`` and ``serve`` as processes, over the example models and the real server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.controlplane.child_process import ChildProcess
from tests.controlplane.waiting import wait_until
from tests.serving_runtime.conftest import SOURCES
from tests.serving_runtime.tritonserver import END_LIMIT_S, MODELS, Triton, free_ports, locate

SPEC = """
cache: {local: {megabytes: 8}}
resources: {cpu: 2}
models:
- name: sum
  backend: python
  maxBatchSize: 16
  inputs: [{name: INPUT, type: FP32, dims: [-1], sample: [4]}]
  outputs: [{name: SUM, type: FP32, dims: [1]}]
  responseCache: true
- name: text_length
  backend: python
  maxBatchSize: 16
  inputs: [{name: TEXT, type: STRING, dims: [1]}]
  outputs: [{name: LENGTH, type: INT32, dims: [1]}, {name: ECHO, type: STRING, dims: [1]}]
- name: slow
  backend: python
  maxBatchSize: 16
  parameters: {seconds: "0.2"}
  inputs: [{name: INPUT, type: FP32, dims: [1]}]
  outputs: [{name: OUTPUT, type: FP32, dims: [1]}]
  batching: {delayMicroseconds: 50000}
  rateLimiter: {resources: [{name: cpu, count: 1}]}
- name: pipeline
  backend: python
  maxBatchSize: 16
  calls: [text_length, sum]
  inputs: [{name: TEXT, type: STRING, dims: [1]}]
  outputs: [{name: TOTAL, type: FP32, dims: [1]}]
- name: sum_then_slow
  backend: ensemble
  maxBatchSize: 16
  inputs: [{name: IN, type: FP32, dims: [-1]}]
  outputs: [{name: OUT, type: FP32, dims: [1]}]
  steps:
  - {model: sum, inputs: {INPUT: IN}, outputs: {SUM: total}}
  - {model: slow, inputs: {INPUT: total}, outputs: {OUTPUT: OUT}}
"""
ALLOWED = ("--allow=root", "--allow=writable-root", "--allow=small-shm")
"""A test machine is no pod: what it is otherwise is allowed, except where a test is about it."""


def copied_models(folder: Path, *names: str) -> Path:
    """A repository with the versions of example models, and without any configuration."""
    for name in names or ("sum", "text_length", "slow", "pipeline"):
        (folder / name).mkdir(parents=True)
        shutil.copytree(MODELS / name / "1", folder / name / "1", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """``tidewaiter-runtime`` with an environment of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tidewaiter_runtime", *map(str, arguments)],
        env={**locate().variables, "PYTHONPATH": str(SOURCES), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass(frozen=True)
class Serving:
    """A server that ``serve`` has started."""

    triton: Triton
    health: int

    def wait_ready(self) -> None:
        """Return when the health endpoint says ready."""

        def ready() -> bool:
            assert self.triton.process.running, f"serve has ended:\n{self.triton.process.log_tail(40)}"
            return self.triton.answers("/ready", self.health) == 200

        wait_until(ready, "serve to be ready", 120)

    def terminate(self) -> None:
        """Send SIGTERM as the kubelet does: to the first process alone."""
        assert self.triton.process.pid is not None
        os.kill(_inside(self.triton.process.pid), signal.SIGTERM)

    def end(self) -> int | None:
        """The exit status, waited for."""
        return self.triton.process.wait(END_LIMIT_S)


def _inside(pid: int) -> int:
    """The first process of the process's namespace, where it is ``unshare`` that waits for one."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if command[0] == b"unshare" and children else pid


@contextmanager
def serving(
    repository: Path, *flags: str, log: Path, allowed: tuple[str, ...] = ALLOWED, before: tuple[str, ...] = ()
) -> Iterator[Serving]:
    """``serve`` over a repository; ``before`` is what starts it, such as ``unshare``. Killed at the end."""
    installed = locate()
    http, grpc, metrics, health = free_ports(4)
    command = [
        *(*before, sys.executable, "-m", "tidewaiter_runtime", "serve", f"--repository={repository}"),
        *(f"--program={installed.program}", *installed.flags, "--address=127.0.0.1", *allowed),
        *(f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}", f"--health-port={health}"),
        *flags,
    ]
    environment = {**installed.variables, "PYTHONPATH": str(SOURCES)}
    process = ChildProcess("serve", command, log, env=environment)
    process.start()
    try:
        yield Serving(Triton(http, grpc, metrics, process, installed), health)
    finally:
        if process.pid is not None and process.running:
            os.kill(_inside(process.pid), signal.SIGTERM)
            os.kill(_inside(process.pid), signal.SIGTERM)  # the second one ends the wait for what nobody waits for
            process.wait(END_LIMIT_S)
        process.stop()
