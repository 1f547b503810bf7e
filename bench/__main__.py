"""Prints the table of docs/benchmarks.md, as measured on this machine.

One core serves over TLS, another one makes the load. Beside Tidewaiter, in the same
rounds, a webhook is measured that decides nothing: the cost of serving alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bench import in_process, server
from bench.load_generator import Load, build, send
from bench.reviews import bodies

_SERVERS: dict[str, Callable[[Path, int], AbstractContextManager[server.Server]]] = {
    "Tidewaiter": server.tidewaiter,
    "null webhook": server.null_webhook,
}
_TURNS = 5_000


@dataclass(slots=True)
class Samples:
    """Values by row of the table, one for each round and, over the network, for each server."""

    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, row: str, column: str, value: float) -> None:
        """Keep one value."""
        self.values.setdefault((row, column), []).append(value)

    def table(self) -> Iterable[str]:
        """Markdown: medians over the rounds, with the least and the most."""
        yield f"| | {' | '.join(_SERVERS)} |"
        yield f"|---|{'---:|' * len(_SERVERS)}"
        for row in dict.fromkeys(row for row, _ in self.values):
            yield f"| {row} | {' | '.join(self._cell(row, column) for column in _SERVERS)} |"

    def _cell(self, row: str, column: str) -> str:
        values = self.values.get((row, column))
        if not values:
            return ""
        return f"{_short(statistics.median(values))} ({_short(min(values))} to {_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and on which cores."""

    load: Path
    seconds: float
    rate: int
    server_cpu: int
    load_cpu: int

    def measure(self, name: str, folder: Path, sent: dict[str, Path], samples: Samples) -> None:
        """Start one server and measure everything about it."""
        with _SERVERS[name](folder, self.server_cpu) as process:
            samples.add("start to ready, s", name, process.ready_seconds)
            for path, body in sent.items():
                self._send(process, path, body, 8, seconds=1)
                for connections in (8, 32):
                    before = process.cpu_seconds()
                    load = self._send(process, path, body, connections)
                    rate = load.completed / load.seconds
                    used = (process.cpu_seconds() - before) / load.completed
                    samples.add(f"{path}: reviews/s, {connections} connections", name, rate)
                    samples.add(f"{path}: CPU per review, us, {connections} connections", name, used * 1e6)
                paced = self._send(process, path, body, 32, rate=self.rate)
                samples.add(f"{path}: p50 at {self.rate}/s, ms", name, paced.p50_ms)
                samples.add(f"{path}: p99 at {self.rate}/s, ms", name, paced.p99_ms)
            samples.add("memory at most, MiB", name, process.memory_mebibytes())

    def _send(
        self, process: server.Server, path: str, body: Path, connections: int, seconds: float = 0, rate: int = 0
    ) -> Load:
        return send(
            self.load,
            self.load_cpu,
            port=process.port,
            ca=process.ca,
            path=path,
            body=body,
            connections=connections,
            seconds=seconds or self.seconds,
            rate=rate,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the table has medians (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="length of one measurement (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=500, help="reviews/s of the paced load (default: %(default)s)")
    options = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("the benchmark needs two cores, one for the server and one for the load; there is one")
    before = os.getloadavg()[0]
    plan = Plan(build(), options.seconds, options.rate, server_cpu=cpus[0], load_cpu=cpus[1])
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as scratch:
        folder = Path(scratch)
        reviewer = in_process.reviewer(server.write_settings(folder))
        made = asyncio.run(bodies(reviewer))
        sent = {path: folder / path[1:] for path in made}
        for path, body in made.items():
            sent[path].write_bytes(body)
        for turn in range(options.rounds):
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
            used = asyncio.run(in_process.cpu_microseconds(reviewer, made, _TURNS))
            for path, microseconds in used.items():
                samples.add(f"{path}: CPU per review without serving, us", "Tidewaiter", microseconds)
            samples.add("mutate and validate without serving, us", "Tidewaiter", sum(used.values()))
            for name in _SERVERS:
                plan.measure(name, folder / name.replace(" ", "-"), sent, samples)
    print(f"{len(cpus)} cores, Python {sys.version.split()[0]}; {options.rounds} rounds of {options.seconds:g} s.")
    print(f"Load average before: {before:.1f}; more than 0.5 means that other work took its share.")
    print(", ".join(f"{path}: {len(body)} bytes" for path, body in made.items()))
    print("\n".join(samples.table()))


if __name__ == "__main__":
    main()
