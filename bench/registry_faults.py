"""What an admission of a known version takes while its registry is well, and with everything that can be wrong.

Over TLS, as the API server asks: the service on one core, the load on another, reviews that
fall due at fixed times. A fault begins with the load, so that its first moments count; that
the answers came from memory, and that no review was refused, is read from the service's metrics.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from bench import in_process, server
from bench.load_generator import Load, build, send
from bench.reviews import bodies
from tests.controlplane.certificates import Authority
from tests.http.registry_faults import FAULTS, Played, played_registries
from tests.registries.http_server import Reply, Request, reply

_HEALTHY = "nothing"
_RATE = 500
_CONNECTIONS = 32
_TRIES = 20
_CACHE = {"freshSeconds": 0.5, "revalidateSeconds": 2, "deadlineSeconds": 1}
_MANIFEST = {
    "format": 1,
    "model": "resnet50",
    "version": "3",
    "state": "approved",
    "source": "pvc://models/resnet50/3",
    "approvals": [{"environment": "production", "approvers": ["ann"]}],
}


def good(_request: Request) -> Reply:
    """Approves the version of the reviews."""
    return reply(orjson.dumps(_MANIFEST))


def measure(folder: Path, rounds: int, seconds: float, cpus: tuple[int, int]) -> None:
    """Print the table: medians over the rounds."""
    load = build()
    reviewer = in_process.reviewer(server.write_settings(folder))
    sent: dict[str, Path] = {}
    for path, content in asyncio.run(bodies(reviewer)).items():
        sent[path] = folder / path[1:]
        sent[path].write_bytes(content)
    found: dict[tuple[str, str], list[Load]] = {}
    for turn in range(rounds):
        print(f"round {turn + 1} of {rounds}", file=sys.stderr)
        for fault in (_HEALTHY, *FAULTS):
            for path, body in sent.items():
                found.setdefault((fault, path), []).append(_one(folder, fault, path, body, load, seconds, cpus))
    print(f"| wrong with the registry | {' | '.join(f'{path}: p50, p99, worst, ms' for path in sent)} |")
    print(f"|---|{'---:|' * len(sent)}")
    for fault in (_HEALTHY, *FAULTS):
        print(f"| {fault} | {' | '.join(_cell(found[fault, path]) for path in sent)} |")


def _cell(loads: list[Load]) -> str:
    columns = ([one.p50_ms for one in loads], [one.p99_ms for one in loads], [one.max_ms for one in loads])
    return ", ".join(f"{statistics.median(values):.3g}" for values in columns)


def _one(folder: Path, fault: str, path: str, body: Path, load: Path, seconds: float, cpus: tuple[int, int]) -> Load:
    """A service that has just started and knows the version, and a load during which the fault begins."""
    server_cpu, load_cpu = cpus
    with played_registries(Authority(folder), ("https",), good) as played:
        own = {**_registry(folder, played["https"]), "cache": _CACHE}
        with server.tidewaiter(folder / "service", server_cpu, [own]) as process:
            known: dict[str, Any] = {"port": process.port, "ca": process.ca, "path": path, "body": body}
            before = _known(process, lambda: send(load, load_cpu, **known, connections=1, seconds=0.5, rate=20))
            if fault != _HEALTHY:
                FAULTS[fault].begin(played["https"])
            measured = send(load, load_cpu, **known, connections=_CONNECTIONS, seconds=seconds, rate=_RATE)
            _check(fault, path, before, _questions(process))
    return measured


def _registry(folder: Path, played: Played) -> dict[str, Any]:
    return {"name": "company", "type": "https", "url": played.server.url, "caFile": str(folder / "ca.crt")}


def _known(process: server.Server, ask: Callable[[], object]) -> Mapping[str, float]:
    """Ask until the registry has answered once: on a machine that is busy the first question may be late."""
    for _ in range(_TRIES):
        ask()
        found = _questions(process)
        if found.get("asked"):
            return found
    raise RuntimeError(f"the registry that is well did not answer: {dict(found)}")


def _questions(process: server.Server) -> Mapping[str, float]:
    """How many questions had which result so far, and how many reviews were refused (``denied``)."""
    with urllib.request.urlopen(f"http://127.0.0.1:{process.health_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    results = re.findall(r'^tidewaiter_registry_questions_total\{[^}]*result="([a-z-]+)"\} (\S+)$', text, re.MULTILINE)
    denied = re.findall(r'^tidewaiter_reviews_total\{[^}]*verdict="denied"[^}]*\} (\S+)$', text, re.MULTILINE)
    return {**{name: float(value) for name, value in results}, "denied": sum(map(float, denied))}


def _check(fault: str, path: str, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """The figures are of known versions whose registry failed, or they are not what they say."""
    stale = after.get("stale", 0) - before.get("stale", 0)
    unavailable = after.get("unavailable", 0) - before.get("unavailable", 0)
    denied = after["denied"] - before["denied"]
    if denied or unavailable or (stale == 0) != (fault == _HEALTHY):
        raise RuntimeError(f"{fault}, {path}: not what was to be measured: {dict(after)}")
