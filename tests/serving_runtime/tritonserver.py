"""A real ``tritonserver`` on this machine's CPU, from PyPI's ``nvidia-pytriton``.

It has the Python backend and the local response cache, and no other. Its wheel wants numpy 1, so it
lives in an environment of its own, made once in the cache of built tools. The client libraries are
there too: ``Triton.client`` runs scripts that ``import tritonclient.grpc``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import uv

from tests.controlplane.build_cache import cached, entry_name, run_step
from tests.controlplane.child_process import ChildProcess
from tests.controlplane.waiting import wait_until

PYTRITON = "0.7.0"
"""Brings tritonserver 2.51.0."""
REQUIREMENTS = (f"nvidia-pytriton=={PYTRITON}", "numpy==1.26.4", "tritonclient[all]==2.73.0")
MODELS = Path(__file__).with_name("models")
"""Example models of the Python backend: ``sum``, ``text_length``, ``slow`` and ``pipeline``, which calls the first two."""
START_LIMIT_S = 120.0
END_LIMIT_S = 60.0
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Installed:
    """Where the environment has what."""

    home: Path

    @property
    def python(self) -> Path:
        """Its Python, which has numpy and ``tritonclient``."""
        return self.home / "bin" / "python"

    @cached_property
    def folder(self) -> Path:
        """The server with its backends and caches."""
        return next(self.home.glob("lib/python3*/site-packages/pytriton/tritonserver"))

    @property
    def program(self) -> Path:
        """The server."""
        return self.folder / "bin" / "tritonserver"

    @property
    def flags(self) -> tuple[str, ...]:
        """What the server needs to find its backends and caches."""
        return (f"--backend-directory={self.folder / 'backends'}", f"--cache-directory={self.folder / 'caches'}")

    @property
    def variables(self) -> dict[str, str]:
        """The environment: the Python backend looks for the first ``python3`` in PATH."""
        return {**os.environ, "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}"}


def locate() -> Installed:
    """The environment, made first when it is missing (about a minute). Raises BuildError with one sentence."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    entry = entry_name("tritonserver", f"pytriton-{PYTRITON}-py{python}")

    def build(staging: Path) -> None:
        home, uv_command = staging / "venv", uv.find_uv_bin()
        make = [uv_command, "venv", "--quiet", "--relocatable", "--python", sys.executable, str(home)]
        run_step("making an environment for tritonserver", entry, make, cwd=staging)
        install = [uv_command, "pip", "install", "--quiet", "--python", str(home / "bin" / "python"), *REQUIREMENTS]
        run_step(f"installing nvidia-pytriton {PYTRITON}", entry, install, cwd=staging)
        folder = Installed(home).folder
        # PyTriton does this on every start; the stub must match the Python that runs the models.
        stub = folder / "python_backend_stubs" / python / "triton_python_backend_stub"
        shutil.copy(stub, folder / "backends" / "python")

    return Installed(cached(entry, build) / "venv")


@dataclass(frozen=True)
class Sample:
    """One line of the metrics."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Triton:
    """A server that is ready (or starting, where ``ready=False`` was asked for)."""

    http: int
    grpc: int
    metrics_port: int
    process: ChildProcess
    installed: Installed

    @property
    def url(self) -> str:
        """Of the HTTP interface."""
        return f"http://127.0.0.1:{self.http}"

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self.process.log.read_text(errors="replace")

    def answers(self, path: str, port: int | None = None) -> int:
        """The status of a GET; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.http}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def wait_ready(self, limit_s: float = START_LIMIT_S) -> None:
        """Return when ``/v2/health/ready`` says so; fails at once where the server has ended."""

        def ready() -> bool:
            assert self.process.running, f"tritonserver has ended:\n{self.process.log_tail(40)}"
            return self.answers("/v2/health/ready") == 200

        wait_until(ready, "tritonserver to be ready", limit_s)

    def infer(self, model: str, headers: Mapping[str, str] | None = None, **inputs: tuple[str, list[Any]]) -> Any:
        """One request with a batch of one row per input: ``infer("sum", INPUT=("FP32", [1.0, 2.0]))``.

        Returns the outputs by name, as lists. Raises urllib.error.HTTPError for a refusal.
        """
        body = {
            "inputs": [
                {"name": name, "datatype": datatype, "shape": [1, len(row)], "data": row}
                for name, (datatype, row) in inputs.items()
            ]
        }
        request = urllib.request.Request(
            f"{self.url}/v2/models/{model}/infer",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", **(headers or {})},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return {one["name"]: one["data"] for one in json.load(answer)["outputs"]}

    def samples(self) -> list[Sample]:
        """Everything on the metrics port."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return [
            Sample(name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value))
            for name, labels, value in _SAMPLE.findall(text)
        ]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that have these labels; 0 where there is none."""
        return sum(one.value for one in self.samples() if one.name == name and labels.items() <= one.labels.items())

    def client(self, script: str, *arguments: str) -> str:
        """Run Python code with numpy and ``tritonclient``; returns what it printed."""
        command = [str(self.installed.python), "-c", script, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout.strip()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, each another."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(one.getsockname()[1]) for one in listeners]
    finally:
        for one in listeners:
            one.close()


@contextmanager
def running_triton(
    repository: Path, *flags: str, log: Path, ready: bool = True, command: Sequence[str] = ()
) -> Iterator[Triton]:
    """``tritonserver`` over a model repository, ended by SIGTERM; ``log`` keeps what it prints.

    ``command`` stands in for the program and its own flags, where something else starts the server:
    the ports are then given as ``{http}``, ``{grpc}`` and ``{metrics}`` in it.
    """
    installed = locate()
    http, grpc, metrics = free_ports(3)
    own = [
        *(str(installed.program), f"--model-repository={repository}", *installed.flags, *flags),
        *(f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"),
        *("--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1"),
    ]
    ports = {"{http}": str(http), "{grpc}": str(grpc), "{metrics}": str(metrics)}
    started = [re.sub(r"\{(?:http|grpc|metrics)\}", lambda found: ports[found[0]], part) for part in command] or own
    process = ChildProcess("tritonserver", started, log, env=installed.variables)
    triton = Triton(http, grpc, metrics, process, installed)
    process.start()
    try:
        if ready:
            triton.wait_ready()
        yield triton
    finally:
        if process.pid is not None and process.running:
            # Only the server: it ends the processes of its models itself.
            os.kill(process.pid, signal.SIGTERM)
            process.wait(END_LIMIT_S)
        process.stop()
