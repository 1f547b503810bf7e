"""The HTTP face: ``/mutate``, ``/validate``, health and metrics. It only translates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

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


class _UnreadError(Exception):
    """A request that was not read to its end; ``cause`` is the metric's word for why."""

    def __init__(self, status: int, cause: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.cause = cause


def webhook_app(reviewer: Reviewer, readiness: Readiness, read_seconds: float, more: Sequence[Route] = ()) -> Starlette:
    """The application behind TLS; ``more`` are routes beside those of the two webhooks."""

    async def reviewed(request: Request, purpose: Purpose) -> Response:
        started = time.perf_counter()
        with reviewer.metrics.in_flight.track_inprogress():
            try:
                answer = await reviewer.answer(await _body(request, read_seconds), purpose)
            except _UnreadError as error:
                failure = error
            except asyncio.CancelledError:
                # Only the end of the process does this; whoever waits is told, and so is the log.
                failure = _UnreadError(503, "ending", "the process ended before the review was made")
            else:
                return Response(answer.body, status_code=answer.status, media_type=_JSON)
            seconds = time.perf_counter() - started
            answer = reviewer.unread(purpose, failure.status, failure.cause, str(failure), seconds)
        # What is left of the body would be taken for the next request.
        return Response(answer.body, answer.status, {"connection": "close"}, _JSON)

    async def mutate(request: Request) -> Response:
        return await reviewed(request, Purpose.MUTATE)

    async def validate(request: Request) -> Response:
        return await reviewed(request, Purpose.VALIDATE)

    return Starlette(
        routes=[
            Route("/mutate", mutate, methods=["POST"]),
            Route("/validate", validate, methods=["POST"]),
            *more,
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
    too_large = _UnreadError(
        413, "too-large", f"the body is larger than {MAX_BODY_BYTES} bytes; no Kubernetes object is"
    )
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
        raise _UnreadError(408, "too-slow", f"the body did not arrive within {read_seconds:g} seconds") from None
    except ClientDisconnect:
        raise _UnreadError(400, "broken-off", "the client went away before the body was complete") from None
    return b"".join(chunks)
