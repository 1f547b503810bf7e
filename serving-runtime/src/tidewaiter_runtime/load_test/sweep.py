"""Runs a load test: at each level so many callers ask as soon as they have their answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from tidewaiter_runtime.http_upstream import Upstream, UpstreamFailed
from tidewaiter_runtime.load_test.measurement import Level

Ask = Callable[[], Awaitable[str]]
"""One request; the answer is what went wrong, or nothing."""
_MOST_FAILURES = 10


@asynccontextmanager
async def over_http(host: str, port: int, target: str, body: bytes) -> AsyncIterator[Ask]:
    """Asks over kept-alive HTTP/1.1 connections, one for each caller."""
    upstream = Upstream(host, port)
    headers = [(b"Content-Type", b"application/json")]

    async def ask() -> str:
        try:
            answer = await upstream.ask("POST", target, headers, body)
        except UpstreamFailed as why:
            return str(why)
        except TimeoutError:
            return "no answer in time"
        return "" if answer.status == 200 else f"HTTP {answer.status}: {answer.body[:200].decode(errors='replace')}"

    try:
        yield ask
    finally:
        upstream.close()


@asynccontextmanager
async def over_grpc(target: str, message: bytes) -> AsyncIterator[Ask]:
    """Asks over one gRPC channel, which multiplexes."""
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        call: Any = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", request_serializer=None, response_deserializer=None
        )

        async def ask() -> str:
            try:
                await call(message, timeout=60)
            except grpc.aio.AioRpcError as error:
                return f"gRPC {error.code().name}: {str(error.details())[:200]}"
            return ""

        yield ask


async def sweep(
    ask: Ask,
    levels: Sequence[int],
    *,
    seconds: float,
    warm_up: float,
    batch: int = 1,
    tell: Callable[[str], None] = lambda _line: None,
) -> list[Level]:
    """Measure each level; ends with the first that has failures, which are in its result."""
    done = []
    for concurrency in levels:
        tell(f"concurrency {concurrency}: {warm_up:g} s to warm up, {seconds:g} s measured")
        if warm_up:
            await _measure(ask, concurrency, warm_up, batch)
        level = await _measure(ask, concurrency, seconds, batch)
        done.append(level)
        if level.failures:
            tell(f"concurrency {concurrency}: {level.failures[0]}")
            break
        tell(f"concurrency {concurrency}: {len(level.latencies_us)} requests, p99 {level.percentile(99) / 1000:.3f} ms")
    return done


async def _measure(ask: Ask, concurrency: int, seconds: float, batch: int) -> Level:
    latencies: list[float] = []
    failures: list[str] = []
    begin = time.perf_counter()
    until = begin + seconds

    async def caller() -> None:
        while len(failures) < _MOST_FAILURES:
            start = time.perf_counter()
            problem = await ask()
            end = time.perf_counter()
            if problem:
                failures.append(problem)
            else:
                latencies.append((end - start) * 1e6)
            if end >= until:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(caller())
    return Level(concurrency, time.perf_counter() - begin, sorted(latencies), batch, tuple(failures))
