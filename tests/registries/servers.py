"""Real registries: MLflow's own server, S3's and an image registry's, and AWS's token service as moto plays it.

Each comes from its package index or module proxy, once, into the cache of built tools.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uv
import yaml

from tests.controlplane.build_cache import cached, entry_name, run_step
from tests.controlplane.child_process import ChildProcess
from tests.controlplane.go_toolchain import go_command
from tests.controlplane.waiting import wait_until

MLFLOW = "3.17.2"
MOTO = "5.2.5"
VERSITYGW = "1.8.0"
DISTRIBUTION = "3.0.0"
GO = "1.26.0"
START_LIMIT_S = 120.0


@dataclass(frozen=True)
class RealServer:
    """Where it listens, the process, and the Python that has its own client."""

    url: str
    process: ChildProcess
    python: Path

    def client(self, script: Path, *arguments: str, **environment: str) -> str:
        """Run a script with the server's own client library; returns what it printed."""
        done = subprocess.run(
            [str(self.python), str(script), *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout.strip()


def environment(name: str, version: str, requirement: str) -> Path:
    """The Python of a virtual environment that has one package."""
    entry = entry_name(name, f"{version}-py{sys.version_info.major}.{sys.version_info.minor}")

    def build(staging: Path) -> None:
        uv_command = uv.find_uv_bin()
        run_step(
            f"making an environment for {name}",
            entry,
            [uv_command, "venv", "--quiet", "--relocatable", "--python", sys.executable, str(staging / "venv")],
            cwd=staging,
        )
        python = str(staging / "venv" / "bin" / "python")
        run_step(
            f"installing {name} {version}",
            entry,
            [uv_command, "pip", "install", "--quiet", "--python", python, f"{requirement}=={version}"],
            cwd=staging,
        )

    return cached(entry, build) / "venv" / "bin" / "python"


def versitygw() -> Path:
    """The S3 server ``versitygw``, built from its Go module."""
    return _built("versitygw", VERSITYGW, "github.com/versity/versitygw/cmd/versitygw") / "versitygw"


def distribution() -> Path:
    """CNCF Distribution's image registry, the reference implementation, built from its Go module."""
    return _built("distribution", DISTRIBUTION, "github.com/distribution/distribution/v3/cmd/registry") / "registry"


def _built(name: str, version: str, package: str) -> Path:
    entry = entry_name(name, f"v{version}")

    def build(staging: Path) -> None:
        go = str(go_command(GO))
        run_step(
            f"building {name} {version}",
            entry,
            [go, "install", f"{package}@v{version}"],
            cwd=staging,
            env={**os.environ, "GOBIN": str(staging), "GOFLAGS": "-mod=mod"},
        )

    return cached(entry, build)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[RealServer]:
    """MLflow with an SQLite store."""
    python = environment("mlflow", MLFLOW, "mlflow")
    port = _free_port()
    command = [
        *(str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with _running("mlflow", command, folder, variables) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/health", process)
        yield RealServer(url, process, python)


@contextmanager
def s3_server(folder: Path, access: str, secret: str) -> Iterator[RealServer]:
    """An S3 server that checks signatures and keeps versions."""
    for name in ("buckets", "versions"):
        (folder / name).mkdir()
    port = _free_port()
    command = [
        *(str(versitygw()), "--access", access, "--secret", secret, "--port", f"127.0.0.1:{port}"),
        *("posix", "--versioning-dir", str(folder / "versions"), str(folder / "buckets")),
    ]
    with _running("versitygw", command, folder, {}) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process)
        yield RealServer(url, process, environment("moto", MOTO, "moto[server]"))


@contextmanager
def image_registry(folder: Path, settings: Mapping[str, Any]) -> Iterator[str]:
    """Distribution with these settings on top of its address; yields its URL."""
    port = _free_port()
    own = {"version": "0.1", "http": {"addr": f"127.0.0.1:{port}"}, "log": {"level": "warn"}, **settings}
    (folder / "distribution.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    command = [str(distribution()), "serve", str(folder / "distribution.yaml")]
    with _running("distribution", command, folder, {"OTEL_TRACES_EXPORTER": "none"}) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/v2/", process)
        yield url


@contextmanager
def moto_server(folder: Path) -> Iterator[RealServer]:
    """AWS's services as moto plays them."""
    python = environment("moto", MOTO, "moto[server]")
    port = _free_port()
    with _running(
        "moto", [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], folder, {}
    ) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/moto-api/", process)
        yield RealServer(url, process, python)


@contextmanager
def _running(name: str, command: list[str], folder: Path, variables: dict[str, str]) -> Iterator[ChildProcess]:
    process = ChildProcess(name, command, folder / f"{name}.log", cwd=folder, env={**os.environ, **variables})
    process.start()
    try:
        yield process
    finally:
        process.stop()


def _wait_for(url: str, process: ChildProcess) -> None:
    def answers() -> bool:
        assert process.running, f"{process.name} has ended:\n{process.log_tail()}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except urllib.error.HTTPError:
            return True  # it speaks
        except OSError:
            return False

    wait_until(answers, f"{process.name} to answer", START_LIMIT_S)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
