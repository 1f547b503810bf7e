"""A real image registry (the distribution project's), with tokens and TLS, and what pushes to it.

Tokens come from a server of ours, as the distribution documents them: no registry brings one along.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import socket
import ssl
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.controlplane.binaries import locate
from tests.controlplane.certificates import Authority, KeyPair
from tests.controlplane.child_process import ChildProcess
from tests.controlplane.waiting import wait_until
from tests.registries.servers import START_LIMIT_S, _free_port, _running

SERVICE, ISSUER = "models", "tests"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
TITLE = "org.opencontainers.image.title"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass
class TokenService:
    """Gives tokens to ``user``; ``asked`` are the queries and the Authorization headers that came."""

    pair: KeyPair
    user: str = "puller"
    password: str = "not:so secret"
    url: str = ""
    lifetime_s: int = 300
    asked: list[tuple[dict[str, list[str]], str]] = field(default_factory=list)

    def token(self, repository: str, actions: Sequence[str]) -> str:
        """A token as the registry verifies it: ES256, with the certificate of its key."""
        key = serialization.load_pem_private_key(self.pair.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        certificate = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes())
        chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": self.user,
            "aud": SERVICE,
            "jti": str(time.monotonic_ns()),
            "iat": now - 60,
            "nbf": now - 60,
            "exp": now + self.lifetime_s,
            "access": [{"type": "repository", "name": repository, "actions": list(actions)}],
        }
        header = {"typ": "JWT", "alg": "ES256", "x5c": chain}
        message = f"{_part(json.dumps(header).encode())}.{_part(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(key.sign(message.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{message}.{_part(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class _Tokens(BaseHTTPRequestHandler):
    service: TokenService

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        query, secret = parse_qs(urlsplit(self.path).query), self.headers.get("Authorization", "")
        self.service.asked.append((query, secret))
        expected = base64.b64encode(f"{self.service.user}:{self.service.password}".encode()).decode()
        if secret != f"Basic {expected}":
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        _, repository, actions = query["scope"][0].split(":")
        content = json.dumps({"token": self.service.token(repository, actions.split(","))}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def token_service(authority: Authority) -> Iterator[TokenService]:
    service = TokenService(authority.issue("tokens", "tokens", addresses=["127.0.0.1"]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Tokens,), {"service": service}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(service.pair.certificate, service.pair.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    service.url = f"https://127.0.0.1:{server.server_address[1]}/token"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@dataclass
class ImageRegistry:
    """Where it listens, and what lies in it."""

    host: str
    tokens: TokenService
    authority: Path
    storage: Path

    def push_blob(self, repository: str, content: bytes) -> dict[str, Any]:
        """Push a blob; returns its descriptor, without a media type."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        base = f"https://{self.host}/v2/{repository}/blobs/uploads/"
        begun = self._send("POST", base, repository, b"", 202)
        target = urljoin(base, begun.headers["Location"])
        joined = f"{target}{'&' if '?' in target else '?'}digest={digest}"
        self._send("PUT", joined, repository, content, 201, "application/octet-stream")
        return {"digest": digest, "size": len(content)}

    def push_manifest(self, repository: str, manifest: Mapping[str, Any], tag: str = "") -> str:
        """Push a manifest or an index; returns its digest."""
        content = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        url = f"https://{self.host}/v2/{repository}/manifests/{tag or digest}"
        self._send("PUT", url, repository, content, 201, str(manifest["mediaType"]))
        return digest

    def push(
        self,
        repository: str,
        layers: Sequence[tuple[bytes, str, Mapping[str, str]]],
        tag: str = "",
        config: str = EMPTY_CONFIG,
        artifact_type: str = "",
    ) -> str:
        """Push layers (content, media type, annotations) and their manifest; returns its digest."""
        manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST}
        if artifact_type:
            manifest["artifactType"] = artifact_type
        manifest["config"] = {"mediaType": config, **self.push_blob(repository, b"{}")}
        manifest["layers"] = [
            {"mediaType": kind, **self.push_blob(repository, content), "annotations": dict(annotations)}
            for content, kind, annotations in layers
        ]
        return self.push_manifest(repository, manifest, tag)

    def _send(
        self, method: str, url: str, repository: str, body: bytes, status: int, kind: str = ""
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {self.tokens.token(repository, ['pull', 'push'])}"}
        if kind:
            headers["Content-Type"] = kind
        with urllib3.PoolManager(ca_certs=str(self.authority)) as pool:
            answer = pool.request(method, url, body=body, headers=headers, retries=False, timeout=30)
        assert answer.status == status, (answer.status, answer.data[:500])
        return answer


@contextmanager
def image_registry(
    folder: Path, authority: Authority, tokens: TokenService, name: str = "registry", redirect: str = ""
) -> Iterator[ImageRegistry]:
    """Start it on ``folder``; with ``redirect`` it sends whoever wants a blob there."""
    pair, port = authority.issue(name, name, addresses=["127.0.0.1"]), _free_port()
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "x", "tls": {}},
        "auth": {"token": {"realm": tokens.url, "service": SERVICE, "issuer": ISSUER}},
    }
    config["http"]["tls"] = {"certificate": str(pair.certificate), "key": str(pair.key)}
    config["auth"]["token"]["rootcertbundle"] = str(tokens.pair.certificate)
    if redirect:
        config["middleware"] = {"storage": [{"name": "redirect", "options": {"baseurl": redirect}}]}
    path = folder.parent / f"{name}.json"
    path.write_text(json.dumps(config))
    with _running(name, [str(locate("registry")), "serve", str(path)], folder.parent, {}) as process:
        wait_until(lambda: _listens(process, port), f"{name} to listen", START_LIMIT_S)
        yield ImageRegistry(f"127.0.0.1:{port}", tokens, authority.pair.certificate, folder)


def _listens(process: ChildProcess, port: int) -> bool:
    assert process.running, f"{process.name} has ended:\n{process.log_tail()}"
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tar(entries: Sequence[tuple[str, bytes] | tarfile.TarInfo], *, packed: bool = True) -> bytes:
    """An archive of files, and of whatever else a ``TarInfo`` says."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry, io.BytesIO(bytes(entry.size)))
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    return gzip.compress(buffer.getvalue(), mtime=0) if packed else buffer.getvalue()


def special(name: str, kind: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    """A link, a device, a folder."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info
