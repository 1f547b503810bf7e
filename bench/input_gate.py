"""What the input gate adds to the latency of a real tritonserver: one table.

Requests go alternately to the server and through the gate, one at a time, so that whatever else the
machine does meets both alike. ``python -m bench.input_gate``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import uvloop
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]  # ships no types

from tests.serving_runtime.input_gate import Gate, running_gate
from tests.serving_runtime.tritonserver import MODELS, Triton, running_triton

_ELEMENTS = {"12 bytes": 3, "602 KB": 224 * 224 * 3}
_RULES = """\
models:
  sum:
    bodyBytes: 4194304
    inputs:
      INPUT: {datatype: FP32, shape: [1, 1-200000], range: [-1000, 1000]}
"""
Ask = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; latencies in milliseconds, sorted."""

    name: str
    direct: list[float]
    through: list[float]
    own: list[float]

    def __str__(self) -> str:
        """A row of Markdown."""
        cells = [self.name]
        for of in (50, 99):
            direct, through = _percentile(self.direct, of), _percentile(self.through, of)
            cells += [f"{direct:.2f}", f"{through:.2f}", f"**{through - direct:+.2f}**"]
        cells += [f"{_percentile(self.own, 50):.3f}", f"{_percentile(self.own, 99):.3f}"]
        return f"| {' | '.join(cells)} |"


def _percentile(latencies: list[float], of: int) -> float:
    return latencies[max(0, math.ceil(of / 100 * len(latencies)) - 1)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.input_gate", description=__doc__)
    parser.add_argument("--requests", type=int, default=3000, help="of each kind, each way (default: %(default)s)")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as scratch:
        folder = Path(scratch)
        with (
            running_triton(MODELS, "--disable-auto-complete-config", log=folder / "triton.log") as triton,
            running_gate(folder, triton.http, triton.grpc, rules=_RULES) as gate,
        ):
            rows = uvloop.run(_measure(triton, gate, options.requests))
    print("| | p50 direct, ms | p50 gate, ms | added | p99 direct, ms | p99 gate, ms | added | own p50 | own p99 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(row)
    print(f"\n{options.requests} requests each way, one at a time; {os.cpu_count()} CPUs, load before: {load:.1f}.")


async def _measure(triton: Triton, gate: Gate, requests: int) -> list[Row]:
    rows = []
    for size, elements in _ELEMENTS.items():
        for protocol in ("HTTP", "gRPC"):
            before = len(gate.accesses)
            async with AsyncExitStack() as stack:
                if protocol == "HTTP":
                    asks = [await _over_http(stack, port, elements) for port in (triton.http, gate.http)]
                else:
                    asks = [await _over_grpc(stack, port, elements) for port in (triton.grpc, gate.grpc)]
                direct, through = await _alternately(asks, requests)
            accesses = await asyncio.to_thread(gate.accessed, before + requests)
            own = sorted(one["gate_ms"] for one in accesses[-requests:])
            rows.append(Row(f"{protocol}, {size}", direct, through, own))
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


async def _alternately(asks: list[Ask], requests: int) -> tuple[list[float], list[float]]:
    for _ in range(200):
        for ask in asks:
            await ask()
    taken: list[list[float]] = [[] for _ in asks]
    gc.collect()
    gc.disable()
    for _ in range(requests):
        for ask, latencies in zip(asks, taken, strict=True):
            start = time.perf_counter()
            await ask()
            latencies.append((time.perf_counter() - start) * 1000)
    gc.enable()
    return sorted(taken[0]), sorted(taken[1])


async def _over_http(stack: AsyncExitStack, port: int, elements: int) -> Ask:
    raw = struct.pack(f"<{elements}f", *([0.5] * elements))
    one = {"name": "INPUT", "datatype": "FP32", "shape": [1, elements], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [one]}).encode()
    lines = ["POST /v2/models/sum/infer HTTP/1.1", "Host: localhost", f"Inference-Header-Content-Length: {len(head)}"]
    sent = "\r\n".join([*lines, f"Content-Length: {len(head) + len(raw)}", "", ""]).encode() + head + raw
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stack.callback(writer.close)

    async def ask() -> None:
        writer.write(sent)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))

    return ask


async def _over_grpc(stack: AsyncExitStack, port: int, elements: int) -> Ask:
    message = service_pb2.ModelInferRequest(model_name="sum")
    message.inputs.add(name="INPUT", datatype="FP32", shape=[1, elements])
    message.raw_input_contents.append(struct.pack(f"<{elements}f", *([0.5] * elements)))
    sent = message.SerializeToString()
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

    async def ask() -> None:
        await call(sent)

    return ask


if __name__ == "__main__":
    main()
