"""Runs the gate: both listeners, until a signal says to end; then no new requests, and an end of those under way."""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import uvloop

from tidewaiter_runtime.http_upstream import Upstream
from tidewaiter_runtime.input_validation import grpc_gate
from tidewaiter_runtime.input_validation.access_log import AccessLog
from tidewaiter_runtime.input_validation.http_gate import HttpGate, HttpLimits
from tidewaiter_runtime.input_validation.judgement import Judge
from tidewaiter_runtime.input_validation.observations import Observations
from tidewaiter_runtime.input_validation.rules import Rules
from tidewaiter_runtime.refusals import BadInput

_GRPC_OVERHEAD = 64 << 10
"""What a message may have beside its tensors, in bytes."""


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the gate's certificate, and of the authorities that callers' certificates are of."""

    certificate: Path
    key: Path
    callers: Path | None = None


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the gate listens, and where the model server does. None: not that protocol."""

    http: Address | None
    grpc: Address | None
    server_http: Address
    server_grpc: Address
    tls: Tls | None = None
    observations: Path | None = None
    drain_s: float = 30.0
    limits: HttpLimits = field(default_factory=HttpLimits)


def run(rules: Rules, listening: Listening) -> None:
    """Serve until SIGTERM or SIGINT."""
    uvloop.run(_run(rules, listening))


async def _run(rules: Rules, listening: Listening) -> None:
    ended = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, ended.set)
    log = AccessLog(sys.stdout.buffer)
    observations = Observations(listening.observations)
    judge = Judge(rules, log, observations)
    try:
        async with asyncio.TaskGroup() as group:
            if listening.http is not None:
                group.create_task(_http(judge, listening, listening.http, ended))
            if listening.grpc is not None:
                group.create_task(_grpc(judge, listening, listening.grpc, ended))
    except* BadInput as refused:
        raise refused.exceptions[0] from None
    finally:
        observations.close()
        log.close()


async def _http(judge: Judge, listening: Listening, address: Address, ended: asyncio.Event) -> None:
    upstream = Upstream(listening.server_http.host, listening.server_http.port)
    gate = HttpGate(judge, upstream, listening.limits)
    tls = _http_tls(listening.tls) if listening.tls else None
    try:
        server = await asyncio.get_running_loop().create_server(
            gate.connect,
            address.host,
            address.port,
            ssl=tls,
            ssl_handshake_timeout=listening.limits.read_s if tls else None,
        )
    except OSError as error:
        raise BadInput(f"--http {address}: cannot listen: {error.strerror}") from None
    print(f"tidewaiter-runtime input-gate: http on {address}", file=sys.stderr, flush=True)
    await ended.wait()
    server.close()
    gate.drain()
    try:
        async with asyncio.timeout(listening.drain_s):
            await gate.idle.wait()
    except TimeoutError:
        pass
    upstream.close()


async def _grpc(judge: Judge, listening: Listening, address: Address, ended: asyncio.Event) -> None:
    async with grpc_gate.channel(str(listening.server_grpc)) as channel:
        gate = grpc_gate.GrpcGate(judge, channel)
        server = grpc_gate.server(gate, judge.rules.largest_body + _GRPC_OVERHEAD)
        try:
            if listening.tls:
                server.add_secure_port(str(address), _grpc_tls(listening.tls))
            else:
                server.add_insecure_port(str(address))
        except RuntimeError:
            raise BadInput(f"--grpc {address}: cannot listen; is the port taken?") from None
        await server.start()
        print(f"tidewaiter-runtime input-gate: grpc on {address}", file=sys.stderr, flush=True)
        await ended.wait()
        await server.stop(listening.drain_s)


def _http_tls(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.callers:
            context.load_verify_locations(tls.callers)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"--certificate, --key or --callers-ca cannot be used: {error.strerror or error}") from None
    return context


def _grpc_tls(tls: Tls) -> grpc.ServerCredentials:
    try:
        roots = tls.callers.read_bytes() if tls.callers else None
        pair = [(tls.key.read_bytes(), tls.certificate.read_bytes())]
    except OSError as error:
        raise BadInput(f"{error.filename} cannot be read: {error.strerror}") from None
    return grpc.ssl_server_credentials(pair, roots, require_client_auth=roots is not None)
