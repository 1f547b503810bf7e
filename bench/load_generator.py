"""The load generator: a small Go program, built once into the cache of tools."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.controlplane.build_cache import cached, entry_name, run_step
from tests.controlplane.go_toolchain import go_command

_SOURCE = Path(__file__).with_name("load") / "main.go"
_GO = "1.25.0"


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients saw; latencies in milliseconds."""

    completed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def build() -> Path:
    """The binary; raises ``BuildError`` where it cannot be had."""
    entry = entry_name("bench-load", hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12])

    def compile_it(staging: Path) -> None:
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
        command = [str(go_command(_GO)), "build", "-o", str(staging / "load"), _SOURCE.name]
        run_step("building the load generator", entry, command, cwd=_SOURCE.parent, env=environment)

    return cached(entry, compile_it) / "load"


def send(
    binary: Path,
    cpu: int,
    *,
    port: int,
    ca: Path,
    path: str,
    body: Path,
    connections: int,
    seconds: float,
    rate: int = 0,
) -> Load:
    """Send for some seconds from one core; ``rate`` 0 is as fast as answers come. Any error ends the benchmark."""
    command = [str(binary), "-address", f"127.0.0.1:{port}", "-ca", str(ca), "-path", path, "-body", str(body)]
    command += ["-connections", str(connections), "-duration", f"{seconds}s", "-rate", str(rate)]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + 60,
        env={**os.environ, "GOMAXPROCS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),  # no threads here
    )
    return Load(**json.loads(done.stdout))
