"""The HTTP face of the review of our own objects. It only translates."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from admission.admission_review import MAX_BODY_BYTES
from webhook.governance.review import GovernanceReviewer
from webhook.reviewer import Answer

MUTATE_PATH, VALIDATE_PATH = "/govern/mutate", "/govern/validate"


def governance_routes(reviewer: GovernanceReviewer, read_seconds: float) -> list[Route]:
    """Both routes, for the application behind TLS."""
    return [
        _route(MUTATE_PATH, reviewer.mutate, read_seconds),
        _route(VALIDATE_PATH, reviewer.validate, read_seconds),
    ]


def _route(path: str, answer_to: Callable[[bytes], Awaitable[Answer]], read_seconds: float) -> Route:
    async def reviewed(request: Request) -> Response:
        # The API server takes anything but an answer for a failure, and refuses.
        try:
            async with asyncio.timeout(read_seconds):
                body = await _body(request)
        except (TimeoutError, ClientDisconnect):
            return PlainTextResponse("the body did not arrive in time\n", 408, {"connection": "close"})
        if body is None:
            sentence = f"the body is larger than {MAX_BODY_BYTES} bytes; no Kubernetes object is\n"
            return PlainTextResponse(sentence, 413, {"connection": "close"})
        answer = await answer_to(body)
        return Response(answer.body, answer.status, media_type="application/json")

    return Route(path, reviewed, methods=["POST"])


async def _body(request: Request) -> bytes | None:
    """The body; None for one that is too large."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
