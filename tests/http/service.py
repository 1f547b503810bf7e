"""A running `tidewaiter serve`, and a client that speaks TLS to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.child_process import DIE_WITH_PARENT
from tests.controlplane.waiting import wait_until

LIMIT_S = 20.0
_LISTENING = re.compile(r"listening on :(\d+) \(TLS\) and :(\d+)")


@dataclass(frozen=True)
class Reply:
    """What came back over HTTP."""

    status: int
    body: bytes

    @property
    def response(self) -> dict[str, Any]:
        """The `response` of the AdmissionReview."""
        found: dict[str, Any] = json.loads(self.body)["response"]
        return found


class Service:
    """The process: ports of its own choice, standard output and error in files."""

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None, *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = self.health_port = 0
        own = dict(settings or {})
        own["server"] = {
            "address": "127.0.0.1",
            "port": 0,
            "healthPort": 0,
            "drainSeconds": 0,
            **own.get("server", {}),
        }
        (folder / "settings.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
        files = ("--settings", str(folder / "settings.yaml"), "--certificates", str(folder))
        self.process = start(folder, *files, *arguments)

    @property
    def log(self) -> str:
        """Standard error so far."""
        return (self.folder / "stderr").read_text(encoding="utf-8")

    @property
    def records(self) -> list[dict[str, Any]]:
        """Decision records so far; a line that is still being written is left out."""
        *lines, _ = (self.folder / "stdout").read_bytes().split(b"\n")
        return [json.loads(line) for line in lines]

    def wait_listening(self) -> None:
        """Wait until it has its ports."""
        found = wait_until(self._listening, f"the service to listen: {self.folder / 'stderr'}", LIMIT_S)
        self.port, self.health_port = int(found[1]), int(found[2])

    def wait_ready(self) -> None:
        """Wait until it listens and says that it is ready."""
        self.wait_listening()
        wait_until(lambda: self.health("/readyz").status == 200, "the service to be ready", LIMIT_S)

    def _listening(self) -> re.Match[str] | None:
        assert self.process.poll() is None, f"the service ended at start:\n{self.log}"
        return _LISTENING.search(self.log)

    def health(self, path: str) -> Reply:
        """GET on the health port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}{path}", timeout=LIMIT_S) as answer:
                return Reply(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read())

    def metric(self, name: str, **labels: str) -> float:
        """One sample of /metrics; 0 where there is none."""
        for line in self.health("/metrics").body.decode().splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(f'{key}="{one}"' in sample for key, one in labels.items()):
                return float(value)
        return 0.0

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPSConnection]:
        """A connection to the webhook that trusts its CA."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        with contextlib.closing(
            http.client.HTTPSConnection("localhost", self.port, timeout=LIMIT_S, context=context)
        ) as connection:
            yield connection

    @contextlib.contextmanager
    def tls(self) -> Iterator[ssl.SSLSocket]:
        """A bare TLS connection, for what no HTTP client would send."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            yield secure

    def post(self, path: str, body: bytes | Mapping[str, Any]) -> Reply:
        """POST on a connection of its own."""
        with self.connection() as connection:
            return post(connection, path, body)

    def still_answers(self) -> bool:
        """Whether a plain review still gets its answer."""
        uid: str = self.post("/validate", review(pod(), "still-there")).response["uid"]
        return uid == "still-there"

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process and wait for its exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)

    def kill(self) -> None:
        """End it in any case."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `tidewaiter serve` with standard output and error in `folder`."""
    launcher = [sys.executable, "-E", "-S", str(DIE_WITH_PARENT), str(os.getpid())]
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        return subprocess.Popen(
            [*launcher, sys.executable, "-m", "webhook", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )


@contextlib.contextmanager
def running(folder: Path, settings: Mapping[str, Any] | None = None, *arguments: str) -> Iterator[Service]:
    """A service that is ready, and gone afterwards."""
    service = Service(folder, settings, *arguments)
    try:
        service.wait_ready()
        yield service
    finally:
        service.kill()


def post(connection: http.client.HTTPConnection, path: str, body: bytes | Mapping[str, Any]) -> Reply:
    """POST on a connection that stays open."""
    sent = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    connection.request("POST", path, sent, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return Reply(answer.status, answer.read())


def pod(version: str = "3", **spec: Any) -> dict[str, Any]:
    """A model pod as its author writes it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "resnet",
            "labels": {"tidewaiter.dev/model": "resnet50", "tidewaiter.dev/model-version": version},
        },
        "spec": {
            "containers": [
                {
                    "name": "triton",
                    "image": f"nvcr.io/nvidia/tritonserver@sha256:{'a' * 64}",
                    "env": [{"name": "HF_TOKEN", "value": "hf_abcdefghijklmnopqrstuvwx"}],
                    "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "8Gi", "cpu": "2"}},
                }
            ],
            **spec,
        },
    }


def review(obj: Mapping[str, Any] | None, uid: str = "u-1", **request: Any) -> dict[str, Any]:
    """An AdmissionReview: CREATE of a pod in namespace `ml-production` of the sample cluster."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "name": "resnet",
            "namespace": "ml-production",
            "operation": "CREATE",
            "userInfo": {"username": "mia", "groups": ["developers"]},
            "object": obj,
            "oldObject": None,
            "dryRun": False,
            **request,
        },
    }
