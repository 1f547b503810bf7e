"""A webhook under measurement: one process, pinned to one core."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_LIMIT_SECONDS = 30
_REGISTRY = """
models:
  - name: resnet50
    versions: [{version: "3", state: approved, source: "pvc://models/resnet50/3", environments: [production]}]
"""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A process that answers; ``ready_seconds`` is from its start to its first "ready"."""

    pid: int
    port: int
    health_port: int
    ca: Path
    ready_seconds: float

    def cpu_seconds(self) -> float:
        """User and system time that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_mebibytes(self) -> float:
        """The most that was ever resident."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        line = next(one for one in status.splitlines() if one.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024


_FILE = {"name": "file", "type": "file", "path": "registry.yaml"}


def write_settings(
    folder: Path, port: int = 0, health_port: int = 0, registries: Sequence[Mapping[str, Any]] = (_FILE,)
) -> Path:
    """Settings with nothing switched off, and a registry that approved the model."""
    (folder / "registry.yaml").write_text(_REGISTRY, encoding="utf-8")
    settings = {
        "environments": {"development": {}, "staging": {"action": "warn"}, "production": {"action": "deny"}},
        "registries": [dict(one) for one in registries],
        "server": {"address": "127.0.0.1", "port": port, "healthPort": health_port, "drainSeconds": 0},
    }
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@contextlib.contextmanager
def tidewaiter(folder: Path, cpu: int, registries: Sequence[Mapping[str, Any]] = (_FILE,)) -> Iterator[Server]:
    """``tidewaiter serve``: every default rule and policy, production refusing, the sample cluster."""

    def command(port: int, health_port: int) -> list[str]:
        settings = write_settings(folder, port, health_port, registries)
        arguments = ["serve", "--settings", str(settings), "--certificates", str(folder)]
        return [sys.executable, "-m", "webhook", *arguments]

    with _running(folder, cpu, command) as server:
        yield server


@contextlib.contextmanager
def null_webhook(folder: Path, cpu: int) -> Iterator[Server]:
    """The webhook that decides nothing."""

    def command(port: int, health_port: int) -> list[str]:
        return [sys.executable, "-m", "bench.null_webhook", str(folder), str(port), str(health_port)]

    with _running(folder, cpu, command) as server:
        yield server


@contextlib.contextmanager
def _running(folder: Path, cpu: int, command: Callable[[int, int], list[str]]) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    port, health_port = _free_ports()
    arguments = command(port, health_port)
    started = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            arguments,
            # Records are made and written as in production; nobody reads them.
            stdout=subprocess.DEVNULL,
            stderr=log,
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),  # no threads here
        )
    try:
        _wait_ready(process, health_port, folder / "log")
        yield Server(process.pid, port, health_port, folder / "ca.crt", time.perf_counter() - started)
    finally:
        process.terminate()
        try:
            process.wait(_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):  # our own
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server is not ready: {log.read_text()}") from None
            time.sleep(0.005)


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]
