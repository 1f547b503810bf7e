"""The HTTP face: ``/mutate``, ``/validate``, health and metrics. It only translates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from admission.admission_review import MAX_BODY_BYTES
from admission.decision import Purpose
from webhook.metrics import Metrics
from webhook.reviewer import Reviewer

_JSON = "application/json"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

Readiness = Callable[[], list[str]]
"""What is missing until the process is ready, as short sentences."""


class _BodyError(Exception):
    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def webhook_app(reviewer: Reviewer, readiness: Readiness, read_seconds: float) -> Starlette:
    """The application behind TLS."""

    async def reviewed(request: Request, purpose: Purpose) -> Response:
        with reviewer.metrics.in_flight.track_inprogress():
            try:
                body = await _body(request, read_seconds)
            except _BodyError as error:
                reviewer.metrics.count_error(purpose.value, "bad-request")
                return PlainTextResponse(f"{error}\n", status_code=error.status)
            answer = await reviewer.answer(body, purpose)
        return Response(answer.body, status_code=answer.status, media_type=_JSON)

    async def mutate(request: Request) -> Response:
        return await reviewed(request, Purpose.MUTATE)

    async def validate(request: Request) -> Response:
        return await reviewed(request, Purpose.VALIDATE)

    return Starlette(
        routes=[
            Route("/mutate", mutate, methods=["POST"]),
            Route("/validate", validate, methods=["POST"]),
            *_health(readiness),
        ]
    )


def health_app(metrics: Metrics, readiness: Readiness) -> Starlette:
    """Health and metrics, without TLS, for the kubelet and Prometheus."""

    async def exposition(_request: Request) -> Response:
        return Response(metrics.exposition(), media_type=_PROMETHEUS)

    return Starlette(routes=[Route("/metrics", exposition), *_health(readiness)])


def _health(readiness: Readiness) -> list[Route]:
    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_request: Request) -> Response:
        missing = readiness()
        if missing:
            return PlainTextResponse("".join(f"{one}\n" for one in missing), status_code=503)
        return PlainTextResponse("ok\n")

    return [Route("/healthz", live), Route("/readyz", ready)]


async def _body(request: Request, read_seconds: float) -> bytes:
    """The body, within limits on its size and on the time that it may take."""
    too_large = _BodyError(413, f"the body is larger than {MAX_BODY_BYTES} bytes; no Kubernetes object is")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(read_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        raise _BodyError(408, f"the body did not arrive within {read_seconds:g} seconds") from None
    except ClientDisconnect:
        raise _BodyError(400, "the client went away") from None
    return b"".join(chunks)
