"""A server of files over HTTP or HTTPS, with ranges, that fails where it is told to.

It also speaks the part of the Hugging Face hub's interface that the hub documents: the listing of
a revision with its blobs, and the resolving of a file to another address. It is not the hub; the
hub's own client is held to it in ``test_preload_hub.py``.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from tests.controlplane.certificates import Authority

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_PIECE = 1 << 20


@dataclass(frozen=True)
class Asked:
    """A request: ``start`` is None where no range was asked for."""

    path: str
    start: int | None
    end: int | None
    headers: dict[str, str]


@dataclass(frozen=True)
class Fault:
    """How an answer goes wrong. ``cut_after`` bytes the connection ends; ``hold`` is waited for before the body."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    hold: threading.Event | None = None
    ranges: bool = True
    length: bool = True
    total: int | None = None


@dataclass
class ModelServer:
    """Files by path, what was asked for, and a rule that says what goes wrong."""

    url: str = ""
    files: dict[str, bytes | Path] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    fault: Callable[[Asked], Fault | None] = lambda _: None
    etags: dict[str, str] = field(default_factory=dict)

    def ranges(self, path: str) -> list[tuple[int | None, int | None]]:
        """What was asked of a file, without the question how large it is."""
        return [(one.start, one.end) for one in self.asked if one.path == path and (one.start, one.end) != (0, 1)]

    def publish_on_hub(
        self, name: str, commit: str, files: dict[str, bytes], large: tuple[str, ...], cdn: ModelServer
    ) -> None:
        """Put a repository on the hub; ``large`` files have a SHA-256, and lie on another server."""
        siblings: list[dict[str, Any]] = []
        for file, content in files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            entry: dict[str, Any] = {"rfilename": file, "size": len(content), "blobId": blob}
            path = f"/{name}/resolve/{commit}/{file}"
            if file in large:
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
                cdn.files[f"/{sha256}"] = content
                self.redirects[path] = f"{cdn.url}/{sha256}?signature=secret"
            else:
                self.files[path] = content
            siblings.append(entry)
        listing = json.dumps({"id": name, "modelId": name, "sha": commit, "siblings": siblings}).encode()
        for revision in ("main", "v1", commit):
            self.files[f"/api/models/{name}/revision/{revision}"] = listing
        self.files[f"/api/models/{name}"] = listing

    redirects: dict[str, str] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: ModelServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        start, end = (int(found[1]), int(found[2]) + 1) if found else (None, None)
        asked = Asked(path, start, end, {name.lower(): value for name, value in self.headers.items()})
        self.model.asked.append(asked)
        fault = self.model.fault(asked) or Fault()
        if fault.status or (path not in self.model.files and path not in self.model.redirects):
            self._empty(fault.status or 404, fault.headers)
        elif path in self.model.redirects:
            self._empty(302, {"Location": self.model.redirects[path]})
        else:
            self._file(path, self.model.files[path], asked, fault)

    def _empty(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, path: str, content: bytes | Path, asked: Asked, fault: Fault) -> None:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        start, end = 0, size
        if asked.start is not None and asked.end is not None and fault.ranges:
            start, end = asked.start, min(asked.end, size)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{fault.total or size}")
        else:
            self.send_response(200)
        if path in self.model.etags:
            self.send_header("ETag", self.model.etags[path])
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if fault.length:
            self.send_header("Content-Length", str(end - start))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if fault.hold is not None:
            self.wfile.flush()
            fault.hold.wait(60)
        stop = end if fault.cut_after is None else min(end, start + fault.cut_after)
        with _opened(content) as stream:
            stream.seek(start)
            while start < stop and (piece := stream.read(min(_PIECE, stop - start))):
                self.wfile.write(piece)
                start += len(piece)
        if fault.cut_after is not None:
            self.close_connection = True


@contextmanager
def _opened(content: bytes | Path) -> Iterator[IO[bytes]]:
    import io

    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
        yield stream


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """A client that goes away in the middle is what the tests do on purpose."""


@contextmanager
def model_server(authority: Authority | None = None) -> Iterator[ModelServer]:
    """Serve on a free port of 127.0.0.1; with TLS where there is an authority."""
    model = ModelServer()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"model": model}))
    if authority is not None:
        pair = authority.issue("models", "models", addresses=["127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    model.url = f"{'https' if authority else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
