"""Listens: to the gate's datagrams, to Prometheus, and to labels that come late."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from tidewaiter_runtime.exporter.observed import Observed
from tidewaiter_runtime.refusals import BadInput

_LARGEST_DATAGRAM = 256 << 10
_LARGEST_LABELS = 8 << 20
_RECEIVE_BUFFER = 4 << 20
_PATHS = b"there are /metrics, /healthz and /labels\n"


def receive(path: Path, observed: Observed) -> Callable[[], None]:
    """Take the gate's datagrams in a thread of its own; returns what ends that. Raises BadInput."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        # The gate may run as another user of the pod.
        path.chmod(0o666)
    except OSError as error:
        listener.close()
        raise BadInput(f"--observations {path}: cannot listen: {error.strerror or error}") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    listener.settimeout(0.5)
    ended = threading.Event()

    def take() -> None:
        while not ended.is_set():
            try:
                content = listener.recv(_LARGEST_DATAGRAM)
            except TimeoutError:
                continue
            try:
                observation = json.loads(content)
            except (ValueError, RecursionError):
                observation = None
            observed.add(observation if isinstance(observation, dict) else {}, time.monotonic())

    thread = threading.Thread(target=take, name="observations", daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join(5)
        listener.close()
        path.unlink(missing_ok=True)

    return end


class ExporterServer(ThreadingHTTPServer):
    """``/metrics``, ``/healthz`` and ``POST /labels``."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], collector: Collector, observed: Observed) -> None:
        super().__init__(address, _Handler)
        self.registry = CollectorRegistry()
        self.registry.register(collector)
        self.observed = observed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: ExporterServer

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(200, generate_latest(self.server.registry), "text/plain; version=0.0.4; charset=utf-8")
        elif self.path == "/healthz":
            self._answer(200, b"ok\n")
        else:
            self._answer(404, _PATHS)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/labels":
            self._answer(404, _PATHS, close=True)
        elif not length.isdigit() or int(length[:12]) > _LARGEST_LABELS:
            self._answer(413, b"send Content-Length, at most 8 MiB\n", close=True)
        else:
            self._answer(*take_labels(self.rfile.read(int(length)), self.server.observed))

    def _answer(self, status: int, content: bytes, kind: str = "text/plain", *, close: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Scrapes are not news."""


def listen(host: str, port: int, collector: Collector, observed: Observed) -> ExporterServer:
    """The exporter's server; the caller runs it. Raises BadInput."""
    try:
        return ExporterServer((host, port), collector, observed)
    except OSError as error:
        raise BadInput(f"--listen {host}:{port}: cannot listen: {error.strerror}") from None


def take_labels(content: bytes, observed: Observed) -> tuple[int, bytes]:
    """Labels as JSON lines ``{"id": "...", "label": 1}``: all of them, or none where one is wrong."""
    labels = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
            labels.append((str(document["id"]), float(document["label"])))
        except (ValueError, LookupError, TypeError, RecursionError):
            return 400, f'line {number}: expected {{"id": "...", "label": 1}}\n'.encode()
    matched = sum(observed.label(*one) for one in labels)
    return 200, f"{matched} of {len(labels)} labels have a prediction\n".encode()
