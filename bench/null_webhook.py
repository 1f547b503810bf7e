"""A webhook that decides nothing: decodes the review, allows it. What is left is the cost of serving.

Same server, protocol, loop, TLS and options as Tidewaiter's own.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from webhook.http_protocol import bounded_loop
from webhook.listener import listener
from webhook.tls import make_certificates, server_context

_READ_SECONDS = 5


async def _allow(request: Request) -> Response:
    review = orjson.loads(await request.body())
    answer = {
        "apiVersion": review["apiVersion"],
        "kind": review["kind"],
        "response": {"uid": review["request"]["uid"], "allowed": True},
    }
    return Response(orjson.dumps(answer), media_type="application/json")


async def _ready(_request: Request) -> Response:
    return Response()


async def _serve(folder: Path, port: int, health_port: int) -> None:
    files = make_certificates(folder, "tidewaiter", "tidewaiter")
    app = Starlette(
        routes=[Route(path, _allow, methods=["POST"]) for path in ("/mutate", "/validate")] + [Route("/readyz", _ready)]
    )
    servers = [
        (listener(app, server_context(files.certificate, files.key), _READ_SECONDS), port),
        (listener(app, None, _READ_SECONDS), health_port),
    ]
    loop = asyncio.get_running_loop()

    def end() -> None:
        for server, _ in servers:
            server.should_exit = True

    loop.add_signal_handler(signal.SIGTERM, end)
    await asyncio.gather(*(one.serve([socket.create_server(("127.0.0.1", at))]) for one, at in servers))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=lambda: bounded_loop(_READ_SECONDS)) as runner:
        runner.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
