"""A real OPA with signed bundles, and a proxy that spoils what it says."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.controlplane.binaries import locate
from tests.controlplane.child_process import ChildProcess
from tests.controlplane.waiting import wait_until


def write_keys(folder: Path, name: str, kind: str = "RS256") -> tuple[Path, Path]:
    """A private and a public key, as PEM files."""
    key = rsa.generate_private_key(65537, 2048) if kind == "RS256" else ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    # OPA reads RSA keys as PKCS 1 and EC keys as SEC 1.
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def build_bundle(
    folder: Path, bundle: Path, key: Path | None = None, algorithm: str = "RS256", revision: str = "r1"
) -> Path:
    """`opa build` of a folder, signed where a key is given."""
    signing = () if key is None else ("--signing-key", str(key), "--signing-alg", algorithm)
    command = (str(locate("opa")), "build", "--bundle", "--ignore", "*_test.rego", "--ignore", "schemas", *signing)
    made = subprocess.run(
        [*command, "--revision", revision, "--output", str(bundle), str(folder)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    return bundle


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The folder over HTTP."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *about: object, **more: object) -> None:
            super().__init__(*about, directory=str(folder), **more)  # type: ignore[arg-type]  # passed through

        def log_message(self, *about: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


class Opa:
    """One `opa run --server`; with `listens=False` nobody waits until it answers plain HTTP."""

    def __init__(self, folder: Path, *arguments: str, port: int = 0, listens: bool = True) -> None:
        self._listens = listens
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = (str(locate("opa")), "run", "--server", "--addr", f"127.0.0.1:{self.port}", "--log-level", "error")
        self.process = ChildProcess("opa", (*command, "--skip-version-check", *arguments), folder / "opa.log")

    def __enter__(self) -> Opa:
        self.process.start()
        if self._listens:
            wait_until(self._answers, "OPA to listen")
        return self

    def __exit__(self, *_about: object) -> None:
        self.process.stop()

    def _answers(self) -> bool:
        assert self.process.running, self.process.log_tail()
        return self.status("/health") != 0

    def status(self, path: str) -> int:
        """The status of a GET; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def loaded(self) -> bool:
        """Whether every bundle is active."""
        return self.status("/health?bundles=true") == 200


def bundle_arguments(folder: Path, service: str, name: str, public: Path | None = None) -> tuple[str, ...]:
    """Arguments of an OPA that fetches `name` and, with a key, takes only a signed one."""
    bundle: dict[str, object] = {
        "service": "files",
        "resource": name,
        "polling": {"min_delay_seconds": 1, "max_delay_seconds": 1},
    }
    config: dict[str, object] = {"services": {"files": {"url": service}}, "bundles": {"tidewaiter": bundle}}
    if public is not None:
        config["keys"] = {"ours": {"algorithm": "RS256", "key": public.read_text()}}
        bundle["signing"] = {"keyid": "ours"}
    path = folder / "opa.json"
    path.write_text(json.dumps(config))
    return ("--config-file", str(path))


class Proxy:
    """Passes requests on after `delay` seconds, or answers `answer` itself; counts connections."""

    def __init__(self, port: int, delay: float = 0, answer: bytes = b"") -> None:
        self._port = port
        self.delay = delay
        self.answer = answer
        self.connections = 0
        self.requests = 0
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._tasks: set[asyncio.Task[None]] = set()
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(sizes[0].split(b":")[1]))
                self.requests += 1
                await asyncio.sleep(self.delay)
                writer.write(self.answer or await self._passed_on(head + body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _passed_on(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            head = await reader.readuntil(b"\r\n\r\n")
            rest = await reader.read(-1)
            return head.replace(b"Connection: close\r\n", b"") + rest
        finally:
            writer.close()


def answering(status: int, body: bytes) -> bytes:
    """An HTTP answer."""
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
