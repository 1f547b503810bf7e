"""One load test from its options to its levels."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop

from tidewaiter_runtime.http_upstream import Upstream, UpstreamFailed
from tidewaiter_runtime.load_test.measurement import Level
from tidewaiter_runtime.load_test.requests import as_message, batch_of, made_up, read_body
from tidewaiter_runtime.load_test.sweep import over_grpc, over_http, sweep
from tidewaiter_runtime.refusals import BadInput, Refusal, Unreadable


class LoadFailed(Refusal):
    """Requests failed; what was measured is no evidence of anything."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Test:
    """What to send, where and how often."""

    url: str
    model: str
    version: str
    levels: Sequence[int]
    seconds: float
    warm_up: float
    request: bytes | None = None
    request_name: str = ""
    metadata_url: str = ""
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """The model's path."""
        return f"/v2/models/{self.model}" + (f"/versions/{self.version}" if self.version else "")


def run(test: Test) -> list[Level]:
    """Measure.

    Raises:
        BadInput, Unreadable: the test cannot begin.
        LoadFailed: a request failed.
    """
    levels: list[Level] = uvloop.run(_run(test))
    failed = next((level for level in levels if level.failures), None)
    if failed:
        raise LoadFailed(
            f"at concurrency {failed.concurrency} {len(failed.failures)} requests failed: {failed.failures[0]}"
        )
    return levels


async def _run(test: Test) -> list[Level]:
    scheme, host, port = _place(test.url)
    if test.request is None:
        metadata = test.metadata_url or (test.url if scheme == "http" else "")
        if not metadata:
            raise BadInput("give --request FILE, or --metadata-url http://HOST:PORT to make a request up")
        body = made_up(await _metadata(metadata, test.target), test.shapes)
    else:
        body = read_body(test.request, test.request_name)
    context = (
        over_http(host, port, f"{test.target}/infer", json.dumps(body).encode())
        if scheme == "http"
        else over_grpc(f"{host}:{port}", as_message(body, test.model, test.version))
    )
    async with context as ask:
        return await sweep(
            ask, test.levels, seconds=test.seconds, warm_up=test.warm_up, batch=batch_of(body), tell=_tell
        )


def _tell(line: str) -> None:
    print(f"tidewaiter-runtime bench: {line}", file=sys.stderr, flush=True)


async def _metadata(url: str, target: str) -> dict[str, Any]:
    _, host, port = _place(url)
    upstream = Upstream(host, port, limit_s=10)
    try:
        answer = await upstream.ask("GET", target, (), b"")
        if answer.status != 200:
            raise BadInput(f"{url}{target}: found status {answer.status}; is the model loaded?")
        return dict(json.loads(answer.body))
    except (UpstreamFailed, TimeoutError) as why:
        raise Unreadable(f"{url}: {str(why) or 'no answer in time'}") from None
    except (ValueError, TypeError):
        raise BadInput(f"{url}{target}: the answer is no model metadata") from None
    finally:
        upstream.close()


def _place(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("http", "grpc") or not parts.hostname or port is None or parts.path.strip("/"):
        raise BadInput(f"found {url[:80]!r}; expected http://HOST:PORT or grpc://HOST:PORT")
    return parts.scheme, parts.hostname, port
